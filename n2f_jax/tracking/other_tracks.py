"""Tracks of other programs as ours: VHAP's and GaussianAvatars' folders, metrical-tracker's and Pixel3DMM's frames.

What a ``track.npz`` has and they have not is NaN (confidences, the front end's points) or left empty. A neck's turn is
folded into the camera, as ``frontends.pixel3dmm.tracking.to_head`` does, and named where it is not small.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from scipy.spatial.transform import Rotation

import n2f_jax
from flame_jax import FlameParams, HeadModel, decode
from flame_jax.rotations import axis_angle_to_rotation_6d
from n2f_jax.geometry.alignment import procrustes
from n2f_jax.models.pretrained import HeadModelIdentity, identity_sha256
from n2f_jax.runtime.display import printable
from n2f_jax.tracking.first_pass import MAX_FRAMES
from n2f_jax.tracking.flame_track import FlameError, require_flame, root_joint
from n2f_jax.tracking.frame_files import read_frame_folder
from n2f_jax.tracking.offline import put_landmarks
from n2f_jax.tracking.other_frames import OtherFrames, OtherTrackError
from n2f_jax.tracking.track_file import KEYS, LOST, SEEN
from n2f_jax.tracking.vhap_files import read_vhap_folder, read_vhap_tracked, tracked_file

_BATCH = 32


def read_other_track(
    folder: str | Path,
    model: HeadModel,
    rate: float | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """A track of another program, as ``track_file.load_track`` would give it.

    Args:
        folder: with ``transforms.json`` and ``flame_param/`` (VHAP, GaussianAvatars), with
            ``tracked_flame_params*.npz`` (VHAP before its export), or with ``.frame`` files, in it or in its
            ``checkpoint/`` (metrical-tracker, Pixel3DMM).
        model: the FLAME model that it was tracked with; with its region ``'face'`` where necks are turned.
        rate: frames a second, where the folder does not say; 25 if None.
        say: told what is lost.

    Raises:
        OtherTrackError: no such folder, or a file of it is damaged; the message names it.
        FlameError: the head model is not FLAME, or has fewer coefficients.
    """
    folder = Path(folder)
    require_flame(model, f"a track of another program ({printable(folder)})")
    if (folder / "transforms.json").exists():
        frames = read_vhap_folder(folder)
    elif (tracked := tracked_file(folder)) is not None:
        frames = read_vhap_tracked(tracked)
    elif folder.is_dir():
        frames = read_frame_folder(folder)
    else:
        raise OtherTrackError(f"{printable(folder)}: no such folder")
    return to_track(frames, model, folder, rate, say)


def to_track(
    frames: OtherFrames,
    model: HeadModel,
    folder: Path,
    rate: float | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """The frames as a track; errors as ``read_other_track``."""
    name = printable(folder)
    short = lambda values, count, what: _fitted(values, count, f"{name}: {what}", model)  # noqa: E731
    shape = short(frames.shape, model.num_shape, "shape")
    expression = short(frames.expression, model.num_expression, "expression")
    if frames.offset > 1e-4:
        say(f"{name}: it offsets vertices by up to {1e3 * frames.offset:.1f} mm; a track has no offsets")
    rotation, translation = _cameras(frames, model, shape, expression, name, say)
    count = max(int(frames.count), int(frames.number[-1]) + 1)
    if count > MAX_FRAMES:
        raise OtherTrackError(f"{name}: {count} frames; a track has at most {MAX_FRAMES}")

    def of_frames(values: np.ndarray) -> np.ndarray:
        made = np.full((count, *values.shape[1:]), np.nan, np.float32)
        made[frames.number] = values
        return made

    rate = rate or frames.rate or 25.0
    status = np.full(count, LOST, np.uint8)
    status[frames.number] = SEEN
    nothing = lambda *shape: np.full((count, *shape), np.nan, np.float32)  # noqa: E731
    values: dict[str, Any] = {
        "seconds": _moments(frames, count, rate),
        "status": status,
        "shot": np.zeros(count, np.int32),
        "confidence": nothing(),
        "region_confidence": nothing(6),
        "frontend_blendshapes": nothing(51),
        "expression": of_frames(expression),
        "jaw_pose": of_frames(frames.jaw),
        "eyelids": of_frames(frames.eyelids),
        "eyes_pose": of_frames(frames.eyes),
        "rotation": of_frames(rotation),
        "translation": of_frames(translation),
        "landmarks_2d": nothing(68, 2),
        "landmarks_3d": nothing(68, 3),
        "frontend_landmarks": nothing(68, 2),
        "fit_error": nothing(),
        "shape": shape.astype(np.float32),
        "intrinsics": frames.intrinsics,
        "focal_source": "given",
        "keyframes": np.zeros(0, np.int64),
        "image_size": np.array(frames.size),
        "frame_rate": float(rate),
        "person": 1,
        "people": 1,
        "head_model": model.name,
        "head_model_sha256": identity_sha256(HeadModelIdentity.of(model)),
        "frontend": frames.program,
        "checkpoint": "",
        "source": folder.name,
        "version": n2f_jax.__version__,
    }
    if model.landmarks is not None:
        put_landmarks(model, values)
    else:
        say(f"head model {model.name!r} has no landmarks: those of the track are left empty")
    return {key: values[key] for key in KEYS}


def _moments(frames: OtherFrames, count: int, rate: float) -> Float[np.ndarray, " T"]:
    """The frames' own moments, and evenly between them; of the rate where they say none."""
    if frames.seconds is None:
        return np.arange(count) / rate
    given, at = frames.number, frames.seconds
    between = np.interp(np.arange(count), given, at)
    before, after = np.arange(count) < given[0], np.arange(count) > given[-1]
    between[before] = at[0] - (given[0] - np.arange(count)[before]) / rate
    between[after] = at[-1] + (np.arange(count)[after] - given[-1]) / rate
    return between


