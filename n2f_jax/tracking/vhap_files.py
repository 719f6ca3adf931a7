"""A folder as VHAP exports it and GaussianAvatars reads it, as ``OtherFrames``; conventions: ``vhap_folder``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from flame_jax.files.outside import one_line
from n2f_jax.runtime.display import printable
from n2f_jax.runtime.json_values import is_path_within
from n2f_jax.runtime.outside_values import (
    OutsideValueError,
    is_rotation,
    numbers,
    read_arrays,
    read_json,
    told,
)
from n2f_jax.tracking.first_pass import MAX_FRAMES
from n2f_jax.tracking.other_frames import MOST, SAME, OtherFrames, OtherTrackError

_AXES = np.diag([1.0, -1.0, -1.0])  # OpenGL's camera to OpenCV's
_MOST_COEFFICIENTS = 1000
# Numbers of one frame's file: how many, None for up to 1000.
_ROWS = {
    "translation": 3,
    "rotation": 3,
    "neck_pose": 3,
    "jaw_pose": 3,
    "eyes_pose": 6,
    "shape": None,
    "expr": None,
}
_OURS = {"n2f_expression": None, "n2f_eyelids": 2}


def read_vhap_folder(folder: Path) -> OtherFrames:
    """A folder with ``transforms.json`` (at most 16 MiB: some 12,000 frames as VHAP writes it) and ``flame_param/``.

    Of several cameras the first one's frames are taken.

    Raises:
        OtherTrackError: a file is missing or damaged, or the frames are not of one track.
    """
    path = folder / "transforms.json"
    try:
        contents = read_json(path)
    except (OutsideValueError, FileNotFoundError) as error:
        raise OtherTrackError(str(error)) from error
    frames = contents.get("frames") if isinstance(contents, dict) else None
    if not isinstance(frames, list) or not 1 <= len(frames) <= MAX_FRAMES:
        raise OtherTrackError(f"{printable(path)}: it has no 'frames', or too many")
    found = [_frame(path, index, frame, contents) for index, frame in enumerate(frames)]
    camera = min(one["camera"] for one in found)
    found = [one for one in found if one["camera"] == camera]
    by_original = all(one["original"] is not None for one in found)
    key = "original" if by_original else "timestep"
    found.sort(key=lambda one: one[key])
    number = np.array([one[key] for one in found], np.int64)
    if (np.diff(number) <= 0).any():
        raise OtherTrackError(f"{printable(path)}: two frames of one camera have one moment")
    first, rows, offset = found[0], [], 0.0
    for one in found:
        if one["size"] != first["size"] or not np.allclose(one["intrinsics"], first["intrinsics"], rtol=SAME):
            raise OtherTrackError(f"{printable(path)}: frames have different cameras: a track has one")
        row = _read_params(folder / one["path"])
        offset = max(offset, row.pop("offset"))
        if rows and (
            row["shape"].shape != rows[0]["shape"].shape
            or not np.allclose(row["shape"], rows[0]["shape"], rtol=SAME, atol=SAME)
            or row["expr"].shape != rows[0]["expr"].shape
        ):
            raise OtherTrackError(
                f"{printable(folder / one['path'])}: its shape is not the first frame's: a track has one"
            )
        rows.append(row)
    column = lambda name: np.stack([row[name] for row in rows])  # noqa: E731
    ours = all(name in row and row[name].size for row in rows for name in _OURS)
    ours = ours and all(row["n2f_expression"].shape == rows[0]["expr"].shape for row in rows)
    seconds = [one["seconds"] for one in found]
    rate, count = contents.get("frame_rate"), contents.get("frame_count")
    return OtherFrames(
        program="vhap",
        number=number,
        count=count if type(count) is int and by_original and 0 < count <= MAX_FRAMES else 0,
        seconds=None
        if None in seconds or not (np.diff(seconds) > 0).all()
        else np.array(seconds, np.float64),
        rate=float(rate) if isinstance(rate, (int, float)) and 0.01 < rate < 1e4 else None,
        shape=rows[0]["shape"],
        expression=column("n2f_expression") if ours else column("expr"),
        posed_expression=column("expr") if ours else None,
        jaw=column("jaw_pose"),
        neck=column("neck_pose"),
        eyes=column("eyes_pose").reshape(-1, 2, 3),
        eyelids=column("n2f_eyelids") if ours else np.zeros((len(rows), 2)),
        rotation=np.stack([one["rotation"] for one in found]),
        translation=np.stack([one["translation"] for one in found]),
        root=column("rotation"),
        root_translation=column("translation"),
        intrinsics=first["intrinsics"],
        size=first["size"],
        offset=offset,
    )


def tracked_file(folder: Path) -> Path | None:
    """The last of the results that VHAP's tracker left in a folder; None if it left none."""
    found = {}
    for path in folder.glob("tracked_flame_params*.npz"):
        number = re.fullmatch(r"tracked_flame_params(?:_(\d{1,9}))?", path.stem)
        if number:
            found[int(number[1] or -1)] = path
    return found[max(found)] if found else None


