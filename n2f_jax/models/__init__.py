"""The network: DINOv3 backbone, FLAME and camera modules, weights in and out."""

from n2f_jax.models.dinov3 import DinoV3, DinoV3Config, dinov3_config
from n2f_jax.models.n2fnet import (
    CameraModule,
    FlameModule,
    N2FNet,
    N2FNetConfig,
    N2FOutput,
    camera_from_output,
    n2fnet_config,
    uvs_from_camera,
)

__all__ = [
    "CameraModule",
    "DinoV3",
    "DinoV3Config",
    "FlameModule",
    "N2FNet",
    "N2FNetConfig",
    "N2FOutput",
    "camera_from_output",
    "dinov3_config",
    "n2fnet_config",
    "uvs_from_camera",
]
