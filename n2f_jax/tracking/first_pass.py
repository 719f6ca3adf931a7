"""The first pass over a clip: the front end and the network on every frame, written shard by shard.

A shard depends on its own frames alone: its first frame is searched for faces, so that a run that was stopped ends with
the same numbers as one that was not. Between searches faces are followed from frame to frame.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import cv2
import jax
import numpy as np

from n2f_jax.face_mesh.coarse_mesh import NUM_POINTS
from n2f_jax.frontends.base import SAME_FACE, FrontendFace
from n2f_jax.frontends.blendshapes import scores_of_units
from n2f_jax.frontends.face_confidence import REGIONS
from n2f_jax.geometry.boxes import bounding_box, box_overlap
from n2f_jax.geometry.focal import resolve_focal
from n2f_jax.models.calibration import to_unknowns
from n2f_jax.reconstruction.reconstructor import Reconstructor
from n2f_jax.runtime.archives import is_whole_archive
from n2f_jax.runtime.outside_values import OutsideValueError
from n2f_jax.tracking.appearance import SIZE, describe
from n2f_jax.tracking.clips import Clip, ClipError, Frame
from n2f_jax.tracking.shards import SHARD, THUMBNAIL, Faces, Shard, read_shard, shard_path

# Number of the frame, face, appearance.
Found = tuple[int, FrontendFace, np.ndarray]
# Frames between searches of the whole frame: a person who comes in is seen within a third of a second, mostly.
SEARCH_EVERY = 8
# Mean difference of two thumbnails, grey levels, from which faces are searched for at once: there may be a cut.
CHANGED = 24.0
# Over three hours at 25 frames a second: what a track of them takes in memory, and as a file, stays below 1 GiB.
MAX_FRAMES = 300_000
# As one program: operation by operation it takes longer than the network.
_to_unknowns = jax.jit(to_unknowns)


class FrameReader:
    """Faces of consecutive frames: searched for now and then, followed in between.

    Args:
        reconstructor: its front end.
        max_faces: the largest of each frame; None keeps all.
    """

    def __init__(self, reconstructor: Reconstructor, max_faces: int | None = None):
        frontend = reconstructor.frontend
        if frontend is None:
            raise ValueError("tracking needs a front end")
        self._reconstructor, self._frontend, self._max_faces = reconstructor, frontend, max_faces
        self._faces: list[FrontendFace] = []
        self._thumbnail: np.ndarray | None = None
        self._since = 0

    def restart(self) -> None:
        """The next frame is searched, whatever was before."""
        self._faces, self._thumbnail = [], None

    def __call__(
        self, image: np.ndarray, source: Path | None = None
    ) -> tuple[list[FrontendFace], np.ndarray]:
        """Faces of the next frame, the largest first, and its thumbnail."""
        small = thumbnail(image)
        changed = self._thumbnail is None or difference(small, self._thumbnail) > CHANGED
        self._thumbnail = small
        self._since += 1
        if changed or not self._frontend.can_follow or self._since >= SEARCH_EVERY or not self._faces:
            self._faces = self._searched(image, source, changed)
            self._since = 0
        else:
            followed = [self._frontend.follow(image, face) for face in self._faces]
            self._faces = _distinct([face for face in followed if face is not None])
            if len(self._faces) < len(followed):
                self._since = SEARCH_EVERY  # somebody is lost: the next frame is searched
        return self._faces, small

    def _searched(self, image: np.ndarray, source: Path | None, changed: bool) -> list[FrontendFace]:
        found = self._reconstructor.detect(image, source)[: self._max_faces]
        if changed or not self._frontend.can_follow:
            return found
        # A face that was followed is taken as its follower sees it, so that searches leave no trace in its motion.
        kept = []
        for face in found:
            box = bounding_box(face.landmarks_68)
            before = max(
                self._faces, key=lambda one: box_overlap(bounding_box(one.landmarks_68), box), default=None
            )
            if before is not None and box_overlap(bounding_box(before.landmarks_68), box) >= SAME_FACE:
                face = self._frontend.follow(image, before) or face
            kept.append(face)
        return _distinct(kept)


def thumbnail(image: np.ndarray) -> np.ndarray:
    """``(18, 32, 3)`` uint8."""
    return cv2.resize(image, THUMBNAIL[::-1], interpolation=cv2.INTER_AREA)


def difference(first: np.ndarray, second: np.ndarray) -> float:
    """Mean absolute difference of two thumbnails, grey levels."""
    return float(np.abs(first.astype(np.float32) - second).mean())


def _distinct(faces: list[FrontendFace]) -> list[FrontendFace]:
    """Two that were followed may end on one face."""
    kept: list[FrontendFace] = []
    for face in sorted(faces, key=lambda face: -float(face.crop.side)):
        box = bounding_box(face.landmarks_68)
        if all(box_overlap(box, bounding_box(other.landmarks_68)) < 0.5 for other in kept):
            kept.append(face)
    return kept


def network_answers(
    reconstructor: Reconstructor, faces: list[FrontendFace], image_size: tuple[int, int], focal: float | None
) -> tuple[np.ndarray, np.ndarray]:
    """``(K, U)`` most probable heads and ``(K,)`` focal lengths of faces of one clip, in batches."""
    focals = [resolve_focal(image_size, focal, face_size=reconstructor.face_size([face])) for face in faces]
    rows = []
    for start in range(0, len(faces), reconstructor.batch_size):
        part = faces[start : start + reconstructor.batch_size]
        batch = reconstructor.batch_of(part, [image_size] * len(part), focals[start : start + len(part)])
        predicted, _ = reconstructor.answer(*batch.inputs)
        rows.append(np.asarray(_to_unknowns(predicted.params))[: len(part)])
    return np.concatenate(rows), np.array([focal.pixels for focal in focals])


def gather(
    reconstructor: Reconstructor,
    found: list[Found],
    image_size: tuple[int, int],
    focal: float | None,
) -> Faces:
    """Arrays of (frame, face, appearance), with the network's answers to them."""
    model = reconstructor.head_model
    if not found:
        unknowns = model.num_shape + model.num_expression + 5
        answers, focals = np.zeros((0, unknowns), np.float32), np.zeros(0)
    else:
        answers, focals = network_answers(reconstructor, [face for _, face, _ in found], image_size, focal)

    def stacked(values: list, shape: tuple[int, ...]) -> np.ndarray:
        return np.array(values, np.float32).reshape(len(found), *shape)

    def of_eyes(name: str, shape: tuple[int, ...]) -> np.ndarray:
        unknown = np.full(shape, np.nan)
        return stacked(
            [unknown if face.eyes is None else getattr(face.eyes, name) for _, face, _ in found], shape
        )

    nowhere = np.full((NUM_POINTS, 3), np.nan, np.float32)
    return Faces(
        frame=np.array([frame for frame, _, _ in found], np.int64),
        points=stacked(
            [nowhere if face.points_468 is None else face.points_468 for _, face, _ in found], (468, 3)
        ),
        landmarks=stacked([face.landmarks_68 for _, face, _ in found], (68, 2)),
        crop=stacked([[*np.asarray(face.crop.x0y0), float(face.crop.side)] for _, face, _ in found], (3,)),
        score=stacked([face.score for _, face, _ in found], ()),
        confidence=stacked([face.confidence for _, face, _ in found], ()),
        region_confidence=stacked(
            [[face.region_confidence.get(name, np.nan) for name in REGIONS] for _, face, _ in found],
            (len(REGIONS),),
        ),
        closure=of_eyes("closure", (2,)),
        gaze=of_eyes("gaze", (3,)),
        irises=of_eyes("irises", (10, 2)),
        blendshapes=stacked([scores_of_units(face.blendshapes) for _, face, _ in found], (51,)),
        appearance=stacked([one for _, _, one in found], (SIZE,)),
        answer=answers.astype(np.float32),
        focal=focals,
    )


