"""Files of many frames, as trackers of videos write them: each frame is a mesh of its own."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from n2f_jax.mesh.triangle_mesh import MeshError
from n2f_jax.runtime.outside_values import read_arrays

# Where the file of the frames of NAME lies: NAME.npz, NAME/NAME.npz, NAME/flame_param.npz.
_FILES = ("{name}.npz", "{name}/{name}.npz", "{name}/flame_param.npz")
# Numbers of the frames (NeRSemble's files); without, a frame's number is its row.
FRAME_NUMBERS = "frames"


def count_frames(values: Mapping[str, np.ndarray], axes: Mapping[str, int], path: str | Path) -> int:
    """How many frames the arrays of a file are of; 1 also where they have no axis of frames.

    Args:
        values: of the file.
        axes: name → number of axes that the array of one frame has; another one in front is that of the frames. A
            length of 1 there goes with any number of frames.
        path: for the message.

    Raises:
        MeshError: arrays disagree, or there is no frame.
    """
    counts = {
        key: len(values[key])
        for key, count in axes.items()
        if key in values and values[key].ndim == count + 1
    }
    found = {count for count in counts.values() if count != 1}
    if len(found) > 1 or 0 in found:
        shown = ", ".join(f"{key} {count}" for key, count in counts.items())
        raise MeshError(f"{path}: arrays of different numbers of frames, or of none: {shown}")
    return found.pop() if found else 1


def take_frame(
    values: Mapping[str, np.ndarray], axes: Mapping[str, int], frame: str | None, path: str | Path
) -> dict[str, np.ndarray]:
    """The arrays of one frame, without an axis of frames.

    Args:
        values, axes, path: as for ``count_frames``.
        frame: ends in its number, ``000012`` or ``frame_12``: one of ``frames`` where the file has those, else its row,
            counted from 0. None: the file is one mesh.

    Raises:
        MeshError: a file of many frames is to be one mesh, or has no such frame.
    """
    count, row = count_frames(values, axes, path), 0
    if frame is not None:
        row = _row(values, count, frame, path)
    elif count > 1:
        raise MeshError(
            f"{path} holds {count} frames, a mesh each, and the sample is one mesh: call the samples "
            "NAME/000, NAME/001, … (a frame is found by its number), or write a file for each frame"
        )
    return {
        key: value[row if len(value) > 1 else 0] if key in axes and value.ndim == axes[key] + 1 else value
        for key, value in values.items()
    }


def find_frame(folder: Path, sample: str, axes: Mapping[str, int]) -> Path | None:
    """``FILE.npz/FRAME`` for the sample ``NAME/FRAME`` where a file of many frames is there for ``NAME``, or None."""
    name, _, frame = sample.rpartition("/")
    if not name or _number(frame) is None:
        return None
    for base in (folder / name, folder / name.replace("/", "_")):
        for pattern in _FILES:
            path = base.parent / pattern.format(name=base.name)
            if path.is_file() and _frames_in(path, path.stat().st_mtime_ns, tuple(axes.items())) > 1:
                return path / frame
    return None


def split_frame(path: Path) -> tuple[Path, str | None]:
    """``FILE.npz/FRAME`` → the file and the frame; any other path and None."""
    return (path.parent, path.name) if path.parent.is_file() else (path, None)


@functools.lru_cache(maxsize=256)
def _frames_in(path: Path, stamp: int, axes: tuple[tuple[str, int], ...]) -> int:
    """Of a file as it stood at ``stamp``; a damaged one counts as many, so that reading it says what is wrong."""
    try:
        return count_frames(read_arrays(path, [name for name, _ in axes]), dict(axes), path)
    except (ValueError, OSError):
        return 2


def _number(frame: str) -> int | None:
    digits = re.search(r"[0-9]+$", frame)
    return int(digits[0]) if digits else None


def _row(values: Mapping[str, np.ndarray], count: int, frame: str, path: str | Path) -> int:
    number = _number(frame)
    known = values.get(FRAME_NUMBERS)
    if known is not None and known.shape == (count,):
        rows = [row for row, name in enumerate(known) if _number(str(name)) == number]
        if len(rows) != 1:
            raise MeshError(
                f"{path}: frame {frame} is {len(rows)} times among its {count} frames ({known[0]} …)"
            )
        return rows[0]
    if number is None or number >= count:
        raise MeshError(f"{path}: no frame {frame}; it holds {count}, counted from 0")
    return number
