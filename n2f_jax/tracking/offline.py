"""From what the first pass found to one person's track: identity, frames, and the temporal prior over them."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

import n2f_jax
from flame_jax import HeadModel, decode, landmarks68
from n2f_jax.face_mesh.error_model import VERSIONS, PointErrors, load_point_errors
from n2f_jax.frontends.face_confidence import DOUBTFUL as LEAST_CONFIDENCE
from n2f_jax.geometry.camera import Camera, yaw_seen
from n2f_jax.models.calibration import from_unknowns
from n2f_jax.reconstruction.reconstructor import Reconstructor
from n2f_jax.tracking.clips import Clip
from n2f_jax.tracking.frames import FrameFitter, Layout, eye_rotations, poses, unwrapped
from n2f_jax.tracking.identity import (
    Conditional,
    choose_keyframes,
    combined_answers,
    estimate_focal,
    joint_shape,
    pose_angles,
)
from n2f_jax.tracking.people import Cast
from n2f_jax.tracking.shards import SHARD, Faces, read_shard, shard_path
from n2f_jax.tracking.smoothing import Noise, measure_noise, runs, smooth
from n2f_jax.tracking.start import Start
from n2f_jax.tracking.track_file import (
    BRIDGED,
    DOUBTFUL,
    KEYS,
    LOST,
    SEEN,
    batches,
    frame_params,
    save_track,
)

LONGEST_BRIDGE = 1.0  # seconds without the person that are filled in
_CHUNK, _OVERLAP = 4096, 128  # frames smoothed at once, and what they share with their neighbours
_PARTS = 16  # of the clip that noise is measured on
_CANDIDATES = 400  # frames from which keyframes are chosen
_DECODED = 64


class TrackError(ValueError):
    """A clip that cannot be tracked; the message says why."""


@dataclasses.dataclass(frozen=True)
class Identity:
    """Who somebody is, and the camera that took them.

    Attributes:
        shape: coefficients.
        focal: pixels.
        focal_source: ``'given'``, ``'estimated'``, or ``'start'``.
        keyframes: numbers of frames.
    """

    shape: Float[np.ndarray, " S"]
    focal: float
    focal_source: str
    keyframes: Int[np.ndarray, " F"]


def point_errors_of(reconstructor: Reconstructor) -> PointErrors | None:
    """Of the network that finds the front end's points; None where they were not measured."""
    version = getattr(reconstructor.frontend, "landmarks", None)
    return load_point_errors(version) if version in VERSIONS else None


def faces_of(folder: Path, cast: Cast, person: int) -> Iterator[Faces]:
    """One person's faces, shard by shard; of two in one frame, which links do not give, the larger."""
    done = 0
    for start in range(0, len(cast.seconds), SHARD):
        faces = read_shard(shard_path(folder, start)).faces
        owned = np.flatnonzero(cast.owner[done : done + len(faces)] == person - 1)
        done += len(faces)
        _, first = np.unique(faces.frame[owned], return_index=True)
        yield faces.rows(owned[first])


