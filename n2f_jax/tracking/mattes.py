"""A person matte of every frame of a clip, ``matte/000000.png``: 8 bits, 0 nobody … 255 a person."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from n2f_jax.frontends.person_matte import PersonMatte
from n2f_jax.tracking.export_frame import save_png
from n2f_jax.tracking.track_file import LOST

# Side of the square about the head that is looked at finely, over the longer side of the landmarks' box; and how far
# above their middle its own lies, in sides: hair is above the face.
_SQUARE, _ABOVE = 3.2, 0.08


class MatteFolder:
    """Mattes of one clip, made where they are not there yet.

    Args:
        folder: made if needed.
        track: of ``track_file.KEYS``; it says where the head is.
        network: what makes them.
    """

    def __init__(self, folder: Path, track: Mapping[str, Any], network: PersonMatte):
        self._folder, self._track, self._network = folder, track, network
        folder.mkdir(parents=True, exist_ok=True)

    def path(self, number: int) -> Path:
        """Of a frame, by its number in the clip."""
        return self._folder / f"{number:06d}.png"

    def __call__(self, number: int, image: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "H W"]:
        """The matte of a frame, read or made and written.

        Raises:
            OSError: it cannot be written.
        """
        path = self.path(number)
        if path.exists():
            matte = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
            if matte is not None and matte.shape == image.shape[:2]:
                return matte
        matte = self._network(image, head_square(self._track, number))
        save_png(path, matte)
        return matte


def head_square(track: Mapping[str, Any], number: int) -> Float[np.ndarray, "3"] | None:
    """x0, y0 and side of a square about the head and shoulders, pixels; None where the person is lost."""
    if track["status"][number] == LOST:
        return None
    marks = np.asarray(track["landmarks_2d"][number], np.float64)
    low, high = marks.min(axis=0), marks.max(axis=0)
    side = _SQUARE * float((high - low).max())
    centre = (low + high) / 2 - np.array([0.0, _ABOVE * side])
    return np.array([*(centre - side / 2), side])
