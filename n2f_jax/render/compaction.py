"""Prefix sums and stream compaction with static shapes."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

_BLOCK = 128


def prefix_sum(values: Int[Array, " n"], largest: int) -> Int[Array, " n"]:
    """Inclusive prefix sums, int32, of numbers from 0 to ``largest`` (their total below 2³¹)."""
    if largest * _BLOCK >= 1 << 24:
        return jnp.cumsum(values, dtype=jnp.int32)
    n = values.shape[0]
    # Within blocks by a product with a triangle of ones (exact: sums below 2²⁴), then over block totals; XLA's own
    # prefix sum takes several times as long on CPUs.
    blocks = -(-n // _BLOCK)
    padded = jnp.pad(values, (0, blocks * _BLOCK - n)).reshape(blocks, _BLOCK)
    within = (padded.astype(jnp.float32) @ jnp.triu(jnp.ones((_BLOCK, _BLOCK)))).astype(jnp.int32)
    totals = within[:, -1]
    before = jnp.cumsum(totals, dtype=jnp.int32) - totals
    return (within + jnp.broadcast_to(before[:, None], within.shape)).reshape(-1)[:n]


def compact(flags: Bool[Array, " n"], size: int) -> tuple[Int[Array, " size"], Int[Array, ""]]:
    """Positions of the set flags, in order.

    Returns:
        ``(size,)`` positions, ``n`` in unused places, and how many flags are set (beyond ``size`` the
        last ones are missing).
    """
    n = flags.shape[0]
    rank = prefix_sum(flags.astype(jnp.int32), 1)
    position = jnp.where(flags, rank - 1, size)
    found = jnp.full(size, n, jnp.int32).at[position].set(jnp.arange(n, dtype=jnp.int32), mode="drop")
    return found, rank[-1]
