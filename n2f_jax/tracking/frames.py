"""The second pass: every frame's expression, jaw, lids, gaze and pose for the one identity, as channels over time.

Channels are, in this order: E expressions, jaw (axis times angle), two lids, the head's turn (axis times angle from a
frontal head), its place (x/z, y/z and log z of the face's middle) and the gaze (yaw to the left and pitch upwards in
the head frame). Each is about as independent of the others as can be, so that each has a noise and a motion of its own.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.spatial.transform import Rotation

from flame_jax import FlameParams, HeadModel, decode, landmarks68
from flame_jax.rotations import axis_angle_to_rotation_6d, rotation_6d_to_matrix
from n2f_jax.face_mesh.error_model import PointErrors
from n2f_jax.fitting.eyes import with_eyes
from n2f_jax.frontends.face_confidence import DOUBTFUL, REGIONS
from n2f_jax.geometry.camera import FRONTAL, Camera
from n2f_jax.geometry.pose import align_camera
from n2f_jax.tracking.frame_fit import PersonPoints, fit_frames
from n2f_jax.tracking.identity import SIZE, Conditional, CropArrays
from n2f_jax.tracking.shards import Faces
from n2f_jax.tracking.start import Start

BATCH = 32  # frames of a call; the last ones are padded
# σ of the front end's pose on rendered clips: turn (radians), place (x/z, y/z), log of the distance.
POSE_STD = (0.045, 0.045, 0.045, 0.01, 0.01, 0.05)
# σ of lids and gaze (degrees) where the front end's are not measured.
_CLOSURE_STD, _GAZE_STD_DEG = 0.2, 6.0
_SURE_LEAST = 0.05  # of trust in what can be seen at all
_LEAST_OPEN = 0.4  # of the more closed eye, from which the gaze is seen


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where channels lie in a row of C = E + 13."""

    num_expression: int

    @property
    def size(self) -> int:
        """C."""
        return self.num_expression + 13

    def split(self, rows: np.ndarray) -> tuple[np.ndarray, ...]:
        """Expression, jaw, lids, turn, place, gaze of ``(…, C)`` rows."""
        e = self.num_expression
        return tuple(np.split(rows, [e, e + 3, e + 5, e + 8, e + 11], axis=-1))


