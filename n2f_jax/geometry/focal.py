"""The focal length of a photograph: given, read from its EXIF data, or assumed."""

from __future__ import annotations

import math

DEFAULT_FOCAL = 1.2  # times the longer side: 45° across, where neither user nor EXIF says better


def resolve_focal(
    image_size: tuple[int, int], given: float | None = None, exif: float | None = None
) -> tuple[float, str]:
    """Focal length in pixels and where it came from: what the user gave, else EXIF, else 1.2·max(H, W).

    Raises:
        ValueError: a given focal length that is not a positive number.
    """
    if given is not None:
        if not (math.isfinite(given) and given > 0):
            raise ValueError(f"a focal length is a positive number of pixels, not {given}")
        return float(given), "given"
    if exif is not None:
        return float(exif), "exif"
    return DEFAULT_FOCAL * max(image_size), "default"
