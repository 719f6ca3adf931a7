"""Points of a head's surface by triangle and barycentrics: those under a texture's pixels, and their mirror images."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int
from scipy.spatial import cKDTree

from flame_jax import HeadModel, landmarks68
from n2f_jax.geometry.alignment import procrustes
from n2f_jax.render import rasterize

# Each of the 68 landmarks' mirror image (iBUG).
_MIRRORED_68 = (
    *range(16, -1, -1),
    *range(26, 16, -1),
    *range(27, 31),
    *range(35, 30, -1),
    *(45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40),
    *range(54, 47, -1),
    *range(59, 54, -1),
    *range(64, 59, -1),
    *range(67, 64, -1),
)
_SYMMETRIC = 2e-4  # metres: a template this near to its own mirror image is symmetric about x = 0


@dataclasses.dataclass(frozen=True)
class Places:
    """N points.

    Attributes:
        corners: ``(N, 3)`` vertices of the triangle of each.
        shares: ``(N, 3)`` its barycentrics there.
    """

    corners: Int[np.ndarray, "N 3"]
    shares: Float[np.ndarray, "N 3"]

    @classmethod
    def of_vertices(cls, count: int) -> Places:
        """The vertices themselves."""
        shares = np.zeros((count, 3), np.float32)
        shares[:, 0] = 1.0
        return cls(np.tile(np.arange(count)[:, None], (1, 3)), shares)

    def on(self, values: Float[np.ndarray, "V C"]) -> Float[np.ndarray, "N C"]:
        """Values of the vertices, interpolated."""
        # Corner by corner: the gathered triangles of a million points would be three times the result.
        total = np.zeros((len(self.corners), values.shape[1]), np.float32)
        for corner in range(3):
            total += self.shares[:, corner, None] * np.asarray(values, np.float32)[self.corners[:, corner]]
        return total


def texels(model: HeadModel, size: int) -> tuple[Int[np.ndarray, " N"], Places]:
    """Which pixels of a square texture lie on the head, and where; rows go down.

    Args:
        model: with texture coordinates.
        size: side of the texture, pixels.

    Returns:
        ``(N,)`` indices into the flattened image, and the points under their centres.
    """
    uv, uv_faces = np.asarray(model.uv, np.float64), np.asarray(model.uv_faces)
    flat = np.stack([uv[:, 0], 1.0 - uv[:, 1]], axis=1) * size
    plane = jnp.asarray(np.concatenate([flat, np.ones((len(flat), 1))], axis=1), jnp.float32)
    drawn = rasterize(
        plane,
        jnp.asarray(uv_faces, jnp.int32),
        jnp.float32(1.0),
        jnp.zeros(2),
        (size, size),
        cull_backfaces=False,
    )
    face = np.asarray(drawn.face).reshape(-1)
    inside = np.flatnonzero(face >= 0)
    face = face[inside]
    point = np.stack([inside % size, inside // size], axis=1) + 0.5
    a, b, c = (flat[uv_faces[face, corner]] for corner in range(3))
    area = _cross(b - a, c - a)
    area = np.where(np.abs(area) > 1e-12, area, 1.0)
    shares = np.stack([_cross(b - point, c - point), _cross(c - point, a - point)], axis=1) / area[:, None]
    shares = np.concatenate([shares, 1.0 - shares.sum(axis=1, keepdims=True)], axis=1).clip(0.0, 1.0)
    shares = shares / shares.sum(axis=1, keepdims=True)
    return inside, Places(np.asarray(model.faces)[face], shares.astype(np.float32))


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]


def reflection(model: HeadModel) -> tuple[Float[np.ndarray, "3 3"], Float[np.ndarray, "3"]]:
    """The mirror of a head model's mean head, ``x ↦ M x + t``: of the plane x = 0 where the mean head is symmetric
    about it, else of its landmarks; without landmarks x = 0."""
    template = np.asarray(model.v_template, np.float64)
    flip = np.diag([-1.0, 1.0, 1.0])
    away, _ = cKDTree(template).query(template @ flip)
    if model.landmarks is None or away.max() < _SYMMETRIC:
        return flip, np.zeros(3)
    marks = np.asarray(landmarks68(model, model.v_template), np.float64)
    found = procrustes(marks @ flip, marks[list(_MIRRORED_68)])
    return np.asarray(found.rotation) @ flip, np.asarray(found.translation)


def mirror_images(model: HeadModel, places: Places) -> Int[np.ndarray, " N"]:
    """For every point the one among them that lies nearest to its mirror image on the mean head."""
    points = places.on(np.asarray(model.v_template))
    matrix, shift = reflection(model)
    _, nearest = cKDTree(points).query(points @ matrix.T + shift, workers=2)
    return np.asarray(nearest)
