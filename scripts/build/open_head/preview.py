"""Small orthographic pictures of heads, by a z-buffer in NumPy, for the builder's checks and contact sheets.

Apart from the package's own renderer on purpose: the checks count pixels of whole batches without compiling
anything, and do not depend on what they help to check.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Bool, Float, Int

from n2f_jax.mesh.normals import vertex_normals


@dataclasses.dataclass(frozen=True)
class View:
    """An orthographic view of a square.

    Attributes:
        centre: ``(3,)`` head-frame point in the middle of the picture, metres.
        width: side of the square, metres.
        size: side of the picture in pixels.
        yaw, pitch: turn of the viewer about y (positive: sees the subject's left side) and x (positive: from
            above), radians.
    """

    centre: tuple[float, float, float]
    width: float
    size: int
    yaw: float = 0.0
    pitch: float = 0.0

    @property
    def rotation(self) -> Float[np.ndarray, "3 3"]:
        """Head frame → view frame (x right, y up, z towards the viewer)."""
        cy, sy, cp, sp = np.cos(self.yaw), np.sin(self.yaw), np.cos(self.pitch), np.sin(self.pitch)
        about_y = np.array([[cy, 0, -sy], [0, 1, 0], [sy, 0, cy]])
        about_x = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
        return about_x @ about_y

    def project(
        self, points: Float[np.ndarray, "n 3"]
    ) -> tuple[Float[np.ndarray, "n 2"], Float[np.ndarray, "n"]]:
        """Pixels (v down) of points of the head frame, and their height towards the viewer in metres."""
        points = (points - np.asarray(self.centre)) @ self.rotation.T
        return points[:, :2] * [1, -1] * (self.size / self.width) + self.size / 2, points[:, 2]


def visible_faces(
    vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"], view: View, cull: bool = True
) -> Int[np.ndarray, "S S"]:
    """Index of the foremost triangle at each pixel, −1 where there is none.

    With ``cull`` only triangles that face the viewer are drawn.
    """
    pixels, depth = view.project(vertices)
    corners, depth = pixels[faces], depth[faces]
    edge1, edge2 = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    area = edge1[:, 0] * edge2[:, 1] - edge1[:, 1] * edge2[:, 0]
    # y points down in the picture, so a triangle seen from outside has negative area.
    low = np.clip(np.ceil(corners.min(axis=1) - 0.5), 0, view.size).astype(int)
    high = np.clip(np.floor(corners.max(axis=1) - 0.5) + 1, 0, view.size).astype(int)
    extent = np.maximum(high - low, 0)
    drawn = ((area < -1e-9) if cull else (np.abs(area) > 1e-9)) & (extent.prod(axis=1) > 0)
    index = np.flatnonzero(drawn)
    count = extent[index].prod(axis=1)
    face = np.repeat(index, count)
    within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    column = within % extent[face, 0] + low[face, 0]
    row = within // extent[face, 0] + low[face, 1]
    dx, dy = column + 0.5 - corners[face, 0, 0], row + 0.5 - corners[face, 0, 1]
    b1 = (dx * edge2[face, 1] - dy * edge2[face, 0]) / area[face]
    b2 = (dy * edge1[face, 0] - dx * edge1[face, 1]) / area[face]
    inside = (b1 >= 0) & (b2 >= 0) & (b1 + b2 <= 1)
    face, b1, b2, pixel = face[inside], b1[inside], b2[inside], (row * view.size + column)[inside]
    z = depth[face, 0] * (1 - b1 - b2) + depth[face, 1] * b1 + depth[face, 2] * b2
    order = np.argsort(z, kind="stable")
    result = np.full(view.size * view.size, -1)
    result[pixel[order]] = face[order]  # the last write, the nearest, stays
    return result.reshape(view.size, view.size)


def shade_grey(
    vertices: Float[np.ndarray, "V 3"],
    faces: Int[np.ndarray, "F 3"],
    view: View,
    albedo: Float[np.ndarray, "V"] | None = None,
) -> Float[np.ndarray, "S S"]:
    """Grey picture in [0, 1]: smooth shading by a light at the viewer's upper left; white background."""
    visible = visible_faces(vertices, faces, view)
    hit: Bool[np.ndarray, "S S"] = visible >= 0
    triangle = faces[visible[hit]]
    pixels, _ = view.project(vertices)
    row, column = np.nonzero(hit)
    a, b, c = (pixels[triangle[:, i]] for i in range(3))
    p = np.stack([column + 0.5, row + 0.5], axis=-1)
    area = _cross(b - a, c - a)
    weights = (
        np.stack([_cross(c - b, p - b), _cross(a - c, p - c), _cross(b - a, p - a)], axis=-1) / area[:, None]
    )
    normal = np.einsum("nk,nkc->nc", weights, vertex_normals(vertices, faces)[triangle]) @ view.rotation.T
    normal /= np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-20)
    light = np.array([-0.45, 0.45, 0.77])
    level = 0.12 + 0.78 * np.clip(normal @ light / np.linalg.norm(light), 0, 1)
    if albedo is not None:
        level = level * np.einsum("nk,nk->n", weights, albedo[triangle])
    picture = np.ones(hit.shape)
    picture[hit] = level
    return picture


def _cross(u: Float[np.ndarray, "n 2"], v: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "n"]:
    return u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0]
