"""Tracking as frames come: causal but for a bounded delay, for live use.

>>> tracker = OnlineTracker(reconstructor, image.shape[:2])
>>> state = tracker.push(image, seconds)  # of the frame ``delay`` frames ago, or None

The largest face of the first frame that has one is followed. Its identity settles within some seconds: the mean of the
network's answers so far, taken anew after 1, 2, 4, … frames. Of the last frames the likeliest track is found
(``smoothing``), whose noise and motion are measured as they come, and the frame ``delay`` frames back is given out.
"""

from __future__ import annotations

import collections
import dataclasses
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from n2f_jax.geometry.boxes import bounding_box, box_overlap
from n2f_jax.reconstruction.reconstructor import Reconstructor
from n2f_jax.tracking.appearance import describe, likeness
from n2f_jax.tracking.clips import Clip, ClipError
from n2f_jax.tracking.first_pass import CHANGED, FrameReader, check_length, difference, gather
from n2f_jax.tracking.frames import FrameFitter, eye_rotations, poses, unwrapped
from n2f_jax.tracking.identity import Combination, Conditional
from n2f_jax.tracking.offline import Identity, point_errors_of, track_values
from n2f_jax.tracking.people import Cast, Person
from n2f_jax.tracking.shards import Faces
from n2f_jax.tracking.smoothing import Noise, measure_noise, smooth
from n2f_jax.tracking.track_file import BRIDGED, DOUBTFUL, LOST, SEEN, save_track

DELAY = 2  # frames
_WINDOW = 16  # frames that a track is found over
_HISTORY, _EVERY = 96, 24  # frames that noise is measured on, and how often
_SETTLED = 128  # frames after which the identity stays
_BRIDGE = 0.2  # seconds for which somebody who is gone is thought to move on
_FIRST_NOISE = 0.02  # of the front end's whole variance, before it can be measured


@dataclasses.dataclass(frozen=True)
class FrameState:
    """One frame of a live track. Units and frames as in ``track_file.KEYS``; NaN where nobody is followed.

    Attributes:
        seconds: the frame's moment.
        status: of ``track_file.STATUSES``.
        shape: the identity as it is known then.
        channels: ``(C,)`` of ``frames.Layout``.
        rotation, translation: ``x_cam = R·x_head + t``.
        expression, jaw_pose, eyelids, eyes_pose: of the frame.
    """

    seconds: float
    status: int
    shape: Float[np.ndarray, " S"]
    channels: Float[np.ndarray, " C"]
    rotation: Float[np.ndarray, "3 3"]
    translation: Float[np.ndarray, "3"]
    expression: Float[np.ndarray, " E"]
    jaw_pose: Float[np.ndarray, "3"]
    eyelids: Float[np.ndarray, "2"]
    eyes_pose: Float[np.ndarray, "2 3"]


@dataclasses.dataclass(frozen=True)
class Glimpse:
    """What the front end saw of a frame.

    Attributes:
        seconds: the frame's moment.
        face: of the person who is followed, as the tracker's front end gives it; None: nobody.
        looks: what it looks like (``appearance.describe``).
        cut: nothing before it counts.
        anew: the face was searched for, so that it may be elsewhere than in the frame before.
        other: it is somebody else's than before.
    """

    seconds: float
    face: Any
    looks: np.ndarray | None
    cut: bool
    anew: bool = False
    other: bool = False


@dataclasses.dataclass
class _Seen:
    seconds: float
    status: int
    channels: np.ndarray
    trust: np.ndarray
    cut: bool
    faces: Faces | None
    fit_error: float


