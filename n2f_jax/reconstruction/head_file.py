"""A reconstructed head as an ``.npz``: parameters, camera, mesh, landmarks."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from flame_jax import FlameParams
from flame_jax.rotations import axis_angle_to_rotation_6d
from n2f_jax.runtime.atomic_files import atomic_path
from n2f_jax.runtime.outside_values import read_arrays, told

# Every key of the file: (shape, meaning). V vertices, F triangles, S shape and E expression directions, P
# mesh points of the front end (0 where it has none). Lengths in metres, angles in radians, pixels of the
# upright original image with u = 0 at its left edge and pixel centres at +0.5.
KEYS: dict[str, tuple[tuple, str]] = {
    "vertices": (("V", 3), "head frame (x to the subject's left, y up, z out of the face), metres"),
    "faces": (("F", 3), "triangles, counter-clockwise seen from outside"),
    "rotation": ((3, 3), "R of x_cam = R x_head + t; camera x right, y down, z forward"),
    "translation": ((3,), "t of x_cam = R x_head + t, metres"),
    "intrinsics": ((3, 3), "K of the original image: (u, v, 1) ~ K x_cam"),
    "landmarks_2d": ((68, 2), "the mesh's 68 landmarks (iBUG, contour as seen) in original pixels"),
    "landmarks_3d": ((68, 3), "the same landmarks in the head frame, metres"),
    "shape": (("S",), "identity coefficients"),
    "expression": (("E",), "expression coefficients"),
    "jaw_pose": ((3,), "jaw rotation, axis times angle; +x opens"),
    "eyelids": ((2,), "closure, left then right; 0 as modelled, 1 closed"),
    "eyes_pose": ((2, 3), "rotations of the left and the right eyeball, axis times angle; 0 looks along the head's +z"),
    "head_model": ((), "name of the head model the coefficients belong to"),
    "head_model_sha256": ((), "sha256 of the head model's file"),
    "focal_source": ((), "source of the focal length: 'given', 'exif', 'face' (1 m away), 'default' (1.2 max(H, W))"),
    "alignment": ((), "where the pose came from: 'network' or 'landmarks'"),
    "image_size": ((2,), "height and width of the upright original image, pixels"),
    "crop": ((3,), "x0, y0, side of the square the network saw, original pixels"),
    "frontend": ((), "name of the front end"),
    "frontend_score": ((), "its confidence in the face, 0 … 1"),
    "frontend_landmarks": ((68, 2), "its own 68 landmarks, original pixels"),
    "frontend_points": (("P", 3), "its mesh: x, y in original pixels, z on that scale, away from the camera"),
    "irises": (("I", 2), "the front end's: centre and four of the rim of the right iris, then the left; pixels"),
    "confidence": ((), "probability that the head's points are right, 0 … 1; NaN where the front end does not say"),
    "region_confidence": ((6,), "the same of brows, right eye, left eye, nose, mouth, jaw; low where it is hidden"),
    "frontend_blendshapes": ((51,), "the front end's scores of ARKit's units (face_mesh.arkit_names); NaN: none"),
    "source": ((), "file name of the photo"),
    "checkpoint": ((), "name of the network's checkpoint"),
    "version": ((), "version of n2f-jax"),
}  # fmt: skip


# What heads of earlier versions do not have, and what it is then.
_LATER = {
    "eyes_pose": np.zeros((2, 3), np.float32),
    "irises": np.zeros((0, 2), np.float32),
    "confidence": np.float64(np.nan),
    "region_confidence": np.full(6, np.nan, np.float32),
    "frontend_blendshapes": np.full(51, np.nan, np.float32),
}


def save_parameters(path: str | Path, values: Mapping[str, Any]) -> None:
    """Writes ``values`` as a compressed ``.npz``, atomically.

    Args:
        path: the file; ``.npz``.
        values: exactly the keys of ``KEYS``.

    Raises:
        ValueError: a key is missing or unknown, or an array has the wrong shape; the message names it.
    """
    arrays = _checked_arrays(values)
    with atomic_path(path) as temporary:
        np.savez_compressed(temporary, **arrays)


def parameters_npz(values: Mapping[str, Any]) -> bytes:
    """The same file in memory.

    Raises:
        ValueError: as ``save_parameters``.
    """
    stream = io.BytesIO()
    np.savez_compressed(stream, **_checked_arrays(values))
    return stream.getvalue()


def _checked_arrays(values: Mapping[str, Any]) -> dict[str, np.ndarray]:
    missing, unknown = KEYS.keys() - values.keys(), values.keys() - KEYS.keys()
    if missing or unknown:
        raise ValueError(f"missing keys {sorted(missing)}, unknown keys {sorted(unknown)}")
    arrays = {key: np.asarray(values[key]) for key in KEYS}
    _check_shapes(arrays)
    return arrays


def load_parameters(path: str | Path) -> dict[str, np.ndarray | str | float]:
    """Reads what ``save_parameters`` wrote, now or in an earlier version; strings and single numbers come back as such.

    Raises:
        ValueError: not such a file, damaged, larger than 1 GiB, or it would unpack to more than 256 MiB and 4 times its
            size; the message names it, in one line.
        FileNotFoundError: there is none.
    """
    try:
        # What later versions add is passed over.
        arrays = _LATER | read_arrays(path, KEYS)
        if missing := KEYS.keys() - arrays.keys():
            raise ValueError(f"no {', '.join(sorted(missing))}")
        _check_shapes(arrays)
    except ValueError as error:
        raise ValueError(f"{told(path, error)} (not a head saved by n2f-jax)") from error
    return {key: value.item() if value.ndim == 0 else value for key, value in arrays.items()}


def flame_params(heads: Sequence[Mapping[str, Any]]) -> FlameParams:
    """The parameters of what ``load_parameters`` read, of one head model each; neck at rest. (B, …)"""
    shape, expression, jaw, eyelids, eyes = (
        jnp.asarray(np.stack([head[key] for head in heads]), jnp.float32)
        for key in ("shape", "expression", "jaw_pose", "eyelids", "eyes_pose")
    )
    params = FlameParams.resting(shape, expression, axis_angle_to_rotation_6d(jaw), eyelids)
    return dataclasses.replace(params, eyes=axis_angle_to_rotation_6d(eyes))


def _check_shapes(arrays: Mapping[str, np.ndarray]) -> None:
    for key, (shape, _) in KEYS.items():
        got = arrays[key].shape
        fits = [
            isinstance(n, str) or n == m for n, m in zip(shape, got, strict=False)
        ]  # a name fits any length
        if len(got) != len(shape) or not all(fits):
            raise ValueError(f"{key} has shape {got}, expected {shape}")
