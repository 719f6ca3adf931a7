"""``.frame`` files of metrical-tracker and of Pixel3DMM's tracker, which is its descendant, as ``OtherFrames``.

Both are ``torch.save`` of NumPy arrays, read without PyTorch and without running their pickles
(``frontends.pixel3dmm.tracking``). metrical-tracker's are told by their group ``opencv``, whose camera is ours
(``metrical_folder`` has its conventions); Pixel3DMM's cameras are of its square crop, and so is the track.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from n2f_jax.frontends.pixel3dmm.tracking import TrackingError, as_numbers, frame_of, read_pickle
from n2f_jax.runtime.display import printable
from n2f_jax.runtime.outside_values import is_rotation
from n2f_jax.tracking.first_pass import MAX_FRAMES
from n2f_jax.tracking.other_frames import MOST, SAME, OtherFrames, OtherTrackError


@dataclasses.dataclass(frozen=True)
class OneFrame:
    """One file; as ``OtherFrames`` without the axis of frames.

    Attributes:
        program: which wrote it.
        number: of the frame in the clip.
        count: frames of the clip; 0 where it does not say.
        seconds, rate: None where it does not say.
        values: arrays by the names of ``OtherFrames``.
        size: height and width.
    """

    program: str
    number: int
    count: int
    seconds: float | None
    rate: float | None
    values: dict[str, np.ndarray]
    size: tuple[int, int]


def read_frame_folder(folder: Path) -> OtherFrames:
    """All ``.frame`` files of a folder, or of its ``checkpoint/``, in the order of the numbers in their names.

    Raises:
        OtherTrackError: there are none, too many, one is damaged, or they are not of one track.
    """
    files: list[Path] = []
    for place in (folder, folder / "checkpoint"):
        files = files or sorted((p for p in place.glob("*.frame") if p.is_file()), key=_number_in_name)
    if not files:
        raise OtherTrackError(
            f"{printable(folder)}: neither transforms.json or tracked_flame_params*.npz (VHAP, GaussianAvatars) "
            "nor .frame files (metrical-tracker, Pixel3DMM) are there"
        )
    if len(files) > MAX_FRAMES:
        raise OtherTrackError(f"{printable(folder)}: {len(files)} frames; a track has at most {MAX_FRAMES}")
    first = read_one_frame(files[0])
    rows: dict[str, list[np.ndarray]] = {}
    numbers, moments = [], []
    for path in files:
        one = first if path is files[0] else read_one_frame(path)
        _check_same(path, one, first)
        for key in ("expression", "jaw", "neck", "eyes", "eyelids", "rotation", "translation"):
            rows.setdefault(key, []).append(one.values[key])
        numbers.append(one.number)
        moments.append(one.seconds)
    if (np.diff(numbers) <= 0).any():
        raise OtherTrackError(f"{printable(folder)}: two files are of one frame, or out of order")
    seconds = None if None in moments else np.array(moments, np.float64)
    if seconds is not None and not (np.diff(seconds) > 0).all():
        raise OtherTrackError(f"{printable(folder)}: the frames' moments do not rise")
    stacked = {key: np.stack(values) for key, values in rows.items()}
    return OtherFrames(
        program=first.program,
        number=np.array(numbers, np.int64),
        count=first.count,
        seconds=seconds,
        rate=first.rate,
        shape=first.values["shape"],
        posed_expression=None,
        root=None,
        root_translation=None,
        intrinsics=first.values["intrinsics"],
        size=first.size,
        **stacked,
    )


def _number_in_name(path: Path) -> tuple[int, str]:
    digits = re.findall(r"\d+", path.stem)
    return (int(digits[-1][:18]) if digits else -1), path.name


def _check_same(path: Path, one: OneFrame, first: OneFrame) -> None:
    if (one.program, one.size) != (first.program, first.size):
        raise OtherTrackError(f"{printable(path)}: not of the program and image size of the first frame")
    for key, what in (("shape", "shape"), ("intrinsics", "camera"), ("expression", "number of expressions")):
        mine, its = one.values[key], first.values[key]
        same = mine.shape == its.shape
        if same and key != "expression":
            same = bool(np.allclose(mine, its, rtol=SAME, atol=SAME))
        if not same:
            raise OtherTrackError(f"{printable(path)}: its {what} is not the first frame's: a track has one")


def read_one_frame(path: Path) -> OneFrame:
    """One ``.frame``, of at most 16 MiB.

    Raises:
        OtherTrackError: it is damaged, of neither program, or holds what cannot be.
    """
    try:
        contents = read_pickle(path)
        if isinstance(contents, Mapping) and "opencv" in contents:
            return _metrical(path, contents)
        return _pixel3dmm(path, contents)
    except TrackingError as error:
        raise OtherTrackError(str(error)) from error


def _pixel3dmm(path: Path, contents: Any) -> OneFrame:
    frame = frame_of(path, contents)
    focal, size = frame.focal, frame.size
    intrinsics = np.array(
        [[focal, 0, frame.principal_point[0]], [0, focal, frame.principal_point[1]], [0, 0, 1]]
    )
    values = {
        "shape": frame.shape,
        "expression": frame.expression,
        "jaw": _axis_angle(frame.jaw),
        "neck": _axis_angle(frame.neck),
        "eyes": _axis_angle(frame.eyes),
        "eyelids": frame.eyelids,
        "rotation": frame.rotation,
        "translation": frame.translation,
        "intrinsics": intrinsics,
    }
    return OneFrame("pixel3dmm", frame.frame_id, 0, None, None, values, (size, size))


def _metrical(path: Path, contents: Mapping[str, Any]) -> OneFrame:
    def array(group: str, key: str, shape: tuple[int | None, ...]) -> Float[np.ndarray, "..."]:
        """One row; the tracker keeps a batch axis of one in front."""
        inside = contents.get(group)
        values = as_numbers(inside.get(key)) if isinstance(inside, Mapping) else None
        if values is None or not (np.abs(values) < MOST).all():
            raise OtherTrackError(f"{printable(path)}: {group!r} has no {key!r} of finite numbers")
        values = np.asarray(values, np.float64)
        if values.ndim == len(shape) + 1 and values.shape[0] == 1:
            values = values[0]
        fits = values.ndim == len(shape) and all(
            n in (None, m) for n, m in zip(shape, values.shape, strict=True)
        )
        if not fits:
            raise OtherTrackError(f"{printable(path)}: {key!r} of {group!r} has shape {values.shape}")
        return values

    def turns(key: str, count: int) -> Float[np.ndarray, "n 3"]:
        values = array("flame", key, (6 * count,)).reshape(count, 6)
        if (np.linalg.norm(np.cross(values[:, :3], values[:, 3:]), axis=1) < 1e-6).any():
            raise OtherTrackError(f"{printable(path)}: {key!r} is no rotation: its rows are zero or parallel")
        return _axis_angle(values)

    sides = as_numbers(contents.get("img_size"))
    if sides is None or sides.size != 2 or not ((sides >= 1) & (sides < 1e5)).all():
        raise OtherTrackError(f"{printable(path)}: 'img_size' is no height and width")
    height, width = (int(n) for n in np.asarray(sides).reshape(2))
    intrinsics = array("opencv", "K", (3, 3))
    if not (intrinsics[0, 0] > 0 and intrinsics[1, 1] > 0) or not np.allclose(intrinsics[2], [0, 0, 1]):
        raise OtherTrackError(f"{printable(path)}: 'K' is no camera's matrix")
    rotation = array("opencv", "R", (3, 3))
    if not is_rotation(rotation):
        raise OtherTrackError(f"{printable(path)}: 'R' of 'opencv' is no rotation")
    number = contents.get("frame_id")
    if isinstance(number, str) and re.fullmatch(r"\d{1,9}", number):
        number = int(number)
    if type(number) is not int or not 0 <= number < MAX_FRAMES:
        raise OtherTrackError(f"{printable(path)}: 'frame_id' is no number of a frame")
    values = {
        "shape": array("flame", "shape", (None,)),
        "expression": array("flame", "exp", (None,)),
        "jaw": turns("jaw", 1)[0],
        "neck": np.zeros(3),
        "eyes": turns("eyes", 2),
        "eyelids": array("flame", "eyelids", (2,)),
        "rotation": rotation,
        "translation": array("opencv", "t", (3,)),
        "intrinsics": intrinsics,
    }
    ours = contents.get("n2f")
    count, seconds, rate = 0, None, None
    if isinstance(ours, Mapping):
        number, count = ours.get("frame"), ours.get("frames")
        found = [as_numbers(ours.get(key)) for key in ("seconds", "frame_rate")]
        if (
            type(number) is not int
            or type(count) is not int
            or not 0 <= number < count <= MAX_FRAMES
            or any(one is None or one.size != 1 or not np.isfinite(one).all() for one in found)
        ):
            raise OtherTrackError(f"{printable(path)}: 'n2f' is damaged")
        seconds, rate = (float(one.reshape(())) for one in found if one is not None)
        if not (abs(seconds) < 1e9 and 0.01 < rate < 1e4):
            raise OtherTrackError(f"{printable(path)}: 'n2f' is damaged")
    return OneFrame("metrical-tracker", number, count, seconds, rate, values, (height, width))


def _axis_angle(rotation_6d: Float[np.ndarray, "... 6"]) -> Float[np.ndarray, "... 3"]:
    """From the first two rows, by Gram–Schmidt, in float64."""
    rows = np.asarray(rotation_6d, np.float64).reshape(-1, 2, 3)
    first = rows[:, 0] / np.linalg.norm(rows[:, 0], axis=1, keepdims=True)
    second = rows[:, 1] - (first * rows[:, 1]).sum(axis=1, keepdims=True) * first
    second /= np.linalg.norm(second, axis=1, keepdims=True)
    matrices = np.stack([first, second, np.cross(first, second)], axis=1)
    return Rotation.from_matrix(matrices).as_rotvec().reshape(*np.shape(rotation_6d)[:-1], 3)
