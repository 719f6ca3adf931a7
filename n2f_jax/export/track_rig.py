"""A clip's track as a rig that moves: the person's head with an animation, and a texture from the clip's frames."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flame_jax import HeadModel, decode
from n2f_jax.fitting.arkit import ArkitUnits
from n2f_jax.geometry.camera import pitch_yaw_roll
from n2f_jax.rig.camera import PhotoCamera, in_world
from n2f_jax.rig.from_head import RigOptions, RigReport
from n2f_jax.rig.projection import PhotoView
from n2f_jax.rig.rig import Pose, Rig
from n2f_jax.rig.texture import face_skin
from n2f_jax.rig.writing import Animation, write_rig
from n2f_jax.tracking.clips import Clip, ClipError
from n2f_jax.tracking.track_file import LOST, SEEN, frame_params

_SIDE_VIEW = math.radians(12.0)  # further from the most frontal frame than this, a frame shows more of a side
_CHECKED = 24  # frames whose error is said


def write_track_rig(
    path: str | Path,
    model: HeadModel,
    units: ArkitUnits | None,
    track: Mapping[str, Any],
    clip: Clip | None,
    options: RigOptions,
) -> RigReport:
    """Writes the rig of a track's person with its animation; the world's origin is the camera, which stands still.

    With the head model's own targets the animation is the track, at the frames' moments; with ARKit's alone it is the
    weights nearest to it. Between frames players go on in straight lines, across lost ones too.

    Args:
        path: ``.glb``.
        model: the track's model.
        units: ARKit's on it; may be None for targets ``expression``.
        track: by ``tracking.track_file.KEYS``.
        clip: that was tracked, for the texture; None for plain skin.
        options: what is in the file.

    Raises:
        ValueError: the track has no frame that is not lost.
        ClipError: the clip cannot be read, or is not the track's.
        ImportError: pygltflib is not installed.
        OSError: it cannot be written.
    """
    there = np.flatnonzero(np.asarray(track["status"]) != LOST)
    if not len(there):
        raise ValueError("the track has no frame with a head")
    by_units = options.targets == "arkit"
    params = frame_params(track, there)
    rig = Rig.of(
        model,
        track["shape"],
        units if options.targets != "expression" else None,
        None if by_units else np.asarray(track["expression"], np.float64)[there],
    )
    skin = face_skin(model, rig.vertices, _views(model, track, clip), options.texture_size)
    motion = in_world(np.asarray(track["rotation"])[there], np.asarray(track["translation"])[there])
    pose = rig.pose(params, motion, by_units=by_units)
    some = np.unique(np.linspace(0, len(there) - 1, _CHECKED).astype(int))
    rms, most = rig.error_mm(
        jax.tree.map(lambda x: x[some], params),
        Pose(pose.rotations[some], pose.translations[some], pose.weights[some]),
        (motion[0][some], motion[1][some]),
    )
    height, width = (int(side) for side in track["image_size"])
    camera = (
        PhotoCamera(np.asarray(track["intrinsics"], np.float64), (height, width)) if options.camera else None
    )
    about = {key: str(track[key]) for key in ("head_model", "head_model_sha256")}
    write_rig(
        path,
        rig,
        skin,
        animation=Animation(np.asarray(track["seconds"], np.float64)[there], pose, "track"),
        camera=camera,
        extras={**about, "reach": rig.reach},
    )
    return RigReport(len(rig.targets.names), rms, most, rig.skeleton.dropped, camera)


def chosen_frames(track: Mapping[str, Any]) -> list[int]:
    """Up to three frames that show most of the head: the most frontal one, with open eyes and closed mouth, then those
    that show most of either side."""
    seen = np.flatnonzero(np.asarray(track["status"]) == SEEN)
    if not len(seen):
        return []
    angles = np.array([pitch_yaw_roll(rotation) for rotation in np.asarray(track["rotation"])[seen]])
    shut = np.asarray(track["eyelids"])[seen].clip(0.0, 1.0).max(axis=1)
    open_jaw = np.linalg.norm(np.asarray(track["jaw_pose"])[seen], axis=1)
    best = int(np.argmin(angles[:, 0] ** 2 + angles[:, 1] ** 2 + (0.3 * shut) ** 2 + open_jaw**2))
    chosen = [best]
    for side in (np.argmax(angles[:, 1]), np.argmin(angles[:, 1])):
        if abs(angles[side, 1] - angles[best, 1]) > _SIDE_VIEW:
            chosen.append(int(side))
    return [int(seen[number]) for number in chosen]


def _views(model: HeadModel, track: Mapping[str, Any], clip: Clip | None) -> list[PhotoView]:
    numbers = chosen_frames(track) if clip is not None else []
    if clip is None or not numbers:
        return []
    images: dict[int, np.ndarray] = {}
    for frame in clip.frames():
        if frame.index in numbers:
            if tuple(frame.image.shape[:2]) != tuple(int(side) for side in track["image_size"]):
                raise ClipError(f"{clip.path}: its frames are not as large as the track's")
            images[frame.index] = frame.image
        if frame.index >= max(numbers):
            break
    if missing := [number for number in numbers if number not in images]:
        raise ClipError(f"{clip.path} has no frame {missing[0]}, which the track has")
    vertices, _ = jax.jit(decode)(model, jax.tree.map(jnp.asarray, frame_params(track, np.array(numbers))))
    return [
        PhotoView(
            images[number],
            np.asarray(vertices[row]),
            np.asarray(track["rotation"])[number],
            np.asarray(track["translation"])[number],
            np.asarray(track["intrinsics"]),
        )
        for row, number in enumerate(numbers)
    ]
