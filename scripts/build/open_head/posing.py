"""Poses the free head with the package's decoder, NumPy in and out, for sheets and checks."""

from __future__ import annotations

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

import flame_jax
from flame_jax import FlameParams, HeadModel
from flame_jax.rotations import euler_to_matrix, matrix_to_rotation_6d

# One compiled size for every call: larger requests go through in pieces.
_BATCH = 16


@jax.jit
def _decode(model: HeadModel, shape, expression, jaw, eyelids):
    params = FlameParams.neutral(model, (len(shape),))
    jaw = matrix_to_rotation_6d(euler_to_matrix(jaw))
    fields = {"shape": shape, "expression": expression, "jaw": jaw, "eyelids": eyelids}
    return flame_jax.decode(model, FlameParams(**{**vars(params), **fields}))[0]


def pose_heads(
    model: HeadModel,
    shape: Float[np.ndarray, "N S"] | None = None,
    expression: Float[np.ndarray, "N E"] | None = None,
    jaw: Float[np.ndarray, "N 3"] | None = None,
    eyelids: Float[np.ndarray, "N 2"] | None = None,
) -> Iterator[Float[np.ndarray, "V 3"]]:
    """Vertices of N heads one by one, metres. What is left out is neutral; ``jaw``: Euler angles, radians."""
    given = {"shape": shape, "expression": expression, "jaw": jaw, "eyelids": eyelids}
    widths = {"shape": model.num_shape, "expression": model.num_expression, "jaw": 3, "eyelids": 2}
    number = next((len(value) for value in given.values() if value is not None), 1)
    full = {
        name: np.zeros((number, widths[name]), np.float32) if value is None else np.asarray(value, np.float32)
        for name, value in given.items()
    }
    for start in range(0, number, _BATCH):
        piece = {name: value[start : start + _BATCH] for name, value in full.items()}
        count = len(piece["shape"])
        padded = {name: jnp.asarray(np.resize(v, (_BATCH, v.shape[1]))) for name, v in piece.items()}
        yield from np.asarray(_decode(model, **padded), np.float64)[:count]
