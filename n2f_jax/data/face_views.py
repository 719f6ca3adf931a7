"""What the network is shown of a stored face: a square of its crop, with all numbers carried along.

A stored crop may be larger than the network's (a margin for crops that other landmarks ask for). NumPy and
OpenCV only: data loaders call this from many threads and processes.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from jaxtyping import Float

from n2f_jax.data.preprocessed import StoredFace
from n2f_jax.geometry.crop import Crop, crop_image

View = dict[str, np.ndarray]

# A view that lies this near the stored pixels takes them as they are: rounding of landmarks, not a shift.
_SNAP = 0.02


def landmark_square(landmarks: Float[np.ndarray, "N 2"], scale: float) -> Float[np.ndarray, "3"]:
    """The paper's crop of one face, as ``geometry.crop.landmark_crop``, in NumPy and float64.

    Args:
        landmarks: pixels.
        scale: side of the crop over the longer side of the landmarks' box.

    Returns:
        x0, y0, side in the same pixels.
    """
    low, high = (extreme(np.asarray(landmarks, np.float64), axis=0) for extreme in (np.min, np.max))
    side = (high - low).max() * scale
    return np.array([*(0.5 * (low + high) - 0.5 * side), side])


def face_view(
    face: StoredFace,
    square: Float[np.ndarray, "3"],
    size: int,
    rotations: Mapping[str, Float[np.ndarray, "3 3"]] = MappingProxyType({}),
) -> View:
    """Shows a square of a stored face at ``size``² pixels.

    Where the square lies on whole stored pixels, those are taken; else normals are interpolated (averaged where it
    is shrunk) and renormalised, and the mask is where at least half of a pixel was face. Texture coordinates and
    so their seams are not interpolated: each pixel takes the nearest. Beyond the stored crop all is empty.

    Args:
        face: the stored face.
        square: x0, y0, side in pixels of the stored crop; ``landmark_square`` of the landmarks gives it.
        size: side of the view in pixels.
        rotations: of normals into the frame of the network's head model, by the front end that they came from
            (``face_mesh.map_frames.map_rotations``); others are left as they are.

    Returns:
        ``normals`` (size, size, 3), ``mask`` (size, size), ``landmarks_2d`` (68, 2), ``focal`` (),
        ``principal_point`` (2,), and ``uv`` (size, size, 2) where the face has it; float32, pixels of the view.

    Raises:
        ValueError: the square is not finite or has no side.
    """
    square = np.asarray(square, np.float64)
    if not (np.isfinite(square).all() and square[2] > 0):
        raise ValueError(f"a view needs a finite corner and a positive side, not {square}")
    snapped = np.array([*np.round(square[:2]), size])
    whole = np.abs(square - snapped).max() < _SNAP
    if whole:
        square = snapped
    corner, side = square[:2], square[2]
    scale = size / side
    if whole:
        normals, mask = _cut(face.normals, square), _cut(face.mask, square)
        inside = mask >= 0.5
        normals *= inside[..., None]
    else:
        planes = np.concatenate([face.normals * face.mask[..., None], face.mask[..., None]], axis=-1)
        planes = crop_image(planes, Crop(corner, side), size)
        normals, mask = planes[..., :3], planes[..., 3]
        length = np.sqrt(np.einsum("hwc,hwc->hw", normals, normals))
        # Opposite normals may cancel; there is no direction then, so no face either.
        inside = (mask >= 0.5) & (length > 1e-3)
        normals = normals * (inside / np.maximum(length, 1e-3))[..., None]
    # What begins with a front end's name was made as that one does (``preprocessing.open_sets``).
    turn = rotations.get(str(face.provenance.get("frontend", "")).partition(",")[0])
    view = {
        "normals": normals if turn is None else normals @ turn.T,
        "mask": inside,
        "landmarks_2d": scale * (face.landmarks_68 - corner),
        "focal": scale * face.intrinsics[0, 0],
        "principal_point": scale * (face.intrinsics[:2, 2] - corner),
    }
    if face.uv is not None:
        uv = _cut(face.uv, square) if whole else _nearest(face.uv, square, size)
        view["uv"] = uv * inside[..., None]
    return {name: np.asarray(values, np.float32) for name, values in view.items()}


def _cut(image: np.ndarray, square: np.ndarray) -> np.ndarray:
    """Whole pixels of an image; zeros beyond it."""
    x0, y0, size = (int(x) for x in square)
    height, width = image.shape[:2]
    result = np.zeros((size, size, *image.shape[2:]), image.dtype)
    top, left = max(0, -y0), max(0, -x0)
    part = image[max(0, y0) : min(height, y0 + size), max(0, x0) : min(width, x0 + size)]
    result[top : top + part.shape[0], left : left + part.shape[1]] = part
    return result


def _nearest(image: np.ndarray, square: np.ndarray, size: int) -> np.ndarray:
    """The image's value at the centre of each pixel of the view; zeros beyond it."""
    centres = (np.arange(size) + 0.5) * square[2] / size
    columns, rows = (np.floor(corner + centres).astype(int) for corner in square[:2])
    inside = ((rows >= 0) & (rows < image.shape[0]))[:, None] & ((columns >= 0) & (columns < image.shape[1]))
    rows, columns = np.clip(rows, 0, image.shape[0] - 1), np.clip(columns, 0, image.shape[1] - 1)
    return np.where(inside[..., None], image[rows[:, None], columns], 0)
