"""A front end's maps, in whatever rectangle of the photograph they were computed, cut to the paper's landmark box.

Rectangle and box are both upright, so the map between them is a scale and a shift for each axis, between pixel *edges*
(docs/conventions.md). Head-frame normals and UV are not turned by it.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from n2f_jax.frontends.face_classes import face_mask
from n2f_jax.geometry.crop import Crop
from n2f_jax.models.face_mask import predict_masks

# An average of unit normals shorter than this points nowhere.
_MIN_LENGTH = 1e-3


@dataclasses.dataclass(frozen=True)
class Window:
    """An upright rectangle of the photograph: pixels from its left and top edge, ``[x0, x1) × [y0, y1)``."""

    x0: float
    y0: float
    x1: float
    y1: float

    @property
    def width(self) -> float:
        return self.x1 - self.x0

    @property
    def height(self) -> float:
        return self.y1 - self.y0


class CroppedMaps(NamedTuple):
    """``(S, S)`` maps; see ``FrontendFace``."""

    normals: Float[Array, "S S 3"]
    mask: Float[Array, "S S"]
    uv: Float[Array, "S S 2"] | None
    classes: UInt8[Array, "S S"] | None


def crop_maps(
    window: Window,
    crop: Crop,
    size: int,
    normals: Float[Array | np.ndarray, "H W 3"],
    classes: UInt8[Array | np.ndarray, "h w"] | None,
    uv: Float[Array | np.ndarray, "H W 2"] | None = None,
    classes_window: Window | None = None,
) -> CroppedMaps:
    """Cuts one face's maps to its crop, on the device where they are.

    Normals and UV are interpolated (bilinear; averaged where the crop shrinks them), classes take the nearest pixel.
    Beyond its window nothing is known of a map: background.

    Args:
        window: what the maps show of the photograph.
        crop: what to show instead.
        size: S.
        normals: of any lengths; unit in the result, zero outside the mask.
        classes: ids of ``face_classes``; they give the mask. None where nobody has parsed the face: the normals tell
            it (``models.face_mask``).
        uv: in [−1, 1].
        classes_window: what the classes show, where it is another rectangle.
    """
    place = _between(window, crop, size, normals.shape[:2])
    shape = normals.shape[:2] if classes is None else classes.shape
    classes_place = _between(classes_window or window, crop, size, shape)
    maps = _crop_maps(place, classes_place, normals, classes, uv, size=size)
    if classes is None:
        mask = predict_masks(maps.normals[None])[0]
        uv = None if maps.uv is None else maps.uv * mask[..., None]
        maps = maps._replace(normals=maps.normals * mask[..., None], mask=mask, uv=uv)
    return maps


def _between(window: Window, crop: Crop, size: int, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Scale and shift (v, u) from pixels of a map of the window to pixels of the crop, between edges."""
    k = size / float(np.asarray(crop.side, np.float64))
    x0, y0 = np.asarray(crop.x0y0, np.float64)
    scale = k * np.array([window.height / shape[0], window.width / shape[1]])
    shift = k * np.array([window.y0 - y0, window.x0 - x0])
    return scale.astype(np.float32), shift.astype(np.float32)


@functools.partial(jax.jit, static_argnames="size")
def _crop_maps(place, classes_place, normals, classes, uv, *, size) -> CroppedMaps:
    def interpolate(image):
        return jax.image.scale_and_translate(
            image,
            (size, size, image.shape[-1]),
            (0, 1),
            *place,
            method="linear",
            antialias=True,
            precision=jax.lax.Precision.HIGHEST,
        )

    if classes is not None:
        classes = _nearest(classes, *classes_place, size)
    normals = interpolate(normals)
    length = jnp.sqrt(jnp.sum(normals * normals, axis=-1, keepdims=True))
    mask = jnp.where(length[..., 0] > _MIN_LENGTH, 1.0 if classes is None else face_mask(classes), 0.0)
    inside = mask[..., None] > 0
    normals = jnp.where(inside, normals / jnp.maximum(length, _MIN_LENGTH), 0.0)
    if uv is not None:
        uv = jnp.where(inside, interpolate(uv), 0.0)
    return CroppedMaps(normals, mask, uv, classes)


def _nearest(classes, scale, shift, size):
    """The source pixel under each pixel's centre; 0, background, beyond the source."""
    centres = jnp.arange(size, dtype=jnp.float32) + 0.5
    picked = classes
    for axis in (0, 1):
        index = jnp.floor((centres - shift[axis]) / scale[axis]).astype(jnp.int32)
        index = jnp.where(index < 0, classes.shape[axis], index)  # negative indices would count from the end
        picked = jnp.take(picked, index, axis=axis, mode="fill", fill_value=0)
    return picked
