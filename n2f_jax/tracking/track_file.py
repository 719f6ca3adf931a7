"""A person's track as an ``.npz``: one identity and camera, and expression, pose, lids and gaze of every frame."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from flame_jax import FlameParams
from flame_jax.rotations import axis_angle_to_rotation_6d
from n2f_jax.runtime.atomic_files import atomic_path
from n2f_jax.runtime.outside_values import read_arrays, told

# Of a frame: nobody there, or for too long to be guessed; seen; not seen, and filled in from before and after; seen,
# but not to be believed, and filled in likewise.
LOST, SEEN, BRIDGED, DOUBTFUL = range(4)
STATUSES = ("lost", "seen", "bridged", "doubtful")

# Every key of the file: (shape, meaning). T frames, S shape and E expression directions. Lengths in metres, angles in
# radians, pixels of the upright frames with u = 0 at the left edge and pixel centres at +0.5. Lost frames are NaN.
KEYS: dict[str, tuple[tuple, str]] = {
    "seconds": (("T",), "moments since the first frame, as the file says; rising"),
    "status": (("T",), "0 lost, 1 seen, 2 bridged (not seen, filled in), 3 doubtful (not believed, filled in)"),
    "shot": (("T",), "number of the shot, from 0; nothing is smoothed across a cut"),
    "confidence": (("T",), "probability that the points under the head are right, 0 … 1; NaN where nothing was seen"),
    "region_confidence": (("T", 6), "the same of brows, right eye, left eye, nose, mouth, jaw"),
    "expression": (("T", "E"), "expression coefficients"),
    "jaw_pose": (("T", 3), "jaw rotation, axis times angle; +x opens"),
    "eyelids": (("T", 2), "closure, left then right; 0 as modelled, 1 closed"),
    "eyes_pose": (("T", 2, 3), "rotations of the left and the right eyeball, axis times angle; 0 looks along +z"),
    "rotation": (("T", 3, 3), "R of x_cam = R x_head + t; camera x right, y down, z forward"),
    "translation": (("T", 3), "t of x_cam = R x_head + t, metres"),
    "landmarks_2d": (("T", 68, 2), "the mesh's 68 landmarks (iBUG, contour as seen), pixels"),
    "landmarks_3d": (("T", 68, 3), "the same landmarks in the head frame, metres"),
    "frontend_landmarks": (("T", 68, 2), "the front end's own 68 landmarks, pixels; NaN where nothing was seen"),
    "frontend_blendshapes": (("T", 51), "the front end's scores of ARKit's units (face_mesh.arkit_names), else NaN"),
    "fit_error": (("T",), "root mean square error of the face mesh's points, in sides of the face's crop"),
    "shape": (("S",), "identity coefficients, of all frames"),
    "intrinsics": ((3, 3), "K of the frames: (u, v, 1) ~ K x_cam"),
    "focal_source": ((), "source of the focal length: 'given', 'start', 'estimated', or 'assumed' (--online)"),
    "keyframes": (("F",), "numbers of the frames that the identity was found from"),
    "image_size": ((2,), "height and width of the upright frames, pixels"),
    "frame_rate": ((), "frames a second, on average"),
    "person": ((), "number of the person, 1 for the one longest and largest in the clip"),
    "people": ((), "how many people the clip has"),
    "head_model": ((), "name of the head model the coefficients belong to"),
    "head_model_sha256": ((), "sha256 of the head model's file"),
    "frontend": ((), "name of the front end"),
    "checkpoint": ((), "name of the network's checkpoint"),
    "source": ((), "name of the clip"),
    "version": ((), "version of n2f-jax"),
}  # fmt: skip

_TEXTS = frozenset(
    ("focal_source", "head_model", "head_model_sha256", "frontend", "checkpoint", "source", "version")
)


def save_track(path: str | Path, values: Mapping[str, Any]) -> None:
    """Writes a track, atomically. Arrays may be memory maps: they go through memory piece by piece.

    Raises:
        ValueError: a key is missing or unknown, or an array has the wrong shape; the message names it.
        OSError: it cannot be written.
    """
    missing, unknown = KEYS.keys() - values.keys(), values.keys() - KEYS.keys()
    if missing or unknown:
        raise ValueError(f"missing keys {sorted(missing)}, unknown keys {sorted(unknown)}")
    arrays = {key: np.asanyarray(values[key]) for key in KEYS}
    _check_shapes(arrays)
    with atomic_path(path) as temporary:
        np.savez(temporary, allow_pickle=False, **arrays)


def load_track(path: str | Path) -> dict[str, Any]:
    """Reads what ``save_track`` wrote; texts and single numbers come back as such.

    Raises:
        ValueError: not such a file, damaged, larger than 1 GiB, or it would unpack to more than 256 MiB and 4 times its
            size; the message names it, in one line.
        FileNotFoundError: there is none.
    """
    try:
        arrays = read_arrays(path, KEYS)  # what later versions add is passed over
        if missing := KEYS.keys() - arrays.keys():
            raise ValueError(f"no {', '.join(sorted(missing))}")
        _check_shapes(arrays)
        _check_values(arrays)
    except ValueError as error:
        raise ValueError(f"{told(path, error)} (not a track saved by n2f-jax)") from error
    return {key: value.item() if value.ndim == 0 else value for key, value in arrays.items()}


def frame_params(track: Mapping[str, Any], rows: np.ndarray) -> FlameParams:
    """Parameters of some frames of a track, neck at rest. (B, …)"""
    expression, jaw, lids, eyes = (
        jnp.asarray(np.asarray(track[key])[rows], jnp.float32)
        for key in ("expression", "jaw_pose", "eyelids", "eyes_pose")
    )
    shape = jnp.asarray(track["shape"], jnp.float32)
    params = FlameParams.resting(
        jnp.broadcast_to(shape, (len(rows), *shape.shape)), expression, axis_angle_to_rotation_6d(jaw), lids
    )
    return dataclasses.replace(params, eyes=axis_angle_to_rotation_6d(eyes))


def batches(count: int, size: int) -> Iterator[np.ndarray]:
    """Numbers from 0 on in pieces of at most ``size``."""
    for start in range(0, count, size):
        yield np.arange(start, min(start + size, count))


def _check_shapes(arrays: Mapping[str, np.ndarray]) -> None:
    lengths: dict[str, int] = {}
    for key, (shape, _) in KEYS.items():
        got = arrays[key].shape
        fits = len(got) == len(shape)
        for n, m in zip(shape, got, strict=False):
            fits &= lengths.setdefault(n, m) == m if isinstance(n, str) else n == m
        if not fits:
            raise ValueError(f"{key} has shape {got}, expected {shape}")
    if lengths["T"] == 0:
        raise ValueError("it has no frames")


def _check_values(arrays: Mapping[str, np.ndarray]) -> None:
    for key, array in arrays.items():
        if (array.dtype.kind in "US") != (key in _TEXTS) or array.dtype.kind not in "USiuf":
            raise ValueError(f"{key} is {array.dtype}")
    if (arrays["status"] > DOUBTFUL).any() or (arrays["status"] < LOST).any():
        raise ValueError("status holds what is none")
    if not (np.diff(arrays["seconds"]) > 0).all():
        raise ValueError("seconds do not rise")
    there = arrays["status"] != LOST
    for key in ("expression", "jaw_pose", "eyelids", "eyes_pose", "rotation", "translation"):
        if not np.isfinite(arrays[key][there]).all():
            raise ValueError(f"{key} of a frame that is not lost is not finite")
    if not np.isfinite(arrays["shape"]).all() or not np.isfinite(arrays["intrinsics"]).all():
        raise ValueError("shape or intrinsics are not finite")
