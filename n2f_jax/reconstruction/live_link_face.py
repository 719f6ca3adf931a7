"""What the app Live Link Face says of a face: 52 blendshape weights, the head's angles and the eyes', as its CSV.

Epic Games' iOS app. A row is ``Timecode`` (HH:MM:SS:FF.fff, frames of 60 a second), ``BlendShapeCount`` (61) and 61
values: ARKit's weights by their names, then yaw, pitch and roll of head, left eye and right eye. Angles are radians.
Signs, as in the app's own recordings (the eyes' against its eyeLook weights) and in Unreal's ARKit plugin, whose
rotators they are: yaw is positive to the subject's right, pitch downwards, roll with the top of the head to the
subject's left. With x to the subject's left, y up, z out of the face: R = R_y(−yaw)·R_x(pitch)·R_z(−roll).

The table has JawRight before JawLeft and MouthRight before MouthLeft, and the app's UDP packets the other way round.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from n2f_jax.face_mesh.arkit_names import OF_GAZE, UNITS
from n2f_jax.geometry.camera import FRONTAL
from n2f_jax.runtime.atomic_files import write_text

TURNS = tuple(
    f"{part}{angle}" for part in ("Head", "LeftEye", "RightEye") for angle in ("Yaw", "Pitch", "Roll")
)
# The packets' order: ARKit's own, and what the app adds.
VALUES = (*(name[0].upper() + name[1:] for name in UNITS), "TongueOut", *TURNS)
TIMECODE_RATE = 60  # frames a second of its timecodes, whatever the camera's


def _of_the_table() -> tuple[str, ...]:
    names = list(VALUES)
    for right, left in (("JawRight", "JawLeft"), ("MouthRight", "MouthLeft")):
        i, j = names.index(left), names.index(right)
        names[i], names[j] = right, left
    return tuple(names)


COLUMNS = _of_the_table()
_ORDER = [VALUES.index(name) for name in COLUMNS]
_FRONTAL = np.asarray(FRONTAL, np.float64)


def face_values(
    weights: Float[np.ndarray, "N 51"],
    rotation: Float[np.ndarray, "N 3 3"],
    eyes: Float[np.ndarray, "N 2 3"],
) -> Float[np.ndarray, "N 61"]:
    """The app's values of N faces, in the order of ``VALUES``; the tongue is 0.

    Args:
        weights: of ``UNITS``.
        rotation: R of ``x_cam = R·x_head + t``: a head that faces the camera has angles 0.
        eyes: rotations of the eyeballs, left then right, axis times angle.
    """
    count = len(weights)
    eyes = (
        Rotation.from_rotvec(np.asarray(eyes, np.float64).reshape(-1, 3)).as_matrix().reshape(count, 2, 3, 3)
    )
    turns = np.concatenate([head_turn(rotation)[:, None], eyes], axis=1)
    return np.concatenate([weights, np.zeros((count, 1)), angles(turns).reshape(count, 9)], axis=1)


def head_turn(rotation: Float[np.ndarray, "N 3 3"]) -> Float[np.ndarray, "N 3 3"]:
    """The head's rotation from facing the camera, in its own axes: x to the subject's left, y up, z out of the face."""
    return _FRONTAL @ np.asarray(rotation, np.float64)


def angles(turns: Float[np.ndarray, "*N 3 3"]) -> Float[np.ndarray, "*N 3"]:
    """Yaw, pitch, roll as the app counts them, of rotations in those axes; radians."""
    turns = np.asarray(turns, np.float64)
    pitch = np.arcsin(np.clip(-turns[..., 1, 2], -1.0, 1.0))
    yaw = -np.arctan2(turns[..., 0, 2], turns[..., 2, 2])
    roll = -np.arctan2(turns[..., 1, 0], turns[..., 1, 1])
    return np.stack([yaw, pitch, roll], axis=-1)


def write_both_tables(
    path: Path,
    seconds: Sequence[float],
    fitted: Float[np.ndarray, "N 51"],
    scores: Float[np.ndarray, "N 51"],
    rotation: Float[np.ndarray, "N 3 3"],
    eyes: Float[np.ndarray, "N 2 3"],
) -> None:
    """``write_table`` of fitted weights, and beside it, as ``NAME_frontend.csv``, of the front end's own scores: the
    same angles and, as the gaze is one, the same eyeLook weights. Without any score there is no such file.

    Args:
        path: of the first table.
        seconds, rotation, eyes: of ``write_table`` and ``face_values``.
        fitted, scores: of ``UNITS``; NaN where not known.

    Raises:
        OSError: one cannot be written.
    """
    write_table(path, seconds, face_values(fitted, rotation, eyes))
    beside = path.with_name(f"{path.stem}_frontend{path.suffix}")
    if np.isfinite(scores).any():
        scores = np.where(OF_GAZE & np.isfinite(scores), fitted, np.clip(scores, 0.0, 1.0))
        write_table(beside, seconds, face_values(scores, rotation, eyes))


def timecode(seconds: float) -> str:
    """HH:MM:SS:FF.fff of seconds since midnight, or since a clip's first frame."""
    thousandths = round(seconds * TIMECODE_RATE * 1000)
    frames, fraction = divmod(thousandths, 1000)
    whole, frame = divmod(frames, TIMECODE_RATE)
    minutes, second = divmod(whole, 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours % 24:02d}:{minute:02d}:{second:02d}:{frame:02d}.{fraction:03d}"


def write_table(path: Path, seconds: Sequence[float], values: Float[np.ndarray, "N 61"]) -> None:
    """The app's table of N frames. Frames whose values are not finite have no row: the app writes one of two columns
    there, at which Unreal's importer gives up, and every row says its own moment.

    Raises:
        OSError: it cannot be written.
    """
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["Timecode", "BlendShapeCount", *COLUMNS])
    for moment, row in zip(seconds, np.asarray(values, np.float64), strict=True):
        if math.isfinite(float(row.sum())):
            writer.writerow([timecode(moment), len(VALUES), *(f"{value:.10f}" for value in row[_ORDER])])
    write_text(path, table.getvalue())
