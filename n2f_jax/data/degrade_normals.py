"""Errors of an estimated normal map: blur, smooth rotations, the average with a mirrored twin, 8 bits.

One sample at a time (use ``vmap``), on planes ``(3, H, W)``: whole rows are contiguous there, which is what
compilers vectorise. Normals come and go as unit vectors, zero where there are none.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from n2f_jax.data.waves import smooth_field

Planes = Float[Array, "3 H W"]

# A direction shorter than this is what rounding left of an empty neighbourhood.
_TINY = 1e-6


def unit(planes: Planes) -> Planes:
    """Unit vectors; zero where there is (next to) nothing."""
    square = jnp.sum(planes * planes, axis=0, keepdims=True)
    return planes * jnp.where(square > _TINY**2, jax.lax.rsqrt(jnp.maximum(square, _TINY**2)), 0.0)


def where_present(planes: Planes, like: Planes) -> Planes:
    """``planes`` where ``like`` has a normal, else zero."""
    return jnp.where(jnp.sum(like * like, axis=0, keepdims=True) > 0.0, planes, 0.0)


def _weighted_shifts(planes: Planes, weights: Float[Array, " taps"], axis: int) -> Planes:
    """Correlates along an axis with an odd number of weights; zeros beyond the border."""
    radius = weights.shape[0] // 2
    padding = [(0, 0)] * 3
    padding[axis] = (radius, radius)
    # Padded once and weighed once, and not inside the loop over the pixels for every tap.
    padded, weights = jax.lax.optimization_barrier((jnp.pad(planes, padding), weights))
    total = jnp.zeros_like(planes)
    for tap in range(2 * radius + 1):
        total += weights[tap] * jax.lax.slice_in_dim(padded, tap, tap + planes.shape[axis], axis=axis)
    return total


def gaussian_blur(planes: Planes, sigma: Float[Array, ""], max_sigma: float) -> Planes:
    """Gaussian mean of the normals around each pixel, renormalised.

    Pixels without a normal add nothing to the sum and the length is divided out, so the mean is over the normals
    that there are: nothing darkens at the mask's border.

    Args:
        planes: normals.
        sigma: pixels, 0 … ``max_sigma``; traced, so that it can differ from sample to sample.
        max_sigma: static bound; the kernel reaches three of it.
    """
    radius = max(1, math.ceil(3.0 * max_sigma))
    offsets = jnp.arange(-radius, radius + 1, dtype=jnp.float32)
    weights = jnp.exp(-0.5 * jnp.square(offsets / jnp.maximum(sigma, 1e-3)))
    weights = weights / jnp.sum(weights)
    blurred = _weighted_shifts(_weighted_shifts(planes, weights, 1), weights, 2)
    return where_present(unit(blurred), planes)


def shift(planes: Planes, offset: Float[Array, "2"], max_offset: int) -> Planes:
    """Moves the map by a part of a pixel or a few, linearly interpolated; zeros come in at the border.

    Args:
        planes: ``(3, H, W)``.
        offset: pixels to the right and down, each within ±``max_offset``.
        max_offset: static bound.
    """
    whole = jnp.floor(offset)
    part = offset - whole
    margin = max_offset + 1
    padded = jax.lax.optimization_barrier(jnp.pad(planes, ((0, 0), (margin, margin), (margin, margin))))
    first = margin - whole.astype(jnp.int32)

    def moved(right: int, down: int) -> Planes:
        return jax.lax.dynamic_slice(padded, (0, first[1] - down, first[0] - right), planes.shape)

    upper = (1.0 - part[0]) * moved(0, 0) + part[0] * moved(1, 0)
    lower = (1.0 - part[0]) * moved(0, 1) + part[0] * moved(1, 1)
    return (1.0 - part[1]) * upper + part[1] * lower


def rotate_smoothly(key: PRNGKeyArray, planes: Planes, std: float | Float[Array, ""]) -> Planes:
    """Turns each normal by a rotation that varies smoothly over the map.

    Args:
        key: of this sample.
        planes: normals.
        std: standard deviation of the rotation about each axis, radians. A normal tilts about two of them.
    """
    turn = std * smooth_field(key, planes.shape[1:], 3)
    # n + ω × n, renormalised, turns by atan |ω|: 0.3 % less than |ω| at 5°.
    x, y, z = planes
    cross = jnp.stack([turn[1] * z - turn[2] * y, turn[2] * x - turn[0] * z, turn[0] * y - turn[1] * x])
    # Not fused into the division by its length, which would take the sum three times.
    return unit(jax.lax.optimization_barrier(planes + cross))


def mirrored_average(
    key: PRNGKeyArray, planes: Planes, twin: Planes, shift_std: float | Float[Array, ""], max_shift: int
) -> Planes:
    """Averages an estimate with that of the mirrored photograph, mirrored back.

    The two passes of a network over a photograph and its mirror image disagree in two ways: their errors are
    different draws, since a region lies at another place of the image and of the patch grid, and they put edges
    (lids, lips, the nose's wings) at slightly different places. Hence two maps with errors of their own, one
    displaced against the other, and their mean direction. The mirroring itself, x negated and back, is
    the identity on the true part of both.

    Args:
        key: of this sample.
        planes: one estimate.
        twin: the other one, with its own errors.
        shift_std: standard deviation of the displacement along u and v, pixels.
        max_shift: static bound of it, pixels.
    """
    offset = jnp.clip(shift_std * jax.random.normal(key, (2,)), -max_shift, max_shift)
    return where_present(unit(planes + shift(twin, offset, max_shift)), planes)


def eight_bits(planes: Planes) -> Planes:
    """What is read back from an 8-bit file of ``(n + 1)/2``, renormalised; zero stays zero.

    255 levels over 2 leave an error of up to 0.4°. Renormalised, because everything that hands normals to the network
    promises unit vectors.
    """
    stored = jnp.round((planes + 1.0) * 127.5)
    return where_present(unit(stored * (1.0 / 127.5) - 1.0), planes)