def read_vhap_tracked(path: Path) -> OtherFrames:
    """What VHAP's tracker saves of one camera's frames, before it is exported: the camera is at (0, 0, 1).

    Raises:
        OtherTrackError: it is damaged, or of calibrated cameras, which are elsewhere.
    """
    wanted = {name: count for name, count in _ROWS.items() if name != "shape"}
    try:
        arrays = read_arrays(path, {*_ROWS, "focal_length", "image_size", "static_offset"})
        if missing := {*_ROWS, "focal_length", "image_size"} - arrays.keys():
            raise ValueError(
                f"it has no {', '.join(sorted(missing))}"
                + (
                    ": of calibrated cameras, convert what VHAP exports"
                    if missing == {"focal_length"}
                    else ""
                )
            )
        values = {name: numbers(array) for name, array in arrays.items()}
    except (ValueError, FileNotFoundError) as error:
        raise OtherTrackError(told(path, error)) from error
    count = len(values["expr"]) if values["expr"].ndim == 2 else 0
    if not 1 <= count <= MAX_FRAMES or not 1 <= values["expr"].shape[1] <= _MOST_COEFFICIENTS:
        raise OtherTrackError(f"{printable(path)}: 'expr' has shape {values['expr'].shape}")
    for name, width in wanted.items():
        if width is not None and values[name].shape != (count, width):
            raise OtherTrackError(f"{printable(path)}: {name!r} has shape {values[name].shape}")
    if not 1 <= values["shape"].size <= _MOST_COEFFICIENTS:
        raise OtherTrackError(f"{printable(path)}: 'shape' has shape {values['shape'].shape}")
    if any(not (np.abs(array) < MOST).all() for array in values.values()):
        raise OtherTrackError(f"{printable(path)}: it holds what are no finite numbers")
    focal, sides = values["focal_length"].reshape(-1), values["image_size"].reshape(-1)
    if focal.size != 1 or not focal[0] > 0 or sides.size != 2 or not ((sides >= 1) & (sides < 1e5)).all():
        raise OtherTrackError(f"{printable(path)}: its focal length or image size cannot be")
    height, width = (int(n) for n in sides)
    pixels = float(focal[0]) * max(height, width)
    rows = np.ones(count)[:, None]
    offset = values.get("static_offset", np.zeros(1))
    return OtherFrames(
        program="vhap",
        number=np.arange(count),
        count=count,
        seconds=None,
        rate=None,
        shape=values["shape"].reshape(-1),
        expression=values["expr"],
        posed_expression=None,
        jaw=values["jaw_pose"],
        neck=values["neck_pose"],
        eyes=values["eyes_pose"].reshape(count, 2, 3),
        eyelids=np.zeros((count, 2)),
        rotation=rows[:, None] * _AXES,
        translation=rows * np.array([0.0, 0.0, 1.0]),
        root=values["rotation"],
        root_translation=values["translation"],
        intrinsics=np.array([[pixels, 0, width / 2], [0, pixels, height / 2], [0, 0, 1]]),
        size=(height, width),
        offset=float(np.abs(offset).max(initial=0.0)),
    )