class FrameFitter:
    """Fits frames of one person.

    Args:
        model: the head model.
        pivot: of the face, head frame (``HeadTables.pivot``).
        shape: the person's.
        conditional: of the network's answers.
        image_size: height and width of the frames.
        focal: pixels.
        places: of the face mesh's points on the model, and ``errors`` of the network that finds them; without either,
            frames are the answers with cameras on the 68 landmarks.
        errors: likewise.
        batch: frames of a call; fewer are padded.
        start: a track to begin with, or None.
    """

    def __init__(
        self,
        model: HeadModel,
        pivot: Float[Array, "3"],
        shape: Float[np.ndarray, " S"],
        conditional: Conditional,
        image_size: tuple[int, int],
        focal: float,
        places: tuple[Array, Array] | None,
        errors: PointErrors | None,
        batch: int = BATCH,
        start: Start | None = None,
    ):
        self.model, self.layout, self._batch_size = model, Layout(model.num_expression), batch
        self._pivot, self._shape, self._conditional = np.asarray(pivot, np.float64), shape, conditional
        self._image_size, self._focal = image_size, focal
        self.person = None
        if places is not None and errors is not None:
            self.person = PersonPoints.make(model, places, shape, pivot, errors, conditional.precision)
        self._errors, self._start = errors, start

    def most_noise(self) -> Float[np.ndarray, " C"]:
        """Variance of the front end's whole error in each channel."""
        own = self._conditional.variance
        errors = self._errors
        closure, gaze = _CLOSURE_STD, _GAZE_STD_DEG
        if errors is not None and np.isfinite(float(errors.closure_std)):
            closure, gaze = float(errors.closure_std), float(errors.gaze_std_deg)
        lids = np.full(2, closure**2)
        return np.concatenate([own[:-2], lids, np.square(POSE_STD), np.full(2, np.radians(gaze) ** 2)])

    def __call__(
        self, faces: Faces
    ) -> tuple[Float[np.ndarray, "K C"], Float[np.ndarray, "K C"], Float[np.ndarray, " K"]]:
        """Channels of frames, how far each is to be trusted (0 … 1), and the fit's error in crop sides."""
        if self._start is not None:
            faces = self._start.answers(faces)
        values = np.zeros((len(faces), self.layout.size))
        gaps = np.zeros(len(faces))
        for start in range(0, len(faces), self._batch_size):
            rows = np.arange(start, min(start + self._batch_size, len(faces)))
            padded = faces.rows(np.concatenate([rows, np.repeat(rows[:1], self._batch_size - len(rows))]))
            found, gap = self._batch(padded)
            values[rows], gaps[rows] = found[: len(rows)], gap[: len(rows)]
        return values, self.trust(faces, values), gaps

    def _batch(self, faces: Faces) -> tuple[np.ndarray, np.ndarray]:
        arrays = CropArrays.of(faces, self._image_size, self._focal)
        mean = jnp.asarray(self._conditional.mean(faces.answer.astype(np.float64), self._shape), jnp.float32)
        if self.person is not None and np.isfinite(faces.points).all():
            unknowns, camera, gap = fit_frames(
                self.person,
                arrays.points,
                mean,
                arrays.focal,
                arrays.principal_point,
                float(SIZE),
                start=self._cameras(faces),
            )
        else:
            unknowns = mean
            params = head_params(jnp.asarray(self._shape, jnp.float32), unknowns)
            camera, gap = _on_landmarks(
                self.model, params, arrays.landmarks, arrays.focal, arrays.principal_point
            )
        return _channels(
            self.model,
            self._shape,
            self._pivot,
            unknowns,
            camera,
            jnp.asarray(faces.closure),
            jnp.asarray(faces.gaze),
        ), np.asarray(gap)

    def _cameras(self, faces: Faces) -> tuple[Array, Array] | None:
        if self._start is None:
            return None
        found = self._start.cameras(faces.frame, self._focal, self._image_size, self._pivot)
        return jnp.asarray(found[0], jnp.float32), jnp.asarray(found[1], jnp.float32)

    def trust(self, faces: Faces, values: Float[np.ndarray, "K C"]) -> Float[np.ndarray, "K C"]:
        """How far each channel of frames is to be trusted, 0 … 1."""
        confidence = np.nan_to_num(faces.confidence.astype(np.float64), nan=1.0)
        trust = np.tile(np.maximum(confidence, _SURE_LEAST)[:, None] ** 2, (1, self.layout.size))
        regions = np.nan_to_num(faces.region_confidence.astype(np.float64), nan=1.0)
        eyes = regions[:, [REGIONS_LIST.index("left_eye"), REGIONS_LIST.index("right_eye")]]
        lids = self.layout.num_expression + 3
        trust[:, lids : lids + 2] *= np.maximum(eyes, _SURE_LEAST)
        trust[:, -2:] *= np.maximum(eyes.max(axis=1, keepdims=True), _SURE_LEAST)
        # Lids that close hide where the eye looks.
        open_share = 1.0 - np.clip(np.nan_to_num(faces.closure, nan=0.0).max(axis=1, keepdims=True), 0.0, 1.0)
        trust[:, -2:] *= np.where(open_share > _LEAST_OPEN, open_share**2, 0.0)
        trust[~np.isfinite(values)] = 0.0
        trust[confidence < DOUBTFUL] = 0.0
        return trust


REGIONS_LIST = list(REGIONS)


def head_params(shape: Float[Array, " S"], unknowns: Float[Array, "B V"]) -> FlameParams:
    """Heads of one person from expression, jaw (axis times angle) and lids."""
    count = unknowns.shape[1] - 5
    return FlameParams.resting(
        jnp.broadcast_to(shape, (unknowns.shape[0], *shape.shape)),
        unknowns[:, :count],
        axis_angle_to_rotation_6d(unknowns[:, count : count + 3]),
        unknowns[:, count + 3 :],
    )


