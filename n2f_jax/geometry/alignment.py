"""Rigid alignment of corresponding points."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float


def rigid_transform(
    source: Float[Array, "... N 3"], target: Float[Array, "... N 3"]
) -> tuple[Float[Array, "... 3 3"], Float[Array, "... 3"]]:
    """Rotation R and translation t that minimise ``Σ ‖R·source + t − target‖²`` (Kabsch 1976), no scale.

    Any leading batch axes. Never a reflection.
    """
    source_mean = jnp.mean(source, axis=-2, keepdims=True)
    target_mean = jnp.mean(target, axis=-2, keepdims=True)
    covariance = jnp.einsum("...ni,...nj->...ij", target - target_mean, source - source_mean)
    u, _, vt = jnp.linalg.svd(covariance)
    sign = jnp.sign(jnp.linalg.det(jnp.matmul(u, vt)))
    flip = jnp.stack([jnp.ones_like(sign), jnp.ones_like(sign), sign], axis=-1)
    rotation = jnp.matmul(u * flip[..., None, :], vt)
    translation = target_mean[..., 0, :] - jnp.einsum("...ij,...j->...i", rotation, source_mean[..., 0, :])
    return rotation, translation


def apply_rigid(
    points: Float[Array, "... N 3"],
    rotation: Float[Array, "... 3 3"],
    translation: Float[Array, "... 3"],
) -> Float[Array, "... N 3"]:
    """``R·x + t`` of every point."""
    return jnp.einsum("...ij,...nj->...ni", rotation, points) + translation[..., None, :]
