"""Normals of a picture that nobody segmented: what hides the face, hair, the background.

A network that estimates normals says something of every pixel, sharp or not, right or not. What lies before a face or
beside it is neither known nor needed here; its normals are drawn as smooth surfaces that face the camera more or less,
of any coarseness. One sample at a time (use ``vmap``).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from n2f_jax.data.waves import smooth_field

# How far surfaces bend: the waves' share beside a common direction, from a board to a bush.
_BENDS = (0.1, 1.5)


def random_surface(key: PRNGKeyArray, size: tuple[int, int]) -> Float[Array, "H W 3"]:
    """Unit normals of a surface that is bent at random."""
    base_key, field_key, bend_key = jax.random.split(key, 3)
    base = jax.random.normal(base_key, (3,)) + jnp.asarray([0.0, 0.0, 1.0])
    base = base / jnp.maximum(jnp.linalg.norm(base), 1e-6)
    bend = jax.random.uniform(bend_key, (), minval=_BENDS[0], maxval=_BENDS[1])
    normals = base[None, None] + bend * jnp.moveaxis(smooth_field(field_key, size, 3), 0, -1)
    return normals / jnp.maximum(jnp.linalg.norm(normals, axis=-1, keepdims=True), 1e-6)


def fill_in(
    key: PRNGKeyArray,
    normals: Float[Array, "H W 3"],
    face: Float[Array, "H W"],
    shown: Float[Array, "H W"],
) -> Float[Array, "H W 3"]:
    """The whole picture's normals.

    A third of the pictures have nothing behind the head, a third something, and a third something in place of all that
    is not face (hair, a hat, a collar).

    Args:
        key: of this sample.
        normals: of the whole head, zero where there is none.
        face: 1 on the face.
        shown: 0 where something hides what is behind it.
    """
    kind_key, behind_key, before_key = jax.random.split(key, 3)
    size = (face.shape[0], face.shape[1])
    kind = jax.random.randint(kind_key, (), 0, 3)
    head = jnp.sum(normals * normals, axis=-1) > 0.0
    open_ = jnp.where(kind == 0, False, jnp.where(kind == 1, ~head, face == 0.0))
    behind = jnp.where(open_[..., None], random_surface(behind_key, size), normals)
    return jnp.where((shown == 0.0)[..., None], random_surface(before_key, size), behind)
