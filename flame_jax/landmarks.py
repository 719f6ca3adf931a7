"""The 68 landmarks (iBUG order) on the mesh."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import jax.numpy as jnp

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int

    from flame_jax.model import HeadModel

NUM_LANDMARKS = 68
NUM_CONTOUR = 17  # landmarks 0 … 16, the jaw line


def points_on_mesh(
    vertices: Float[Array, "... V 3"],
    faces: Int[Array, "F 3"],
    face_indices: Int[Array, "... n"],
    barycentric: Float[Array, "... n 3"],
) -> Float[Array, "... n 3"]:
    """Points given by triangle and barycentric coordinates.

    The points are either the same for the whole batch (``(n,)`` and ``(n, 3)``) or one set for each element
    (leading axes equal to those of ``vertices``).
    """
    batch = vertices.shape[:-2]
    triangles = faces[face_indices]  # (..., n, 3)
    triangles = jnp.broadcast_to(triangles, (*batch, *triangles.shape[-2:]))
    barycentric = jnp.broadcast_to(barycentric, (*batch, *barycentric.shape[-2:]))
    flat = triangles.reshape(*batch, -1)
    corners = jnp.take_along_axis(vertices, flat[..., None], axis=-2).reshape(*triangles.shape, 3)
    return jnp.sum(corners * barycentric[..., None], axis=-2)


def yaw_from_rotation(rotation_phi: Float[Array, "... 3 3"]) -> Float[Array, "..."]:
    """The head's rotation about its y axis in radians, as FLAME's contour lookup takes it from a matrix.

    ``atan2(−R₂₀, √(R₀₀² + R₁₀²))``; positive turns the face to the subject's left.

    Args:
        rotation_phi: rotation of the head in a frame with y up and z towards the viewer. For this project's
            OpenCV camera that is ``diag(1, −1, −1) · R``.
    """
    r = rotation_phi
    return jnp.arctan2(-r[..., 2, 0], jnp.sqrt(jnp.maximum(r[..., 0, 0] ** 2 + r[..., 1, 0] ** 2, 1e-12)))


def contour_bin(yaw: Float[Array, "..."], bins: int) -> Int[Array, "..."]:
    """Index into the dynamic contour for a yaw in radians (``LandmarkEmbedding`` gives the order)."""
    limit = (bins - 1) // 2
    degrees = jnp.round(-yaw * (180.0 / math.pi)).astype(jnp.int32)
    degrees = jnp.clip(degrees, -limit, limit)
    return jnp.where(degrees < 0, limit - degrees, degrees)


def landmarks68(
    model: HeadModel, vertices: Float[Array, "... V 3"], yaw: Float[Array, "..."] | None = None
) -> Float[Array, "... 68 3"]:
    """The 68 landmarks of decoded heads, in the frame and units of ``vertices``.

    Args:
        model: the head model; its ``landmarks`` must be there.
        vertices: any leading batch axes.
        yaw: None for the static contour (fixed mesh points, what the paper trains on), or
            ``yaw_from_rotation`` of each head for the contour seen in a photograph.

    Raises:
        ValueError: the model has no landmark embedding.
    """
    embedding = model.landmarks
    if embedding is None:
        raise ValueError(f"head model {model.name!r} has no landmark embedding")
    static = points_on_mesh(vertices, model.faces, embedding.static_faces, embedding.static_barycentric)
    if yaw is None:
        return static
    index = contour_bin(yaw, embedding.dynamic_faces.shape[0])
    contour = points_on_mesh(
        vertices, model.faces, embedding.dynamic_faces[index], embedding.dynamic_barycentric[index]
    )
    return jnp.concatenate([contour, static[..., NUM_CONTOUR:, :]], axis=-2)
