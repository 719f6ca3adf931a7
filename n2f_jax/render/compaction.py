"""Stream compaction with a static shape."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

_BLOCK = 128


def compact(flags: Bool[Array, " n"], size: int) -> tuple[Int[Array, " size"], Int[Array, ""]]:
    """Positions of the set flags, in order.

    Returns:
        ``(size,)`` positions, ``n`` in unused places, and how many flags are set (beyond ``size`` the
        last ones are missing).
    """
    n = flags.shape[0]
    # Ranks within blocks by a product with a triangle of ones (exact: sums up to 128), then over block totals;
    # XLA's own prefix sum takes ten times as long on CPUs.
    blocks = -(-n // _BLOCK)
    padded = jnp.pad(flags, (0, blocks * _BLOCK - n)).reshape(blocks, _BLOCK)
    rank = (padded.astype(jnp.float32) @ jnp.triu(jnp.ones((_BLOCK, _BLOCK)))).astype(jnp.int32)
    totals = jnp.cumsum(rank[:, -1])
    before = jnp.broadcast_to((totals - rank[:, -1])[:, None], rank.shape)
    rank = (rank + before).reshape(-1)[:n]
    position = jnp.where(flags, rank - 1, size)
    found = jnp.full(size, n, jnp.int32).at[position].set(jnp.arange(n, dtype=jnp.int32), mode="drop")
    return found, totals[-1]
