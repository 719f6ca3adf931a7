"""Frames of a video, in order, none held but the last."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np


class VideoError(ValueError):
    """A file that is no video that OpenCV can read; the message names it."""


def count_frames(path: Path) -> int:
    """How many frames the file says it has; 0 where it does not say, or is no video."""
    import cv2

    capture = cv2.VideoCapture(str(path))
    try:
        return max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))
    finally:
        capture.release()


def read_frames(
    path: Path, step: int = 1, wanted: Callable[[int], bool] = lambda frame: True
) -> Iterator[tuple[int, np.ndarray | None]]:
    """(number, ``(H, W, 3)`` uint8 RGB) of every ``step``-th frame, upright as the file says.

    Frames are read one after the other and never sought: in many files a sought frame is another one.

    Args:
        path: the file.
        step: of the frames.
        wanted: called with a frame's number; those that are not wanted are decoded as little as can be, and come as
            None.

    Raises:
        VideoError: it cannot be opened, or holds no frame.
    """
    import cv2

    capture = cv2.VideoCapture(str(path))
    try:
        if not capture.isOpened():
            raise VideoError(f"{path}: not a video that OpenCV reads, or damaged")
        number = 0
        while capture.grab():
            if number % step == 0:
                image = None
                if wanted(number):
                    done, image = capture.retrieve()
                    if not done:
                        break
                    image = np.ascontiguousarray(image[..., ::-1])
                yield number, image
            number += 1
        if number == 0:
            raise VideoError(f"{path}: no frame of it can be read")
    finally:
        capture.release()
