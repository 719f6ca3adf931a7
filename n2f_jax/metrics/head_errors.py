"""Errors of predicted heads, poses and parameters against known ones."""

from __future__ import annotations

import math

import jax.numpy as jnp
from jaxtyping import Array, Float

import flame_jax
from flame_jax import FlameParams, HeadModel
from flame_jax.rotations import rotation_6d_to_matrix
from n2f_jax.geometry.alignment import procrustes
from n2f_jax.models.n2fnet import N2FOutput

# Regions reported where the head model has them; the first is what heads are aligned on.
REGIONS = ("face", "eyes", "nose", "mouth", "left_ear", "right_ear", "neck", "scalp")


def vertex_errors(
    model: HeadModel, predicted: Float[Array, "... V 3"], truth: Float[Array, "... V 3"]
) -> dict[str, Float[Array, "..."]]:
    """Mean vertex-to-vertex distance of each region in millimetres, the heads aligned rigidly on the face.

    Rotation and translation only: a head that is too large is wrong. Any leading batch axes.
    """
    face = model.masks[REGIONS[0]]
    aligned = procrustes(predicted[..., face, :], truth[..., face, :]).apply(predicted)
    distance = 1000.0 * jnp.sqrt(jnp.sum((aligned - truth) ** 2, axis=-1))
    return {
        region: jnp.mean(distance[..., model.masks[region]], axis=-1)
        for region in REGIONS
        if region in model.masks
    }


def rotation_error_degrees(a: Float[Array, "... 3 3"], b: Float[Array, "... 3 3"]) -> Float[Array, "..."]:
    """Angle between two rotations; from the chord ``‖A − B‖``, which keeps its digits at small angles."""
    chord = jnp.sqrt(jnp.sum((a - b) ** 2, axis=(-2, -1)))
    return (180.0 / math.pi) * 2.0 * jnp.arcsin(jnp.clip(chord / math.sqrt(8.0), 0.0, 1.0))


def head_errors(
    predicted: Float[Array, "B V 3"], truth: FlameParams, model: HeadModel
) -> dict[str, Float[Array, "B"]]:
    """``<region>_mm`` and ``mean_head_<region>_mm`` of every sample.

    ``mean_head_…`` is the error of predicting the mean head at rest for everything.
    """
    true, _ = flame_jax.decode(model, truth)
    mean, _ = flame_jax.decode(model, FlameParams.neutral(model, (1,)))
    mean = jnp.broadcast_to(mean, true.shape)
    errors = {f"{region}_mm": value for region, value in vertex_errors(model, predicted, true).items()}
    return errors | {f"mean_head_{r}_mm": value for r, value in vertex_errors(model, mean, true).items()}


def parameter_errors(output: N2FOutput, truth: FlameParams) -> dict[str, Float[Array, "B"]]:
    """Errors of each group of parameters: root mean square over the coefficients of shape and expression (in σ of the
    head model's directions), the jaw's angle in degrees, mean absolute error of the eyelids' closure.
    """
    rms = lambda x: jnp.sqrt(jnp.mean(x * x, axis=-1))  # noqa: E731
    return {
        "shape_rms": rms(output.shape - truth.shape),
        "expression_rms": rms(output.expression - truth.expression),
        "jaw_degrees": rotation_error_degrees(
            rotation_6d_to_matrix(output.jaw), rotation_6d_to_matrix(truth.jaw)
        ),
        "eyelids_error": jnp.mean(jnp.abs(output.eyelids - truth.eyelids), axis=-1),
    }
