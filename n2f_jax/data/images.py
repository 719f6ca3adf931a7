"""Reading photographs of any common kind into one form: 8-bit RGB, upright."""

from __future__ import annotations

import dataclasses
import math
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

# EXIF tags (Exif 2.32).
_ORIENTATION = 0x0112
_EXIF_FOLDER = 0x8769
_PIXEL_WIDTH = 0xA002
_PIXEL_HEIGHT = 0xA003
_FOCAL_LENGTH_IN_35MM_FILM = 0xA405

# Diagonal of the 36 × 24 mm frame, by which CIPA defines the 35 mm equivalent.
_FILM_DIAGONAL = math.hypot(36, 24)
IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".ppm", ".pgm", ".gif"}
)


class ImageError(ValueError):
    """A file that cannot be read as an image; the message names the file and the reason."""


@dataclasses.dataclass(frozen=True)
class ImageInfo:
    """What a file says about its image.

    Attributes:
        focal: focal length in pixels of the returned image, from EXIF's 35 mm equivalent; None where EXIF has
            none, or where the image's shape is not the one the camera wrote (it was cropped).
        orientation: EXIF orientation 1 … 8, already applied to the pixels.
        mode: Pillow's name of the pixel format in the file.
    """

    focal: float | None
    orientation: int
    mode: str


def read_image(path: Path | str) -> tuple[np.ndarray, ImageInfo]:
    """Reads an image as upright 8-bit RGB.

    16-bit values are scaled, transparency is laid over white, grayscale, palette and CMYK become RGB, EXIF's
    orientation is applied, and of an animation the first frame is taken.

    Args:
        path: any format that Pillow reads.

    Returns:
        ``(H, W, 3)`` uint8 and what the file says about it.

    Raises:
        ImageError: missing, empty, truncated, damaged, not an image, or beyond Pillow's limit of about
            179 megapixels.
    """
    path = Path(path)
    if path.is_dir():
        raise ImageError(f"{path}: is a folder, not an image")
    if not path.exists():
        raise ImageError(f"{path}: no such file")
    try:
        if path.stat().st_size == 0:
            raise ImageError(f"{path}: the file is empty")
        with warnings.catch_warnings():
            # Large but allowed; odd EXIF. Neither is an error, and the caller cannot act on it.
            warnings.simplefilter("ignore")
            with Image.open(path) as image:
                image.seek(0)
                image.load()
                return _to_rgb(image)
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        hint = ""
        if path.suffix.lower() in {".heic", ".heif"}:
            hint = "; for HEIC install pillow-heif and register it, or convert to JPEG"
        raise ImageError(f"{path}: not an image in a format that Pillow reads{hint}") from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"{path}: too large: {error}") from error
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, MemoryError) as error:
        raise ImageError(f"{path}: truncated or damaged: {error}") from error


def _to_rgb(image: Image.Image) -> tuple[np.ndarray, ImageInfo]:
    exif = image.getexif()
    orientation = exif.get(_ORIENTATION, 1)
    info = ImageInfo(
        focal=_focal_in_pixels(exif, image.size),
        orientation=orientation if orientation in range(1, 9) else 1,
        mode=image.mode,
    )
    image = ImageOps.exif_transpose(image)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        gray = _scale_gray(np.asarray(image))
        return np.repeat(gray[..., None], 3, axis=-1), info
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image)
    return np.array(image.convert("RGB")), info


def _scale_gray(values: np.ndarray) -> np.ndarray:
    """8 bits from deeper grayscale. Whole numbers are 16-bit (Pillow widens some to 32); floats are in
    [0, 1], or in [0, 255] where any exceeds 1."""
    if np.issubdtype(values.dtype, np.integer):
        scaled = values.astype(np.float32) / 257
    else:
        finite = np.nan_to_num(values.astype(np.float32))
        scaled = finite * 255 if finite.max(initial=0) <= 1 else finite
    return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)


def _focal_in_pixels(exif: Image.Exif, size: tuple[int, int]) -> float | None:
    tags = exif.get_ifd(_EXIF_FOLDER)
    try:
        equivalent = float(tags.get(_FOCAL_LENGTH_IN_35MM_FILM, 0))
        written = sorted(float(tags.get(tag, 0)) for tag in (_PIXEL_WIDTH, _PIXEL_HEIGHT))
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    if not (math.isfinite(equivalent) and equivalent > 0):
        return None
    short, long = sorted(size)
    # A uniformly resized photograph keeps its field of view, a cropped one does not.
    if written[0] > 0 and abs(written[0] / written[1] * long / short - 1) > 0.02:
        return None
    return equivalent / _FILM_DIAGONAL * math.hypot(*size)
