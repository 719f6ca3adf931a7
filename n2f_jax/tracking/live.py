"""Tracking for live use: ``OnlineTracker`` with the fewest looks, and all of a frame's computing in one program.

Between searches there is no detector, one look of one network, and nothing that a frame need not have (``glance``).
The identity, which takes longer than a frame now and then, is worked out beside the frames.
"""

from __future__ import annotations

import math
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from n2f_jax.face_mesh.coarse_mesh import NUM_POINTS, load_coarse_mesh
from n2f_jax.face_mesh.error_model import PointErrors
from n2f_jax.frontends.blendshapes import scores_of_units
from n2f_jax.frontends.face_confidence import REGIONS
from n2f_jax.frontends.face_landmarks import FaceLandmarker, MeshedFace
from n2f_jax.geometry.camera import FRONTAL
from n2f_jax.geometry.crop import landmark_crop
from n2f_jax.geometry.focal import resolve_focal
from n2f_jax.models.seen_shape import NUM_ACTIVATIONS
from n2f_jax.reconstruction.face_batch import activations_of
from n2f_jax.reconstruction.reconstructor import Reconstructor
from n2f_jax.tracking.appearance import describe, likeness
from n2f_jax.tracking.first_pass import CHANGED, difference, thumbnail
from n2f_jax.tracking.frame_fit import PersonPoints
from n2f_jax.tracking.frames import FrameFitter, unwrapped
from n2f_jax.tracking.live_program import STEPS, LiveFrame, LiveInput, live_answer, live_begin, live_frame
from n2f_jax.tracking.offline import point_errors_of
from n2f_jax.tracking.online import _SETTLED, Glimpse, OnlineTracker, _Seen
from n2f_jax.tracking.shards import Faces
from n2f_jax.tracking.track_file import DOUBTFUL, SEEN

CHECK_EVERY = 8  # frames between checks whether the face can be believed
SEARCH_EVERY = 0.25  # seconds between searches while nobody is there
_ANEW = 3  # times that a frame is fitted which has none before it
_ALIKE = 0.5  # of a face's looks, from which somebody who comes back is the one who left


def can_glance(reconstructor: Reconstructor) -> bool:
    """Whether front end and head model allow a ``LiveTracker``."""
    return _glancing(reconstructor) is not None


def _glancing(reconstructor: Reconstructor) -> tuple[FaceLandmarker, PointErrors] | None:
    """What a ``LiveTracker`` looks with, and how that errs; None where front end or head model do not allow it."""
    landmarker = getattr(reconstructor.frontend, "landmarker", None)
    errors = point_errors_of(reconstructor)
    if (
        landmarker is None
        or landmarker.landmarks != "v2"
        or errors is None
        or reconstructor.point_places is None
    ):
        return None
    return landmarker, errors


