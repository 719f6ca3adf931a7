"""Small array tricks that the renderer shares."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def columns_of(rows: Array) -> list[Array]:
    """The columns of an (n, C) array, each a contiguous vector, which is what compilers vectorise."""
    return [column[0] for column in jax.lax.split(rows.T, (1,) * rows.shape[-1])]


def float_bits(x: Float[Array, "..."]) -> Int[Array, "..."]:
    """The bits of float32 numbers, so that they share an array with integers."""
    return jax.lax.bitcast_convert_type(x, jnp.int32)


def tie(index: Int[Array, "..."], array: Float[Array, "..."]) -> Int[Array, "..."]:
    """``index`` itself, made to depend on ``array``: under ``vmap`` it then carries the same batch axis.

    A gather with one index for the whole batch would put the batch axis last in memory, several times slower
    on CPUs.
    """
    bits = float_bits(jax.lax.stop_gradient(array).reshape(-1)[0])
    return index + jnp.broadcast_to(bits & 0, index.shape)
