"""Smooth random fields over the crop as sums of plane waves."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

NUM_WAVES = 6


def random_waves(
    wave_key: PRNGKeyArray, phase_key: PRNGKeyArray
) -> tuple[Float[Array, "W 2"], Float[Array, " W"]]:
    """Plane waves of wavelengths between a third of the crop and twice its side, in all directions.

    Networks that look at a face err by regions (a cheek, the jaw), hardly by single points.

    Returns:
        Wave vectors in radians per side of the crop, and phases.
    """
    direction, inverse_length = jnp.split(jax.random.uniform(wave_key, (NUM_WAVES, 2)), 2, axis=-1)
    angle = 2.0 * jnp.pi * direction[:, 0]
    frequency = 2.0 * jnp.pi * (0.5 + 2.5 * inverse_length[:, 0])
    vectors = frequency[:, None] * jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=-1)
    return vectors, 2.0 * jnp.pi * jax.random.uniform(phase_key, (NUM_WAVES,))


def random_amplitudes(key: PRNGKeyArray, channels: int) -> Float[Array, "W C"]:
    """Amplitudes with which the sum of the waves has variance 1 in each channel (each wave alone has 1/2)."""
    return jax.random.normal(key, (NUM_WAVES, channels)) * jnp.sqrt(2.0 / NUM_WAVES)


def smooth_field(key: PRNGKeyArray, size: tuple[int, int], channels: int) -> Float[Array, "C H W"]:
    """A random field of mean 0 and variance 1 (over samples) in each channel, at the pixel centres."""
    wave_key, phase_key, amplitude_key = jax.random.split(key, 3)
    vectors, phases = random_waves(wave_key, phase_key)
    amplitudes = random_amplitudes(amplitude_key, channels)
    height, width = size
    x = vectors[:, :1] * ((jnp.arange(width, dtype=jnp.float32) + 0.5) / width)[None, :]
    y = vectors[:, 1:] * ((jnp.arange(height, dtype=jnp.float32) + 0.5) / height)[None, :] + phases[:, None]
    # sin(x + y) = sin y · cos x + cos y · sin x: a product of two thin matrices instead of a sine a pixel and wave.
    rows = amplitudes[None, :, :, None] * jnp.stack([jnp.sin(y), jnp.cos(y)])[:, :, None, :]  # (2, W, C, H)
    columns = jnp.stack([jnp.cos(x), jnp.sin(x)])  # (2, W, width)
    rows, columns = rows.reshape(2 * NUM_WAVES, channels * height), columns.reshape(2 * NUM_WAVES, width)
    return jnp.matmul(rows.T, columns).reshape(channels, height, width)