class LiveTracker(OnlineTracker):
    """Follows one person: whoever is largest in the first frame with a face.

    Args:
        reconstructor: with the free front end and its newer landmarks.
        image_size: height and width of the frames.
        focal: pixels; None for what is assumed of the first face.
        steps: of Gauss–Newton a frame.
        delay: frames by which what is given out lags.
        recorded: of a recording, whose frames wait: looks are mirrored, the check is made twice as often, identities
            are waited for, so that every run gives the same, and of one clip there is one person: after a cut, or
            where nobody was, the likeliest face is theirs.

    Attributes:
        face: what the front end saw in the last frame; None: nobody.

    Raises:
        ValueError: another front end.
    """

    def __init__(
        self,
        reconstructor: Reconstructor,
        image_size: tuple[int, int],
        focal: float | None = None,
        steps: int = STEPS,
        delay: int = 0,
        recorded: bool = False,
    ):
        super().__init__(reconstructor, image_size, focal, delay)
        if (parts := _glancing(reconstructor)) is None:
            raise ValueError(
                "live tracking takes the face mesh's front end with landmarks v2, and a head model on which its points "
                "are known"
            )
        self._landmarker, self._errors = parts
        self._steps = steps
        self._stage = reconstructor.stage
        self._slope = jnp.asarray(self._conditional.slope, jnp.float32)
        self._shape32 = jnp.asarray(self.shape, jnp.float32)
        self._before: LiveFrame | None = None
        self._recorded = recorded
        self._check_every = CHECK_EVERY // 2 if recorded else CHECK_EVERY
        self._search_every = 0.0 if recorded else SEARCH_EVERY
        self._since_check, self._last_search = 0, -math.inf
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="identity")
        self._identity: Future[tuple[np.ndarray, FrameFitter]] | None = None
        self.face: MeshedFace | None = None

    def close(self) -> None:
        """Ends the worker beside the frames."""
        self._worker.shutdown(wait=True, cancel_futures=True)

    @property
    def scores(self) -> Float[np.ndarray, "52"] | None:
        """The front end's own, of the last frame; in the order of ``frontends.blendshapes.BLENDSHAPES``."""
        return None if self.face is None else self.face.blendshapes

    def see(self, image: np.ndarray, seconds: float, source: Path | None = None) -> Glimpse:
        """What the front end sees of the next frame; frames are given in order."""
        small = thumbnail(image)
        cut = self._thumbnail is not None and difference(small, self._thumbnail) > CHANGED
        self._thumbnail = small
        self.face, anew, other = self._found(image, seconds, cut)
        # Of somebody else nothing of the one before counts any more.
        return Glimpse(seconds, self.face, self._looks, cut or other, anew, other)

    def _fit(self, glimpse: Glimpse) -> _Seen:
        if glimpse.anew:
            self._before = None
        if glimpse.other:
            self._fitter, self._identity = None, None
        face: MeshedFace | None = glimpse.face
        if face is None:
            return self._nothing(glimpse)
        seen = self._input(face)
        frame = self._fitted(seen)
        values = self._values(frame, face)
        if self._history and self._history[-1].faces is not None:
            before = self._history[-1].channels[self._turn]
            values[self._turn] = unwrapped(np.stack([before, values[self._turn]]), np.ones(2, bool))[1]
        faces = self._record(face, glimpse.looks, seen, frame)
        assert self._fitter is not None
        trust = self._fitter.trust(faces, values[None])[0]
        if trust[0] > 0:
            self._last_seen = glimpse.seconds
        return _Seen(
            glimpse.seconds,
            SEEN if trust[0] > 0 else DOUBTFUL,
            np.nan_to_num(values),
            trust,
            glimpse.cut,
            faces,
            float(frame.error),
        )

    def _found(self, image: np.ndarray, seconds: float, cut: bool) -> tuple[MeshedFace | None, bool, bool]:
        """The face, whether it was searched for, and whether it is somebody else's."""
        if self.face is not None and not cut:
            self._since_check += 1
            check = self._since_check >= self._check_every
            self._since_check = 0 if check else self._since_check
            face = self._landmarker.glance(image, self.face, check, mirrored=self._recorded)
            if face is not None:
                return face, False, False
        if not cut and seconds - self._last_search < self._search_every:
            return None, True, False
        self._last_search = seconds
        faces = self._landmarker(image)
        if not faces:
            return None, True, False
        looks = [describe(image, face.landmarks_68) for face in faces]
        if self._looks is None:
            self._looks = looks[0]
            return faces[0], True, False
        alike = [likeness(one, self._looks) for one in looks]
        best = int(np.argmax(alike))
        if self._recorded or alike[best] >= _ALIKE:
            return faces[best], True, False
        # Somebody else: the largest, with an identity of their own.
        self._looks = looks[0]
        return faces[0], True, True

    def _input(self, face: MeshedFace) -> LiveInput:
        crop = landmark_crop(face.landmarks_68, self._reconstructor.inputs.crop_scale)
        side = float(crop.side)
        if self.focal is None:
            size = side / self._reconstructor.inputs.crop_scale
            self.focal = resolve_focal(self._image_size, None, face_size=size).pixels
        eyes = face.eyes
        height, width = self._image_size
        return LiveInput(
            face.points.astype(np.float32),
            np.asarray(crop.x0y0, np.float32),
            np.float32(side),
            np.float32(self.focal),
            np.array([width / 2, height / 2], np.float32),
            np.full(2, np.nan, np.float32) if eyes is None else eyes.closure.astype(np.float32),
            np.full(3, np.nan, np.float32) if eyes is None else eyes.gaze.astype(np.float32),
            scores_of_units(face.blendshapes),
            activations_of(face),
        )

    def prepare(self) -> None:
        """Compiles the programs, by a face that is not there; the first frame would take as long otherwise."""
        reference = np.asarray(load_coarse_mesh().reference, np.float64)
        height, width = self._image_size
        points = 0.4 * height * reference / np.ptp(reference[:, 1]) * [1.0, -1.0, -1.0] + [
            width / 2,
            height / 2,
            0.0,
        ]
        focal = 1.2 * max(height, width)
        seen = LiveInput(
            points.astype(np.float32),
            np.array([width / 2 - 0.3 * height, 0.2 * height], np.float32),
            np.float32(0.6 * height),
            np.float32(focal),
            np.array([width / 2, height / 2], np.float32),
            np.zeros(2, np.float32),
            np.array([0.0, 0.0, -1.0], np.float32),
            scores_of_units(None),
            np.full((2, NUM_ACTIVATIONS), np.nan, np.float32),
        )
        answer = live_answer(self._stage, seen)
        person = PersonPoints.make(
            self._reconstructor.head_model,
            self._reconstructor.point_places,
            self.shape,
            self._reconstructor.tables.pivot,
            self._errors,
            self._conditional.precision,
        )
        of_person = person, self._slope, self._shape32
        frame = live_begin(*of_person, seen, answer)
        for _ in range(2):  # what begins it, and what goes on
            frame = jax.device_get(live_frame(self._stage, *of_person, seen, frame, steps=self._steps))

    def _fitted(self, seen: LiveInput) -> LiveFrame:
        answer = None
        if self._fitter is None:
            # The first one: nothing can be fitted before there is somebody.
            answer = live_answer(self._stage, seen)
            self._answers = np.asarray(answer, np.float64)[: len(self.shape)]
            self._count = 1
            self._take(self._who(self._answers))
        elif self._identity is not None and (self._recorded or self._identity.done()):
            self._take(self._identity.result())
            self._identity = None
        assert self._fitter is not None and self._fitter.person is not None
        of_person = self._fitter.person, self._slope, self._shape32
        before, times = self._before, 1
        if before is None:
            answer = live_answer(self._stage, seen) if answer is None else answer
            before, times = live_begin(*of_person, seen, answer), _ANEW
        for _ in range(times):
            before = live_frame(self._stage, *of_person, seen, before, steps=self._steps)
        frame = jax.device_get(before)
        self._before = frame if math.isfinite(float(frame.error)) else None
        self._learn(frame)
        return frame

    def _learn(self, frame: LiveFrame) -> None:
        """The identity, taken anew after 2, 4, … answers."""
        if self._count >= _SETTLED:
            return
        self._answers = self._answers + frame.answer[: len(self._answers)]
        self._count += 1
        if self._count & (self._count - 1) == 0 and self._identity is None:
            self._identity = self._worker.submit(self._who, self._answers / self._count)

    def _who(self, answers: Float[np.ndarray, " S"]) -> tuple[np.ndarray, FrameFitter]:
        reconstructor = self._reconstructor
        shape = self._combination(answers)
        assert self.focal is not None
        return shape, FrameFitter(
            reconstructor.head_model,
            reconstructor.tables.pivot,
            shape,
            self._conditional,
            self._image_size,
            self.focal,
            reconstructor.point_places,
            self._errors,
            batch=1,
        )

    def _take(self, found: tuple[np.ndarray, FrameFitter]) -> None:
        self.shape, self._fitter = found
        self._shape32 = jnp.asarray(self.shape, jnp.float32)

    def _values(self, frame: LiveFrame, face: MeshedFace) -> Float[np.ndarray, " C"]:
        """Channels of ``frames.Layout``."""
        rotation = np.asarray(frame.rotation, np.float64)
        turn = Rotation.from_matrix(rotation @ np.asarray(FRONTAL, np.float64)).as_rotvec()
        middle = rotation @ np.asarray(self._reconstructor.tables.pivot, np.float64) + frame.translation
        depth = max(float(middle[2]), 1e-3)
        x, y, z = (float(value) for value in frame.look)
        seen = face.eyes is not None and np.isfinite(face.eyes.gaze).all()
        gaze = [math.atan2(x, z), math.asin(min(max(y, -1.0), 1.0))] if seen else [math.nan, math.nan]
        place = [float(middle[0]) / depth, float(middle[1]) / depth, math.log(depth)]
        return np.concatenate([frame.unknowns[:-2], frame.lids, turn, place, gaze]).astype(np.float64)

    def _record(self, face: MeshedFace, looks: np.ndarray | None, seen: LiveInput, frame: LiveFrame) -> Faces:
        """As of ``first_pass.gather``, of one face."""
        assert self.focal is not None
        regions = [face.region_confidence.get(name, np.nan) for name in REGIONS]
        irises = np.full((10, 2), np.nan) if face.points_478 is None else face.points_478[NUM_POINTS:, :2]
        one = {
            "frame": 0,
            "points": face.points,
            "landmarks": face.landmarks_68,
            "crop": [*seen.corner, seen.side],
            "score": face.score,
            "confidence": face.confidence,
            "region_confidence": regions,
            "closure": seen.closure,
            "gaze": seen.gaze,
            "irises": irises,
            "blendshapes": seen.scores,
            "appearance": looks,
            "answer": frame.answer,
            "focal": self.focal,
        }
        return Faces(**{name: np.asarray(value)[None] for name, value in one.items()})
