"""What is known of a head before its image is looked at: the population, and what a network answered."""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from flame_jax import FlameParams
from n2f_jax.fitting.head_tables import HeadTables
from n2f_jax.fitting.linear_solve import solve_positive
from n2f_jax.models.calibration import Calibration, from_unknowns, to_unknowns

# σ of the jaw's Euler angles (degrees) and of the eyelids in the paper's sampler.
JAW_STD_DEG = (15.0, 5.0, 5.0)
EYELID_STD = 0.3
# How much of what an answer says of the face's size is believed; the rest is the population's mean. On the half of the
# outside set that settings are chosen by, answers knew nothing of it (the same spread of 4 % with them as without) and
# were 1 to 3 % off in the mean; on our own heads, children among them, they know half of its variance.
SIZE_SHARE = 0.5
# A network's error over the population's σ, where nobody has measured it.
UNMEASURED_ERROR = 0.5


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class HeadPrior:
    """Gaussians over heads: shape, expression, jaw (axis times angle, radians), eyelids; U = S + E + 5. A pytree.

    Attributes:
        mean: ``(..., U)`` of each image's head.
        precision: ``(U, U)`` about it, the same for all; the population's included.
        population: ``(U,)`` precision of the population alone, which is about zero. Images of one person have it once
            for their common shape.
    """

    mean: Float[Array, "*images U"]
    precision: Float[Array, "U U"]
    population: Float[Array, " U"]

    @classmethod
    def of_population(cls, tables: HeadTables, images: tuple[int, ...] = ()) -> HeadPrior:
        """Nothing is known but that these are people."""
        population = population_precision(tables)
        return cls(jnp.zeros((*images, len(population))), jnp.diag(population), population)

    @classmethod
    def of_answer(
        cls, tables: HeadTables, answer: FlameParams, calibration: Calibration | None = None
    ) -> HeadPrior:
        """A network has answered.

        Args:
            tables: of the head model.
            answer: (..., ) as the network gave it; what is not finite counts as the mean head.
            calibration: what its answers are worth. None: its error is taken to be ``UNMEASURED_ERROR`` of the
                population's σ, in every coefficient alike, and the answer is drawn towards the mean accordingly.
        """
        unknowns = to_unknowns(answer)
        finite = jnp.isfinite(unknowns).all(axis=-1, keepdims=True)
        unknowns = jnp.where(finite, unknowns, 0.0)
        population = population_precision(tables)
        if calibration is None:
            share = 1.0 / (1.0 + UNMEASURED_ERROR**2)
            mean = _sized(tables, share * unknowns)
            return cls(mean, jnp.diag(population / (1.0 - share)), population)
        mean = unknowns @ calibration.matrix.T + jnp.broadcast_to(calibration.offset, unknowns.shape)
        size = len(population)
        # In units of the population's σ, so that float32 has numbers of one kind.
        std = jax.lax.rsqrt(population)
        scaled = calibration.covariance / (std[:, None] * std[None, :])
        precision = solve_positive(scaled, jnp.eye(size)) / (std[:, None] * std[None, :])
        mean = jnp.where(finite, _sized(tables, mean), 0.0)
        return cls(mean, 0.5 * (precision + precision.T), population)

    def heads(self, num_shape: int) -> FlameParams:
        """The most probable heads (..., )."""
        return from_unknowns(self.mean, num_shape)


def _sized(tables: HeadTables, unknowns: Float[Array, "*images U"]) -> Float[Array, "*images U"]:
    """The face's size drawn towards the mean, the shape but for scale as it is."""
    count = tables.num_shape
    grown = unknowns[..., :count] @ tables.size[:count]
    back = (
        (1.0 - SIZE_SHARE)
        * grown[..., None]
        * jnp.broadcast_to(jnp.pad(tables.scaling, (0, 5)), unknowns.shape)
    )
    return unknowns - back


def population_precision(tables: HeadTables) -> Float[Array, " U"]:
    """``1/σ²`` of people's shape, expression, jaw and eyelids."""
    jaw = (180.0 / math.pi) ** 2 / jnp.asarray(JAW_STD_DEG, jnp.float32) ** 2
    count = tables.basis.shape[-1] - tables.num_shape
    return jnp.concatenate(
        [
            jnp.full(tables.num_shape, 1.0 / tables.shape_std**2),
            jnp.full(count, 1.0 / tables.expression_std**2),
            jaw,
            jnp.full(2, 1.0 / EYELID_STD**2),
        ]
    )
