"""What separates a rendered normal map from an estimated one. Off in the paper's config.

All functions work on one sample (use ``vmap``), are pure, and return their input unchanged where the amount is 0.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from n2f_jax.data.degrade_mask import bar, below_a_line, dilate, ellipse, erode, hair
from n2f_jax.data.degrade_normals import eight_bits, gaussian_blur, mirrored_average, rotate_smoothly
from n2f_jax.data.degrade_unmasked import fill_in
from n2f_jax.data.waves import random_amplitudes, random_waves

# Apart from the streams of what is cut, which stay as they are.
_UNMASKED_STREAM = 0x554E4D53


def perturb_points(
    key: PRNGKeyArray, points: Float[Array, "n 3"], *, noise: float, z_scale: float, size: int
) -> Float[Array, "n 3"]:
    """Smooth error of a face mesh's points: a sum of plane waves over the image, and a wrong depth scale.

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
        vectors, phases = random_waves(wave_key, phase_key)
        waves = jnp.sin(jnp.matmul(points[:, :2] / size, vectors.T) + phases[None])
        points = points + noise * size * jnp.matmul(waves, random_amplitudes(amplitude_key, 3))
    return points


def degrade_normals(
    key: PRNGKeyArray,
    normals: Float[Array, "H W 3"],
    *,
    blur: float = 0.0,
    noise_deg: float = 0.0,
    mirror_shift: float = 0.0,
    eight_bit: bool = False,
    vary: bool = False,
) -> Float[Array, "H W 3"]:
    """Makes a rendered normal map look estimated: its errors, the average of two passes, its file.

    Args:
        key: of this sample.
        normals: unit, zero where there are none; which pixels have one does not change.
        blur: largest σ of the Gaussian in units of the map's side, drawn uniformly from 0.
        noise_deg: σ of the smooth rotation about each axis, degrees.
        mirror_shift: σ of the displacement of the mirrored twin in units of the map's side; 0: no twin.
        eight_bit: round as an 8-bit file does.
        vary: noise and displacement are these times a number drawn uniformly from 0 to 1.
    """
    if not (blur > 0.0 or noise_deg > 0.0 or mirror_shift > 0.0 or eight_bit):
        return normals
    noise_key, twin_key, shift_key, blur_key, amount_key = jax.random.split(key, 5)
    size = normals.shape[0]
    # Not fused into what rendered it: every tap below would draw again.
    planes = truth = jax.lax.optimization_barrier(jnp.moveaxis(normals, -1, 0))
    amount = jax.random.uniform(amount_key) if vary else 1.0
    noise = math.radians(noise_deg)
    if noise > 0.0:
        planes = rotate_smoothly(noise_key, planes, amount * noise)
    if mirror_shift > 0.0:
        twin = rotate_smoothly(twin_key, truth, amount * noise) if noise > 0.0 else truth
        shift_std = mirror_shift * size
        most = max(1, math.ceil(3.0 * shift_std))
        planes = mirrored_average(shift_key, planes, twin, amount * shift_std, most)
    if blur > 0.0:
        sigma = blur * size * jax.random.uniform(blur_key)
        planes = gaussian_blur(planes, sigma, blur * size)
    if eight_bit:
        planes = eight_bits(planes)
    return jnp.moveaxis(planes, 0, -1)


def degrade_maps(
    key: PRNGKeyArray,
    normals: Float[Array, "H W 3"],
    mask: Float[Array, "H W"],
    *,
    mask_erosion: float = 0.0,
    mask_dilation: float = 0.0,
    occluder_share: float = 0.0,
    bar_share: float = 0.0,
    hair_share: float = 0.0,
    lower_face_share: float = 0.0,
    unmasked_share: float = 0.0,
) -> tuple[Float[Array, "H W 3"], Float[Array, "H W"]]:
    """Moves the mask's border and cuts from it; the normals outside what is left become zero.

    Args:
        key: of this sample.
        normals, mask: one sample's maps. For a dilation the normals reach beyond the mask; it grows over
            pixels that have one, and over no others.
        mask_erosion, mask_dilation: largest radii in units of the crop's side, drawn uniformly from 0. Where
            both are given, half of the samples are eroded and the others dilated.
        occluder_share: probability of one elliptical hole.
        bar_share: probability of one bar across.
        hair_share: probability of locks of hair over the upper border.
        lower_face_share: probability that the lower face is missing.
        unmasked_share: probability that nobody segmented the picture: the mask is one everywhere, what is cut from the
            face shows what hides it, and beyond the face are the head and the background
            (``degrade_unmasked.fill_in``). For it the normals reach beyond the mask.
    """
    # All in one split: a key that is both split and folded gives the same children twice. Whatever is on, so that
    # switching one degradation on leaves the others' draws as they are.
    erosion_key, hole_key, share_key, dilation_key, sign_key, bar_key, hair_key, lower_key = jax.random.split(
        key, 8
    )
    before, shown, whole = mask, jnp.ones_like(mask), normals
    most_eroded, most_dilated = round(mask_erosion * mask.shape[0]), round(mask_dilation * mask.shape[0])
    dilated = jax.random.bernoulli(sign_key) if most_eroded > 0 else jnp.asarray(True)
    if most_eroded > 0:
        radius = jnp.floor(jax.random.uniform(erosion_key, (), maxval=most_eroded + 1.0))
        if most_dilated > 0:
            radius = jnp.where(dilated, 0.0, radius)
        mask = erode(mask, radius.astype(jnp.int32), most_eroded)
    if most_dilated > 0:
        radius = jnp.floor(jax.random.uniform(dilation_key, (), maxval=most_dilated + 1.0))
        radius = jnp.where(dilated, radius, 0.0)
        grown = dilate(before, radius.astype(jnp.int32), most_dilated)
        present = jnp.sum(normals * normals, axis=-1) > 0.0
        mask = jnp.where(dilated, jnp.where(present, grown, 0.0), mask)
    if occluder_share > 0.0:
        hidden = jax.random.bernoulli(share_key, occluder_share) & ellipse(hole_key, mask)
        mask, shown = (jnp.where(hidden, 0.0, x) for x in (mask, shown))
    for share, own_key, hides in (
        (bar_share, bar_key, bar),
        (hair_share, hair_key, hair),
        (lower_face_share, lower_key, below_a_line),
    ):
        if share > 0.0:
            happens_key, cut_key = jax.random.split(own_key)
            hidden = jax.random.bernoulli(happens_key, share) & hides(cut_key, mask)
            mask, shown = (jnp.where(hidden, 0.0, x) for x in (mask, shown))
    if mask is not before or unmasked_share > 0.0:
        normals = normals * mask[..., None]
    if unmasked_share > 0.0:
        happens_key, fill_key = jax.random.split(jax.random.fold_in(key, _UNMASKED_STREAM))
        happens = jax.random.bernoulli(happens_key, unmasked_share)
        normals = jnp.where(happens, fill_in(fill_key, whole, before, shown), normals)
        mask = jnp.where(happens, 1.0, mask)
    return normals, mask
