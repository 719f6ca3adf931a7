"""Errors of normal maps and masks against known ones."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float


def normal_angles(a: Float[Array, "... 3"], b: Float[Array, "... 3"]) -> Float[Array, "..."]:
    """Angles between unit normals in degrees, exact at both ends."""
    apart, together = (jnp.linalg.norm(x, axis=-1) for x in (a - b, a + b))
    return jnp.rad2deg(2.0 * jnp.arctan2(apart, together))


def mean_normal_angle(
    normals: Float[Array, "B S S 3"],
    mask: Float[Array, "B S S"],
    target_normals: Float[Array, "B S S 3"],
    target_mask: Float[Array, "B S S"],
    if_apart: float,
) -> Float[Array, "B"]:
    """Mean of ``normal_angles`` over the pixels in both masks; ``if_apart`` where they do not meet."""
    both = (mask > 0.5) & (target_mask > 0.5)
    count = jnp.sum(both.astype(jnp.float32), axis=(-2, -1))
    total = jnp.sum(jnp.where(both, normal_angles(normals, target_normals), 0.0), axis=(-2, -1))
    return jnp.where(count > 0, total / jnp.maximum(count, 1.0), if_apart)


def map_errors(
    normals: Float[Array, "B S S 3"],
    mask: Float[Array, "B S S"],
    target_normals: Float[Array, "B S S 3"],
    target_mask: Float[Array, "B S S"],
) -> dict[str, Float[Array, "B"]]:
    """How a drawn prediction differs from the true head's maps.

    ``normals_degrees`` is the mean angle over the pixels in both masks, 90 where they do not meet;
    ``mask_iou`` is intersection over union, 1 where both are empty.
    """
    a, b = mask > 0.5, target_mask > 0.5
    both, either = (jnp.sum(x.astype(jnp.float32), axis=(-2, -1)) for x in (a & b, a | b))
    return {
        "normals_degrees": mean_normal_angle(normals, mask, target_normals, target_mask, if_apart=90.0),
        "mask_iou": jnp.where(either > 0, both / jnp.maximum(either, 1.0), 1.0),
    }
