"""Reading photographs of any common kind into one form: 8-bit RGB, upright."""

from __future__ import annotations

import dataclasses
import io
import math
import re
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
from jaxtyping import Shaped, UInt8
from PIL import Image, UnidentifiedImageError

from flame_jax.files.outside import MissingFileError, OutsideFileError, reason, regular_file_size

# EXIF tags (Exif 2.32).
_ORIENTATION = 0x0112
_EXIF_FOLDER = 0x8769
_PIXEL_WIDTH = 0xA002
_PIXEL_HEIGHT = 0xA003
_FOCAL_LENGTH_IN_35MM_FILM = 0xA405

# Diagonal of the 36 × 24 mm frame, by which CIPA defines the 35 mm equivalent.
_FILM_DIAGONAL = math.hypot(36, 24)
# mm at 35 mm equivalent: 360° cameras begin near 6, bridge cameras with the longest zooms end at 3000.
_SHORTEST_EQUIVALENT, _LONGEST_EQUIVALENT = 5, 4000

_BLANK = 16  # of 255; video's black, and what lossy compression leaves of black, lie below
_MAX_FRAMES = 100  # looked at where the first ones are blank,
_MAX_PIXELS_OF_FRAMES = 1 << 28  # and of how many pixels, but at least one frame
_BAND_PIXELS = 1 << 20  # converted at a time
# Pillow hands these to other programs: an EPS file is a program, which Ghostscript would run.
_NOT_READ = frozenset(["EPS", "WMF"])

# What people call the formats that ``image_format`` knows; and TGA, which has no first bytes of its own.
_SUFFIXES = """
    .jpg .jpeg .jpe .jfif .jif .mpo .png .apng .gif .webp .tif .tiff .bmp .dib .pbm .pgm .ppm .pnm
    .jp2 .j2k .j2c .jpc .jpf .jpx .tga .heic .heics .heif .heifs .hif .avif .avifs
"""
IMAGE_SUFFIXES = frozenset(_SUFFIXES.split())

