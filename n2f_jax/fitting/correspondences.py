"""Which points of a head model's skin and of a scan belong together: nearest points, and which of them count."""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Bool, Float, Int

from n2f_jax.mesh.closest_points import Closest, Surface, barycentric, morton_order
from n2f_jax.mesh.normals import unit_face_normals, vertex_normals
from n2f_jax.mesh.triangle_mesh import MeshError, TriangleMesh
from n2f_jax.render.topology import face_neighbors

# Nearest points whose normals differ by more than this are on another sheet of the surface (the back of an ear).
_LEAST_COSINE = 0.5
# A nearest point this close to an edge, in barycentric coordinates, lies on it.
_ON_EDGE = 1e-6


@dataclasses.dataclass(frozen=True)
class Pairs:
    """N points of the model with the points of the scan that they should come to lie on. Scan frame, its unit.

    Attributes:
        corners: ``(N, 3)`` vertices of the model between which each point lies.
        weights: ``(N, 3)`` its barycentric coordinates.
        target: ``(N, 3)`` the scan's point.
        normal: ``(N, 3)`` the scan's unit normal there.
        counts: ``(N,)`` whether the pair is to be believed.
    """

    corners: Int[np.ndarray, "N 3"]
    weights: Float[np.ndarray, "N 3"]
    target: Float[np.ndarray, "N 3"]
    normal: Float[np.ndarray, "N 3"]
    counts: Bool[np.ndarray, " N"]

    @staticmethod
    def joined(*parts: Pairs) -> Pairs:
        names = [field.name for field in dataclasses.fields(Pairs)]
        return Pairs(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


class ScanSurface:
    """A scan that is asked for its nearest points, and for points spread evenly over it.

    Args:
        mesh: with triangles, cleaned (``mesh.cleaning.clean``).
        samples: how many points are spread over it.
        seed: of these.

    Attributes:
        mesh: the scan.
        samples: ``(S, 3)`` points on it, each for an equal share of its area.
        sample_normals: ``(S, 3)``.

    Raises:
        MeshError: no triangles.
    """

    def __init__(self, mesh: TriangleMesh, samples: int = 6000, seed: int = 0):
        self.mesh = mesh
        self._surface = Surface(mesh)
        self._normals = vertex_normals(mesh.vertices, mesh.faces)
        self._border = border_edges(mesh.faces)
        self.samples, self.sample_normals = self._spread(samples, np.random.default_rng(seed))

    def _spread(self, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        corners = self.mesh.vertices[self.mesh.faces]
        area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
        if not area.sum() > 0:
            raise MeshError("a scan without area")
        # One point in each of ``count`` equal stretches of the summed area: even, whatever the triangles' sizes.
        along = (np.arange(count) + rng.random(count)) / count * area.sum()
        face = np.minimum(np.searchsorted(np.cumsum(area), along), len(area) - 1)
        u, v = rng.random((2, count))
        root = np.sqrt(u)
        weights = np.stack([1.0 - root, root * (1.0 - v), root * v], axis=-1)
        points = np.einsum("nc,nci->ni", weights, corners[face])
        normals = np.einsum("nc,nci->ni", weights, self._normals[self.mesh.faces[face]])
        order = morton_order(points)
        return points[order], _unit(normals)[order]

    def nearest(
        self, points: Float[np.ndarray, "N 3"], normals: Float[np.ndarray, "N 3"], max_distance: float
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """For each point the nearest of the scan, the unit normal there, and whether it is to be believed.

        It is not beyond ``max_distance``, on a border of the scan (the true surface may go on in the hole), or where
        the normals say that it is another sheet.

        Args:
            points: in the scan's frame and unit.
            normals: unit.
            max_distance: in the scan's unit.
        """
        found = self._surface.closest_of_any_order(points)
        weights = barycentric(self.mesh, found.face, found.point)
        normal = _unit(np.einsum("nc,nci->ni", weights, self._normals[self.mesh.faces[found.face]]))
        counts = found.distance < max_distance
        counts &= ~on_border(weights, self._border[found.face])
        counts &= (normal * normals).sum(axis=1) > _LEAST_COSINE
        return found.point, normal, counts


class ModelSkin:
    """The part of a head model that a scan can show.

    Args:
        faces: ``(F, 3)`` triangles of the model.
        visible: ``(n,)`` vertices that a scanner can reach.

    Attributes:
        faces: ``(F', 3)`` triangles all of whose corners are visible.
        vertices: ``(n,)`` vertices of these.
    """

    def __init__(self, faces: Int[np.ndarray, "F 3"], visible: Int[np.ndarray, " n"]):
        inside = np.zeros(faces.max() + 1, bool)
        inside[visible] = True
        self.faces = np.asarray(faces, np.int64)[inside[faces].all(axis=1)]
        self.vertices = np.unique(self.faces)
        self._border = border_edges(self.faces)

    def pairs(
        self, vertices: Float[np.ndarray, "V 3"], scan: ScanSurface, max_distance: float
    ) -> tuple[Pairs, Pairs]:
        """Every vertex of the skin with the scan's nearest point, and every sample of the scan with the skin's.

        Args:
            vertices: of the whole model, in the scan's frame and unit.
            scan: the scan.
            max_distance: beyond it a pair does not count.
        """
        normals = vertex_normals(vertices, self.faces)
        target, normal, counts = scan.nearest(vertices[self.vertices], normals[self.vertices], max_distance)
        corners = np.repeat(self.vertices[:, None], 3, axis=1)
        weights = np.tile([1.0, 0.0, 0.0], (len(corners), 1))
        forth = Pairs(corners, weights, target, normal, counts)

        mesh = TriangleMesh(vertices, self.faces)
        found: Closest = Surface(mesh).closest(scan.samples)
        weights = barycentric(mesh, found.face, found.point)
        agreement = (unit_face_normals(vertices, self.faces[found.face]) * scan.sample_normals).sum(axis=1)
        counts = (found.distance < max_distance) & (agreement > _LEAST_COSINE)
        counts &= ~on_border(weights, self._border[found.face])
        back = Pairs(self.faces[found.face], weights, scan.samples, scan.sample_normals, counts)
        return forth, back


def border_edges(faces: Int[np.ndarray, "F 3"]) -> Bool[np.ndarray, "F 6"]:
    """Of every triangle, whether the edges opposite to its corners, and its corners themselves, lie on a border."""
    faces = np.asarray(faces, np.int64)
    # face_neighbors' edge k runs from corner k to corner k + 1: opposite to corner k + 2.
    open_edge = face_neighbors(faces) < 0
    opposite = np.roll(open_edge, 2, axis=1)
    corner = np.zeros(faces.max() + 1, bool)
    for k in range(3):
        corner[faces[open_edge[:, k], k]] = True
        corner[faces[open_edge[:, k], (k + 1) % 3]] = True
    return np.concatenate([opposite, corner[faces]], axis=1)


def on_border(weights: Float[np.ndarray, "N 3"], border: Bool[np.ndarray, "N 6"]) -> Bool[np.ndarray, " N"]:
    """Whether points given by barycentric coordinates lie on a border of their triangles (``border_edges``)."""
    on_edge = (weights < _ON_EDGE) & border[:, :3]
    at_corner = (weights > 1.0 - _ON_EDGE) & border[:, 3:]
    return on_edge.any(axis=1) | at_corner.any(axis=1)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
