"""The part ``photograph`` of ``gpu_figures.py``: the paper's own way from a photograph to a head, by random weights.

Pixel3DMM's network around a ViT-B (the mixing transformer's 512 channels and 8 layers are our guess) and a stand-in for
FaRL's parser (a ViT-B at 448², with a linear decoder in place of FaRL's larger one) in PyTorch, maps handed over to JAX
on the device, and N2FNet with ViT-L. The face is known beforehand: its finder runs on the host and is no part of the
figure.
"""

from __future__ import annotations

import time
import warnings
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from gpu_parts import Setting, scene_on_cpu
from torch import Tensor, nn

from n2f_jax.frontends.pixel3dmm.network import NetworkConfig, Pixel3dmmNetwork, prediction_channels
from n2f_jax.frontends.pixel3dmm.vit import VisionTransformer

NUM_CLASSES = 19


class Parser(nn.Module):
    """448² RGB → class logits a pixel, twice, as FaRL's file gives them."""

    def __init__(self, width: int, depth: int):
        super().__init__()
        self.backbone = VisionTransformer(width, depth, 4 * width, 16, 28)
        self.decoder = nn.Conv2d(width, NUM_CLASSES, 1)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits at the size of the images."""
        logits = self.decoder(self.backbone(images))
        logits = nn.functional.interpolate(logits, scale_factor=16.0, mode="bilinear")
        return logits, logits


def pixel3dmm(tiny: bool) -> Pixel3dmmNetwork:
    """Random weights around a ViT-B; or small."""
    width, depth = (64, 1) if tiny else (768, 12)
    channels, count = prediction_channels(["normals"], False)
    config = NetworkConfig(
        backbone_width=width,
        backbone_depth=depth,
        backbone_hidden=4 * width,
        patch=16,
        grid=14,
        width=64 if tiny else 512,
        depth=1 if tiny else 8,
        num_heads=8,
        num_views=0,
        view_width=0,
        position_side=0,
        output_patch=2,
        num_channels=count,
        channels=channels,
    )
    return Pixel3dmmNetwork(config).eval().requires_grad_(False)


def measure(setting: Setting) -> None:
    """Photographs a second, eight at a time, and what the front end's networks take of it."""
    import jax
    from flax import nnx
    from network_speed import network_config, random_tree

    import flame_jax
    from n2f_jax.face_mesh.coarse_mesh import NUM_POINTS, load_coarse_mesh
    from n2f_jax.frontends.face_landmarks import MeshedFace
    from n2f_jax.frontends.pixel3dmm import frontend as module
    from n2f_jax.geometry import project
    from n2f_jax.models.n2fnet import N2FNet
    from n2f_jax.models.parameters import from_dict
    from n2f_jax.models.pretrained import HeadModelIdentity, InputSpec, Pretrained
    from n2f_jax.reconstruction.reconstructor import Reconstructor

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    side, count = 1000, 2 if setting.tiny else 8
    scene = scene_on_cpu(1, side)
    head_model = flame_jax.load_open_head()
    with jax.default_device(jax.devices("cpu")[0]):
        landmarks = np.asarray(project(flame_jax.landmarks68(head_model, scene.vertices), scene.camera))[0]
    points = np.zeros((NUM_POINTS, 3), np.float32)
    points[:, :2] = landmarks.mean(axis=0)
    points[load_coarse_mesh().ibug68, :2] = landmarks
    faces = [MeshedFace(points, 0.97, 0.9)]
    folder = Path(setting.scratch)
    for name in ("normals.ckpt", "farl.pt"):
        (folder / name).touch()
    parser = Parser(64, 1) if setting.tiny else Parser(768, 12)
    parser = parser.eval().requires_grad_(False)
    network = pixel3dmm(setting.tiny).to(device)
    with warnings.catch_warnings(action="ignore"):  # that it holds for this size alone
        traced = torch.jit.trace(parser, torch.zeros(1, 3, 448, 448), check_trace=False)
    traced.save(str(folder / "farl.pt"))
    config = network_config(setting.variant, "bfloat16")
    size = config.input_size
    with mock.patch.object(module, "load_network", lambda *_: network):
        frontend = module.Pixel3dmmFrontend(
            folder / "normals.ckpt",
            None,
            folder / "farl.pt",
            size=size,
            crop_scale=1.4,
            precision="bfloat16",
            landmarker=lambda image: faces,
        )
    shapes = nnx.eval_shape(lambda: N2FNet(config, rngs=nnx.Rngs(0)))
    tree = random_tree(setting.variant, lambda _, value: jax.numpy.asarray(value))
    pretrained = Pretrained(
        from_dict(shapes, tree),
        config,
        InputSpec(size=size, crop_scale=1.4),
        HeadModelIdentity.of(head_model),
        {},
    )
    reconstructor = Reconstructor(
        pretrained, head_model, frontend, alignment="network", refine=0, batch_size=count
    )
    rng = np.random.default_rng(0)
    photographs = [rng.integers(0, 255, (side, side, 3), dtype=np.uint8) for _ in range(count)]

    def seconds_of(call: Any) -> float:
        call()
        start, calls = time.perf_counter(), 0
        while calls < 2 or (time.perf_counter() - start < 3 * setting.measured_seconds and calls < 50):
            call()
            calls += 1
        return (time.perf_counter() - start) / calls

    start = time.perf_counter()
    reconstructor.reconstruct(photographs)
    first = time.perf_counter() - start
    whole = seconds_of(lambda: reconstructor.reconstruct(photographs))
    front_end = seconds_of(lambda: reconstructor.detect_all(photographs))
    remarks = (
        f"stand-ins of ViT-B for Pixel3DMM and FaRL, N2FNet {setting.variant}, {side}² photographs, faces known; "
        f"front end {100 * front_end / whole:.0f} %; the first call {first:.0f} s; the paper's: 6.42 and 9.48"
    )
    setting.row("photograph to head, random weights", count, count / whole, "images/s", remarks)
