"""Every error of a network's output on a sampled batch."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

import flame_jax
from n2f_jax.data.assets import Assets
from n2f_jax.data.sampler import Batch, SyntheticConfig
from n2f_jax.geometry.camera import Camera, project
from n2f_jax.metrics.head_errors import head_errors, parameter_errors, rotation_error_degrees
from n2f_jax.metrics.map_errors import map_errors
from n2f_jax.models.n2fnet import N2FOutput, camera_from_output
from n2f_jax.render import render_head


def draw_prediction(
    predicted: Float[Array, "B V 3"], camera: Camera, assets: Assets, config: SyntheticConfig
) -> tuple[Float[Array, "B S S 3"], Float[Array, "B S S"]]:
    """Normals and mask of the predicted heads as this camera sees them."""
    maps = render_head(assets.topology, predicted, camera, config.image_size, config.normal_frame)
    return maps.normals, maps.mask


def batch_errors(
    output: N2FOutput,
    batch: Batch,
    assets: Assets,
    config: SyntheticConfig,
    drawn: tuple[Float[Array, "B S S 3"], Float[Array, "B S S"]] | None = None,
) -> dict[str, Float[Array, "B"]]:
    """Every error of every sample that the batch's truths allow.

    ``head_errors``, ``parameter_errors`` and ``rotation_degrees`` where there are ``params``; ``landmarks_percent``,
    the mean distance of the 68 landmarks in per cent of the crop's side; ``map_errors`` where there are
    ``target_normals``.

    Args:
        output: the network's output.
        batch: of ``make_batch``.
        assets: head model and what drawing needs.
        config: the sampler.
        drawn: normals and mask of the predicted heads, if they are to be those of another camera than the predicted
            one, or are there already.
    """
    size, truth = config.image_size, batch["camera"]
    camera = camera_from_output(output, truth.focal, truth.principal_point, size)
    predicted, _ = flame_jax.decode(assets.model, output.flame_params())
    errors: dict[str, Array] = {}
    if "params" in batch:
        errors |= head_errors(predicted, batch["params"], assets.model)
        errors |= parameter_errors(output, batch["params"])
        errors["rotation_degrees"] = rotation_error_degrees(camera.rotation, truth.rotation)
    landmarks = project(flame_jax.landmarks68(assets.model, predicted), camera)
    distance = jnp.sqrt(jnp.sum((landmarks - batch["landmarks_2d"]) ** 2, axis=-1))
    errors["landmarks_percent"] = jnp.mean(distance, axis=-1) * (100.0 / size)
    if "target_normals" in batch:
        drawn = drawn or draw_prediction(predicted, camera, assets, config)
        errors |= map_errors(*drawn, batch["target_normals"], batch["target_mask"])
    return errors
