"""Errors of a segmented face mask and what hides a face: margins, occluders, hair, a covered lower face.

One sample at a time (use ``vmap``); masks are ``(H, W)`` of 0 and 1. What hides a face is told as the pixels that it
hides, of the face and beyond; the mask given is the face's. Lengths drawn in here are in units of the mask's
image, so that they look alike at any size.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, Real

NUM_LOCKS = 8
# Half the width of a lock of hair where it enters the face, and its length.
_LOCK_WIDTHS = (0.004, 0.06)
_LOCK_LENGTHS = (0.06, 0.4)


def erode(mask: Float[Array, "H W"], radius: Real[Array, ""], max_radius: int) -> Float[Array, "H W"]:
    """Takes away what lies within ``radius`` pixels (city-block distance) of the outside of the mask.

    Args:
        mask: 0/1.
        radius: 0 … ``max_radius``; traced, so that it can differ from sample to sample.
        max_radius: static bound.
    """

    def shrink(_: Int[Array, ""], carry: Array) -> Array:
        padded = jnp.pad(carry, 1, constant_values=1)  # the crop's border is no edge of the mask
        neighbours = jnp.minimum(
            jnp.minimum(padded[:-2, 1:-1], padded[2:, 1:-1]), jnp.minimum(padded[1:-1, :-2], padded[1:-1, 2:])
        )
        return jnp.minimum(carry, neighbours)

    def body(step: Int[Array, ""], carry: Array) -> Array:
        return jnp.where(step < radius, shrink(step, carry), carry)

    return jax.lax.fori_loop(0, max_radius, body, mask)


def dilate(mask: Float[Array, "H W"], radius: Real[Array, ""], max_radius: int) -> Float[Array, "H W"]:
    """Adds what lies within ``radius`` pixels (city-block distance) of the mask: ``erode`` of its complement."""
    return 1.0 - erode(1.0 - mask, radius, max_radius)


def ellipse(key: PRNGKeyArray, mask: Float[Array, "H W"]) -> Bool[Array, "H W"]:
    """Where one ellipse (a hand, a strand, a microphone) hides the picture; its centre lies anywhere in the crop."""
    height, width = mask.shape
    centre_key, axes_key, angle_key = jax.random.split(key, 3)
    centre = jax.random.uniform(centre_key, (2,))
    axes = jax.random.uniform(axes_key, (2,), minval=0.04, maxval=0.22)
    angle = jax.random.uniform(angle_key, (), maxval=jnp.pi)
    y = ((jnp.arange(height, dtype=jnp.float32) + 0.5) / height - centre[0])[:, None]
    x = ((jnp.arange(width, dtype=jnp.float32) + 0.5) / width - centre[1])[None, :]
    along = (x * jnp.cos(angle) + y * jnp.sin(angle)) / axes[0]
    across = (y * jnp.cos(angle) - x * jnp.sin(angle)) / axes[1]
    return along * along + across * across < 1.0


def bar(key: PRNGKeyArray, mask: Float[Array, "H W"]) -> Bool[Array, "H W"]:
    """Where a straight bar (an arm, a stick, a phone's edge) lies that comes in from outside and ends on the face."""
    height, width = mask.shape
    end_key, angle_key, width_key = jax.random.split(key, 3)
    end = jax.random.uniform(end_key, (2,), minval=0.2, maxval=0.8)
    angle = jax.random.uniform(angle_key, (), maxval=2.0 * jnp.pi)
    half = jax.random.uniform(width_key, (), minval=0.015, maxval=0.08)
    y = ((jnp.arange(height, dtype=jnp.float32) + 0.5) / height - end[0])[:, None]
    x = ((jnp.arange(width, dtype=jnp.float32) + 0.5) / width - end[1])[None, :]
    along = x * jnp.cos(angle) + y * jnp.sin(angle)
    across = y * jnp.cos(angle) - x * jnp.sin(angle)
    # Rounded at its end.
    distance = jnp.square(across) + jnp.square(jnp.minimum(along, 0.0))
    return distance < half * half


def hair(key: PRNGKeyArray, mask: Float[Array, "H W"]) -> Bool[Array, "H W"]:
    """Where locks of hair lie: curved strips that come in over the mask's upper border and taper to a point.

    Their roots lie where a column of the mask begins, so at the sides of the face they are side locks. All hang to one
    side by a common slant, as a parting makes them, and each by one of its own; widths are log-uniform, so most
    are strands and a few are broad.
    """
    height, width = mask.shape
    keys = jax.random.split(key, 7)
    shape = (NUM_LOCKS,)
    inside = mask > 0.0
    columns = jnp.any(inside, axis=0)
    left = jnp.argmax(columns)
    right = width - 1 - jnp.argmax(columns[::-1])
    place = jax.random.uniform(keys[0], shape)
    root = left + jnp.round(place * (right - left).astype(jnp.float32)).astype(jnp.int32)
    top = jnp.argmax(inside, axis=0)[root].astype(jnp.float32) / height
    low, high = _LOCK_WIDTHS
    half = low * (high / low) ** jax.random.uniform(keys[1], shape)
    length = jax.random.uniform(keys[2], shape, minval=_LOCK_LENGTHS[0], maxval=_LOCK_LENGTHS[1])
    slant = 0.5 * jax.random.normal(keys[3], (1,)) + 0.25 * jax.random.normal(keys[4], shape)
    bend = 0.35 * jax.random.normal(keys[5], shape)
    sharpness = jax.random.uniform(keys[6], shape, minval=0.4, maxval=1.0)

    of_lock = lambda value: value[:, None, None]  # noqa: E731
    y = ((jnp.arange(height, dtype=jnp.float32) + 0.5) / height)[None, :, None]
    x = ((jnp.arange(width, dtype=jnp.float32) + 0.5) / width)[None, None, :]
    start = (root.astype(jnp.float32) + 0.5) / width
    down = y - of_lock(top)
    share = down / of_lock(length)
    centre = of_lock(start) + of_lock(slant) * down + of_lock(bend * length) * jnp.square(share)
    # Above its root a lock keeps its width: the border there is no level line.
    narrowing = jnp.clip(1.0 - share, 0.0, 1.0) ** of_lock(sharpness)
    hidden = jnp.abs(x - centre) < of_lock(half) * narrowing
    return jnp.any(hidden, axis=0)


def below_a_line(key: PRNGKeyArray, mask: Float[Array, "H W"]) -> Bool[Array, "H W"]:
    """Everything below a random, slightly bowed line: a medical mask, a scarf, a hand before the mouth.

    At the middle of the mask the line lies at 40 to 85 % of its height, from the nose's bridge to the
    chin; it is tilted by N(0, 10°²) and falls off to the sides, as a mask's upper edge does from the nose.
    """
    height, width = mask.shape
    level_key, tilt_key, bow_key = jax.random.split(key, 3)
    rows, columns = jnp.any(mask > 0.0, axis=1), jnp.any(mask > 0.0, axis=0)
    top = jnp.argmax(rows) / height
    bottom = 1.0 - jnp.argmax(rows[::-1]) / height
    middle = 0.5 * (jnp.argmax(columns) / width + 1.0 - jnp.argmax(columns[::-1]) / width)
    level = top + (bottom - top) * jax.random.uniform(level_key, (), minval=0.4, maxval=0.85)
    tilt = jnp.tan(jnp.deg2rad(10.0) * jax.random.normal(tilt_key))
    bow = jax.random.uniform(bow_key, (), maxval=1.2)
    x = ((jnp.arange(width, dtype=jnp.float32) + 0.5) / width - middle)[None, :]
    y = ((jnp.arange(height, dtype=jnp.float32) + 0.5) / height)[:, None]
    return y > level + tilt * x + bow * jnp.square(x)
