"""A photograph's camera in glTF: OpenCV's frame and pixels to a node that looks along −z with y up."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from jaxtyping import Float

# OpenCV's camera frame (x right, y down, z forward) to glTF's (x right, y up, z backward), which is the file's world.
FLIP = np.diag([1.0, -1.0, -1.0])


@dataclasses.dataclass(frozen=True)
class PhotoCamera:
    """A camera at the world's origin.

    Attributes:
        intrinsics: ``(3, 3)`` K of the photograph, pixels, u = 0 at its left edge.
        image_size: height and width, pixels.
    """

    intrinsics: Float[np.ndarray, "3 3"]
    image_size: tuple[int, int]

    @property
    def yfov(self) -> float:
        """Vertical angle of view, radians."""
        return 2.0 * math.atan(0.5 * self.image_size[0] / float(self.intrinsics[1, 1]))

    @property
    def aspect(self) -> float:
        """Width over height of what is seen, at depth 1; not the image's own where pixels are no squares."""
        height, width = self.image_size
        return (width / float(self.intrinsics[0, 0])) / (height / float(self.intrinsics[1, 1]))

    @property
    def off_centre(self) -> tuple[float, float]:
        """By how much the principal point lies right of and below the image's middle, pixels. glTF's cameras have it in
        the middle: what they draw must be moved by so much."""
        height, width = self.image_size
        return float(self.intrinsics[0, 2]) - 0.5 * width, float(self.intrinsics[1, 2]) - 0.5 * height

    @property
    def extras(self) -> dict[str, object]:
        """What a glTF camera cannot say: size, K, and the lens shift by which Blender's camera says it."""
        u, v = self.off_centre
        height = self.image_size[0]
        return {
            "image_height": int(self.image_size[0]),
            "image_width": int(self.image_size[1]),
            "intrinsics": [[float(x) for x in row] for row in self.intrinsics],
            # In heights, since Blender's import fits the lens to the height; the view moves against the picture.
            "shift_x": -u / height,
            "shift_y": v / height,
        }


def in_world(
    rotation: Float[np.ndarray, "*B 3 3"], translation: Float[np.ndarray, "*B 3"]
) -> tuple[Float[np.ndarray, "*B 3 3"], Float[np.ndarray, "*B 3"]]:
    """A head's place in the world whose origin is the camera, from ``x_cam = R x_head + t``."""
    return FLIP @ np.asarray(rotation, np.float64), np.asarray(translation, np.float64) @ FLIP
