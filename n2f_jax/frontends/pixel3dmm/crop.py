"""The square of a photograph that Pixel3DMM looks at (``get_cstm_crop`` of its preprocessing at 98b5d79)."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from n2f_jax.frontends.resample import Window

INPUT_SIZE = 512  # of the network, pixels
SCALE = 1.42  # side of the square over the longer side of the detector's box


def face_window(box: Float[np.ndarray, "4"], image_size: tuple[int, int]) -> Window:
    """The rectangle that Pixel3DMM cuts for a detected face.

    The box is made square about its middle and enlarged. Where the square sticks out of the image it is made smaller,
    from its upper left corner on both axes alike, or from its lower right one, never shifted and never padded; off by
    ones of the original included, so that its network sees what it saw in training: one side may be a pixel or two
    shorter than the other, which resizing to 512² then stretches.

    Args:
        box: x0, y0, x1, y1 of the face in pixels; taken to whole pixels as the original's detector gives them.
        image_size: (height, width).

    Raises:
        ValueError: nothing of the square lies in the image.
    """
    height, width = image_size
    x_min, y_min = (int(x) for x in np.floor(box[:2]))
    box_width, box_height = (int(x) for x in np.ceil(box[2:]) - np.floor(box[:2]))
    side = max(box_width, box_height)
    x_min -= (side - box_width) // 2
    y_min -= (side - box_height) // 2
    x_max, y_max = x_min + side - 1, y_min + side - 1
    margin = int(side * (SCALE - 1) / 2)
    x_min, y_min, x_max, y_max = x_min - margin, y_min - margin, x_max + margin, y_max + margin
    overflow = min(x_min, y_min, 0)
    x_min, y_min = x_min - overflow, y_min - overflow
    if x_max > width - 1 or y_max > height - 1:
        overflow = max(x_max - width - 1, y_max - height - 1)
        x_max, y_max = x_max - overflow, y_max - overflow
    window = Window(x_min, y_min, min(x_max, width), min(y_max, height))
    if window.width < 1 or window.height < 1:
        raise ValueError(f"a face at {np.round(box, 1).tolist()} lies outside an image of {width} × {height}")
    return window


def cut(image: UInt8[np.ndarray, "H W 3"], window: Window) -> UInt8[np.ndarray, "512 512 3"]:
    """The window resized to 512², bilinear without smoothing, as in the original."""
    part = image[window.y0 : window.y1, window.x0 : window.x1]
    return cv2.resize(np.ascontiguousarray(part), (INPUT_SIZE, INPUT_SIZE))
