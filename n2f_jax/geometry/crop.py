"""A square crop of an image, as a similarity of the image plane: ``u' = k (u − x0)``, ``k = size / side``.

Pixels follow ``n2f_jax.geometry.camera``: u = 0 is the left *edge*, so the crop's left edge maps to u' = 0
and no half-pixel term appears. Only ``crop_image`` meets OpenCV, whose pixel centres are integers, and shifts
there.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from n2f_jax.geometry.camera import Camera

# OpenCV's warps address pixels with 16-bit integers.
_MAX_WARP_SIZE = 16384


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Crop:
    """A square of the original image. A pytree, of JAX or of NumPy arrays; it may reach beyond the image.

    Attributes:
        x0y0: ``(..., 2)`` its top left corner, pixels of the original image.
        side: ``(...,)`` its side, pixels of the original image.
    """

    x0y0: Float[Array | np.ndarray, "... 2"]
    side: Float[ArrayLike, "..."]


def landmark_crop(landmarks: Float[Array | np.ndarray, "... N 2"], scale: Float[ArrayLike, "..."]) -> Crop:
    """The paper's crop: a square about the centre of the landmarks' box, side ``max(w, h) · scale``.

    Works on JAX and NumPy arrays alike; the result holds JAX arrays.
    """
    landmarks = jnp.asarray(landmarks)
    low, high = landmarks.min(axis=-2), landmarks.max(axis=-2)
    side = (high - low).max(axis=-1) * scale
    return Crop(x0y0=0.5 * (low + high) - 0.5 * side[..., None], side=side)


def crop_intrinsics(
    focal: float | Float[Array | np.ndarray, "..."],
    principal_point: Float[Array | np.ndarray, "... 2"],
    crop: Crop,
    size: int,
) -> tuple[Any, Any]:
    """Focal length and principal point in pixels of the crop resized to ``size``²: ``f* = k f``, ``c* = k (c − x0)``.

    Args:
        focal: ``(...,)`` f, pixels of the original image; JAX or NumPy, and the result is the same.
        principal_point: ``(..., 2)`` c, pixels of the original image.
        crop: with the same batch axes.
        size: side of the resized crop in pixels.

    Returns:
        ``(...,)`` f* and ``(..., 2)`` c*.
    """
    k = size / cast(Array, crop.side)
    return k * focal, k[..., None] * (principal_point - crop.x0y0)


def crop_camera(camera: Camera, crop: Crop, size: int) -> Camera:
    """The camera that sees in ``size``² pixels what ``camera`` sees in the crop (``crop_intrinsics``).

    Rotation and translation stay: a crop is no motion.
    """
    focal, principal_point = crop_intrinsics(camera.focal, camera.principal_point, crop, size)
    return Camera(camera.rotation, camera.translation, focal, principal_point)


def to_crop(points: Float[Array, "... N 2"], crop: Crop, size: int) -> Float[Array, "... N 2"]:
    """Pixels of the original image → pixels of the crop resized to ``size``²."""
    points, k = jnp.asarray(points), (size / cast(Array, crop.side))[..., None, None]
    return _like(k, points) * (points - _like(crop.x0y0[..., None, :], points))


def from_crop(points: Float[Array, "... N 2"], crop: Crop, size: int) -> Float[Array, "... N 2"]:
    """Pixels of the crop resized to ``size``² → pixels of the original image."""
    points, k = jnp.asarray(points), (cast(Array, crop.side) / size)[..., None, None]
    return _like(k, points) * points + _like(crop.x0y0[..., None, :], points)


def crop_image(image: np.ndarray, crop: Crop, size: int) -> np.ndarray:
    """Cuts the crop out of an image and resizes it to ``size``², bilinear; zeros beyond the image.

    When the crop is shrunk the result is averaged over the area of each new pixel, so nothing aliases.

    Args:
        image: ``(H, W)`` or ``(H, W, C)``, C ≤ 4, uint8, uint16 or float32.
        crop: one crop (no batch axes).
        size: side of the result in pixels.

    Returns:
        ``(size, size[, C])`` of the image's dtype, such that the image's point u shows at ``to_crop(u)``.

    Raises:
        ValueError: the crop's side is not positive or not finite.
    """
    import cv2  # here, so that the package imports without it

    x0, y0 = (float(x) for x in np.asarray(crop.x0y0, np.float64))
    side = float(np.asarray(crop.side, np.float64))
    if not (math.isfinite(side) and side > 0 and math.isfinite(x0) and math.isfinite(y0)):
        raise ValueError(f"a crop needs a finite corner and a positive side, got ({x0}, {y0}) and {side}")

    # Shrinking: sample m × m points in each new pixel (each no wider than an old one), then average them.
    m = max(1, min(math.ceil(side / size - 1e-6), _MAX_WARP_SIZE // size))
    k = size * m / side
    # u' = k (u − x0) between edges; between OpenCV's centres (u − 0.5) it gains 0.5 k − 0.5.
    shift = 0.5 * k - 0.5
    matrix = np.array([[k, 0.0, -k * x0 + shift], [0.0, k, -k * y0 + shift]])
    # OpenCV rounds coordinates of uint8 warps to 1/32 pixel either way; in float32 nothing else is rounded.
    warped = cv2.warpAffine(
        image.astype(np.float32), matrix, (size * m, size * m), flags=cv2.INTER_LINEAR, borderValue=0.0
    )
    if m > 1:
        warped = warped.reshape(size, m, size, m, *image.shape[2:]).mean(axis=(1, 3))
    if np.issubdtype(image.dtype, np.integer):
        info = np.iinfo(image.dtype)
        warped = np.clip(np.rint(warped), info.min, info.max)
    return warped.reshape(size, size, *image.shape[2:]).astype(image.dtype)


def _like(x: Array | np.ndarray, points: Array) -> Array:
    return jnp.broadcast_to(x, points.shape)