def run_first_pass(
    clip: Clip,
    folder: Path,
    reconstructor: Reconstructor,
    *,
    focal: float | None = None,
    max_faces: int | None = None,
    say: Callable[[int, float], None] = lambda frames, seconds: None,
    stages: dict[str, float] | None = None,
) -> int:
    """Writes the shards that are not there yet.

    Args:
        clip: to be read.
        folder: of the shards; it exists.
        reconstructor: front end and network.
        focal: pixels; None where it is not known.
        max_faces: of each frame; None for all.
        say: called now and then with how many frames are done and how many of these by this run in how many seconds.
        stages: gets seconds by stage.

    Returns:
        How many frames the clip has.

    Raises:
        ClipError: it cannot be read any further, or has more than ``MAX_FRAMES`` frames.
        OSError: nothing can be written.
    """
    stages = {} if stages is None else stages
    start = 0
    while _is_full(shard_path(folder, start)):
        start += SHARD
    reader = FrameReader(reconstructor, max_faces)
    begun = clock = time.perf_counter()

    def spent(stage: str) -> None:
        nonlocal clock
        now = time.perf_counter()
        stages[stage] = stages.get(stage, 0.0) + now - clock
        clock = now

    def finish(first: int, seconds: list[float], thumbnails: list[np.ndarray], found: list[Found]) -> None:
        faces = gather(reconstructor, found, clip.size, focal)
        Shard(first, np.array(seconds), np.stack(thumbnails), faces).save(folder)

    seconds: list[float] = []
    thumbnails: list[np.ndarray] = []
    found: list[Found] = []
    done = start
    pending: Future[None] | None = None
    # The network works on one shard while the front end looks at the next.
    with ThreadPoolExecutor(1) as worker:
        for frame in clip.frames(start):
            spent("decoding")
            if not seconds:
                reader.restart()
            faces, small = reader(frame.image, _source(clip, frame))
            found += [(frame.index, face, describe(frame.image, face.landmarks_68)) for face in faces]
            seconds.append(frame.seconds)
            thumbnails.append(small)
            spent("front end")
            done = frame.index + 1
            check_length(clip, done)
            if len(seconds) == SHARD:
                if pending is not None:
                    pending.result()
                pending = worker.submit(finish, done - SHARD, seconds, thumbnails, found)
                seconds, thumbnails, found = [], [], []
                spent("network")
                say(done, (time.perf_counter() - begun) / max(done - start, 1))
        if pending is not None:
            pending.result()
    if seconds:
        finish(done - len(seconds), seconds, thumbnails, found)
    spent("network")
    say(done, (time.perf_counter() - begun) / max(done - start, 1))
    return done


def check_length(clip: Clip, frames: int) -> None:
    """Refuses clips of more than ``MAX_FRAMES``.

    Raises:
        ClipError: it has more.
    """
    if frames > MAX_FRAMES:
        raise ClipError(f"{clip.path}: more than {MAX_FRAMES} frames: cut it into parts")


def _source(clip: Clip, frame: Frame) -> Path | None:
    return None if clip.images is None else clip.images[frame.index]


def _is_full(path: Path) -> bool:
    """Whether a shard is there, sound and complete; what is not is made again."""
    if not is_whole_archive(path):
        return False
    try:
        return len(read_shard(path)) == SHARD
    except OutsideValueError:
        return False
