"""Where a fit without a network starts: the mean head, in front of an average camera."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from flame_jax import FlameParams, HeadModel
from flame_jax.rotations import IDENTITY_6D
from n2f_jax.geometry.camera import Camera
from n2f_jax.models.n2fnet import N2FNetConfig, N2FOutput, camera_from_output


def mean_start(
    model: HeadModel, focal: Float[Array, "B"], principal_point: Float[Array, "B 2"], config: N2FNetConfig
) -> tuple[FlameParams, Camera]:
    """The mean head at rest, frontal, of the average size and place in a crop.

    Args:
        model: the head model.
        focal, principal_point: of the crops' cameras, pixels of the crop.
        config: of a network; its ``camera_mean`` says what average is.
    """
    batch = focal.shape
    params = FlameParams.neutral(model, batch)
    output = N2FOutput(
        params.shape,
        params.expression,
        params.jaw,
        params.eyelids,
        jnp.broadcast_to(jnp.asarray(IDENTITY_6D), (*batch, 6)),
        jnp.broadcast_to(jnp.asarray(config.resolved_camera_mean(), jnp.float32), (*batch, 3)),
        config.camera_parameterization,
    )
    return params, camera_from_output(output, focal, principal_point, config.input_size)
