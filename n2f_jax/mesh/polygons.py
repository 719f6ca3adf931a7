"""Numbers in text, and polygons as triangles: what the readers of mesh formats share."""

from __future__ import annotations

import warnings

import numpy as np
from jaxtyping import Int

from n2f_jax.mesh.triangle_mesh import MeshError


def parse_numbers(text: bytes, kind: type) -> np.ndarray:
    """All numbers of a text, separated by any white space, fast.

    Raises:
        MeshError: it holds anything else.
    """
    with warnings.catch_warnings():
        # Read up to the first thing that is no number, fromstring only warns.
        warnings.simplefilter("error")
        try:
            return np.fromstring(text, dtype=kind, sep=" ")
        except (DeprecationWarning, ValueError, OverflowError) as error:
            raise MeshError("something in it is no number: truncated?") from error


def fans(
    indices: Int[np.ndarray, " n"], sizes: Int[np.ndarray, " polygons"]
) -> Int[np.ndarray, "triangles 3"]:
    """Polygons cut into fans, each polygon's triangles together and in order.

    Args:
        indices: the corners of all polygons, one after the other.
        sizes: how many corners each has.

    Raises:
        MeshError: a polygon has fewer than three.
    """
    if not len(sizes):
        return np.zeros((0, 3), np.int64)
    if sizes.min() < 3:
        raise MeshError(f"a face of {sizes.min()} corners: truncated?")
    first_corner = np.cumsum(sizes) - sizes
    first_triangle = np.cumsum(sizes - 2) - (sizes - 2)
    triangles = np.empty((int((sizes - 2).sum()), 3), np.int64)
    for size in np.unique(sizes):
        order = np.stack([np.zeros(size - 2, int), np.arange(1, size - 1), np.arange(2, size)], axis=-1)
        which = sizes == size
        rows = first_triangle[which, None] + np.arange(size - 2)
        triangles[rows] = indices[first_corner[which, None, None] + order]
    return triangles