def find_identity(
    folder: Path,
    cast: Cast,
    person: int,
    reconstructor: Reconstructor,
    image_size: tuple[int, int],
    focal: float | None,
    begin: Start | None = None,
) -> Identity:
    """Shape and focal length of a person of a clip.

    Args:
        folder: of the shards.
        cast: of the clip.
        person: number.
        reconstructor: its network and front end.
        image_size: height and width.
        focal: pixels; None to estimate it, or for that of ``begin``.
        begin: a track to begin with, in place of the network's answers.

    Raises:
        StartError: that is of somebody else.
        TrackError: no frame of them can be believed.
    """
    frames = cast.person(person).frames
    every = max(1, frames // _CANDIDATES)
    total, weight, kept, seen = 0.0, 0.0, [], 0
    for faces in faces_of(folder, cast, person):
        trust = np.nan_to_num(faces.confidence.astype(np.float64), nan=1.0)
        trust = np.where(trust < LEAST_CONFIDENCE, 0.0, trust)
        total = total + trust @ faces.answer.astype(np.float64)
        weight += trust.sum()
        chosen = (np.arange(seen, seen + len(faces)) % every == 0) & (trust > 0)
        seen += len(faces)
        if chosen.any():
            kept.append(faces.rows(np.flatnonzero(chosen)))
    if not kept or weight == 0:
        raise TrackError(f"of person {person} no frame can be believed: the face is hidden, or too small")
    if begin is not None:
        begin.check_person(kept, np.asarray(reconstructor.tables.pivot, np.float64))
    candidates = Faces.joined(kept)
    count = reconstructor.head_model.num_shape
    precision = np.asarray(reconstructor.answer_precision, np.float64)
    population = np.asarray(reconstructor.population, np.float64)
    mean = (total / weight)[:count]
    start = combined_answers(mean, precision, population, reconstructor.tables)
    if begin is not None:
        start, candidates = (begin.shape, start[1]), begin.answers(candidates)
    conditional = Conditional.of(precision, count)
    assumed = float(np.median(candidates.focal))
    source = "given" if focal is not None else "estimated"
    if focal is None and begin is not None:
        focal, source = begin.focal, "start"
    errors, places = point_errors_of(reconstructor), reconstructor.point_places
    angles = _angles(candidates)
    trust = np.nan_to_num(candidates.confidence.astype(np.float64), nan=1.0)
    rows = choose_keyframes(angles, trust)
    keys = candidates.rows(rows)
    keyframes = np.unique(keys.frame)
    if errors is None or places is None or not np.isfinite(keys.points).all():
        return Identity(start[0], assumed if focal is None else focal, source, keyframes)
    model = reconstructor.head_model

    def shape_at(focal: float) -> tuple[np.ndarray, Any]:
        return joint_shape(
            model,
            reconstructor.tables,
            places,
            errors,
            keys,
            image_size,
            focal,
            start,
            conditional,
            reconstructor.face_mesh_rotation,
        )

    if focal is None:
        heads = np.concatenate(
            [
                np.tile(start[0], (len(keys), 1)),
                conditional.mean(keys.answer.astype(np.float64), start[0]),
            ],
            axis=1,
        )
        params = from_unknowns(jnp.asarray(heads, jnp.float32), count)
        focal = estimate_focal(model, places, errors, keys, params, image_size, assumed)
    shape, _ = shape_at(focal)
    return Identity(shape, focal, source, keyframes)


def _angles(faces: Faces) -> np.ndarray:
    if np.isfinite(faces.points).all():
        return pose_angles(faces.points)
    return np.zeros((len(faces), 2))


def track_person(
    folder: Path,
    out: Path,
    clip: Clip,
    cast: Cast,
    person: int,
    reconstructor: Reconstructor,
    identity: Identity,
    say: Callable[[str], None] = lambda text: None,
    start: Start | None = None,
) -> dict[str, Any]:
    """Writes ``track.npz`` of one person.

    Args:
        folder: of the shards.
        out: the file.
        clip: that was read.
        cast: of the clip.
        person: number.
        reconstructor: front end, network, head model.
        identity: of the person.
        say: told what is being done.
        start: a track to begin with, or None.

    Returns:
        The track's values as written (large ones as memory maps are read whole).
    """
    frames = len(cast.seconds)
    fitter = FrameFitter(
        reconstructor.head_model,
        reconstructor.tables.pivot,
        identity.shape,
        Conditional.of(np.asarray(reconstructor.answer_precision), reconstructor.head_model.num_shape),
        clip.size,
        identity.focal,
        reconstructor.point_places,
        point_errors_of(reconstructor),
        start=start,
    )
    with _scratch(out.parent, frames, fitter.layout.size) as (channels, trust, smoothed):
        say("frames")
        known = _fit(fitter, faces_of(folder, cast, person), channels, trust, frames)
        status = statuses(known["seen"], trust, cast)
        noise = _noise(channels, trust, status, cast, fitter)
        say("smoothing")
        step = _step(cast.seconds)
        for start, end in _stretches(status, cast):
            _smooth_stretch(channels, trust, smoothed, cast.seconds, start, end, noise, step)
        say("track.npz")
        values = track_values(clip, cast, person, reconstructor, identity, smoothed, known, status)
        save_track(out, values)
    return values


@contextlib.contextmanager
def _scratch(folder: Path, frames: int, channels: int) -> Iterator[list[np.ndarray]]:
    """Three arrays of (frames, channels) on disk, gone when the block ends."""
    work = Path(tempfile.mkdtemp(dir=folder, prefix=".track-"))
    try:
        yield [
            np.lib.format.open_memmap(work / f"{name}.npy", "w+", np.float32, (frames, channels))
            for name in ("channels", "trust", "smoothed")
        ]
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _fit(
    fitter: FrameFitter, parts: Iterator[Faces], channels: np.ndarray, trust: np.ndarray, frames: int
) -> dict[str, np.ndarray]:
    """Fills channels and trust; what else is known of each frame."""
    known = {
        "seen": np.zeros(frames, bool),
        "confidence": np.full(frames, np.nan, np.float32),
        "region_confidence": np.full((frames, 6), np.nan, np.float32),
        "frontend_landmarks": np.full((frames, 68, 2), np.nan, np.float32),
        "frontend_blendshapes": np.full((frames, 51), np.nan, np.float32),
        "fit_error": np.full(frames, np.nan, np.float32),
    }
    last: np.ndarray | None = None
    turn = slice(fitter.layout.num_expression + 5, fitter.layout.num_expression + 8)
    for faces in parts:
        if not len(faces):
            continue
        values, sure, gap = fitter(faces)
        turns = values[:, turn]
        before = turns[:1] if last is None else last[None]
        values[:, turn] = unwrapped(np.concatenate([before, turns]), np.ones(len(turns) + 1, bool))[1:]
        last = values[-1, turn]
        rows = faces.frame
        channels[rows], trust[rows] = np.nan_to_num(values), sure
        known["seen"][rows] = True
        for name in ("confidence", "region_confidence"):
            known[name][rows] = getattr(faces, name)
        known["frontend_landmarks"][rows] = faces.landmarks
        known["frontend_blendshapes"][rows] = faces.blendshapes
        known["fit_error"][rows] = gap
    return known


def statuses(seen: np.ndarray, trust: np.ndarray, cast: Cast) -> Int[np.ndarray, " T"]:
    """``track_file`` statuses: gaps of a second at most, within a shot, are bridged."""
    frames = len(seen)
    believed = seen & (np.asarray(trust[:, 0]) > 0)
    status = np.full(frames, LOST, np.uint8)
    status[believed] = SEEN
    for start, end in shots(cast.cut):
        there = np.flatnonzero(believed[start:end]) + start
        for a, b in itertools.pairwise(there):
            if b - a > 1 and cast.seconds[b] - cast.seconds[a] <= LONGEST_BRIDGE + 1e-6:
                status[a + 1 : b] = np.where(seen[a + 1 : b], DOUBTFUL, BRIDGED)
    return status


def shots(cut: np.ndarray) -> list[tuple[int, int]]:
    """Beginning and end of each shot; a cut is at a shot's first frame."""
    edges = [0, *(i for i in np.flatnonzero(cut).tolist() if i > 0), len(cut)]
    return [(a, b) for a, b in itertools.pairwise(edges) if b > a]


def _stretches(status: np.ndarray, cast: Cast) -> list[tuple[int, int]]:
    """Where somebody is followed without a cut or a gap that is not bridged."""
    found = []
    for start, end in shots(cast.cut):
        found += [(start + a, start + b) for a, b in runs(status[start:end] != LOST)]
    return found


def _step(seconds: np.ndarray) -> float:
    return float(np.median(np.diff(seconds))) if len(seconds) > 1 else 1.0


def _noise(
    channels: np.ndarray, trust: np.ndarray, status: np.ndarray, cast: Cast, fitter: FrameFitter
) -> Noise:
    """Measured on parts of the clip whose frames are evenly spaced, seen and believed."""
    step = _step(cast.seconds)
    even = np.append(True, np.abs(np.diff(cast.seconds) / step - 1.0) < 0.25)
    good = (status == SEEN) & ~cast.cut
    parts = []
    for start, end in runs(good & even):
        parts += [(a, min(a + 512, end)) for a in range(start, end, 512)]
    parts = parts[:: max(1, len(parts) // _PARTS)]
    most = fitter.most_noise()
    whole = measure_noise([np.array(channels[a:b]) for a, b in parts], most)
    # The gaze is not seen while eyes are closed: of it, only what is between blinks tells.
    gaze = [
        np.array(channels[a + c : a + d, -2:])
        for a, b in parts
        for c, d in runs(np.array(trust[a:b, -1]) > 0)
    ]
    eyes = measure_noise(gaze, most[-2:])
    return Noise(np.append(whole.seen[:-2], eyes.seen), np.append(whole.motion[:-2], eyes.motion))


def _smooth_stretch(channels, trust, smoothed, seconds, start, end, noise, step) -> None:
    """Piece by piece where it is long; pieces share frames, of which the middle is kept."""
    for first in range(start, end, _CHUNK):
        a, b = max(start, first - _OVERLAP), min(end, first + _CHUNK + _OVERLAP)
        track = smooth(np.array(channels[a:b]), seconds[a:b], np.array(trust[a:b]), noise, step)
        last = min(first + _CHUNK, end)
        smoothed[first:last] = track[first - a : last - a]


def track_values(
    clip: Clip,
    cast: Cast,
    person: int,
    reconstructor: Reconstructor,
    identity: Identity,
    channels: Float[np.ndarray, "T C"],
    known: Mapping[str, np.ndarray],
    status: Int[np.ndarray, " T"],
) -> dict[str, Any]:
    """What ``track.npz`` holds.

    Args:
        clip, cast, person, reconstructor, identity: of the track.
        channels: the smooth ones (``frames``).
        known: confidence, region_confidence, frontend_landmarks, frontend_blendshapes and fit_error by frame.
        status: by frame.
    """
    frames = len(cast.seconds)
    expression, jaw, lids, turn, place, gaze = Layout(reconstructor.head_model.num_expression).split(
        np.asarray(channels)
    )
    lost = status == LOST
    rotation, translation = poses(turn, place, np.asarray(reconstructor.tables.pivot))
    height, width = clip.size
    focal = identity.focal
    intrinsics = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]], np.float64)

    def of_frames(array: np.ndarray) -> np.ndarray:
        array = np.array(array, np.float32)
        array[lost] = np.nan
        return array

    values: dict[str, Any] = {
        "seconds": cast.seconds,
        "status": status,
        "shot": np.cumsum(cast.cut & (np.arange(frames) > 0)).astype(np.int32),
        "confidence": known["confidence"],
        "region_confidence": known["region_confidence"],
        "expression": of_frames(expression),
        "jaw_pose": of_frames(jaw),
        "eyelids": of_frames(np.clip(lids, -0.5, 1.15)),
        "eyes_pose": of_frames(eye_rotations(gaze)),
        "rotation": of_frames(rotation),
        "translation": of_frames(translation),
        "frontend_landmarks": known["frontend_landmarks"],
        "frontend_blendshapes": known["frontend_blendshapes"],
        "fit_error": known["fit_error"],
        "shape": identity.shape.astype(np.float32),
        "intrinsics": intrinsics,
        "focal_source": identity.focal_source,
        "keyframes": identity.keyframes,
        "image_size": np.array(clip.size),
        "frame_rate": clip.rate,
        "person": person,
        "people": len(cast.people),
        "head_model": reconstructor.head_model.name,
        "head_model_sha256": reconstructor.head_model_sha256,
        "frontend": getattr(reconstructor.frontend, "name", ""),
        "checkpoint": reconstructor.checkpoint,
        "source": clip.path.name,
        "version": n2f_jax.__version__,
    }
    values["landmarks_2d"] = np.full((frames, 68, 2), np.nan, np.float32)
    values["landmarks_3d"] = np.full((frames, 68, 3), np.nan, np.float32)
    put_landmarks(reconstructor.head_model, values)
    return {key: values[key] for key in KEYS}


