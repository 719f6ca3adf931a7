"""Pixel3DMM's predictions in our conventions (``scripts/network_inference.py`` of its repository at 98b5d79).

The network sees a 512² RGB crop in [0, 1] and its mirror image; the two predictions are averaged after mirroring the
second back: normals with x negated, UV with u negated and 0.015 added (the original's constant: its UV layout is not
quite symmetric). Normals leave the network as (x, −z, −y) of the head frame, UV as ``(2u − 1, 1 − 2v)`` of FLAME's
texture coordinates.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from n2f_jax.frontends.pixel3dmm.network import Pixel3dmmNetwork

UV_MIRROR_SHIFT = 0.015
# Crops that go through a network at once, each with its mirror image.
BATCH_SIZE = 8

Precision = Literal["float32", "bfloat16", "float16"]


def predict_normals(network: Pixel3dmmNetwork, crops: Tensor, precision: Precision = "float32") -> Tensor:
    """``(B, H, W, 3)`` uint8 RGB crops → ``(B, H, W, 3)`` float32 unit normals, head frame, everywhere in the crop."""
    raw, mirrored = _both(network, crops, "normals", precision)
    mirrored = mirrored * mirrored.new_tensor([-1, 1, 1]).reshape(3, 1, 1)
    x, minus_z, minus_y = torch.nn.functional.normalize((raw + mirrored) / 2, dim=1).unbind(1)
    return torch.stack([x, -minus_y, -minus_z], dim=-1)


def predict_uv(network: Pixel3dmmNetwork, crops: Tensor, precision: Precision = "float32") -> Tensor:
    """``(B, H, W, 3)`` uint8 RGB crops → ``(B, H, W, 2)`` float32 ``2·(u, v) − 1`` in [−1, 1], v up."""
    raw, mirrored = _both(network, crops, "uv_map", precision)
    mirrored = mirrored * mirrored.new_tensor([-1, 1]).reshape(2, 1, 1)
    mirrored = mirrored + mirrored.new_tensor([UV_MIRROR_SHIFT, 0]).reshape(2, 1, 1)
    u, minus_v = ((raw + mirrored) / 2).clamp(-1, 1).unbind(1)
    return torch.stack([u, -minus_v], dim=-1)


def _both(
    network: Pixel3dmmNetwork, crops: Tensor, prediction: str, precision: Precision
) -> tuple[Tensor, Tensor]:
    """The raw prediction for the crops, and that for their mirror images flipped back: ``(B, C, H, W)`` each."""
    device = next(network.parameters()).device
    parts = []
    for start in range(0, len(crops), BATCH_SIZE):
        images = crops[start : start + BATCH_SIZE].to(device).permute(0, 3, 1, 2).float() / 255
        images = torch.cat([images, images.flip(-1)])
        reduced = precision != "float32"
        with (
            torch.no_grad(),
            torch.autocast(device.type, getattr(torch, precision) if reduced else None, enabled=reduced),
        ):
            parts.append(torch.stack(network(images)[prediction].float().chunk(2)))
    raw, mirrored = torch.cat(parts, dim=1)
    return raw, mirrored.flip(-1)
