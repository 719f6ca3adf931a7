"""FLAME-format head models in JAX. Needs JAX and NumPy only; knows no image, camera or network."""

from flame_jax.decoder import decode
from flame_jax.landmarks import contour_bin, landmarks68, points_on_mesh, yaw_from_rotation
from flame_jax.loading import HeadModelError, load_head_model, load_open_head
from flame_jax.model import JOINT_NAMES, HeadModel, LandmarkEmbedding
from flame_jax.params import FlameParams

__all__ = [
    "JOINT_NAMES",
    "FlameParams",
    "HeadModel",
    "HeadModelError",
    "LandmarkEmbedding",
    "contour_bin",
    "decode",
    "landmarks68",
    "load_head_model",
    "load_open_head",
    "points_on_mesh",
    "yaw_from_rotation",
]
