"""Axis-aligned boxes in an image."""

from __future__ import annotations

import numpy as np


def box_overlap(first: np.ndarray, second: np.ndarray) -> float:
    """Intersection over union of two boxes u0, v0, u1, v1."""
    low, high = np.maximum(first[:2], second[:2]), np.minimum(first[2:], second[2:])
    shared = np.prod(np.clip(high - low, 0, None))
    total = np.prod(first[2:] - first[:2]) + np.prod(second[2:] - second[:2]) - shared
    return float(shared / total) if total > 0 else 0.0


def bounding_box(points: np.ndarray) -> np.ndarray:
    """``(4,)`` u0, v0, u1, v1 of ``(N, 2)`` points."""
    return np.concatenate([points.min(axis=0), points.max(axis=0)])
