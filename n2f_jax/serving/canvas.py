"""Photographs of any size on squares of one, for a program that is compiled for one; and their heads back again."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np

from n2f_jax.geometry.focal import FocalHints
from n2f_jax.reconstruction.head import Head


@dataclasses.dataclass(frozen=True)
class Placement:
    """Where a photograph lies on a canvas: their centres are one.

    Attributes:
        image_size: (height, width) of the photograph.
        scale: pixels of the canvas a pixel of the photograph, along u and v, which differ by rounding.
        corner: u and v of the photograph's upper left corner on the canvas.
    """

    image_size: tuple[int, int]
    scale: np.ndarray
    corner: np.ndarray

    def to_photograph(self, points: np.ndarray) -> np.ndarray:
        """``(..., 2)`` pixels of the canvas as the photograph's; a third coordinate is a depth on their scale."""
        plane = (points[..., :2] - self.corner) / self.scale
        depth = points[..., 2:] / self.scale.mean()
        return np.concatenate([plane, depth], axis=-1).astype(points.dtype)

    def focal_on_canvas(self, focal: FocalHints) -> FocalHints:
        """Focal lengths of the photograph in pixels of the canvas."""
        scale = float(self.scale.max())
        return FocalHints(*(None if pixels is None else pixels * scale for pixels in focal))

    def of_photograph(self, head: Head) -> Head:
        """A head of the canvas as one of the photograph: the same head, whose pixels are the photograph's."""
        intrinsics = head.intrinsics.copy()
        intrinsics[:2, 2] = self.to_photograph(intrinsics[:2, 2])
        intrinsics[(0, 1), (0, 1)] /= self.scale
        corner, side = head.crop[:2], head.crop[2]
        return dataclasses.replace(
            head,
            intrinsics=intrinsics,
            image_size=self.image_size,
            crop=np.array([*self.to_photograph(corner), side / self.scale.mean()], np.float32),
            **{
                name: self.to_photograph(getattr(head, name))
                for name in ("landmarks_2d", "frontend_landmarks", "frontend_points", "irises")
            },
        )


def on_canvas(image: np.ndarray, side: int) -> tuple[np.ndarray, Placement]:
    """A photograph, as large as fits, in the middle of a black square.

    Args:
        image: ``(H, W, 3)`` uint8.
        side: of the square in pixels; even.

    Returns:
        ``(side, side, 3)`` uint8, and where the photograph lies on it.
    """
    height, width = image.shape[:2]
    scale = side / max(height, width)
    # Even, so that the centres are one.
    rows, columns = (min(side, 2 * max(1, round(length * scale / 2))) for length in (height, width))
    shrunk = scale < 1
    small = cv2.resize(image, (columns, rows), interpolation=cv2.INTER_AREA if shrunk else cv2.INTER_LINEAR)
    canvas = np.zeros((side, side, 3), np.uint8)
    top, left = (side - rows) // 2, (side - columns) // 2
    canvas[top : top + rows, left : left + columns] = small
    placement = Placement(
        image_size=(height, width),
        scale=np.array([columns / width, rows / height]),
        corner=np.array([left, top], np.float64),
    )
    return canvas, placement