class OnlineTracker:
    """Follows one person.

    Args:
        reconstructor: front end, network, head model.
        image_size: height and width of the frames.
        focal: pixels; None for what is assumed of the first face (``geometry.focal``).
        delay: frames by which what is given out lags; 0 is a filter.

    Raises:
        ValueError: a delay that is not 0 … 8.
    """

    def __init__(
        self,
        reconstructor: Reconstructor,
        image_size: tuple[int, int],
        focal: float | None = None,
        delay: int = DELAY,
    ):
        if not 0 <= delay <= _WINDOW // 2:
            raise ValueError(f"a delay is 0 to {_WINDOW // 2} frames, not {delay}")
        self.delay, self.focal = delay, focal
        self._reconstructor, self._image_size, self._given = reconstructor, image_size, focal
        self._reader = FrameReader(reconstructor)
        model = reconstructor.head_model
        self._precision = np.asarray(reconstructor.answer_precision, np.float64)
        self._conditional = Conditional.of(self._precision, model.num_shape)
        population = np.asarray(reconstructor.population, np.float64)
        self._combination = Combination.of(model.num_shape, self._precision, population, reconstructor.tables)
        self._size = model.num_expression + 13
        self._turn = slice(model.num_expression + 5, model.num_expression + 8)
        self._answers, self._count = np.zeros(model.num_shape), 0
        self._fitter: FrameFitter | None = None
        self._noise: Noise | None = None
        self._history: collections.deque[_Seen] = collections.deque(maxlen=_HISTORY)
        self._pending = self._taken = 0
        self._box: np.ndarray | None = None
        self._looks: np.ndarray | None = None
        self._thumbnail: np.ndarray | None = None
        self._last_seen = -np.inf
        self.shape = np.zeros(model.num_shape)
        self.records: list[_Seen] | None = None

    def push(self, image: np.ndarray, seconds: float, source: Path | None = None) -> FrameState | None:
        """Takes the next frame, ``(H, W, 3)`` uint8 RGB at a moment that rises; the state ``delay`` frames back.

        The same as ``take(see(…))``, which two threads can do for frames that follow each other.
        """
        return self.take(self.see(image, seconds, source))

    def take(self, glimpse: Glimpse) -> FrameState | None:
        """Fits the next frame to what was seen of it; the state ``delay`` frames back."""
        seen = self._fit(glimpse)
        self._history.append(seen)
        if self.records is not None:
            self.records.append(seen)
        self._pending += 1
        self._taken += 1
        if self._taken % _EVERY == 0 or self._noise is None:
            self._measure()
        return self._state(self.delay) if self._pending > self.delay else None

    def close(self) -> None:
        """Ends what works beside the frames."""

    def finish(self) -> list[FrameState]:
        """What is still to be given out, when there are no more frames."""
        waiting = min(self._pending, self.delay)
        return [self._state(back) for back in range(waiting - 1, -1, -1)]

    def see(self, image: np.ndarray, seconds: float, source: Path | None = None) -> Glimpse:
        """What the front end sees of the next frame; frames are given in order."""
        faces, small = self._reader(image, source)
        cut = self._thumbnail is not None and difference(small, self._thumbnail) > CHANGED
        self._thumbnail = small
        face, looks = self._mine(image, faces, cut)
        if face is not None and looks is not None:
            self._box = bounding_box(face.landmarks_68)
            self._looks = looks if self._looks is None else 0.9 * self._looks + 0.1 * looks
        return Glimpse(seconds, face, looks, cut)

    def _nothing(self, glimpse: Glimpse) -> _Seen:
        """Of a frame in which nobody was seen."""
        gone, nothing = glimpse.seconds - self._last_seen > _BRIDGE, np.zeros(self._size)
        return _Seen(glimpse.seconds, LOST if gone else BRIDGED, nothing, nothing, glimpse.cut, None, np.nan)

    def _fit(self, glimpse: Glimpse) -> _Seen:
        face, looks, seconds = glimpse.face, glimpse.looks, glimpse.seconds
        if face is None or looks is None:
            return self._nothing(glimpse)
        found = gather(self._reconstructor, [(0, face, looks)], self._image_size, self.focal)
        self.focal = float(found.focal[0]) if self.focal is None else self.focal
        self._know(found)
        assert self._fitter is not None
        values, trust, gap = self._fitter(found)
        if self._history and self._history[-1].faces is not None:
            before = self._history[-1].channels[self._turn]
            values[:, self._turn] = unwrapped(np.stack([before, values[0, self._turn]]), np.ones(2, bool))[1:]
        believed = trust[0, 0] > 0
        if believed:
            self._last_seen = seconds
        return _Seen(
            seconds,
            SEEN if believed else DOUBTFUL,
            np.nan_to_num(values[0]),
            trust[0],
            glimpse.cut,
            found,
            float(gap[0]),
        )

    def _mine(self, image, faces, cut):
        """The face of the person who is followed, with what it looks like."""
        if not faces:
            return None, None
        looks = [describe(image, face.landmarks_68) for face in faces]
        if self._box is None or self._looks is None:
            return faces[0], looks[0]
        overlaps = [0.0 if cut else box_overlap(self._box, bounding_box(face.landmarks_68)) for face in faces]
        alike = [likeness(one, self._looks) for one in looks]
        best = int(np.argmax(np.array(overlaps) + np.array(alike)))
        return faces[best], looks[best]

    def _know(self, found: Faces) -> None:
        """The identity, taken anew after 1, 2, 4, … answers."""
        if self._count >= _SETTLED:
            return
        count = len(self._answers)
        self._answers = self._answers + found.answer[0, :count]
        self._count += 1
        if self._count & (self._count - 1):
            return
        reconstructor = self._reconstructor
        self.shape = self._combination(self._answers / self._count)
        assert self.focal is not None
        self._fitter = FrameFitter(
            reconstructor.head_model,
            reconstructor.tables.pivot,
            self.shape,
            self._conditional,
            self._image_size,
            self.focal,
            reconstructor.point_places,
            point_errors_of(reconstructor),
            batch=1,
        )

    def _measure(self) -> None:
        if self._fitter is None:
            return
        most = self._fitter.most_noise()
        rows = []
        for seen in reversed(self._history):
            if seen.status != SEEN:
                break
            rows.append(seen.channels)
            if seen.cut:
                break
        if len(rows) >= 16:
            self._noise = measure_noise([np.stack(rows[::-1])], most)
        elif self._noise is None:
            self._noise = Noise(_FIRST_NOISE * most, _FIRST_NOISE * most)

    def _state(self, back: int) -> FrameState:
        """Of the frame so many frames back."""
        window = list(self._history)[-_WINDOW:]
        place = len(window) - 1 - back
        # Nothing before a cut, and nothing beyond the next, counts.
        first = max((i for i in range(place + 1) if window[i].cut), default=0)
        last = min((i for i in range(place + 1, len(window)) if window[i].cut), default=len(window))
        window, place = window[first:last], place - first
        seen = window[place]
        believed = any(one.trust[0] > 0 for one in window)
        status = seen.status if believed and self._noise is not None else LOST
        if status == LOST or self._noise is None:
            return self._nobody(seen.seconds)
        seconds = np.array([one.seconds for one in window])
        step = float(np.median(np.diff(seconds))) if len(seconds) > 1 else 1.0
        channels = smooth(
            np.stack([one.channels for one in window]),
            seconds,
            np.stack([one.trust for one in window]),
            self._noise,
            step,
        )[place]
        assert self._fitter is not None
        expression, jaw, lids, turn, at, gaze = self._fitter.layout.split(channels)
        rotation, translation = poses(turn[None], at[None], np.asarray(self._reconstructor.tables.pivot))
        return FrameState(
            seen.seconds,
            status,
            self.shape,
            channels,
            rotation[0],
            translation[0],
            expression,
            jaw,
            lids,
            eye_rotations(gaze[None])[0],
        )

    def _nobody(self, seconds: float) -> FrameState:
        model = self._reconstructor.head_model
        none = np.full(self._size, np.nan)
        return FrameState(
            seconds,
            LOST,
            self.shape,
            none,
            np.full((3, 3), np.nan),
            np.full(3, np.nan),
            np.full(model.num_expression, np.nan),
            np.full(3, np.nan),
            np.full(2, np.nan),
            np.full((2, 3), np.nan),
        )


