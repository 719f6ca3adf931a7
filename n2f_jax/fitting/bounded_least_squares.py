"""Least squares within bounds for few unknowns, often: block principal pivoting, which takes a few small solves.

Júdice and Pires, "A block principal pivoting algorithm for large-scale strictly monotone linear complementarity
problems", Computers & Operations Research 21 (1994). Where blocks go round in circles, one unknown changes sides at a
time, which ends always.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

_BLOCKS = 3  # exchanges of whole blocks without progress before one at a time
_MOST = 2000
_TOLERANCE = 1e-10


def bounded_least_squares(
    gram: Float[np.ndarray, "N N"],
    right: Float[np.ndarray, " N"],
    high: Float[np.ndarray, " N"],
    start: Float[np.ndarray, " N"] | None = None,
) -> Float[np.ndarray, " N"]:
    """The x within 0 … ``high`` at which ½ xᵀ·gram·x − right·x is least.

    Args:
        gram: symmetric, positive definite.
        right: of the normal equations.
        high: above 0.
        start: an answer to a similar problem: it is found sooner.
    """
    x = np.zeros(len(right)) if start is None else np.asarray(start, np.float64)
    low, top = x <= 0.0, x >= high
    scale = float(np.abs(right).max()) + 1e-30
    fewest, tries = len(right) + 1, _BLOCKS
    for _ in range(_MOST):
        free = ~(low | top)
        x = np.where(top, high, 0.0)
        if free.any():
            x[free] = np.linalg.solve(gram[np.ix_(free, free)], right[free] - gram[free] @ x)
        slope = gram @ x - right
        below, above = free & (x < -_TOLERANCE), free & (x > high + _TOLERANCE)
        leaves_low = low & (slope < -_TOLERANCE * scale)
        leaves_top = top & (slope > _TOLERANCE * scale)
        wrong = below | above | leaves_low | leaves_top
        count = int(wrong.sum())
        if not count:
            return x.clip(0.0, high)
        if count < fewest:
            fewest, tries = count, _BLOCKS
        elif tries:
            tries -= 1
        else:
            last = np.flatnonzero(wrong)[-1]
            wrong = np.arange(len(right)) == last
        low = (low & ~(leaves_low & wrong)) | (below & wrong)
        top = (top & ~(leaves_top & wrong)) | (above & wrong)
    return x.clip(0.0, high)