def _frame(path: Path, index: int, frame: Any, whole: Mapping[str, Any]) -> dict[str, Any]:
    """One entry of ``frames``, checked."""

    def wrong(what: str) -> OtherTrackError:
        return OtherTrackError(f"{printable(path)}: frame {index}: {what}")

    if not isinstance(frame, dict):
        raise wrong("no object")

    def field(key: str) -> Any:
        return frame.get(key, whole.get(key))

    def count(key: str, default: int | None) -> int | None:
        value = frame.get(key, default)
        if value is not None and (type(value) is not int or not 0 <= value < MAX_FRAMES):
            raise wrong(f"{key!r} is no number from 0 to {MAX_FRAMES - 1}")
        return value

    if count("timestep_index", None) is None:
        raise wrong("it has no 'timestep_index'")
    if not is_path_within(frame.get("flame_param_path")):
        raise wrong("it has no 'flame_param_path' within its folder (of combined sets: convert each of them)")
    camera = {}
    for key in ("cx", "cy", "fl_x", "fl_y", "h", "w"):
        value = field(key)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < MOST:
            raise wrong(f"{key!r} is no number")
        camera[key] = float(value)
    if min(camera["fl_x"], camera["fl_y"]) <= 0 or not all(1 <= camera[key] < 1e5 for key in "hw"):
        raise wrong("a focal length or a side of its image is not above 0")
    try:
        placed = numbers(frame.get("transform_matrix"))
    except ValueError as error:
        raise wrong(f"'transform_matrix' {one_line(str(error), 100)}") from error
    if placed.shape not in ((4, 4), (3, 4)) or not (np.abs(placed) < MOST).all():
        raise wrong("'transform_matrix' is no 4 × 4 finite numbers")
    turn = placed[:3, :3]
    if not is_rotation(turn):
        raise wrong("'transform_matrix' is no rotation and place")
    # Of its inverse, in OpenCV's axes.
    rotation = _AXES @ turn.T
    seconds = frame.get("seconds")
    return {
        "timestep": count("timestep_index", None),
        "original": count("timestep_index_original", None),
        "camera": count("camera_index", 0),
        "path": frame["flame_param_path"],
        "size": (int(camera["h"]), int(camera["w"])),
        "intrinsics": np.array(
            [[camera["fl_x"], 0, camera["cx"]], [0, camera["fl_y"], camera["cy"]], [0, 0, 1]]
        ),
        "rotation": rotation,
        "translation": -rotation @ placed[:3, 3],
        "seconds": seconds if isinstance(seconds, float) and abs(seconds) < 1e9 else None,
    }


def _read_params(path: Path) -> dict[str, Any]:
    """One frame's FLAME parameters, and its largest offset of a vertex."""
    try:
        arrays = read_arrays(path, {*_ROWS, *_OURS, "static_offset"})
    except (OutsideValueError, FileNotFoundError) as error:
        raise OtherTrackError(str(error)) from error
    row: dict[str, Any] = {}
    for name, count in (_ROWS | _OURS).items():
        if name not in arrays:
            if name in _OURS:
                continue
            raise OtherTrackError(f"{printable(path)}: it has no {name!r}")
        try:
            values = numbers(arrays[name]).reshape(-1)
        except ValueError as error:
            raise OtherTrackError(f"{printable(path)}: {name!r} {error}") from error
        if (count is not None and values.size != count) or values.size > _MOST_COEFFICIENTS:
            raise OtherTrackError(f"{printable(path)}: {name!r} has {values.size} numbers")
        if not (np.abs(values) < MOST).all():
            raise OtherTrackError(f"{printable(path)}: {name!r} is not finite numbers")
        row[name] = values
    row["offset"] = 0.0
    if "static_offset" in arrays:
        try:
            offset = numbers(arrays["static_offset"])
        except ValueError as error:
            raise OtherTrackError(f"{printable(path)}: 'static_offset' {error}") from error
        row["offset"] = float(np.abs(offset).max(initial=0.0))
        if not row["offset"] < MOST:
            raise OtherTrackError(f"{printable(path)}: 'static_offset' is not finite numbers")
    return row
