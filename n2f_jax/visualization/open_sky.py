"""How much of the sky each vertex of a mesh sees: ambient occlusion, by height maps from many directions."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from n2f_jax.mesh.normals import face_normals, vertex_normals

_SIDE = 176  # cells along a height map; a head's are 2 mm wide
_SAMPLES = 4.0  # points of the surface a cell
_BIAS = 0.008  # of the mesh's radius: a surface does not hide itself
_OPEN = 0.95  # what is measured on a smooth ball, which hides a little of itself where one looks along it
_GOLDEN_ANGLE = np.pi * (3.0 - np.sqrt(5.0))


def open_sky(
    vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"], axes: int = 24
) -> Float[np.ndarray, " V"]:
    """Share of the hemisphere over each vertex that no part of the mesh hides, weighted by the cosine; 0 … 1.

    Points spread over the surface are laid into a height map for each direction. A vertex at the bottom of a fold
    narrower than a cell (a hundredth of the mesh) may count as open.

    Args:
        vertices: any unit.
        faces: counter-clockwise seen from outside; both sides hide.
        axes: that are looked along, each both ways.
    """
    vertices = np.asarray(vertices, np.float64)
    normals = vertex_normals(vertices, faces)
    centre = (vertices.min(axis=0) + vertices.max(axis=0)) / 2
    radius = max(float(np.linalg.norm(vertices - centre, axis=1).max()), 1e-12)
    vertices = (vertices - centre) / radius
    points = np.concatenate([_spread(vertices, faces, _SAMPLES * (_SIDE / 2) ** 2), vertices])
    lifted = vertices + _BIAS * normals
    seen, total = np.zeros(len(vertices)), np.zeros(len(vertices))
    for axis in _half_sphere(axes):
        right, up = _across(axis)
        cell, cell_of_vertex = (_cells(x @ right, x @ up) for x in (points, lifted))
        height, vertex_height = points @ axis, lifted @ axis
        for sign in (1.0, -1.0):
            top = np.full(_SIDE * _SIDE, -np.inf)
            np.maximum.at(top, cell, sign * height)
            hidden = np.clip((top[cell_of_vertex] - sign * vertex_height) / _BIAS, 0.0, 1.0)
            weight = np.maximum(sign * (normals @ axis), 0.0)
            seen += weight * (1.0 - hidden)
            total += weight
    share = np.divide(seen, total, out=np.ones_like(total), where=total > 0)
    return np.minimum(share / _OPEN, 1.0)


def _spread(vertices, faces, density):
    """Points on the surface, ``density`` a unit of area, at places of a low-discrepancy sequence."""
    area = 0.5 * np.linalg.norm(face_normals(vertices, faces), axis=1)
    ends = np.floor(np.cumsum(area) * density).astype(int)
    count = ends[-1] if len(ends) else 0
    face = np.searchsorted(ends, np.arange(count), side="right")
    # Roberts's R2 sequence, folded into the triangle.
    a, b = (np.arange(count) * step % 1.0 for step in (0.7548776662466927, 0.5698402909980532))
    a, b = np.where(a + b > 1.0, (1.0 - a, 1.0 - b), (a, b))
    corners = vertices[faces[face]]
    return (
        corners[:, 0]
        + a[:, None] * (corners[:, 1] - corners[:, 0])
        + b[:, None] * (corners[:, 2] - corners[:, 0])
    )


def _half_sphere(count):
    """``(count, 3)`` axes spread evenly, on a spiral of golden angles."""
    height = 1.0 - (np.arange(count) + 0.5) / count
    angle = _GOLDEN_ANGLE * np.arange(count)
    ring = np.sqrt(1.0 - height**2)
    return np.stack([ring * np.cos(angle), height, ring * np.sin(angle)], axis=1)


def _across(axis):
    """Two unit vectors across an axis and each other."""
    right = np.cross(axis, np.eye(3)[np.argmin(np.abs(axis))])
    right /= np.linalg.norm(right)
    return right, np.cross(axis, right)


def _cells(x, y):
    column, row = ((0.5 * _SIDE * (1.0 + 0.98 * value)).astype(int).clip(0, _SIDE - 1) for value in (x, y))
    return row * _SIDE + column
