"""The joints of a person's head, and the skin's weights as glTF holds them: four a vertex."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8

from flame_jax import JOINT_NAMES, HeadModel
from flame_jax.decoder import rest_joints

WEIGHTS_A_VERTEX = 4


@dataclasses.dataclass(frozen=True)
class Skeleton:
    """J joints of a head at rest, V vertices.

    Attributes:
        names: ``flame_jax.JOINT_NAMES``.
        parents: of each joint, −1 for the root.
        joints: ``(J, 3)`` metres, head frame.
        influences: ``(V, 4)`` joints that move each vertex.
        weights: ``(V, 4)`` their shares; each row sums to 1.
        dropped: the largest sum of weights that a vertex lost by keeping four.
    """

    names: tuple[str, ...]
    parents: tuple[int, ...]
    joints: Float[np.ndarray, "J 3"]
    influences: UInt8[np.ndarray, "V 4"]
    weights: Float[np.ndarray, "V 4"]
    dropped: float

    @classmethod
    def of(cls, model: HeadModel, shape: Float[np.ndarray, " S"]) -> Skeleton:
        """Of a person's head without expression.

        Args:
            model: the head model.
            shape: the person's coefficients.
        """
        rest = np.asarray(model.v_template, np.float64) + np.asarray(model.shapedirs, np.float64) @ shape
        if model.joint_template is None:
            joints = np.asarray(model.J_regressor, np.float64) @ rest
        else:
            as_float = jnp.asarray(shape, jnp.float32)
            joints = np.asarray(rest_joints(model, jnp.asarray(rest, jnp.float32), as_float), np.float64)
        return cls(JOINT_NAMES, model.parents, joints, *four_weights(np.asarray(model.weights, np.float64)))


def four_weights(
    weights: Float[np.ndarray, "V J"],
) -> tuple[UInt8[np.ndarray, "V 4"], Float[np.ndarray, "V 4"], float]:
    """The four largest weights of each vertex, scaled to sum to 1; and the most that a vertex lost."""
    # Stable, so that equal weights keep the joints' order.
    order = np.argsort(-weights, axis=1, kind="stable")[:, :WEIGHTS_A_VERTEX]
    kept = np.take_along_axis(weights, order, axis=1)
    short = WEIGHTS_A_VERTEX - order.shape[1]
    order, kept = (np.pad(x, ((0, 0), (0, max(0, short)))) for x in (order, kept))
    total = kept.sum(axis=1, keepdims=True)
    lost = float((1.0 - total / weights.sum(axis=1, keepdims=True)).max())
    # glTF wants joint 0 where the weight is 0.
    return np.where(kept > 0, order, 0).astype(np.uint8), kept / total, max(lost, 0.0)