def put_landmarks(model: HeadModel, values: dict[str, Any]) -> None:
    """Fills a track's ``landmarks_2d`` and ``landmarks_3d`` where it is not lost, from its other values."""
    there = np.flatnonzero(values["status"] != LOST)
    for rows in batches(len(there), _DECODED):
        rows = there[rows]
        padded = rows[np.minimum(np.arange(_DECODED), len(rows) - 1)]
        _, landmarks = decoded(model, values, padded)
        marks = np.asarray(landmarks)[: len(rows)].astype(np.float64)
        rotation, translation = (
            np.asarray(values[key], np.float64)[rows] for key in ("rotation", "translation")
        )
        in_camera = np.einsum("bij,bnj->bni", rotation, marks) + translation[:, None]
        pixels = in_camera @ np.asarray(values["intrinsics"], np.float64).T
        values["landmarks_3d"][rows] = marks
        values["landmarks_2d"][rows] = pixels[..., :2] / pixels[..., 2:]


def decoded(model: Any, track: dict[str, Any], rows: np.ndarray) -> tuple[jax.Array, jax.Array]:
    """Vertices ``(B, V, 3)`` and 68 landmarks ``(B, 68, 3)`` of frames of a track, head frame, metres."""
    rotation = jnp.asarray(track["rotation"][rows], jnp.float32)
    translation = jnp.asarray(track["translation"][rows], jnp.float32)
    return _decode(model, frame_params(track, rows), rotation, translation)


@jax.jit
def _decode(model, params, rotation, translation):
    vertices, _ = decode(model, params)
    ones = jnp.ones(len(rotation))
    camera = Camera(rotation, translation, ones, jnp.zeros((len(rotation), 2)))
    return vertices, landmarks68(model, vertices, yaw_seen(camera))
