"""Clips of the ICT model's heads: one person moves and speaks, and all that a tracker should find is known.

NAME/00000.png …   the frames
NAME.npz           its ``Sequence``

Heads, light, skin and camera as in ``face_renders``; what moves does so as people do: the head by slow sums of
sinusoids, expressions by turns, lips as in speech, blinks, and eyes that jump. Each frame has noise of its own.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from jaxtyping import Float
from PIL import Image
from scipy.spatial.transform import Rotation

from flame_jax.files.outside import reason
from n2f_jax.benchmark.face_renders import FaceRenderer, degraded
from n2f_jax.benchmark.ict_facekit import IctFaceKit
from n2f_jax.evaluation.mesh_annotation import MeshAnnotation
from n2f_jax.geometry.camera import FRONTAL, Camera
from n2f_jax.runtime.atomic_files import atomic_path
from n2f_jax.runtime.outside_values import OutsideValueError, read_arrays
from n2f_jax.visualization.portrait import portrait, random_look

FRAME_RATE = 25.0
_SIDE = 416  # of the frames, pixels
# Of the head's turn: the most of each of three sinusoids, degrees (pitch, yaw, roll), and their frequencies, Hz.
_TURNS, _TURN_RATES = (5.0, 13.0, 3.5), (0.12, 0.7)
_SPEECH = {"jawOpen": 0.30, "mouthFunnel": 0.25, "mouthLowerDown_L": 0.3, "mouthLowerDown_R": 0.3}
_CLOSING, _OPENING = 0.08, 0.16  # of a blink, seconds
_SACCADE = 0.04


@dataclasses.dataclass(frozen=True)
class Sequence:
    """What is known of T frames of one person. Units and frames as in ``face_renders.FaceRender``.

    Attributes:
        points: ``(T, 468, 3)`` the face mesh's points in the head frame.
        landmarks: ``(T, 68, 3)`` in the head frame.
        rotation, translation: ``(T, 3, 3)``, ``(T, 3)``.
        focal: pixels; the principal point is the pictures' centre.
        gaze: ``(T, 3)`` unit vectors in the head frame.
        closure: ``(T, 2)`` of the lids, left, right.
        rest: ``(V, 3)`` the person's head without expression, head frame, metres.
        faces: ``(F, 3)`` its triangles.
        frame_rate: Hz.
        person: number of the head.
    """

    points: Float[np.ndarray, "T 468 3"]
    landmarks: Float[np.ndarray, "T 68 3"]
    rotation: Float[np.ndarray, "T 3 3"]
    translation: Float[np.ndarray, "T 3"]
    focal: float
    gaze: Float[np.ndarray, "T 3"]
    closure: Float[np.ndarray, "T 2"]
    rest: Float[np.ndarray, "V 3"]
    faces: np.ndarray
    frame_rate: float
    person: int


@dataclasses.dataclass(frozen=True)
class Motion:
    """What moves in T frames.

    Attributes:
        angles: ``(T, 3)`` pitch, yaw, roll, degrees.
        place: ``(T, 3)`` x/z, y/z of the face's middle in the picture's sides, and its distance in metres.
        weights: ``(T,)`` of dicts: the model's expressions.
        gaze: ``(T, 2)`` degrees, to the subject's left and up.
    """

    angles: np.ndarray
    place: np.ndarray
    weights: list[dict[str, float]]
    gaze: np.ndarray


def draw_motion(renderer: FaceRenderer, frames: int, rng: np.random.Generator) -> Motion:
    """How a person moves; all chance is from ``rng``."""
    time = np.arange(frames) / FRAME_RATE
    angles = np.stack([_wander(time, rng, most, *_TURN_RATES) for most in _TURNS], axis=1)
    angles += rng.normal(size=3) * [5.0, 12.0, 3.0]
    distance = math.exp(rng.uniform(math.log(0.5), math.log(1.2)))
    place = np.stack(
        [*(_wander(time, rng, 0.03, 0.1, 0.4) for _ in range(2)), distance * (1 + _wander(time, rng, 0.03))],
        axis=1,
    )
    weights = _expressions(renderer, time, rng)
    speaking = _between(time, _turns(time, rng, 1.6), rng.random(64) < 0.6)
    for name, most in _SPEECH.items():
        wave = most * speaking * np.abs(_wander(time, rng, 0.8, 1.5, 3.5))
        weights[name] = np.minimum(weights.get(name, 0.0) + wave, 1.0)
    blinks = _blinks(time, rng)
    weights |= {"eyeBlink_L": blinks, "eyeBlink_R": blinks}
    targets = np.clip(rng.normal(size=(64, 2)) * [12.0, 7.0], [-28, -16], [28, 16])
    turns = _turns(time, rng, 0.9)
    gaze = np.stack([_between(time, turns, targets[:, axis], _SACCADE) for axis in (0, 1)], axis=1)
    rows = [{name: float(row[i]) for name, row in weights.items()} for i in range(frames)]
    return Motion(angles, place, rows, gaze)


def write_sequence(
    renderer: FaceRenderer, folder: str | Path, person: int, frames: int, seed: int = 0
) -> None:
    """Draws a person's clip into a folder; frames that are there stay.

    Args:
        renderer: of the heads.
        folder: made if needed.
        person: number of the head.
        frames: how many.
        seed: of the motion, the light and the noise.
    """
    folder = Path(folder)
    name = f"person{person:03d}"
    described = folder / f"{name}.npz"
    if described.exists():
        return
    (folder / name).mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng([seed, person, 0x434C4950])
    motion = draw_motion(renderer, frames, rng)
    look = random_look(rng, "skin")
    rest = renderer.rest(person)
    neutral, _, _ = renderer.expressed(rest, {}, np.zeros(2))
    landmarks = renderer.places(neutral).landmarks
    extent = np.ptp(landmarks[:, :2], axis=0).max()
    middle = landmarks[17:].mean(axis=0)
    focal = _SIDE / rng.uniform(1.9, 2.5) * motion.place[:, 2].mean() / extent
    noise = int(rng.integers(1 << 30))
    rows = []
    for i in range(frames):
        mesh, gaze, closure = renderer.expressed(rest, motion.weights[i], motion.gaze[i])
        placed, points, marks = renderer.places(mesh)
        rotation = Rotation.from_euler("XYZ", motion.angles[i], degrees=True).as_matrix() @ FRONTAL
        x, y, z = motion.place[i]
        at = np.array([x * _SIDE * z / focal, y * _SIDE * z / focal, z])
        translation = at - rotation @ middle
        path = folder / name / f"{i:05d}.png"
        if not path.exists():
            camera = Camera(rotation, translation, np.float64(focal), np.full(2, _SIDE / 2))
            image = portrait(mesh, camera, _SIDE, look, renderer.paint(mesh, placed, gaze))
            # The same camera takes all frames: blur and compression stay, noise does not.
            image = degraded(image, np.random.default_rng(noise), np.random.default_rng([noise, i]))
            with atomic_path(path) as temporary:
                Image.fromarray(image).save(temporary)
        rows.append((points, marks, rotation, translation, gaze[0], closure))
    points, marks, rotations, translations, gazes, closures = (np.stack(x) for x in zip(*rows, strict=True))
    known = Sequence(
        points.astype(np.float32),
        marks.astype(np.float32),
        rotations,
        translations,
        float(focal),
        gazes,
        closures,
        neutral.vertices.astype(np.float32),
        neutral.faces,
        FRAME_RATE,
        person,
    )
    with atomic_path(described) as temporary:
        np.savez_compressed(temporary, allow_pickle=False, **dataclasses.asdict(known))


def read_sequences(folder: str | Path) -> list[tuple[Path, Sequence]]:
    """Folders of frames and what is known of them, by name.

    Raises:
        FileNotFoundError: there are none.
        OutsideValueError: one is damaged.
    """
    found = []
    for path in sorted(Path(folder).glob("person*.npz")):
        values = {key: array if array.ndim else array.item() for key, array in read_arrays(path).items()}
        try:
            found.append((path.with_suffix(""), Sequence(**values)))
        except TypeError as error:
            raise OutsideValueError(f"{path}: not what is known of a clip: {reason(error)}") from error
    if not found:
        raise FileNotFoundError(f"{folder} holds no clips: make them with scripts/build/make_face_clips.py")
    return found


def write_sequences(renderer: FaceRenderer, folder: str | Path, persons: Iterable[int], frames: int) -> None:
    """``write_sequence`` for several people."""
    for person in persons:
        write_sequence(renderer, folder, person, frames)


def annotation_of(kit: IctFaceKit) -> MeshAnnotation:
    """Landmarks and regions of the model's heads, for measuring against ``Sequence.rest``."""
    return FaceRenderer(kit, 0).annotation


