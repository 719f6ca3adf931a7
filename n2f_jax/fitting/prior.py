"""What is known of a head before its image is looked at: the population, and what a network answered."""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from flame_jax import FlameParams
from n2f_jax.data.sampler import SyntheticConfig
from n2f_jax.fitting.head_tables import HeadTables
from n2f_jax.fitting.linear_solve import solve_positive
from n2f_jax.models.calibration import Calibration, ScoredExpression, from_unknowns, to_unknowns
from n2f_jax.models.seen_shape import SeenShape

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

    def heads(self, num_shape: int) -> FlameParams:
        """The most probable heads (..., )."""
        return from_unknowns(self.mean, num_shape)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class AnswerModel:
    """What a network's answers say of heads, worked out once: priors are then linear in answers. A pytree.

    Attributes:
        offset, matrix: ``(U,)``, ``(U, U)``: the prior's mean is ``offset + matrix @ answer``.
        precision: ``(U, U)`` about it.
        population: ``(U,)`` as in ``HeadPrior``.
        scored: what a front end's scores add to the mean; None without.
        seen: what the activations of its landmark network add; None without.
    """

    offset: Float[Array, " U"]
    matrix: Float[Array, "U U"]
    precision: Float[Array, "U U"]
    population: Float[Array, " U"]
    scored: ScoredExpression | None = None
    seen: SeenShape | None = None

    @classmethod
    def make(cls, tables: HeadTables, calibration: Calibration | None = None) -> AnswerModel:
        """Of one network.

        Args:
            tables: of the head model.
            calibration: what its answers are worth. None: its error is taken to be ``UNMEASURED_ERROR`` of the
                population's σ, in every coefficient alike, and the answer is drawn towards the mean accordingly.
        """
        population = population_precision(tables)
        size = len(population)
        if calibration is None:
            share = 1.0 / (1.0 + UNMEASURED_ERROR**2)
            offset, matrix = jnp.zeros(size), share * jnp.eye(size)
            precision = jnp.diag(population / (1.0 - share))
        else:
            offset, matrix = calibration.offset, calibration.matrix
            # In units of the population's σ, so that float32 has numbers of one kind.
            std = jax.lax.rsqrt(population)
            scale = std[:, None] * std[None, :]
            precision = solve_positive(calibration.covariance / scale, jnp.eye(size)) / scale
            precision = 0.5 * (precision + precision.T)
        # The face's size is drawn towards the mean; the shape but for scale stays.
        grown, back = jnp.pad(tables.size, (0, 5)), (1.0 - SIZE_SHARE) * jnp.pad(tables.scaling, (0, 5))
        grown = jnp.where(jnp.arange(size) < tables.num_shape, grown, 0.0)
        seen = None
        if calibration is not None and calibration.seen is not None:
            count = tables.num_shape
            of_answer = calibration.seen.after(offset[:count], matrix[:count])
            seen = of_answer.then(jnp.eye(count) - jnp.outer(back[:count], grown[:count]))
        return cls(
            offset - back * (grown @ offset),
            matrix - jnp.outer(back, grown @ matrix),
            precision,
            population,
            None if calibration is None else calibration.scored,
            seen,
        )

    def prior(
        self,
        answer: FlameParams,
        scores: Float[Array, "*images K"] | None = None,
        activations: Float[Array, "*images 2 D"] | None = None,
    ) -> HeadPrior:
        """A network has answered (..., ). What is not finite counts as the mean head.

        Args:
            answer: the network's.
            scores: a front end's, of ARKit's units (``frontends.blendshapes.scores_of_units``); NaN or None where
                there are none. They count where they were calibrated.
            activations: of its landmark network (``FrontendFace.activations``), likewise.
        """
        unknowns = to_unknowns(answer)
        finite = jnp.isfinite(unknowns).all(axis=-1, keepdims=True)
        unknowns = jnp.where(finite, unknowns, 0.0)
        mean = unknowns @ self.matrix.T + jnp.broadcast_to(self.offset, unknowns.shape)
        if self.scored is not None and scores is not None:
            count = mean.shape[-1] - len(self.scored.offset)
            mean = jnp.concatenate([mean[..., :count], self.scored(mean[..., count:], scores)], axis=-1)
        if self.seen is not None and activations is not None:
            count = len(self.seen.offset)
            shape = self.seen(unknowns, activations, mean[..., :count])
            mean = jnp.concatenate([shape, mean[..., count:]], axis=-1)
        return HeadPrior(jnp.where(finite, mean, 0.0), self.precision, self.population)


def population_precision(tables: HeadTables) -> Float[Array, " U"]:
    """``1/σ²`` of people's shape, expression, jaw (of Euler angles, which are nearly axis times angle) and eyelids."""
    jaw = (180.0 / math.pi) ** 2 / jnp.asarray(SyntheticConfig.jaw_std_deg, jnp.float32) ** 2
    count = tables.basis.shape[-1] - tables.num_shape
    return jnp.concatenate(
        [
            jnp.full(tables.num_shape, 1.0 / tables.shape_std**2),
            jnp.full(count, 1.0 / tables.expression_std**2),
            jaw,
            jnp.full(2, 1.0 / SyntheticConfig.gamma_std**2),
        ]
    )
