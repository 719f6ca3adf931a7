"""Pictures of a clip's frames, read ahead in a thread and kept small: frames are never sought (``tracking.clips``)."""

from __future__ import annotations

import io
import threading

import cv2
import numpy as np
from jaxtyping import UInt8
from PIL import Image

from n2f_jax.tracking.clips import Clip, ClipError

MAX_SIDE = 640  # of a kept picture, pixels
MAX_PICTURES = 3000  # of about 40 kB each; of longer clips every second, third … frame is kept


class ClipPictures:
    """Frames by number, as far as they have been read.

    Args:
        clip: opened.
        frames: how many the track has.

    Attributes:
        problem: why reading ended early; "" while all is well.
    """

    def __init__(self, clip: Clip, frames: int):
        self._clip = clip
        self._every = max(1, -(-frames // MAX_PICTURES))
        self._frames = frames
        self._kept: list[bytes] = []
        self.problem = ""
        self._thread = threading.Thread(target=self._read, daemon=True, name="clip pictures")
        self._thread.start()

    def at(self, index: int) -> UInt8[np.ndarray, "h w 3"] | None:
        """The picture of a frame, or the last one before it that is kept; None until it is read."""
        number = index // self._every
        if number >= len(self._kept):
            return None
        return np.asarray(Image.open(io.BytesIO(self._kept[number])))

    def join(self, seconds: float | None = None) -> None:
        """Waits until all is read."""
        self._thread.join(seconds)

    def _read(self) -> None:
        try:
            for frame in self._clip.frames():
                if frame.index >= self._frames:
                    break
                if frame.index % self._every == 0:
                    self._kept.append(_small(frame.image))
        except ClipError as error:
            self.problem = str(error)


def _small(image: np.ndarray) -> bytes:
    scale = min(1.0, MAX_SIDE / max(image.shape[:2]))
    if scale < 1.0:
        size = tuple(max(1, round(side * scale)) for side in image.shape[1::-1])
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG", quality=88)
    return stream.getvalue()
