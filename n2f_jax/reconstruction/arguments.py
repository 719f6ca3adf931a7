"""What ``Reconstructor`` is given, held against what it takes before any work is done."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

from n2f_jax.face_mesh.coarse_mesh import NUM_POINTS
from n2f_jax.frontends.base import FrontendFace, as_image
from n2f_jax.geometry.crop import Crop
from n2f_jax.geometry.focal import Focal, FocalHints, resolve_focal


def check_count(name: str, value: Any, least: int) -> None:
    """Raises TypeError or ValueError unless ``value`` is a whole number from ``least`` on."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} is a whole number, not {value!r:.100}")
    if value < least:
        raise ValueError(f"{name} is at least {least}, not {value}")


def as_images(images: Any) -> list[Any]:
    """A list of images (each of which is looked at later), from a sequence or from an ``(N, H, W, 3)`` array.

    Raises:
        TypeError: one image, whose rows or letters would be taken for images; or nothing that has a length.
    """
    one = isinstance(images, (str, bytes, Path, PIL.Image.Image))
    # An array of names is a list of them.
    if one or (getattr(images, "ndim", 4) != 4 and getattr(images, "dtype", np.dtype("f")).kind not in "OU"):
        raise TypeError(
            f"a list of images is wanted, not one {type(images).__name__}: write [image] for a single one"
        )
    if not hasattr(images, "__len__"):
        raise TypeError(f"a list of images is wanted, not a {type(images).__name__}")
    return list(images)


def as_batch(images: Any) -> np.ndarray:
    """Images of one size as ``(B, H, W, 3)`` uint8, from such an array or from a sequence of images.

    Raises:
        TypeError: as ``as_images``, or an image that is no array.
        ValueError: no image at all, images of different sizes, or not ``(H, W, 3)`` uint8.
    """
    arrays = [as_image(image) for image in as_images(images)]
    if not arrays:
        raise ValueError("a batch has at least one image")
    sizes = {array.shape[:2] for array in arrays}
    if len(sizes) > 1:
        raise ValueError(f"the images of a batch have one size, not {len(sizes)}: {sorted(sizes)[:4]}")
    return np.stack(arrays)


def one_each(name: str, values: Any, count: int, of: str) -> list[Any]:
    """``values`` as a list of ``count``; None for as many Nones.

    Args:
        name: of the argument, for messages.
        values: a sequence or None.
        count: how many there must be.
        of: what each is for, in the plural.

    Raises:
        TypeError: no sequence.
        ValueError: another number of values.
    """
    if values is None:
        return [None] * count
    if isinstance(values, (str, bytes)) or not hasattr(values, "__len__") or getattr(values, "ndim", 1) == 0:
        raise TypeError(f"{name} is a list with one value for each of {of}, not {values!r:.100}")
    if len(values) != count:
        raise ValueError(f"{count} {of}, but {len(values)} {name}: one is wanted for each")
    return list(values)


def check_focal(focal: Any) -> None:
    """Raises ValueError unless it is a focal length, what is known of one, or None."""
    if isinstance(focal, FocalHints):
        focal = focal.given
    if isinstance(focal, Focal):
        focal = focal.pixels
    if focal is not None:
        resolve_focal((1, 1), focal)


def as_source(source: Any) -> Path | None:
    """The path of an image's file, or None.

    Raises:
        TypeError: something else.
    """
    if source is None or isinstance(source, Path):
        return source
    if not isinstance(source, str):
        raise TypeError(
            f"the source of an image is the path of its file or None, not a {type(source).__name__}"
        )
    return Path(source)


