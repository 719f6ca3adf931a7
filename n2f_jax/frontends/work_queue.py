"""Work on those items of an array that want it, a few at a time, in shapes known beforehand."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool

Items, Results = TypeVar("Items"), TypeVar("Results")


def for_each(
    function: Callable[[Items], Results], items: Items, wanted: Bool[Array, "N"], at_once: int
) -> Results:
    """``function`` of the wanted items; what it says of the others is not to be used.

    Where few are wanted little is computed, which ``jax.vmap`` and a mask cannot do.

    Args:
        function: of ``(at_once, ...)`` arrays to arrays of the same leading axis.
        items: a pytree of ``(N, ...)`` arrays.
        wanted: at most N.
        at_once: how many a call sees.

    Returns:
        A pytree of ``(N, ...)`` arrays.
    """
    total = len(wanted)
    at_once = min(at_once, total)
    # The wanted ones first; numbers from N on are nobody.
    order = jnp.argsort(~wanted, stable=True).astype(jnp.int32)
    order = jnp.concatenate([order, jnp.full(at_once, total, jnp.int32)])
    count = wanted.sum(dtype=jnp.int32)
    some = jax.tree.map(lambda x: jax.ShapeDtypeStruct((at_once, *x.shape[1:]), x.dtype), items)
    results = jax.tree.map(
        lambda x: jnp.zeros((total, *x.shape[1:]), x.dtype), jax.eval_shape(function, some)
    )

    def step(state):
        start, results = state
        index = lax.dynamic_slice(order, (start,), (at_once,))
        part = function(jax.tree.map(lambda x: x.at[index].get(mode="clip"), items))
        return start + at_once, jax.tree.map(lambda x, y: x.at[index].set(y, mode="drop"), results, part)

    return lax.while_loop(lambda state: state[0] < count, step, (jnp.int32(0), results))[1]
