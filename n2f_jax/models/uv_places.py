"""Where places of a head lie in an image, by a map that says of each pixel which place it shows (UV).

Pixel3DMM's fits use their UV network so: not as colours that a network is shown, but inverted, as correspondences.
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from flame_jax import HeadModel

# A place lies in the map if it is less than so many pixels from the pixel whose value comes nearest.
_NEAR = 1.0


def texture_places(
    model: HeadModel, triangles: Int[Array, " N"], barycentric: Float[Array, "N 3"]
) -> Float[Array, "N 2"]:
    """Texture coordinates of points on a head model's mesh.

    Raises:
        ValueError: the model has none.
    """
    if not len(model.uv):
        raise ValueError(f"head model {model.name!r} has no texture coordinates")
    return jnp.einsum("nkc,nk->nc", model.uv[model.uv_faces[triangles]], barycentric)


def places_in_uv_map(
    uv: Float[Array, "S S 2"], mask: Float[Array, "S S"], wanted: Float[Array, "N 2"]
) -> Float[Array, "N 2"]:
    """Image positions of texture coordinates: the pixel that comes nearest, and a linear step from it. One image.

    Args:
        uv: texture coordinates that the image shows.
        mask: 1 where they count.
        wanted: texture coordinates.

    Returns:
        Pixels (u = 0 at the left edge, centres at +0.5); NaN for what is not seen.
    """
    size = mask.shape[0]
    there = mask > 0.5
    flat = uv.reshape(1, -1, 2)
    apart = jnp.sum((wanted[:, None] - flat) ** 2, axis=-1)
    nearest = jnp.argmin(jnp.where(there.reshape(1, -1), apart, jnp.inf), axis=1)
    row, column = nearest // size, nearest % size

    def slope(down: int, right: int) -> Float[Array, "N 2"]:
        """By one pixel down or to the right: forward where that pixel is there, else backward."""
        after, before = ((row + sign * down, column + sign * right) for sign in (1, -1))
        forward = (after[0] < size) & (after[1] < size)
        forward &= there[jnp.minimum(after[0], size - 1), jnp.minimum(after[1], size - 1)]
        other = jnp.where(forward[:, None], jnp.stack(after, -1), jnp.maximum(jnp.stack(before, -1), 0))
        usable = there[other[:, 0], other[:, 1]]
        change = (uv[other[:, 0], other[:, 1]] - here) * jnp.where(forward, 1.0, -1.0)[:, None]
        return jnp.where(usable[:, None], change, jnp.nan)

    here = uv[row, column]
    by_u, by_v, left = slope(0, 1), slope(1, 0), wanted - here
    determinant = by_u[:, 0] * by_v[:, 1] - by_u[:, 1] * by_v[:, 0]
    step = jnp.stack(
        [
            left[:, 0] * by_v[:, 1] - left[:, 1] * by_v[:, 0],
            by_u[:, 0] * left[:, 1] - by_u[:, 1] * left[:, 0],
        ],
        axis=-1,
    )
    step = step / jnp.where(determinant == 0.0, jnp.nan, determinant)[:, None]
    seen = there.any() & (jnp.abs(step) < _NEAR).all(axis=-1)  # False for NaN
    pixels = jnp.stack([column, row], axis=-1).astype(uv.dtype) + 0.5 + step
    return jnp.where(seen[:, None], pixels, jnp.nan)
