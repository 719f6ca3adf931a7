"""The focal length of a photograph: given, read from its EXIF data, or assumed.

Where nothing is known, it is 1.2 times the longer side (45° across), but at least such that the largest face is as far
away as people are photographed: a face cut out of its photograph would otherwise lie 0.3 m from the camera and be
taken for a wide-angle one, and so for another person's.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

DEFAULT_FOCAL = 1.2  # times the longer side
# Metres; and the longer side of the box around a face's 68 landmarks, which hardly changes with the pose.
FACE_DISTANCE = 1.0
FACE_EXTENT = 0.14
# Where a camera cannot be, as seen from a face: EXIF data that say so are wrong.
_NEAREST, _FARTHEST = 0.08, 100.0


class Focal(NamedTuple):
    """A focal length and where it came from.

    Attributes:
        pixels: of the upright original image.
        source: ``'given'``, ``'exif'``, ``'default'`` (1.2 times the longer side), or ``'face'`` (of the size of the
            largest face).
        note: why EXIF's was ignored; "" where it was not.
    """

    pixels: float
    source: str
    note: str = ""


class FocalHints(NamedTuple):
    """What is known of a photograph's focal length before its faces are: arguments of ``resolve_focal``."""

    given: float | None = None
    exif: float | None = None


def resolve_focal(
    image_size: tuple[int, int],
    given: float | None = None,
    exif: float | None = None,
    face_size: float | None = None,
) -> Focal:
    """The given focal length, else EXIF's, else an assumed one; pixels.

    Args:
        image_size: height and width of the image.
        given: by the user, for this image.
        exif: what the image's file says. It is ignored where it puts the largest face nearer than 8 cm or farther than
            100 m.
        face_size: longer side of the box around the 68 landmarks of the image's largest face, pixels (a crop's side
            over its scale); None or NaN where no face is known, and then 1.2·max(H, W) is assumed.

    Raises:
        ValueError: a given focal length that is not a positive number.
    """
    if given is not None:
        return Focal(_positive(given), "given")
    size = face_size if face_size is not None and math.isfinite(face_size) and face_size > 0 else None
    note = ""
    if exif is not None:
        away = FACE_DISTANCE if size is None else exif * FACE_EXTENT / size
        if _NEAREST <= away <= _FARTHEST:
            return Focal(float(exif), "exif")
        note = f"EXIF's focal length is ignored: the face would be {away:.{0 if away > 1 else 2}f} m away"
    assumed = DEFAULT_FOCAL * max(image_size)
    if size is not None and (by_face := FACE_DISTANCE * size / FACE_EXTENT) > assumed:
        return Focal(by_face, "face", note)
    return Focal(assumed, "default", note)


def _positive(pixels: Any) -> float:
    """A focal length that somebody gave, as a float."""
    try:
        number = math.nan if isinstance(pixels, (str, bytes, bool)) else float(pixels)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not (math.isfinite(number) and number > 0):
        raise ValueError(f"a focal length is a positive number of pixels, not {pixels!r:.100}")
    return number
