"""Colours of a head's vertices, and sRGB's transfer function."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float, UInt8

from flame_jax import JOINT_NAMES, FlameParams, HeadModel, decode

# sRGB.
SKIN = (221, 178, 153)
IRIS = (92, 72, 58)
# Seen from the eyeball's centre an iris spans about 23° to each side; its colour fades out over one triangle.
IRIS_DEGREES = 17.0
# Regions that are not skin, by HeadModel.masks; later entries win.
REGION_COLORS = {"eyeballs": (236, 234, 230), "teeth": (226, 219, 200), "tongue": (190, 104, 104)}


def region_colors(model: HeadModel) -> UInt8[np.ndarray, "V 3"]:
    """A plain sRGB colour for every vertex ``(V, 3)`` uint8: skin, what is not skin by region, and irises."""
    colors = np.tile(np.asarray(SKIN, np.uint8), (model.num_vertices, 1))
    for region, color in REGION_COLORS.items():
        if region in model.masks:
            colors[np.asarray(model.masks[region])] = color
    vertices = np.asarray(model.v_template)
    joints = np.asarray(decode(model, FlameParams.neutral(model))[1])
    for region in ("left_eyeball", "right_eyeball"):
        if region in model.masks:
            ball = np.asarray(model.masks[region])
            forward = vertices[ball] - joints[JOINT_NAMES.index(region.replace("ball", ""))]
            cosine = forward[:, 2] / np.maximum(np.linalg.norm(forward, axis=-1), 1e-9)
            colors[ball[cosine > math.cos(math.radians(IRIS_DEGREES))]] = IRIS
    return colors


def srgb_to_linear(srgb: Float[np.ndarray, "..."] | UInt8[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """sRGB 0 … 255 → linear 0 … 1, float64."""
    value = np.asarray(srgb, np.float64) / 255.0
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def linear_to_srgb(linear: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """Linear light, clipped to 0 … 1 → sRGB 0 … 255, in the same precision."""
    x = np.clip(linear, 0.0, 1.0)
    return 255.0 * np.where(x <= 0.0031308, 12.92 * x, 1.055 * x ** (1 / 2.4) - 0.055)
