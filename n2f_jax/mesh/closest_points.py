"""Closest points on a triangle mesh: exact, by libigl's tree of boxes."""

from __future__ import annotations

import dataclasses
import os

import numpy as np

from n2f_jax.mesh.normals import unit_face_normals
from n2f_jax.mesh.triangle_mesh import MeshError, TriangleMesh


@dataclasses.dataclass(frozen=True)
class Closest:
    """For every query point its closest point on a surface.

    Attributes:
        distance: ``(N,)`` in the mesh's unit.
        face: ``(N,)`` index of the triangle it lies on.
        point: ``(N, 3)``.
    """

    distance: np.ndarray
    face: np.ndarray
    point: np.ndarray

    def reordered(self, order: np.ndarray) -> Closest:
        """The answers for ``points``, given those for ``points[order]``."""
        back = np.empty_like(order)
        back[order] = np.arange(len(order))
        return Closest(self.distance[back], self.face[back], self.point[back])


class Surface:
    """A mesh that answers closest-point queries.

    The tree is built once; to measure under many rigid motions move the points into the mesh's frame.

    Args:
        mesh: at least one triangle, all with area (``cleaning.clean``).

    Attributes:
        mesh: the mesh.
        face_normals: ``(F, 3)`` unit normals of its triangles.

    Raises:
        MeshError: no triangles.
        ImportError: libigl is not installed; the message says how.
    """

    def __init__(self, mesh: TriangleMesh):
        if len(mesh.faces) == 0:
            raise MeshError("a surface needs triangles, this mesh has none")
        # One thread a worker: whole samples run side by side. libigl reads this once, at its first query.
        os.environ.setdefault("IGL_NUM_THREADS", "1")
        try:
            import igl
        except ImportError as error:
            raise ImportError('evaluation needs libigl: pip install "n2f-jax[evaluation]"') from error
        self.mesh = mesh
        self._vertices = np.ascontiguousarray(mesh.vertices, np.float64)
        self._faces = np.ascontiguousarray(mesh.faces, np.int64)
        self.face_normals = unit_face_normals(self._vertices, self._faces)
        self._tree = igl.AABB()
        self._tree.init(self._vertices, self._faces)

    def closest(self, points: np.ndarray) -> Closest:
        """The closest point of the surface to each of ``(N, 3)`` points, float64.

        Fastest where neighbours in space are neighbours in the array (``morton_order``).
        """
        points = np.ascontiguousarray(points, np.float64).reshape(-1, 3)
        squared, face, point = self._tree.squared_distance(self._vertices, self._faces, points)
        return Closest(np.sqrt(np.reshape(squared, -1)), np.reshape(face, -1), np.reshape(point, (-1, 3)))

    def closest_of_any_order(self, points: np.ndarray) -> Closest:
        """``closest`` of many points at once, put into a good order meanwhile."""
        order = morton_order(points)
        return self.closest(points[order]).reordered(order)


def morton_order(points: np.ndarray) -> np.ndarray:
    """Indices that walk through ``(N, 3)`` points along a Z-order curve of 1,024 steps a side."""
    low, size = points.min(axis=0), np.ptp(points, axis=0).max()
    cell = ((points - low) * (1023.0 / max(size, 1e-300))).astype(np.int64)
    for shift, mask in ((16, 0x030000FF), (8, 0x0300F00F), (4, 0x030C30C3), (2, 0x09249249)):
        cell = (cell | (cell << shift)) & mask
    return np.argsort(cell @ np.array([1, 2, 4]), kind="stable")


def barycentric(mesh: TriangleMesh, face: np.ndarray, point: np.ndarray) -> np.ndarray:
    """``(N, 3)`` barycentric coordinates of points that lie on triangles ``face`` of ``mesh``.

    In a triangle without area, whose corners do not determine them, those of the place along its longer edge at the
    first corner.
    """
    a, b, c = np.moveaxis(mesh.vertices[mesh.faces[face]], 1, 0)
    ab, ac, ap = b - a, c - a, point - a
    d00, d01, d11 = (np.einsum("ij,ij->i", x, y) for x, y in ((ab, ab), (ab, ac), (ac, ac)))
    d20, d21 = (np.einsum("ij,ij->i", ap, y) for y in (ab, ac))
    determinant = d00 * d11 - d01 * d01
    # One edge tells of a line what two tell of a plane; of a point nothing is to be told.
    flat = determinant <= 1e-14 * d00 * d11
    first = flat & (d00 >= d11)
    determinant = np.where(flat, np.maximum(np.where(first, d00, d11), 1e-300), determinant)
    v = np.where(flat, np.where(first, d20, 0.0), d11 * d20 - d01 * d21) / determinant
    w = np.where(flat, np.where(first, 0.0, d21), d00 * d21 - d01 * d20) / determinant
    return np.stack([1.0 - v - w, v, w], axis=-1)
