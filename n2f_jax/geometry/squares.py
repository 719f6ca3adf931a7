"""Rotated squares of an image: what face networks are shown."""

from __future__ import annotations

import dataclasses
import math

import cv2
import numpy as np
from jaxtyping import Float, UInt8


@dataclasses.dataclass(frozen=True)
class Square:
    """A rotated square of an image, pixels (u = 0 is the left edge, centres at +0.5).

    Attributes:
        centre: ``(2,)``.
        side: at least 1.
        angle: of its u axis in the image, radians; positive turns it clockwise as one sees it.
    """

    centre: Float[np.ndarray, "2"]
    side: float
    angle: float

    def axes(self) -> Float[np.ndarray, "2 2"]:
        """Columns: image directions of the square's u and v axes."""
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        return np.array([[cos, -sin], [sin, cos]])

    def to_image(self, points: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N 3"]:
        """Points in units of the square's side, from its upper left corner, to pixels; the third number is scaled."""
        scaled = points * self.side
        plane = self.centre + (scaled[:, :2] - self.side / 2) @ self.axes().T
        return np.concatenate([plane, scaled[:, 2:]], axis=1)

    def from_image(self, points: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N 3"]:
        """Pixels to units of the square's side, from its upper left corner: back from ``to_image``."""
        plane = (points[:, :2] - self.centre) @ self.axes() / self.side + 0.5
        return np.concatenate([plane, points[:, 2:] / self.side], axis=1)

    @classmethod
    def around(cls, points: Float[np.ndarray, "N 2"], angle: float, scale: float) -> Square:
        """The square turned by ``angle`` whose side is ``scale`` times the longer side of the points' box in it."""
        axes = cls(np.zeros(2), 1.0, angle).axes()
        turned = points @ axes
        low, high = turned.min(axis=0), turned.max(axis=0)
        return cls(axes @ ((low + high) / 2), max(1.0, float((high - low).max()) * scale), angle)


def cut_square(image: UInt8[np.ndarray, "H W 3"], square: Square, size: int) -> UInt8[np.ndarray, "S S 3"]:
    """The square resampled to ``size``²; large ones are oversampled and averaged against aliasing.

    Beyond the image its edge goes on.
    """
    factor = min(max(1, round(square.side / size)), 8)
    fine = size * factor
    linear = square.axes() * (square.side / fine)
    origin = square.centre - linear @ np.full(2, fine / 2)
    # cv2 counts pixel centres from 0: u_cv = u − 0.5 on both sides.
    shift = origin + linear @ np.full(2, 0.5) - 0.5
    matrix = np.concatenate([linear, shift[:, None]], axis=1)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    out = cv2.warpAffine(image, matrix, (fine, fine), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return out if factor == 1 else cv2.resize(out, (size, size), interpolation=cv2.INTER_AREA)
