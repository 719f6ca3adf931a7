"""The parameters that pose a head model."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from flame_jax.rotations import IDENTITY_6D

if TYPE_CHECKING:
    from jaxtyping import Array, Float

    from flame_jax.model import HeadModel


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class FlameParams:
    """FLAME parameters without the global pose (that is the camera's). A pytree; batch axes come first.

    Rotations are 6D: the first two rows of the rotation matrix (``flame_jax.rotations``).

    Attributes:
        shape: ``(..., S)`` identity coefficients, unit variance over people.
        expression: ``(..., E)`` expression coefficients.
        jaw: ``(..., 6)`` jaw rotation; +x opens the mouth.
        eyelids: ``(..., 2)`` closure, left then right; 0 as modelled, 1 closed.
        neck: ``(..., 6)`` neck rotation.
        eyes: ``(..., 2, 6)`` eyeball rotations, left then right.
    """

    shape: Float[Array, "... S"]
    expression: Float[Array, "... E"]
    jaw: Float[Array, "... 6"]
    eyelids: Float[Array, "... 2"]
    neck: Float[Array, "... 6"]
    eyes: Float[Array, "... 2 6"]

    @classmethod
    def resting(
        cls,
        shape: Float[Array, "... S"],
        expression: Float[Array, "... E"],
        jaw: Float[Array, "... 6"],
        eyelids: Float[Array, "... 2"],
    ) -> FlameParams:
        """A head whose neck and eyes are at rest; all of one batch."""
        batch = jaw.shape[:-1]
        identity = jnp.asarray(IDENTITY_6D, jaw.dtype)
        return cls(
            shape=shape,
            expression=expression,
            jaw=jaw,
            eyelids=eyelids,
            neck=jnp.broadcast_to(identity, (*batch, 6)),
            eyes=jnp.broadcast_to(identity, (*batch, 2, 6)),
        )

    @classmethod
    def neutral(cls, model: HeadModel, batch: tuple[int, ...] = ()) -> FlameParams:
        """The mean head at rest, repeated over ``batch``."""
        return cls.resting(
            shape=jnp.zeros((*batch, model.num_shape)),
            expression=jnp.zeros((*batch, model.num_expression)),
            jaw=jnp.broadcast_to(jnp.asarray(IDENTITY_6D), (*batch, 6)),
            eyelids=jnp.zeros((*batch, 2)),
        )
