"""Normals and areas of triangle meshes, in NumPy and float64 (``n2f_jax.render.shading`` has differentiable ones)."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int


def face_normals(
    vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"]
) -> Float[np.ndarray, "F 3"]:
    """Cross products of the edges: normals of length twice the area, outward for counter-clockwise triangles."""
    # By coordinate: NumPy's cross on rows of three is several times slower.
    a, b, c = (np.asarray(vertices, np.float64)[faces[:, corner]].T for corner in range(3))
    (px, py, pz), (qx, qy, qz) = b - a, c - a
    return np.stack([py * qz - pz * qy, pz * qx - px * qz, px * qy - py * qx]).T


def unit_face_normals(
    vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"]
) -> Float[np.ndarray, "F 3"]:
    """Unit normals of the triangles; zero for one without area."""
    return _unit(face_normals(vertices, faces))


def vertex_normals(
    vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"]
) -> Float[np.ndarray, "V 3"]:
    """Unit vertex normals: means of the normals of the triangles around, weighted by area.

    Zero at a vertex without a triangle of positive area.
    """
    total = np.zeros((len(vertices), 3))
    for axis, weights in enumerate(face_normals(vertices, faces).T):
        for corner in range(3):
            total[:, axis] += np.bincount(faces[:, corner], weights, minlength=len(vertices))
    return _unit(total)


def vertex_areas(
    vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"]
) -> Float[np.ndarray, " V"]:
    """A third of the area of the triangles around each vertex."""
    area = np.linalg.norm(face_normals(vertices, faces), axis=1) / 6.0
    total = np.zeros(len(vertices))
    for corner in range(3):
        total += np.bincount(faces[:, corner], area, minlength=len(total))
    return total


def _unit(vectors: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 0)
