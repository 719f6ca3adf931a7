"""Axis-aligned boxes in an image."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float


def bounding_box(points: Float[np.ndarray, "N 2"]) -> Float[np.ndarray, "4"]:
    """The smallest box u0, v0, u1, v1 around points, in their unit; N ≥ 1."""
    return np.concatenate([points.min(axis=0), points.max(axis=0)])


def box_overlap(first: Float[np.ndarray, "4"], second: Float[np.ndarray, "4"]) -> float:
    """Intersection over union of two boxes u0, v0, u1, v1; 0 where both are empty."""
    low, high = np.maximum(first[:2], second[:2]), np.minimum(first[2:], second[2:])
    shared = np.prod(np.clip(high - low, 0, None))
    total = np.prod(first[2:] - first[:2]) + np.prod(second[2:] - second[:2]) - shared
    return float(shared / total) if total > 0 else 0.0