def _wander(time, rng, most, slowest=0.1, fastest=0.5):
    """A sum of three sinusoids of at most ``most`` each."""
    rates, phases = rng.uniform(slowest, fastest, 3), rng.uniform(0, 2 * math.pi, 3)
    heights = most * rng.uniform(0.4, 1.0, 3)
    return (heights * np.sin(2 * math.pi * rates * time[:, None] + phases)).sum(axis=1)


def _turns(time, rng, every):
    """Moments at which something changes, on average every so many seconds; 64 of them, sorted."""
    return np.cumsum(every * rng.uniform(0.4, 1.6, 64))


def _between(time, turns, values, duration=0.25):
    """From one value to the next at each turn, smoothly within ``duration`` seconds."""
    value = np.full(len(time), float(values[0]))
    for turn, before, after in zip(turns[:-1], values[:-1], values[1:], strict=False):
        share = np.clip((time - turn) / duration, 0.0, 1.0)
        value += (float(after) - float(before)) * share**2 * (3 - 2 * share)
    return value


def _expressions(renderer, time, rng):
    """Expressions of other people take turns; every third turn the face rests."""
    turns = _turns(time, rng, 0.9)
    needed = int((turns < time[-1]).sum()) + 2
    drawn = [renderer.random_expression(rng) if i % 3 else {} for i in range(needed)]
    names = sorted({name for weights in drawn for name in weights})
    return {
        name: _between(time, turns, [weights.get(name, 0.0) for weights in drawn], 0.35) for name in names
    }


def _blinks(time, rng):
    value = np.zeros(len(time))
    for begin in np.cumsum(rng.uniform(0.8, 3.0, 64)):
        closing = np.clip((time - begin) / _CLOSING, 0.0, 1.0)
        opening = np.clip((time - begin - _CLOSING - 0.04) / _OPENING, 0.0, 1.0)
        value = np.maximum(value, closing - opening)
    return value
