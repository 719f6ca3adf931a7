"""What a face looks like, in a few numbers: enough to tell two people in one clip apart, no recognition."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from n2f_jax.geometry.boxes import bounding_box

# The box around the landmarks, a little larger, in cells.
_CELLS, _MARGIN = 6, 0.15
SIZE = 3 * _CELLS**2


def describe(
    image: UInt8[np.ndarray, "H W 3"], landmarks: Float[np.ndarray, "68 2"]
) -> Float[np.ndarray, " A"]:
    """``(108,)`` float32: light and two colours of 6² cells over the face's box, light without its mean, of length 1.

    Args:
        image: RGB.
        landmarks: pixels.
    """
    box = bounding_box(landmarks)
    grow = _MARGIN * (box[2:] - box[:2])
    low = np.floor(box[:2] - grow).astype(int)
    high = np.ceil(box[2:] + grow).astype(int)
    height, width = image.shape[:2]
    low, high = np.clip(low, 0, [width - 1, height - 1]), np.clip(high, 1, [width, height])
    high = np.maximum(high, low + 1)
    cells = cv2.resize(
        image[low[1] : high[1], low[0] : high[0]], (_CELLS, _CELLS), interpolation=cv2.INTER_AREA
    ).astype(np.float32)
    light = cells.mean(axis=-1)
    colours = [(cells[..., k] - light) / (light + 16.0) for k in (0, 2)]
    flat = (light - light.mean()) / (light.std() + 8.0)
    found = np.concatenate([flat.ravel(), *(8.0 * colour.ravel() for colour in colours)])
    return (found / max(float(np.linalg.norm(found)), 1e-6)).astype(np.float32)


def likeness(first: Float[np.ndarray, " A"], second: Float[np.ndarray, " A"]) -> float:
    """1 of the same picture, about 0 of two that have nothing in common."""
    return float(first @ second)
