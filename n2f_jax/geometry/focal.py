"""The focal length of a photograph: given, read from its EXIF data, or assumed."""

from __future__ import annotations

import math
from typing import NamedTuple

DEFAULT_FOCAL = 1.2  # times the longer side: 45° across, where neither user nor EXIF says better


class Focal(NamedTuple):
    """A focal length and where it came from.

    Attributes:
        pixels: of the upright original image.
        source: ``'given'``, ``'exif'`` or ``'default'``.
    """

    pixels: float
    source: str


def resolve_focal(
    image_size: tuple[int, int], given: float | None = None, exif: float | None = None
) -> Focal:
    """The given focal length, else EXIF's, else 1.2·max(H, W); pixels.

    Args:
        image_size: height and width of the image.
        given: by the user, for this image.
        exif: what the image's file says.

    Raises:
        ValueError: a given focal length that is not a positive number.
    """
    if given is not None:
        if not (math.isfinite(given) and given > 0):
            raise ValueError(f"a focal length is a positive number of pixels, not {given}")
        return Focal(float(given), "given")
    if exif is not None:
        return Focal(float(exif), "exif")
    return Focal(DEFAULT_FOCAL * max(image_size), "default")
