"""Which vertices of a head model a scanner or a camera can reach."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int

from flame_jax import HeadModel

# Seen through openings only, and not skin.
EYEBALLS = ("eyeballs", "left_eyeball", "right_eyeball")
HIDDEN = ("eye_sockets", "mouth_cavity", "teeth", "tongue", *EYEBALLS)


def skin_vertices(model: HeadModel) -> Int[np.ndarray, " n"]:
    """Indices of the vertices that are in none of the masks of ``HIDDEN``; all, where the model has none of these."""
    hidden = np.zeros(model.num_vertices, bool)
    for name in HIDDEN:
        if name in model.masks:
            hidden[np.asarray(model.masks[name])] = True
    return np.flatnonzero(~hidden)