@jax.jit
def _on_landmarks(model, params, landmarks, focal, principal_point):
    heads = landmarks68(model, decode(model, params)[0])[:, 17:]

    def one(head, observed, focal, principal_point):
        front = Camera(
            jnp.diag(jnp.asarray([1.0, -1.0, -1.0])), jnp.asarray([0.0, 0.0, 1.0]), focal, principal_point
        )
        return align_camera(head, observed, front)

    camera = jax.vmap(one)(heads, landmarks[:, 17:], focal, principal_point)
    return camera, jnp.zeros(len(heads))


@jax.jit
def _with_eyes(model, shape, unknowns, camera, closure, gaze):
    params = with_eyes(model, head_params(shape, unknowns), camera, closure, gaze)
    return params.eyelids, rotation_6d_to_matrix(params.eyes[:, 0])[..., 2]


def _channels(model, shape, pivot, unknowns, camera, closure, gaze):
    lids, look = _with_eyes(model, jnp.asarray(shape, jnp.float32), unknowns, camera, closure, gaze)
    unknowns, look = np.asarray(unknowns, np.float64), np.asarray(look, np.float64)
    rotation, translation = (
        np.asarray(camera.rotation, np.float64),
        np.asarray(camera.translation, np.float64),
    )
    turn = Rotation.from_matrix(rotation @ FRONTAL.astype(np.float64)).as_rotvec()
    middle = rotation @ pivot + translation
    depth = np.maximum(middle[:, 2:], 1e-3)
    seen = np.isfinite(np.asarray(gaze)).all(axis=1)
    angles = np.stack([np.arctan2(look[:, 0], look[:, 2]), np.arcsin(np.clip(look[:, 1], -1, 1))], axis=1)
    angles[~seen] = np.nan
    return np.concatenate(
        [unknowns[:, :-2], np.asarray(lids, np.float64), turn, middle[:, :2] / depth, np.log(depth), angles],
        axis=1,
    )


def unwrapped(turns: Float[np.ndarray, "T 3"], known: np.ndarray) -> Float[np.ndarray, "T 3"]:
    """Axis times angle without leaps by whole turns, of which only a head that is upside down makes some."""
    out, last = turns.copy(), None
    for i in np.flatnonzero(known):
        length = np.linalg.norm(out[i])
        if last is not None and length > 1e-6:
            other = out[i] * (1.0 - 2.0 * np.pi / length)
            if np.linalg.norm(other - last) < np.linalg.norm(out[i] - last):
                out[i] = other
        last = out[i]
    return out


def poses(
    turn: Float[np.ndarray, "T 3"], place: Float[np.ndarray, "T 3"], pivot: Float[np.ndarray, "3"]
) -> tuple[Float[np.ndarray, "T 3 3"], Float[np.ndarray, "T 3"]]:
    """R and t of ``x_cam = R·x_head + t`` from channels."""
    rotation = Rotation.from_rotvec(turn).as_matrix() @ FRONTAL.astype(np.float64)
    depth = np.exp(place[:, 2:])
    middle = np.concatenate([place[:, :2] * depth, depth], axis=1)
    return rotation, middle - rotation @ np.asarray(pivot, np.float64)


def eye_rotations(gaze: Float[np.ndarray, "T 2"]) -> Float[np.ndarray, "T 2 3"]:
    """``eyes_pose`` of both eyes from yaw and pitch: the smallest turn from the head's +z, axis times angle."""
    yaw, pitch = gaze[:, 0], gaze[:, 1]
    look = np.stack([np.sin(yaw) * np.cos(pitch), np.sin(pitch), np.cos(yaw) * np.cos(pitch)], axis=1)
    axis = np.stack([-look[:, 1], look[:, 0], np.zeros(len(look))], axis=1)
    sine = np.linalg.norm(axis, axis=1, keepdims=True)
    angle = np.arctan2(sine, look[:, 2:])
    turn = axis / np.maximum(sine, 1e-9) * angle
    return np.repeat(turn[:, None], 2, axis=1)