def _fitted(values: np.ndarray, count: int, what: str, model: HeadModel) -> Float[np.ndarray, "... n"]:
    """Coefficients of a model that has so many: filled up with zeros; those it lacks must be zero."""
    given = values.shape[-1]
    if given <= count:
        return np.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, count - given)])
    if np.abs(values[..., count:]).max(initial=0.0) > 0:
        raise FlameError(f"{what} has {given} coefficients, head model {model.name!r} has {count}")
    return values[..., :count]


def _cameras(
    frames: OtherFrames,
    model: HeadModel,
    shape: np.ndarray,
    expression: np.ndarray,
    name: str,
    say: Callable[[str], None],
) -> tuple[np.ndarray, np.ndarray]:
    """R and t of ``x_cam = R·x_head + t``, float64: the root's turn about its joint and the neck folded in."""
    rotation, translation = frames.rotation, frames.translation
    turned = np.linalg.norm(frames.neck, axis=1) > 1e-6
    if turned.any():
        if "face" not in model.masks:
            raise FlameError(
                f"{name}: necks are turned, and head model {model.name!r} has no 'face' region: load it with "
                "FLAME_masks.pkl"
            )
        turn, shift = _necks(frames, model, shape, expression)
        largest = np.degrees(np.linalg.norm(frames.neck, axis=1).max())
        say(
            f"{name}: necks turned by up to {largest:.1f}° are folded into the head's pose; the neck's skin is not"
        )
    else:
        turn, shift = (
            np.broadcast_to(np.eye(3), (len(frames.number), 3, 3)),
            np.zeros((len(frames.number), 3)),
        )
    if frames.root is None:
        root_turn, root_shift = np.broadcast_to(np.eye(3), turn.shape), np.zeros_like(shift)
    else:
        of_shape, of_expression = root_joint(model, shape)
        posed = frames.posed_expression if frames.posed_expression is not None else frames.expression
        posed = _fitted(posed, model.num_expression, f"{name}: expression", model)
        joint = of_shape + posed @ of_expression.T
        root_turn = Rotation.from_rotvec(frames.root).as_matrix()
        root_shift = joint - np.einsum("tij,tj->ti", root_turn, joint) + frames.root_translation
    # x_cam = R (R_g (Q v + s) + root_shift) + t
    shift = np.einsum("tij,tj->ti", root_turn, shift) + root_shift
    return (
        rotation @ root_turn @ turn,
        np.einsum("tij,tj->ti", rotation, shift) + translation,
    )


def _necks(
    frames: OtherFrames, model: HeadModel, shape: np.ndarray, expression: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    face = jnp.asarray(model.masks["face"])
    turns, shifts = [], []
    rows = len(frames.number)
    for start in range(0, rows, _BATCH):
        part = np.minimum(np.arange(start, start + _BATCH), rows - 1)
        params = FlameParams.resting(
            jnp.broadcast_to(jnp.asarray(shape, jnp.float32), (_BATCH, len(shape))),
            jnp.asarray(expression[part], jnp.float32),
            axis_angle_to_rotation_6d(jnp.asarray(frames.jaw[part], jnp.float32)),
            jnp.zeros((_BATCH, 2)),
        )
        neck = axis_angle_to_rotation_6d(jnp.asarray(frames.neck[part], jnp.float32))
        turn, shift = _neck(model, face, params, neck)
        turns.append(np.asarray(turn, np.float64)[: rows - start])
        shifts.append(np.asarray(shift, np.float64)[: rows - start])
    return np.concatenate(turns), np.concatenate(shifts)


@jax.jit
def _neck(
    model: HeadModel, face: Int[Array, " n"], params: FlameParams, neck: Float[Array, "B 6"]
) -> tuple[Float[Array, "B 3 3"], Float[Array, "B 3"]]:
    rest, _ = decode(model, params)
    turned, _ = decode(model, dataclasses.replace(params, neck=neck))
    motion = jax.vmap(procrustes)(rest[:, face], turned[:, face])
    return motion.rotation, motion.translation
