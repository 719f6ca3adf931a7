"""Frames of a video, in order, none held but the last. Read as ``n2f track`` reads them (PyAV)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from n2f_jax.tracking.clips import ClipError, open_clip


def read_frames(
    path: Path, step: int = 1, wanted: Callable[[int], bool] = lambda frame: True
) -> Iterator[tuple[int, np.ndarray | None]]:
    """(number, ``(H, W, 3)`` uint8 RGB) of every ``step``-th frame, upright as the file says.

    Frames are read one after the other and never sought: in many files a sought frame is another one.

    Args:
        path: the file.
        step: of the frames.
        wanted: called with a frame's number; those that are not wanted come as None.

    Raises:
        ClipError: it cannot be opened, or holds no frame.
        ImportError: PyAV is missing (extra ``track``).
    """
    clip = open_clip(path)
    due = 0
    for frame in clip.pictures(lambda number: number % step == 0 and wanted(number)):
        yield from ((number, None) for number in range(due, frame.index, step))
        yield frame.index, frame.image
        due = frame.index + step
    if clip.read == 0:
        raise ClipError(f"{path}: no frame of it can be decoded")
    yield from ((number, None) for number in range(due, clip.read, step))
