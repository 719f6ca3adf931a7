"""Seven landmarks on a mesh, as the NoW benchmark uses them, from the files they come in."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from n2f_jax.runtime.outside_values import numbers, read_array, read_json, read_table, read_text, told

# NoW's order: outer and inner corner of the (subject's) right eye, inner and outer of the left, base of the nose,
# right and left corner of the mouth; as indices into the 68 landmarks (iBUG order). NoW's site numbers the inner 51:
# 19, 22, 25, 28, 16, 31, 37.
SEVEN_OF_68 = (36, 39, 42, 45, 33, 48, 54)
SEVEN_OF_51 = tuple(index - 17 for index in SEVEN_OF_68)
RIGHT_OUTER_EYE, RIGHT_INNER_EYE, LEFT_INNER_EYE, LEFT_OUTER_EYE, NOSE_BASE, RIGHT_MOUTH, LEFT_MOUTH = range(
    7
)
LANDMARK_SUFFIXES = (".pp", ".npy", ".txt", ".json")


class LandmarkError(ValueError):
    """Landmarks that are missing or do not fit; the message names the file."""


def seven_landmarks(points: np.ndarray, name: str = "landmarks") -> np.ndarray:
    """``(7, 3)`` of 7, 51 or 68 points; NoW's order of 7, iBUG's of the others.

    Raises:
        LandmarkError: another number of points, or they are not finite.
    """
    points = np.asarray(points, np.float64)
    chosen = {7: range(7), 51: SEVEN_OF_51, 68: SEVEN_OF_68}
    if points.ndim != 2 or points.shape[1] != 3 or len(points) not in chosen:
        raise LandmarkError(f"{name}: shape {points.shape}; 7, 51 or 68 points of 3 coordinates are needed")
    points = points[list(chosen[len(points)])]
    if not np.isfinite(points).all():
        raise LandmarkError(f"{name}: coordinates that are not finite")
    return points


def landmarks_beside(mesh: Path, also: Sequence[str] = ()) -> Path | None:
    """The landmarks that lie beside a mesh: ``NAME``, ``NAME_landmarks`` or ``NAME_lmk`` with ``LANDMARK_SUFFIXES``.

    Args:
        mesh: its file.
        also: further names, without suffix.

    Returns:
        None where there are none.
    """
    stems = (mesh.stem, f"{mesh.stem}_landmarks", f"{mesh.stem}_lmk", *also)
    files = (mesh.with_name(stem + suffix) for stem in stems for suffix in LANDMARK_SUFFIXES)
    return next((file for file in files if file.is_file()), None)


def landmarks_of_68(points: np.ndarray, name: str = "landmarks") -> np.ndarray:
    """``(68, 3)`` of 7, 51 or 68 points, rows of NaN where not known.

    Raises:
        LandmarkError: another number of points, or fewer than three that are known.
    """
    points = np.asarray(points, np.float64)
    if points.ndim != 2 or points.shape[1] != 3 or len(points) not in (7, 51, 68):
        raise LandmarkError(f"{name}: shape {points.shape}; 7, 51 or 68 points of 3 coordinates are needed")
    found = np.full((68, 3), np.nan)
    found[list(SEVEN_OF_68) if len(points) == 7 else slice(68 - len(points), 68)] = points
    found[~np.isfinite(found).all(axis=1)] = np.nan
    if np.isfinite(found).all(axis=1).sum() < 3:
        raise LandmarkError(f"{name}: fewer than three landmarks are known")
    return found


def read_landmarks68(path: str | Path) -> np.ndarray:
    """``(68, 3)``: all that a file of landmarks says (``read_landmarks3d``), NaN where it says nothing.

    Raises:
        LandmarkError: none of these files, or damaged.
    """
    return _read(Path(path), landmarks_of_68)


def read_landmarks3d(path: str | Path) -> np.ndarray:
    """``(7, 3)`` from a file, in the unit and frame of its mesh.

    ``.pp``: MeshLab's picked points, NoW's annotation of scans (points that were switched off are left out).
    ``.npy``, ``.txt``: 7, 51 or 68 rows of x y z, NoW's files for predictions. ``.json``: a list of such rows.

    Raises:
        LandmarkError: none of these, or damaged.
    """
    return _read(Path(path), seven_landmarks)


def _read(path: Path, choose: Callable[[np.ndarray, str], np.ndarray]) -> np.ndarray:
    suffix = path.suffix.lower()
    try:
        if suffix == ".pp":
            points = _read_picked_points(read_text(path))
        elif suffix == ".npy":
            points = read_array(path)
        elif suffix == ".txt":
            points = read_table(path)
        elif suffix == ".json":
            points = numbers(read_json(path))
        else:
            raise LandmarkError(f"landmark files end in {', '.join(LANDMARK_SUFFIXES)}")
        # NoW's own .npy files have shapes such as (7, 3); some methods write (1, 7, 3).
        return choose(np.squeeze(points), str(path))
    except ValueError as error:
        raise LandmarkError(told(path, error)) from error


# No longer than a tag is, or the search through one that never ends would begin again at every "<point".
_POINT = re.compile(r"<point\b[^<>]{0,1000}>")
_ATTRIBUTE = re.compile(r'\b(x|y|z|active)\s*=\s*"([^"]*)"')


def _read_picked_points(text: str) -> np.ndarray:
    points = []
    for tag in _POINT.findall(text):
        attributes = dict(_ATTRIBUTE.findall(tag))
        if attributes.get("active", "1") == "1":
            points.append([float(attributes[axis]) for axis in "xyz" if axis in attributes])
    if not points or any(len(point) != 3 for point in points):
        raise LandmarkError(f"{len(points)} picked points with x, y and z")
    return np.array(points)


def read_landmark_vertices(path: str | Path) -> np.ndarray:
    """``(7,)`` vertex indices of the landmarks in a fixed topology; ``.npy``, ``.txt`` or ``.json`` of 7, 51 or 68.

    Raises:
        LandmarkError: none of these.
    """
    path = Path(path)
    try:
        if path.suffix.lower() == ".npy":
            indices = read_array(path)
        elif path.suffix.lower() == ".json":
            indices = read_json(path)
        else:
            indices = read_table(path)
        whole = numbers(indices, np.int64).reshape(-1)
        if len(whole) not in (7, 51, 68) or whole.min() < 0:
            raise LandmarkError(f"{len(whole)} vertex indices; 7, 51 or 68 are needed")
    except ValueError as error:
        raise LandmarkError(told(path, error)) from error
    return whole[list({7: range(7), 51: SEVEN_OF_51, 68: SEVEN_OF_68}[len(whole)])]


def outer_eye_distance(landmarks: np.ndarray) -> float:
    """Distance of the outer eye corners, in the landmarks' unit."""
    return float(np.linalg.norm(landmarks[RIGHT_OUTER_EYE] - landmarks[LEFT_OUTER_EYE]))
