"""Draws the triangles without a finite projection: they cross the near plane or reach far beyond the image.

They are few or none, so each is drawn over the whole image, from homogeneous coordinates (Olano and Greer,
"Triangle scan conversion using 2D homogeneous coordinates", 1997): with p_i = (f·x + c_u·z, f·y + c_v·z, z), corner
i's share at pixel (u, v) is proportional to (p_j × p_k)·(u, v, 1), whatever the signs of the depths. In float32, not
snapped: beside its neighbours such a triangle is exact to rounding.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


def draw_crossing(
    face: Int[Array, "H W"],
    crosses: Bool[Array, " F"],
    vertices_cam: Float[Array, "V 3"],
    faces: Int[Array, "F 3"],
    focal: Float[Array, ""],
    principal_point: Float[Array, "2"],
    near: float,
    cull_backfaces: bool,
) -> Int[Array, "H W"]:
    """The image of visible triangles with those marked in ``crosses`` drawn into it."""
    size = face.shape
    v, u = (jax.lax.broadcasted_iota(jnp.float32, size, axis) + 0.5 for axis in (0, 1))
    center = jnp.broadcast_to(principal_point, (vertices_cam.shape[0], 2))
    depth = vertices_cam[:, 2:]
    homogeneous = jnp.concatenate([focal * vertices_cam[:, :2] + center * depth, depth], axis=-1)

    def draw(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        remaining, face, best = state
        number = jnp.argmax(remaining).astype(jnp.int32)
        parts, volume, inverse_depth = _shares(homogeneous, faces[number], u, v)
        inside = (volume < 0.0) if cull_backfaces else (volume != 0.0)
        inside = inside & (inverse_depth > 0.0) & (inverse_depth * near <= 1.0)
        for part, forward in parts:
            inside = inside & ((part * jnp.sign(volume) > 0.0) | ((part == 0.0) & forward))
        wins = inside & (inverse_depth > best)
        return (
            remaining.at[number].set(False),
            jnp.where(wins, number, face),
            jnp.where(wins, inverse_depth, best),
        )

    def draw_all(face: Int[Array, "H W"]) -> Int[Array, "H W"]:
        # Row by row, so that memory is not set aside for what is hardly ever needed.
        def inverse_depth(row: tuple[Array, Array, Array]) -> Array:
            seen, u, v = row
            return jnp.where(seen >= 0, _shares(homogeneous, faces[jnp.maximum(seen, 0)], u, v)[2], 0.0)

        best = jax.lax.map(inverse_depth, (face, u, v))
        return jax.lax.while_loop(lambda state: state[0].any(), draw, (crosses, face, best))[1]

    return jax.lax.cond(crosses.any(), draw_all, lambda face: face, face)


def _shares(
    homogeneous: Float[Array, "V 3"],
    corner: Int[Array, "... 3"],
    u: Float[Array, "..."],
    v: Float[Array, "..."],
) -> tuple[list[tuple[Float[Array, "..."], Bool[Array, "..."]]], Float[Array, "..."], Float[Array, "..."]]:
    """Each corner's share (not normalised, of one sign inside), the volume that signs them, and the inverse depth.

    At pixels (u, v), of one triangle ``corner`` (3,) or of one a pixel (…, 3).
    """
    p = homogeneous[corner]
    total: Array | float = 0.0
    parts = []
    for j, k in ((1, 2), (2, 0), (0, 1)):
        # Always from the vertex of the lower number, so that neighbours see exactly the same edge.
        forward = corner[..., j] < corner[..., k]
        low = jnp.where(forward[..., None], p[..., j, :], p[..., k, :])
        high = jnp.where(forward[..., None], p[..., k, :], p[..., j, :])
        normal = jnp.cross(low, high)
        part = normal[..., 0] * u + normal[..., 1] * v + normal[..., 2]
        part = jnp.where(forward, part, -part)
        total = total + part
        parts.append((part, forward))
    # p_0 · (p_1 × p_2): negative where the triangle faces the camera (y is down).
    volume = jnp.sum(p[..., 0, :] * jnp.cross(p[..., 1, :], p[..., 2, :]), axis=-1)
    return parts, volume, total / jnp.where(volume == 0.0, 1.0, volume)