def tracker_of_recordings(
    reconstructor: Reconstructor, image_size: tuple[int, int], focal: float | None, delay: int = DELAY
) -> OnlineTracker:
    """What follows somebody through a clip frame by frame: the fewest looks where the front end can do so
    (``live.LiveTracker``), else ``OnlineTracker``; arguments as of these."""
    from n2f_jax.tracking.live import LiveTracker, can_glance

    if not can_glance(reconstructor):
        return OnlineTracker(reconstructor, image_size, focal, delay)
    return LiveTracker(reconstructor, image_size, focal, delay=delay, recorded=True)


def track_online(
    clip: Clip, out: Path, reconstructor: Reconstructor, options: Any, delay: int = DELAY, say: Any = None
) -> Any:
    """A clip frame by frame as if it were live; writes what ``run.track_clip`` writes, with the identity of the end.

    Args:
        clip: opened.
        out: folder, made if needed.
        reconstructor: front end, network, head model.
        options: ``run.TrackOptions``.
        delay: frames.
        say: told lines for the screen.

    Raises:
        ClipError: it cannot be read, or nobody is in it.
        OutputError, OSError: nothing can be written.
    """
    from n2f_jax.runtime.output_folder import prepare_output
    from n2f_jax.tracking.run import check_outputs, finish_run

    check_length(clip, clip.said)
    check_outputs(reconstructor, options)
    prepare_output(out)
    tracker = tracker_of_recordings(reconstructor, clip.size, options.focal, delay)
    tracker.records = []
    states: list[FrameState] = []
    begin = time.perf_counter()
    # The front end looks at a frame while the one before it is fitted.
    with ThreadPoolExecutor(1, thread_name_prefix="front end") as eyes:
        ahead: collections.deque[Future[Glimpse]] = collections.deque()
        try:
            for frame in clip.frames():
                check_length(clip, frame.index + 1)
                source = None if clip.images is None else clip.images[frame.index]
                ahead.append(eyes.submit(tracker.see, frame.image, frame.seconds, source))
                if len(ahead) > 1 and (state := tracker.take(ahead.popleft().result())) is not None:
                    states.append(state)
            while ahead:
                if (state := tracker.take(ahead.popleft().result())) is not None:
                    states.append(state)
        finally:
            tracker.close()
    states += tracker.finish()
    stages = {"online": time.perf_counter() - begin}
    if not states:
        raise ClipError(f"{clip.path}: no frame of it can be decoded")
    if all(state.status == LOST for state in states):
        raise ClipError(f"{clip.path}: no face in any frame of the clip")
    track = _track(clip, tracker, states, reconstructor)
    save_track(out / "track.npz", track)
    cast = Cast([_person(tracker.records)], np.zeros(0, np.int64), track["seconds"], _cuts(tracker.records))
    return finish_run(clip, out, cast, options, track, stages, reconstructor, say or (lambda text: None))


