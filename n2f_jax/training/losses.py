"""The paper's two losses (N2FNet, section III.3): ``L_param`` on parameters, ``L_render`` on what is drawn.

Each norm is a mean over its elements (open in the paper), so a weight means the same at any image size and
number of coefficients.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from flame_jax import FlameParams, HeadModel
from n2f_jax.models.n2fnet import N2FOutput

Terms = dict[str, Float[Array, ""]]


@dataclasses.dataclass(frozen=True)
class ParameterLossConfig:
    """Weights of ``L_param``; the defaults are the paper's.

    Attributes:
        lambda_beta, lambda_theta, lambda_psi, lambda_gamma: shape, jaw (raw 6D), expression, eyelids.
        shape_loss: ``'coefficients'`` is the paper's mean squared error of β and ψ. ``'vertices'`` measures the
            same differences by the surface they move (``coefficient_metric``): a small network then spends its
            capacity on the directions that matter instead of 300 equal ones, most of which move nothing.
        rest_weight: with ``'vertices'``, the weight of a vertex outside the face region; not 0, so that the
            directions of scalp and neck are pulled towards what the face says of them.
        lambda_camera: of the camera's rotation (raw 6D) and, ten times it, of its (u, v, s); 0 in the paper, whose
            camera is trained by what is drawn.
    """

    lambda_beta: float = 10.0
    lambda_theta: float = 10.0
    lambda_psi: float = 100.0
    lambda_gamma: float = 10.0
    shape_loss: Literal["coefficients", "vertices"] = "coefficients"
    rest_weight: float = 0.1
    lambda_camera: float = 0.0


@dataclasses.dataclass(frozen=True)
class RenderLossConfig:
    """Weights of ``L_render``; the defaults are the paper's on synthetic data.

    Attributes:
        lambda_n: normals, ``d_cos`` over the pixels in both masks.
        lambda_s: face mask, squared error.
        lambda_lmk: landmarks, squared error in units of the crop's side; 10000 on real data.
    """

    lambda_n: float = 1.0
    lambda_s: float = 10.0
    lambda_lmk: float = 100.0


@dataclasses.dataclass(frozen=True)
class JointLossConfig:
    """Both losses at once: the paper's baseline to training in two stages.

    Attributes:
        parameters: ``L_param``.
        render: ``L_render``.
    """

    parameters: ParameterLossConfig = ParameterLossConfig()
    render: RenderLossConfig = RenderLossConfig()


LossConfig = ParameterLossConfig | RenderLossConfig | JointLossConfig


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class CoefficientMetric:
    """Square roots of the quadratic forms that measure β and ψ on the surface.

    ``mean((root @ Δ)²)`` is the mean square displacement that Δ causes, over its value for Δ of unit variance;
    so 1 means "as wrong as the mean head" for unit-variance coefficients, as with the plain mean.
    """

    shape: Float[Array, "S S"]
    expression: Float[Array, "E E"]


def coefficient_metric(model: HeadModel, rest_weight: float) -> CoefficientMetric:
    """Measures coefficients by the vertices they move, rigid motions of the face taken out.

    For directions ``D`` (3V, K) with vertex weights ``w`` (1 on the face region, ``rest_weight`` elsewhere) the
    form is ``G = Dᵀ W D`` after each direction's best rigid motion (translation and small rotation) has been
    subtracted, since heads are compared after rigid alignment and the camera has its own module. It is
    normalised by its trace. Directions that overlap are so measured together, which weights alone would not.
    """
    template = np.asarray(model.v_template, np.float64)
    weights = np.full(template.shape[0], rest_weight)
    weights[np.asarray(model.masks["face"])] = 1.0
    root = np.sqrt(np.repeat(weights, 3))
    centred = template - np.average(template, axis=0, weights=weights)
    rigid = np.zeros((template.shape[0], 3, 6))
    for axis in range(3):
        rigid[:, axis, axis] = 1.0
        rigid[:, :, 3 + axis] = np.cross(np.eye(3)[axis], centred)
    basis, _ = np.linalg.qr(rigid.reshape(-1, 6) * root[:, None])

    def form_root(directions: Array) -> Float[Array, "K K"]:
        flat = np.asarray(directions, np.float64).reshape(-1, directions.shape[-1]) * root[:, None]
        flat = flat - basis @ (basis.T @ flat)
        values, vectors = np.linalg.eigh(flat.T @ flat)
        values = np.maximum(values, 0.0)
        # mean over K rows of (root Δ)² = Δᵀ G Δ / tr G
        scale = directions.shape[-1] / max(values.sum(), np.finfo(np.float64).tiny)
        return jnp.asarray((vectors * np.sqrt(values * scale)).T, jnp.float32)

    return CoefficientMetric(shape=form_root(model.shapedirs), expression=form_root(model.exprdirs))


def _mean_square(x: Float[Array, "..."]) -> Float[Array, ""]:
    return jnp.mean(x * x)


def parameter_loss(
    output: N2FOutput,
    target: FlameParams,
    config: ParameterLossConfig,
    metric: CoefficientMetric | None = None,
    camera: tuple[Float[Array, "B 6"], Float[Array, "B 3"]] | None = None,
) -> tuple[Float[Array, ""], Terms]:
    """``L_param``.

    Args:
        output: the network's output, batch B in front.
        target: Ω*, batch B in front.
        config: weights.
        metric: needed for ``shape_loss='vertices'``.
        camera: true rotation (6D of R_φ) and position, where ``lambda_camera`` is not 0.

    Returns:
        The weighted sum and its unweighted terms ``beta``, ``theta``, ``psi``, ``gamma`` (and ``camera``).
    """
    beta = output.shape - target.shape
    psi = output.expression - target.expression
    if config.shape_loss == "vertices":
        if metric is None:
            raise ValueError("shape_loss = 'vertices' needs a coefficient metric")
        beta, psi = jnp.matmul(beta, metric.shape.T), jnp.matmul(psi, metric.expression.T)
    elif config.shape_loss != "coefficients":
        raise ValueError(f"shape_loss is {config.shape_loss!r}; there are 'coefficients' and 'vertices'")
    terms = {
        "beta": _mean_square(beta),
        "theta": _mean_square(output.jaw - target.jaw),
        "psi": _mean_square(psi),
        "gamma": _mean_square(output.eyelids - target.eyelids),
    }
    total = (
        config.lambda_beta * terms["beta"]
        + config.lambda_theta * terms["theta"]
        + config.lambda_psi * terms["psi"]
        + config.lambda_gamma * terms["gamma"]
    )
    if camera is not None and config.lambda_camera > 0.0:
        rotation, position = camera
        terms["camera"] = _mean_square(output.camera_rotation_6d - rotation) + 10.0 * _mean_square(
            output.camera_position - position
        )
        total = total + config.lambda_camera * terms["camera"]
    return total, terms


def cosine_distance(x: Float[Array, "... 3"], y: Float[Array, "... 3"]) -> Float[Array, "..."]:
    """``d_cos = 1 − xᵀy/(‖x‖‖y‖)``; 1, with a zero gradient, where either vector has no length."""
    squared = jnp.sum(x * x, axis=-1) * jnp.sum(y * y, axis=-1)
    usable = squared > 1e-12
    inverse = jax.lax.rsqrt(jnp.where(usable, squared, 1.0))
    return 1.0 - jnp.where(usable, jnp.sum(x * y, axis=-1) * inverse, 0.0)


def normal_loss(
    normals: Float[Array, "B H W 3"],
    mask: Float[Array, "B H W"],
    target_normals: Float[Array, "B H W 3"],
    target_mask: Float[Array, "B H W"],
) -> Float[Array, ""]:
    """Mean ``d_cos`` over the pixels in both masks, per sample and then over the batch.

    A sample whose masks do not meet counts 0: it has nothing to compare, and the mask and landmark terms say
    how wrong it is.
    """
    both = jax.lax.stop_gradient(((mask > 0.5) & (target_mask > 0.5)).astype(normals.dtype))
    distance = cosine_distance(normals, target_normals) * both
    count = jnp.sum(both, axis=(-2, -1))
    return jnp.mean(jnp.sum(distance, axis=(-2, -1)) / jnp.maximum(count, 1.0))


def render_loss(
    normals: Float[Array, "B H W 3"],
    mask: Float[Array, "B H W"],
    landmarks: Float[Array, "B 68 2"],
    target_normals: Float[Array, "B H W 3"],
    target_mask: Float[Array, "B H W"],
    target_landmarks: Float[Array, "B 68 2"],
    config: RenderLossConfig,
) -> tuple[Float[Array, ""], Terms]:
    """``L_render``.

    Args:
        normals, mask, landmarks: drawn from the prediction; the mask antialiased, so that its edge has a gradient;
            landmarks in pixels of the crop.
        target_normals, target_mask, target_landmarks: of the true head and camera.
        config: weights.

    Returns:
        The weighted sum and its unweighted terms ``normals``, ``mask``, ``landmarks``. The landmark term is in
        units of the crop's side, squared, and a mean over both coordinates.
    """
    side = float(mask.shape[-1])
    terms = {
        "normals": normal_loss(normals, mask, target_normals, target_mask),
        "mask": _mean_square(mask - target_mask),
        "landmarks": _mean_square((landmarks - target_landmarks) / side),
    }
    total = (
        config.lambda_n * terms["normals"]
        + config.lambda_s * terms["mask"]
        + config.lambda_lmk * terms["landmarks"]
    )
    return total, terms
