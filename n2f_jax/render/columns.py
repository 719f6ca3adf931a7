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


def take_rows(array: Float[Array, "N C"], index: Int[Array, " n"]) -> Float[Array, "n D"]:
    """Rows of an array, padded with zeros to D, the next multiple of four; no index may be out of bounds.

    The backward pass adds rows up where they came from: XLA's CPU compiler does that in vector registers for a
    multiple of four numbers, and takes three times as long for three.
    """
    padded = jnp.pad(array, ((0, 0), (0, -array.shape[-1] % 4)))
    return padded.at[index].get(mode="promise_in_bounds")


def add_rows(rows: Float[Array, "n C"], index: Int[Array, " n"], count: int) -> Float[Array, "count C"]:
    """Sums of the rows that share an index: ``zeros(count, C)[index] += rows``, see ``take_rows``."""
    padded = jnp.pad(rows, ((0, 0), (0, -rows.shape[-1] % 4)))
    total = jnp.zeros((count, padded.shape[-1]), rows.dtype)
    return total.at[index].add(padded, mode="promise_in_bounds")[:, : rows.shape[-1]]
