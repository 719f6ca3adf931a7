"""How much of each pixel is a person: MediaPipe's selfie segmentation, made as sharp as the photograph.

The network (Apache-2.0, a member of the pinned wheel; ``n2f fetch``) sees 256² pixels. It is asked twice, for the
whole frame and for a square about the head, where a head's outline is then one of fine pixels; and its answer is
brought to the frame's resolution by a guided filter whose coefficients are found at low resolution (He, Sun: "Fast
guided filter", 2015), which moves the matte's edge onto the frame's.
"""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from n2f_jax.frontends.tflite import Runtime, open_network
from n2f_jax.runtime.assets_cache import MEDIAPIPE, asset_path

FILE = "selfie_segmentation.tflite"
_RADIUS = 2  # of the guided filter, pixels of the network's input
_SMOOTH = 3e-4  # variance of a grey level in 0 … 1 below which an edge is none
_SURE = 0.15  # the filter leaves a haze about a person, and a veil within: less than this is nothing, and the rest all
_FEATHER = 0.12  # of the square's side, over which its answer fades into that for the whole frame


class PersonMatte:
    """The network with what is around it. Any number of threads may call one object.

    Args:
        num_threads: threads of LiteRT's interpreter.
        runtime: ``'litert'`` or ``'jax'``; None for what is there.

    Raises:
        AssetError: the network was not fetched (``n2f fetch``) or is damaged.
        ImportError: neither LiteRT nor ``tflite`` is installed.
    """

    def __init__(self, num_threads: int = 1, runtime: Runtime | None = None):
        self._network = open_network(asset_path(MEDIAPIPE, FILE), num_threads, runtime)

    def __call__(
        self, image: UInt8[np.ndarray, "H W 3"], square: Float[np.ndarray, "3"] | None = None
    ) -> UInt8[np.ndarray, "H W"]:
        """The matte of a frame, 0 nobody … 255 a person.

        Args:
            image: RGB.
            square: x0, y0 and side in pixels, of a square about the head; it may reach beyond the frame. None where
                nobody is known to be.
        """
        matte = self._matte(image)
        if square is not None:
            _refine(matte, image, square, self._matte)
        return np.clip(np.rint(255.0 * matte), 0, 255).astype(np.uint8)

    def _matte(self, image: np.ndarray) -> np.ndarray:
        """0 … 1 at the image's resolution; the network sees the image squeezed to a square, as it was trained."""
        side = self._network.input_size
        small = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA).astype(np.float32) / 255.0
        coarse = np.asarray(self._network(small)[0], np.float32)[..., 0]
        return guided(coarse, cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), image)


def _refine(matte: np.ndarray, image: np.ndarray, square: np.ndarray, look) -> None:
    """Puts what ``look`` says of the square into the matte of the whole, faded at the borders within the frame."""
    height, width = matte.shape
    left, top = (max(0, round(float(x))) for x in square[:2])
    right, bottom = (
        min(width, round(float(square[0] + square[2]))),
        min(height, round(float(square[1] + square[2]))),
    )
    if right - left < 16 or bottom - top < 16 or (right - left) * (bottom - top) > 0.9 * height * width:
        return
    near = look(image[top:bottom, left:right])
    feather = max(1.0, _FEATHER * float(square[2]))
    across, down = _inwards(left, right, width), _inwards(top, bottom, height)
    share = np.clip(np.minimum(across[None], down[:, None]) / feather, 0.0, 1.0)
    whole = matte[top:bottom, left:right]
    whole += share * (near - whole)


def _inwards(low: int, high: int, end: int) -> Float[np.ndarray, " n"]:
    """How far each of the pixels ``[low, high)`` lies from those borders; the frame's own (0, ``end``) are none."""
    place = np.arange(low, high, dtype=np.float32)
    far = np.full_like(place, np.inf)
    return np.minimum(place - low if low > 0 else far, high - 1 - place if high < end else far)


def guided(
    coarse: Float[np.ndarray, "h w"], guide: Float[np.ndarray, "h w"], image: UInt8[np.ndarray, "H W 3"]
) -> Float[np.ndarray, "H W"]:
    """A coarse matte at an image's resolution, its edges where the image's are.

    Args:
        coarse: 0 … 1.
        guide: the image's grey levels at the matte's resolution, 0 … 1.
        image: RGB.
    """
    mean = lambda x: cv2.boxFilter(x, -1, (2 * _RADIUS + 1, 2 * _RADIUS + 1))  # noqa: E731
    guide_mean, matte_mean = mean(guide), mean(coarse)
    slope = (mean(guide * coarse) - guide_mean * matte_mean) / (mean(guide * guide) - guide_mean**2 + _SMOOTH)
    level = matte_mean - slope * guide_mean
    size = image.shape[1::-1]
    slope, level = (cv2.resize(mean(x), size, interpolation=cv2.INTER_LINEAR) for x in (slope, level))
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    fine = cv2.multiply(slope, grey, scale=1 / 255.0, dtype=cv2.CV_32F)
    return np.clip((fine + level - _SURE) / (1.0 - 2.0 * _SURE), 0.0, 1.0)
