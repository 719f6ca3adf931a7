"""A human population: the generator's directions mixed anew, so that coefficients of N(0, 1) are people.

Mean and covariance of the generator's coefficients come from scans (``scan_statistics``). The covariance is widened by
what one laboratory's adults lack: ages and ancestries, by the range of MakeHuman's macro targets, and details, by a
share of MakeHuman's sliders. Where lengths then vary otherwise than surveys found, their spread is moved half way.

The first direction is size: it carries everything that goes with a head's size, and no other direction changes it. The
others are ordered by variance. All are exactly symmetric or antisymmetric, as the generator's are, and span the same.
"""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from flame_jax import HeadModel
from n2f_jax.evaluation.anthropometry import DIMENSIONS, caliper_points, measure_dimensions
from n2f_jax.evaluation.surveys import PUBLISHED
from n2f_jax.fitting.head_tables import size_slopes

_FLIP = np.array([-1.0, 1.0, 1.0])


@dataclasses.dataclass(frozen=True)
class PopulationConfig:
    """How the covariance of the scans is widened.

    Attributes:
        detail_std: standard deviation that is added to every coefficient of the generator.
        macro_share: of the covariance of MakeHuman's macro targets (sex, ages from 6 to 80, ancestries) that is added.
        survey_share: how far the standard deviations of the surveys' dimensions are moved to the published ones, as a
            share of the logarithm. Means are left alone.
    """

    detail_std: float = 0.25
    macro_share: float = 0.4
    survey_share: float = 0.5


@dataclasses.dataclass(frozen=True)
class Mixture:
    """Coefficients of the population to those of the generator: ``generator = mean + matrix @ population``.

    Attributes:
        mean: ``(S,)``.
        matrix: ``(S, S)``.
        rms: ``(S,)`` of the new directions over all vertices, metres.
        size_std: standard deviation of the head's size, a share.
    """

    mean: Float[np.ndarray, " S"]
    matrix: Float[np.ndarray, "S S"]
    rms: Float[np.ndarray, " S"]
    size_std: float


def mix_population(
    generator: HeadModel,
    mirror: Int[np.ndarray, " V"],
    skull: Int[np.ndarray, " n"],
    mean: Float[np.ndarray, " S"],
    scans: Float[np.ndarray, "S S"],
    macro: Float[np.ndarray, "S S"],
    config: PopulationConfig,
) -> Mixture:
    """Widens the scans' covariance and finds the directions.

    Args:
        generator: MakeHuman's principal components.
        mirror: each vertex's mirror image.
        skull: vertices whose distances from their middle are a head's size.
        mean, scans: of the scans' coefficients.
        macro: covariance of the generator's coefficients over MakeHuman's macro targets.
        config: shares.
    """
    basis = np.asarray(generator.shapedirs, np.float64)
    count = basis.shape[-1]
    even = np.einsum("vck,vck->k", basis[mirror] * _FLIP[:, None], basis) > 0
    covariance = scans + config.macro_share * macro + config.detail_std**2 * np.eye(count)
    # Every head counts with its mirror image.
    mean = np.where(even, mean, 0.0)
    covariance = np.where(even[:, None] == even[None, :], covariance, 0.0)
    covariance = _towards_surveys(generator, mean, covariance, config.survey_share)

    template = np.asarray(generator.v_template, np.float64) + basis @ mean
    size = size_slopes(template, basis, skull)
    size_std = float(np.sqrt(size @ covariance @ size))
    first = covariance @ size / size_std
    rest = covariance - np.outer(first, first)
    gram = basis.reshape(-1, count).T @ basis.reshape(-1, count) / len(basis)
    columns, variances = [], []
    for kind in (True, False):
        own = np.flatnonzero(even == kind)
        values, vectors = np.linalg.eigh(rest[np.ix_(own, own)])
        root = vectors * np.sqrt(values.clip(0.0))
        variance, turn = np.linalg.eigh(root.T @ gram[np.ix_(own, own)] @ root)
        full = np.zeros((count, len(own)))
        full[own] = root @ turn
        columns.append(full)
        variances.append(variance)
    order = np.argsort(-np.concatenate(variances), kind="stable")[: count - 1]
    matrix = np.concatenate([first[:, None], np.concatenate(columns, axis=1)[:, order]], axis=1)
    directions = basis.reshape(-1, count) @ matrix
    # A fixed sign: a larger head, else the largest coordinate is positive.
    sign = np.sign(directions[np.abs(directions).argmax(axis=0), np.arange(count)])
    sign[0] = 1.0
    rms = np.sqrt((directions**2).sum(axis=0) / len(basis))
    return Mixture(mean, matrix * sign, rms, size_std)


def _towards_surveys(
    generator: HeadModel,
    mean: Float[np.ndarray, " S"],
    covariance: Float[np.ndarray, "S S"],
    share: float,
) -> Float[np.ndarray, "S S"]:
    """The Gaussian nearest to N(mean, covariance) (by Kullback and Leibler) of which the dimensions vary so much."""
    count = len(mean)
    template = (
        np.asarray(generator.v_template, np.float64) + np.asarray(generator.shapedirs, np.float64) @ mean
    )
    model = dataclasses.replace(generator, v_template=jnp.asarray(template, jnp.float32))
    points, step = caliper_points(model), 0.05
    up, down = (measure_dimensions(model, way * step * np.eye(count), points) for way in (1.0, -1.0))
    slopes = np.stack([(up[name] - down[name]) / (2 * step) for name in DIMENSIONS])
    published = np.array([np.mean([p.deviation for p in PUBLISHED[name]]) for name in DIMENSIONS]) / 1000.0
    own = slopes @ covariance @ slopes.T
    factor = (published / np.sqrt(np.diag(own))) ** share
    wanted = own * factor[:, None] * factor[None, :]
    gain = np.linalg.solve(own, slopes @ covariance).T
    return covariance + gain @ (wanted - own) @ gain.T