def check_faces(faces: Any, size: int) -> list[FrontendFace]:
    """Faces of a front end, with the shapes that ``FrontendFace`` says.

    Raises:
        TypeError: something else.
        ValueError: a map that is not one of ``size`` pixels, points of another shape, or maps of whole numbers.
    """
    if isinstance(faces, FrontendFace) or not hasattr(faces, "__len__"):
        raise TypeError(f"a list of FrontendFace is wanted, not a {type(faces).__name__}")
    for number, face in enumerate(faces):
        if not isinstance(face, FrontendFace):
            raise TypeError(f"face {number} is a {type(face).__name__}, not a FrontendFace")
        _check_shape(f"landmarks of face {number}", face.landmarks_68, (68, 2))
        if face.points_468 is not None:
            _check_shape(f"face mesh points of face {number}", face.points_468, (NUM_POINTS, 3))
        # No uint8: whoever read a picture has 0 … 255 and not unit vectors.
        for name, array, shape in (
            ("normals", face.normals, (size, size, 3)),
            ("mask", face.mask, (size, size)),
        ):
            if np.shape(array) != shape:
                raise ValueError(
                    f"the network takes maps of {size} pixels: {name} of face {number} are {shape}, not "
                    f"{np.shape(array)}"
                )
            _check_kind(f"{name} of face {number}", array, "fb" if name == "mask" else "f")
    return list(faces)


def check_image_sizes(image_sizes: Sequence[Any]) -> None:
    """Raises ValueError unless each is height and width, whole numbers from 1 on."""
    for number, image_size in enumerate(image_sizes):
        try:
            height, width = image_size
            sound = all(int(length) == length and length >= 1 for length in (height, width))
        except (TypeError, ValueError, OverflowError):
            sound = False
        if not sound:
            raise ValueError(
                f"image size {number} is (height, width) in pixels, each at least 1, not {image_size!r:.100}"
            )


def check_resolved(focals: Sequence[Any]) -> None:
    """Raises TypeError or ValueError unless each is a ``Focal`` of a positive number of pixels."""
    for number, focal in enumerate(focals):
        if not isinstance(focal, Focal):
            raise TypeError(
                f"focal length {number} is a Focal (geometry.focal.resolve_focal makes one), not {focal!r:.100}"
            )
        check_focal(focal)


def check_crops(crops: Sequence[Any]) -> None:
    """Raises TypeError or ValueError unless each is a square somewhere."""
    for number, crop in enumerate(crops):
        if not isinstance(crop, Crop):
            raise TypeError(f"crop {number} is a {type(crop).__name__}, not a Crop")
        _check_shape(f"upper left corner of crop {number}", crop.x0y0, (2,))
        _check_shape(f"side of crop {number}", crop.side, ())
        if not (np.isfinite(np.asarray(crop.x0y0)).all() and 0 < float(crop.side) < math.inf):
            raise ValueError(f"crop {number} is a square of a positive side, not {crop}")


def check_batch(arrays: dict[str, tuple[Any, tuple[int, ...]]]) -> None:
    """Holds arrays with one batch axis against their shapes without it.

    Args:
        arrays: name → the array and the shape of one entry.

    Raises:
        TypeError: no array.
        ValueError: another shape, no float, no entry, or batch axes of different lengths.
    """
    for name, (array, shape) in arrays.items():
        if not (hasattr(array, "shape") and hasattr(array, "dtype")):
            raise TypeError(f"{name} is an array, not a {type(array).__name__}")
        if tuple(array.shape[1:]) != shape or not array.shape:
            expected = ", ".join(["B", *map(str, shape)]) + ("" if shape else ",")
            raise ValueError(f"{name} is ({expected}), not {tuple(array.shape)}")
        _check_kind(name, array, "fb" if name == "masks" else "f")
    lengths = {name: int(array.shape[0]) for name, (array, _) in arrays.items()}
    if len(set(lengths.values())) != 1 or not min(lengths.values()):
        said = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise ValueError(f"a batch has at least one face and as many of each: {said}")


def _check_shape(name: str, array: Any, shape: tuple[int, ...]) -> None:
    if np.shape(array) != shape:
        raise ValueError(f"the {name} has the shape {shape}, not {np.shape(array)}")


def _check_kind(name: str, array: Any, kinds: str) -> None:
    dtype = np.dtype(getattr(array, "dtype", object))
    # JAX's own floats (bfloat16) are of NumPy's kind "V".
    if dtype.kind not in kinds and dtype.name != "bfloat16":
        raise ValueError(f"{name} are floating-point numbers, not {dtype}")
