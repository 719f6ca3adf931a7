"""Prefix sums and stream compaction with static shapes."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

_BLOCK = 64


def prefix_sum(x: Int[Array, " n"]) -> Int[Array, " n"]:
    """Inclusive prefix sum: within blocks, then over block totals (XLA's own is several times slower on CPUs)."""
    n = x.shape[0]
    blocks = -(-n // _BLOCK)
    x = jnp.pad(x, (0, blocks * _BLOCK - n)).reshape(blocks, _BLOCK)
    within = jax.lax.associative_scan(jnp.add, x, axis=1)
    totals = jax.lax.associative_scan(jnp.add, within[:, -1])
    before = totals - within[:, -1]
    return (within + jnp.broadcast_to(before[:, None], within.shape)).reshape(-1)[:n]


def compact(flags: Bool[Array, " n"], size: int) -> tuple[Int[Array, " size"], Int[Array, ""]]:
    """Positions of the set flags, in order.

    Returns:
        ``(size,)`` positions, ``n`` in unused places, and how many flags are set (it may exceed ``size``: then
        the last ones are missing).
    """
    n = flags.shape[0]
    rank = prefix_sum(flags.astype(jnp.int32))
    position = jnp.where(flags, rank - 1, size)
    found = jnp.full(size, n, jnp.int32).at[position].set(jnp.arange(n, dtype=jnp.int32), mode="drop")
    return found, rank[-1]
