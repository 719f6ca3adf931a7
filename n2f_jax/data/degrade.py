"""What separates a rendered normal map from an estimated one. Off in the paper's config.

All functions work on one sample (use ``vmap``), are pure, and return their input unchanged where the amount is 0.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

_NUM_WAVES = 6


def perturb_points(
    key: PRNGKeyArray, points: Float[Array, "n 3"], *, noise: float, z_scale: float, size: int
) -> Float[Array, "n 3"]:
    """Smooth error of a face mesh's points: a sum of plane waves over the image, and a wrong depth scale.

    A face-mesh network errs by regions (a cheek, the jaw), hardly by single points, so the displacement has
    wavelengths between a third of the crop and twice its side.

    Args:
        key: of this sample.
        points: crop pixels x, y and depth in the same scale.
        noise: standard deviation of the displacement along each axis, in units of the crop's side.
        z_scale: standard deviation of the log of the depth's scale.
        size: side of the crop in pixels.
    """
    wave_key, phase_key, amplitude_key, z_key = jax.random.split(key, 4)
    if z_scale > 0.0:
        points = (
            points
            * jnp.stack([jnp.ones(()), jnp.ones(()), jnp.exp(z_scale * jax.random.normal(z_key))])[None]
        )
    if noise > 0.0:
        direction, inverse_length = jnp.split(jax.random.uniform(wave_key, (_NUM_WAVES, 2)), 2, axis=-1)
        angle = 2.0 * jnp.pi * direction[:, 0]
        frequency = 2.0 * jnp.pi * (0.5 + 2.5 * inverse_length[:, 0])
        vectors = frequency[:, None] * jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=-1)
        phases = 2.0 * jnp.pi * jax.random.uniform(phase_key, (_NUM_WAVES,))
        waves = jnp.sin(jnp.matmul(points[:, :2] / size, vectors.T) + phases[None])
        # Each wave has variance 1/2; so many of them of equal amplitude give the variance asked for.
        amplitude = jax.random.normal(amplitude_key, (_NUM_WAVES, 3)) * jnp.sqrt(2.0 / _NUM_WAVES)
        points = points + noise * size * jnp.matmul(waves, amplitude)
    return points


def erode(mask: Float[Array, "H W"], radius: Float[Array, ""], max_radius: int) -> Float[Array, "H W"]:
    """Takes away what lies within ``radius`` pixels (city-block distance) of the outside of the mask.

    Args:
        mask: 0/1.
        radius: 0 … ``max_radius``; traced, so that it can differ from sample to sample.
        max_radius: static bound.
    """

    def shrink(_: int, carry: Array) -> Array:
        padded = jnp.pad(carry, 1, constant_values=1)  # the crop's border is no edge of the mask
        neighbours = jnp.minimum(
            jnp.minimum(padded[:-2, 1:-1], padded[2:, 1:-1]), jnp.minimum(padded[1:-1, :-2], padded[1:-1, 2:])
        )
        return jnp.minimum(carry, neighbours)

    def body(step: int, carry: Array) -> Array:
        return jnp.where(step < radius, shrink(step, carry), carry)

    return jax.lax.fori_loop(0, max_radius, body, mask)


def ellipse_hole(key: PRNGKeyArray, mask: Float[Array, "H W"]) -> Float[Array, "H W"]:
    """Cuts one ellipse (a hand, a strand, a microphone) whose centre lies anywhere in the crop."""
    height, width = mask.shape
    centre_key, axes_key, angle_key = jax.random.split(key, 3)
    centre = jax.random.uniform(centre_key, (2,))
    axes = jax.random.uniform(axes_key, (2,), minval=0.04, maxval=0.22)
    angle = jax.random.uniform(angle_key, (), maxval=jnp.pi)
    y = ((jnp.arange(height, dtype=jnp.float32) + 0.5) / height - centre[0])[:, None]
    x = ((jnp.arange(width, dtype=jnp.float32) + 0.5) / width - centre[1])[None, :]
    along = (x * jnp.cos(angle) + y * jnp.sin(angle)) / axes[0]
    across = (y * jnp.cos(angle) - x * jnp.sin(angle)) / axes[1]
    return jnp.where(along * along + across * across < 1.0, 0.0, mask)


def degrade_maps(
    key: PRNGKeyArray,
    normals: Float[Array, "H W 3"],
    mask: Float[Array, "H W"],
    *,
    mask_erosion: float,
    occluder_share: float,
) -> tuple[Float[Array, "H W 3"], Float[Array, "H W"]]:
    """Erodes the mask and cuts holes; the normals outside what is left become zero.

    Args:
        key: of this sample.
        normals, mask: one sample's maps.
        mask_erosion: largest erosion in units of the crop's side, drawn uniformly from 0.
        occluder_share: probability of one elliptical hole.
    """
    erosion_key, hole_key, share_key = jax.random.split(key, 3)
    max_radius = round(mask_erosion * mask.shape[0])
    if max_radius > 0:
        radius = jax.random.uniform(erosion_key, (), maxval=max_radius + 1.0)
        mask = erode(mask, jnp.floor(radius).astype(jnp.int32), max_radius)
    if occluder_share > 0.0:
        hole = jax.random.bernoulli(share_key, occluder_share)
        mask = jnp.where(hole, ellipse_hole(hole_key, mask), mask)
    if max_radius > 0 or occluder_share > 0.0:
        normals = normals * mask[..., None]
    return normals, mask