def _cuts(records: list[_Seen]) -> np.ndarray:
    return np.array([one.cut for one in records], bool)


def _person(records: list[_Seen]) -> Person:
    person = Person()
    for index, one in enumerate(records):
        if one.faces is not None:
            faces = one.faces
            person.add(
                index,
                one.seconds,
                bounding_box(faces.landmarks[0]),
                float(faces.crop[0, 2]),
                faces.appearance[0],
            )
    return person


def _track(
    clip: Clip, tracker: OnlineTracker, states: list[FrameState], reconstructor: Reconstructor
) -> dict[str, Any]:
    records = tracker.records
    assert records is not None and tracker.focal is not None
    frames = len(states)
    known = {
        "confidence": np.full(frames, np.nan, np.float32),
        "region_confidence": np.full((frames, 6), np.nan, np.float32),
        "frontend_landmarks": np.full((frames, 68, 2), np.nan, np.float32),
        "frontend_blendshapes": np.full((frames, 51), np.nan, np.float32),
        "fit_error": np.array([one.fit_error for one in records], np.float32),
    }
    for index, one in enumerate(records):
        if one.faces is not None:
            known["confidence"][index] = one.faces.confidence[0]
            known["region_confidence"][index] = one.faces.region_confidence[0]
            known["frontend_landmarks"][index] = one.faces.landmarks[0]
            known["frontend_blendshapes"][index] = one.faces.blendshapes[0]
    seconds = np.array([state.seconds for state in states])
    cast = Cast([_person(records)], np.zeros(0, np.int64), seconds, _cuts(records))
    source = "given" if tracker._given is not None else "assumed"
    identity = Identity(tracker.shape, tracker.focal, source, np.zeros(0, np.int64))
    status = np.array([state.status for state in states], np.uint8)
    channels = np.nan_to_num(np.stack([state.channels for state in states]))
    return track_values(clip, cast, 1, reconstructor, identity, channels, known, status)