HEAD_SIZE = 64  # bytes from a file's start by which its format is known
_FIRST_BYTES = (
    (rb"\xff\xd8\xff", "JPEG"),
    (rb"\x89PNG\r\n\x1a\n", "PNG"),
    (rb"GIF8[79]a", "GIF"),
    (rb"RIFF....WEBP", "WEBP"),
    (rb"II[*+]\0|MM\0[*+]", "TIFF"),
    # With the size of its second header, since text may begin with BM.
    (rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0", "BMP"),
    (rb"P[56]\s+(#|\d+\s)", "PPM"),
    (rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51", "JPEG2000"),
)
_HEIF_BRANDS = frozenset(b"heic heix heim heis hevc hevx hevm hevs".split())
_AVIF_BRANDS = frozenset(b"avif avis".split())
_SHARED_BRANDS = frozenset(b"mif1 msf1".split())


class ImageError(ValueError):
    """A file that cannot be read as an image; the message names the file and the reason."""


class TooLargeError(ImageError):
    """An image of more pixels than are read."""


class _TooManyPixelsError(Exception):
    """The same, before the file's name is known; no ``ValueError``, which is what damaged files raise."""


@dataclasses.dataclass(frozen=True)
class ImageInfo:
    """What a file says about its image.

    Attributes:
        focal: focal length in pixels of the returned image, from EXIF's 35 mm equivalent; None where EXIF has
            none that can be used.
        orientation: EXIF orientation 1 … 8, already applied to the pixels.
        mode: Pillow's name of the pixel format in the file.
        focal_note: why EXIF's 35 mm equivalent was ignored: no camera has it (below 5 or above 4000 mm), or the image's
            shape is not the one that the camera wrote (it was cropped). "" where there is none, it is 0 (unknown), or
            it is used.
    """

    focal: float | None
    orientation: int
    mode: str
    focal_note: str = ""


def image_format(head: bytes) -> str | None:
    """The format of a file by its first ``HEAD_SIZE`` bytes (all of them, if it has fewer), whatever it is called.

    Returns:
        ``JPEG``, ``PNG``, ``GIF``, ``WEBP``, ``TIFF``, ``BMP``, ``PPM`` (binary PGM too), ``JPEG2000``, ``HEIF`` or
        ``AVIF``; None for anything else, videos included. Cameras' raw files are TIFF by their first bytes.
    """
    for pattern, name in _FIRST_BYTES:
        if re.match(pattern, head, re.DOTALL):
            return name
    if head[4:8] != b"ftyp":
        return None
    brand, size = head[8:12], int.from_bytes(head[:4], "big")
    compatible = {head[i : i + 4] for i in range(16, min(size, len(head)), 4)}
    if brand in _AVIF_BRANDS or (brand in _SHARED_BRANDS and compatible & _AVIF_BRANDS):
        return "AVIF"
    return "HEIF" if brand in _HEIF_BRANDS | _SHARED_BRANDS else None


def read_image(path: Path | str) -> tuple[UInt8[np.ndarray, "H W 3"], ImageInfo]:
    """Reads an image as upright 8-bit RGB.

    16-bit values are scaled, transparency is laid over white, grayscale, palette and CMYK become RGB, and EXIF's
    orientation is applied.

    Of several frames or pages (GIF, APNG, WebP, AVIF, TIFF) the first is taken or, where it is blank, the first that
    is not, if that is one of the first 100. Blank is what has no value of 16 or more when it is laid over black: it
    is black, or transparent. Frames that are damaged or cut off do not matter to those before them, except in AVIF
    and HEIF. Of HEIF's images the primary one comes first.

    Memory is that of the image as Pillow holds it (4 bytes a pixel in colour, what a decoder needs beside it added)
    and of the result (3 bytes): for the largest image, 179 megapixels, about 1.3 GB.

    Args:
        path: any format that Pillow reads itself (not EPS, which is a program), by its content; HEIC and other HEIF
            with the extra ``heif``.

    Returns:
        ``(H, W, 3)`` uint8 and what the file says about it.

    Raises:
        ImageError: missing, no regular file, empty, truncated, damaged, not an image, beyond Pillow's limit of about
            179 megapixels, or of a format whose package is not installed, which the message then names.
    """
    path = Path(path)
    try:
        if regular_file_size(path) == 0:
            raise ImageError(f"{path}: the file is empty")
        with path.open("rb") as file:
            head = file.read(HEAD_SIZE)
    except MissingFileError as error:
        raise ImageError(f"{path}: no such file") from error
    except OutsideFileError as error:
        raise ImageError(f"{path}: {error}") from error
    except OSError as error:
        raise ImageError(f"{path}: truncated or damaged: {reason(error)}") from error
    return _decoded(path, head, str(path), None)


def decode_image(
    content: bytes, name: str, max_pixels: int | None = None
) -> tuple[UInt8[np.ndarray, "H W 3"], ImageInfo]:
    """``read_image`` of a file's content.

    Args:
        content: of the file.
        name: what errors call it.
        max_pixels: larger images are refused before they are unpacked.

    Raises:
        ImageError: as ``read_image``; or there are more pixels.
    """
    if not content:
        raise ImageError(f"{name}: it is empty")
    return _decoded(io.BytesIO(content), content[:HEAD_SIZE], name, max_pixels)


def _decoded(
    source: Path | io.BytesIO, head: bytes, name: str, max_pixels: int | None
) -> tuple[UInt8[np.ndarray, "H W 3"], ImageInfo]:
    """An image of a known start; ``name`` stands in errors."""
    kind = image_format(head)
    try:
        if kind == "HEIF":
            _let_pillow_read_heif(name)
        with warnings.catch_warnings():
            # Large but allowed; odd EXIF. Neither is an error, and the caller cannot act on it.
            warnings.simplefilter("ignore")
            Image.init()
            formats = [each for each in Image.ID if each not in _NOT_READ]
            with Image.open(_whole_webp(source) if kind == "WEBP" else source, formats=formats) as image:
                return _first_seen_frame(image, max_pixels)
    except _TooManyPixelsError as error:
        raise TooLargeError(f"{name}: {error}") from error
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        if kind == "AVIF" and "AVIF" not in Image.SAVE:
            message = "AVIF needs Pillow 11.3 or newer, built with it: pip install --upgrade pillow"
        elif kind is not None:
            message = f"truncated or damaged: Pillow makes nothing of this {kind} file"
        else:
            message = "not an image in a format that Pillow reads"
        raise ImageError(f"{name}: {message}") from error
    except Image.DecompressionBombError as error:
        raise TooLargeError(f"{name}: too large: {reason(error)}") from error
    except (
        OSError,
        SyntaxError,
        ValueError,
        EOFError,
        struct.error,
        zlib.error,
        MemoryError,
        RuntimeError,
    ) as error:
        raise ImageError(f"{name}: truncated or damaged: {reason(error)}") from error


def _let_pillow_read_heif(name: str) -> None:
    """Registers pillow-heif with Pillow; a second time changes nothing.

    Raises:
        ImageError: it is not installed, or does not run here.
    """
    try:
        import pillow_heif

        pillow_heif.register_heif_opener()
    except ImportError as error:
        raise ImageError(f"{name}: HEIC and HEIF need pillow-heif: pip install 'n2f-jax[heif]'") from error


def _whole_webp(source: Path | io.BytesIO) -> Path | io.BytesIO:
    """The file; or, where its end is missing, what is whole of its chunks (each frame is one), which libwebp reads."""
    if isinstance(source, Path):
        with source.open("rb") as file:
            promised = 8 + int.from_bytes(file.read(8)[4:], "little")
            if source.stat().st_size >= promised:
                return source
            file.seek(0)
            content = file.read()
    else:
        content = source.getvalue()
        if len(content) >= 8 + int.from_bytes(content[4:8], "little"):
            return source
    end = 12
    while end + 8 <= len(content):
        size = int.from_bytes(content[end + 4 : end + 8], "little")
        if end + 8 + size > len(content):
            break
        end += 8 + size + size % 2
    return io.BytesIO(b"RIFF" + (end - 8).to_bytes(4, "little") + content[8:end])


def _first_seen_frame(
    image: Image.Image, max_pixels: int | None
) -> tuple[UInt8[np.ndarray, "H W 3"], ImageInfo]:
    """The frame that the image was opened at or, if that is blank, the first other one that is not."""
    opened = image.tell()
    _check_pixels(image, max_pixels)
    image.load()
    first, info, blank = _to_rgb(image)
    if blank:
        most = min(_MAX_FRAMES, max(1, _MAX_PIXELS_OF_FRAMES // max(1, image.width * image.height)))
        try:
            for number in range(most):
                if number != opened:
                    image.seek(number)
                    _check_pixels(image, max_pixels)  # pages of a TIFF differ in size
                    later, later_info, blank = _to_rgb(image)
                    if not blank:
                        return later, later_info
        except Exception:
            pass  # no more (EOFError), or a damaged one, which can fail in any way; the first was read
    return first, info


def _check_pixels(image: Image.Image, most: int | None) -> None:
    if most is not None and image.width * image.height > most:
        raise _TooManyPixelsError(
            f"{image.width} × {image.height} pixels are more than {most / 1e6:g} megapixels"
        )


def _to_rgb(image: Image.Image) -> tuple[UInt8[np.ndarray, "H W 3"], ImageInfo, bool]:
    """One frame's pixels, what the file says of it, and whether it is blank.

    In bands of rows: of a large image there is room for its own pixels and the result, and not for each step's.
    """
    exif = image.getexif()
    orientation = exif.get(_ORIENTATION, 1)
    orientation = orientation if orientation in range(1, 9) else 1
    focal, note = _focal_in_pixels(exif, image.size)
    info = ImageInfo(focal=focal, orientation=orientation, mode=image.mode, focal_note=note)
    image.load()
    width, height = image.size
    upright = np.empty((width, height, 3) if orientation > 4 else (height, width, 3), np.uint8)
    pixels = _as_stored(upright, orientation)
    rows = max(1, _BAND_PIXELS // max(1, width))
    bands = [(top, min(top + rows, height)) for top in range(0, height, rows)]
    deep = image.mode in ("I", "F") or image.mode.startswith("I;16")
    unit = max((_largest(_band(image, *band)) for band in bands), default=0.0) <= 1 if deep else False
    blank = True
    for top, bottom in bands:
        band = _band(image, top, bottom)
        if deep:
            values: np.ndarray = _scale_gray(np.asarray(band), unit)[..., None]
            blank = blank and bool(values.max() < _BLANK)
        elif image.has_transparency_data:
            band = band.convert("RGBA")
            over_black = band.convert("RGBa").getextrema()[:3]  # the values times the opacity
            blank = blank and all(highest < _BLANK for _, highest in over_black)
            white = Image.new("RGBA", band.size, (255, 255, 255, 255))
            values = np.asarray(Image.alpha_composite(white, band).convert("RGB"))
        else:
            values = np.asarray(band.convert("RGB"))
            blank = blank and bool(values.max() < _BLANK)
        pixels[top:bottom] = values
    return upright, info, blank


def _band(image: Image.Image, top: int, bottom: int) -> Image.Image:
    return image.crop((0, top, image.width, bottom))


def _as_stored(upright: np.ndarray, orientation: int) -> np.ndarray:
    """A view of an upright image whose rows and columns are the file's (EXIF 2.32, tag 0x0112)."""
    if orientation > 4:
        upright = upright.swapaxes(0, 1)
    flip_rows, flip_columns = orientation in (3, 4, 6, 7), orientation in (2, 3, 7, 8)
    return upright[:: -1 if flip_rows else 1, :: -1 if flip_columns else 1]


def _largest(band: Image.Image) -> float:
    values = np.asarray(band)
    return float(np.nan_to_num(values.astype(np.float32)).max(initial=0)) if values.dtype.kind == "f" else 0.0


def _scale_gray(values: Shaped[np.ndarray, "H W"], unit: bool) -> UInt8[np.ndarray, "H W"]:
    """8 bits from deeper grayscale. Whole numbers are 16-bit (Pillow widens some to 32); floats are in
    [0, 1] (``unit``), or in [0, 255] where any of the image exceeds 1."""
    if np.issubdtype(values.dtype, np.integer):
        scaled = values.astype(np.float32) / 257
    else:
        finite = np.nan_to_num(values.astype(np.float32))
        scaled = finite * 255 if unit else finite
    return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)


def _focal_in_pixels(exif: Image.Exif, size: tuple[int, int]) -> tuple[float | None, str]:
    """EXIF's focal length in pixels, or None; and why it was ignored, or ""."""
    tags = exif.get_ifd(_EXIF_FOLDER)
    if _FOCAL_LENGTH_IN_35MM_FILM not in tags:
        return None, ""
    value = tags[_FOCAL_LENGTH_IN_35MM_FILM]
    try:
        equivalent = float(value)
        written = sorted(float(tags.get(tag, 0)) for tag in (_PIXEL_WIDTH, _PIXEL_HEIGHT))
    except (TypeError, ValueError, ZeroDivisionError):
        return None, "EXIF's 35 mm equivalent is ignored: it, or the size beside it, is no number"
    if equivalent == 0:  # unknown, by the standard
        return None, ""
    if not _SHORTEST_EQUIVALENT <= equivalent <= _LONGEST_EQUIVALENT:  # nor where it is no number
        return None, f"EXIF's 35 mm equivalent of {equivalent:g} mm cannot be and is ignored"
    short, long = sorted(size)
    # A uniformly resized photograph keeps its field of view, a cropped one does not.
    if written[0] > 0 and abs(written[0] / written[1] * long / short - 1) > 0.02:
        before, now = f"{written[1]:g} × {written[0]:g}", f"{long} × {short}"
        note = f"EXIF's 35 mm equivalent is ignored: the image was cropped, from {before} to {now} pixels"
        return None, note
    return equivalent / _FILM_DIAGONAL * math.hypot(*size), ""
