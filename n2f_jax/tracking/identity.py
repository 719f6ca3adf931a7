"""One person from many frames: shape, and focal length where it is unknown, jointly over well-chosen keyframes.

1. The network's answers to all frames are one measurement whose error is nearly the same in each of them (frames of one
   clip differ by a tenth of what an answer is wrong by): their mean counts as ``ANSWERS`` answers, not as hundreds.
2. Keyframes are as different in pose as the clip has them. On these the joint Gauss–Newton (``fitting.gauss_newton``)
   finds one shape, and an expression and a camera for each, from points and normals off which the front end's expected
   error was taken (``point_errors``), in rounds. All of them together count as ``IMAGES`` images, since errors repeat.
"""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from flame_jax import FlameParams, HeadModel, decode, points_on_mesh
from n2f_jax.face_mesh.coarse_mesh import coarse_maps, load_coarse_mesh
from n2f_jax.face_mesh.error_model import PointErrors
from n2f_jax.fitting.gauss_newton import GaussNewtonConfig, Stage, fit_person
from n2f_jax.fitting.head_tables import HeadTables
from n2f_jax.fitting.observations import Anchors, Observation
from n2f_jax.fitting.prior import HeadPrior
from n2f_jax.fitting.residuals import FACE_MESH, with_measured_points
from n2f_jax.frontends.profile import points_rotation
from n2f_jax.geometry.camera import Camera, pitch_yaw_roll
from n2f_jax.geometry.crop import Crop, crop_intrinsics
from n2f_jax.geometry.pose import align_camera
from n2f_jax.models.calibration import from_unknowns
from n2f_jax.tracking.point_errors import corrected_points, seen_points
from n2f_jax.tracking.shards import Faces

SIZE = 128  # of keyframes' crops, pixels
# How many independent answers and images a clip is worth, chosen on clips of the outside heads' choosing half
# (scripts/benchmarks/tracking.py).
ANSWERS, IMAGES = 2.5, 1.0
KEYFRAMES = 8
ROUNDS, STEPS = 4, 4
# Differences of pose by which keyframes are told apart, degrees (pitch, yaw).
_APART = np.array([10.0, 8.0])
# Of the focal length where nobody says: how far it may be off, a factor's logarithm; candidates about the assumed one.
_FOCAL_STD, _CANDIDATES = 0.35, np.geomspace(0.5, 2.2, 9)
_CORRECTIONS = 2


@dataclasses.dataclass(frozen=True)
class Conditional:
    """What answers make of expression, jaw and lids of a person whose shape is known.

    Attributes:
        slope: ``(V, S)`` by how much they move with the shape.
        precision: ``(V, V)`` about that.
    """

    slope: Float[np.ndarray, "V S"]
    precision: Float[np.ndarray, "V V"]

    @classmethod
    def of(cls, precision: Float[np.ndarray, "U U"], num_shape: int) -> Conditional:
        """Of the precision of heads about answers to one image."""
        whole = np.asarray(precision, np.float64)
        own = whole[num_shape:, num_shape:]
        return cls(-np.linalg.solve(own, whole[num_shape:, :num_shape]), own)

    @functools.cached_property
    def variance(self) -> Float[np.ndarray, " V"]:
        """Of each about that."""
        return np.diag(np.linalg.inv(self.precision))

    def mean(
        self, answers: Float[np.ndarray, "K U"], shape: Float[np.ndarray, " S"]
    ) -> Float[np.ndarray, "K V"]:
        """Most probable expression, jaw and lids."""
        count = len(shape)
        return answers[:, count:] + (shape[None] - answers[:, :count]) @ self.slope.T


def combined_answers(
    mean: Float[np.ndarray, " S"],
    precision: Float[np.ndarray, "U U"],
    population: Float[np.ndarray, " U"],
    tables: HeadTables,
    answers: float = ANSWERS,
) -> tuple[Float[np.ndarray, " S"], Float[np.ndarray, "S S"]]:
    """Shape and its precision given answers to many frames, of this mean, that are worth so many independent ones.

    Each holds the population's prior, which counts once. The face's size stays that of one answer: answers know little
    of it (``fitting.prior.SIZE_SHARE``), and more of them know no more.
    """
    combination = Combination.of(len(mean), precision, population, tables, answers)
    return combination(mean), combination.precision


@dataclasses.dataclass(frozen=True)
class Combination:
    """``combined_answers`` of any mean, for the sake of those who ask again and again.

    Attributes:
        gain: ``(S, S)`` from the mean of answers to the shape.
        precision: ``(S, S)`` of that.
        size, scaling: ``(S,)`` of the head tables.
    """

    gain: Float[np.ndarray, "S S"]
    precision: Float[np.ndarray, "S S"]
    size: Float[np.ndarray, " S"]
    scaling: Float[np.ndarray, " S"]

    @classmethod
    def of(
        cls,
        count: int,
        precision: Float[np.ndarray, "U U"],
        population: Float[np.ndarray, " U"],
        tables: HeadTables,
        answers: float = ANSWERS,
    ) -> Combination:
        """For ``count`` shape directions; the rest as ``combined_answers``."""
        size, scaling = (np.asarray(x, np.float64)[:count] for x in (tables.size, tables.scaling))
        single = np.linalg.inv(np.linalg.inv(np.asarray(precision, np.float64))[:count, :count])
        whole = answers * single - (answers - 1.0) * np.diag(population[:count])
        # Where answers say hardly more than the population, so many of them would say less than nothing.
        values, vectors = np.linalg.eigh(0.5 * (whole + whole.T))
        whole = (vectors * np.maximum(values, 0.2 * population[:count].min())) @ vectors.T
        return cls(np.linalg.solve(whole, answers * single), whole, size, scaling)

    def __call__(self, mean: Float[np.ndarray, " S"]) -> Float[np.ndarray, " S"]:
        """The shape."""
        shape = self.gain @ mean
        return shape - self.scaling * (self.size @ (shape - mean))


def choose_keyframes(
    angles: Float[np.ndarray, "K 2"], trust: Float[np.ndarray, " K"], count: int = KEYFRAMES
) -> Int[np.ndarray, " F"]:
    """Rows of frames that differ most in pose, each time the one farthest from those chosen; repeated where there are
    fewer than ``count``.

    Args:
        angles: pitch and yaw, degrees.
        trust: of each frame, 0 … 1; the untrusted half of the frames is not looked at where there are enough.
    """
    rows = np.flatnonzero(trust >= min(np.median(trust), 0.9))
    places = angles[rows] / _APART
    chosen = [int(np.argmin(np.linalg.norm(places - np.median(places, axis=0), axis=1)))]
    away = np.linalg.norm(places - places[chosen[0]], axis=1)
    while len(chosen) < min(count, len(rows)):
        away[chosen] = -1.0
        chosen.append(int(np.argmax(away)))
        away = np.minimum(away, np.linalg.norm(places - places[chosen[-1]], axis=1))
    found = np.sort(rows[chosen])
    return found[np.arange(count) % len(found)]


def pose_angles(points: Float[np.ndarray, "K 468 3"]) -> Float[np.ndarray, "K 2"]:
    """Pitch and yaw as the points show them, degrees."""
    angles = [pitch_yaw_roll(points_rotation(one.astype(np.float64)))[:2] for one in points]
    return np.degrees(np.array(angles, np.float64).reshape(-1, 2))


@dataclasses.dataclass(frozen=True)
class CropArrays:
    """Faces in their crops: what fits are given. JAX arrays, float32.

    Attributes:
        points: ``(K, 468, 3)`` crop pixels, and depth in the same scale.
        landmarks: ``(K, 68, 2)`` crop pixels.
        focal, principal_point: ``(K,)``, ``(K, 2)`` of the crops' cameras.
    """

    points: jax.Array
    landmarks: jax.Array
    focal: jax.Array
    principal_point: jax.Array

    @classmethod
    def of(cls, faces: Faces, image_size: tuple[int, int], focal: float) -> CropArrays:
        """Of faces of one clip; ``focal`` in its pixels."""
        crop = Crop(x0y0=faces.crop[:, :2], side=faces.crop[:, 2])
        scale = SIZE / faces.crop[:, 2]
        corner = np.concatenate([faces.crop[:, None, :2], np.zeros((len(faces), 1, 1))], axis=2)
        points = (faces.points - corner) * scale[:, None, None]
        landmarks = (faces.landmarks - faces.crop[:, None, :2]) * scale[:, None, None]
        centre = np.tile(np.array(image_size[::-1], np.float32) / 2, (len(faces), 1))
        lengths, middle = crop_intrinsics(np.full(len(faces), focal, np.float32), centre, crop, SIZE)
        arrays = (points, landmarks, lengths, middle)
        return cls(*(jnp.asarray(np.asarray(x), jnp.float32) for x in arrays))


_fit_person = jax.jit(fit_person, static_argnames="config")


@functools.partial(jax.jit, static_argnames="size")
def _maps(points, *, size):
    return jax.vmap(lambda one: coarse_maps(one, size))(points)


@jax.jit
def _aligned(
    model: HeadModel, places, params: FlameParams, points, focal, principal_point
) -> tuple[Camera, jax.Array]:
    """Cameras of heads by their points, and mean squared errors in the image, crop pixels."""
    vertices, _ = decode(model, params)
    heads = points_on_mesh(vertices, model.faces, *places)

    def one(head, observed, focal, principal_point):
        front = Camera(
            jnp.diag(jnp.asarray([1.0, -1.0, -1.0])), jnp.asarray([0.0, 0.0, 1.0]), focal, principal_point
        )
        camera = align_camera(head, observed[:, :2], front)
        gap = (seen_points(head, camera) - observed)[:, :2]
        return camera, jnp.mean(jnp.sum(gap**2, axis=1))

    return jax.vmap(one)(heads, points, focal, principal_point)


def estimate_focal(
    model: HeadModel,
    places: tuple[jax.Array, jax.Array],
    errors: PointErrors,
    faces: Faces,
    params: FlameParams,
    image_size: tuple[int, int],
    assumed: float,
) -> float:
    """The focal length under which keyframes' points are likeliest: perspective tells near from far, a little.

    Args:
        model, places, errors: of the points.
        faces: keyframes.
        params: heads as they are taken to be, (F, …).
        image_size: height and width.
        assumed: pixels, from which it is not far by the prior.
    """
    costs = []
    for factor in _CANDIDATES:
        arrays = CropArrays.of(faces, image_size, assumed * factor)
        camera, gaps = _aligned(model, places, params, arrays.points, arrays.focal, arrays.principal_point)
        for _ in range(_CORRECTIONS):
            points = corrected_points(model, places, errors, params, camera, arrays.points, float(SIZE))
            camera, gaps = _aligned(model, places, params, points, arrays.focal, arrays.principal_point)
        # The noise is what the fit leaves. As many observations as the errors of one image are worth: those of a clip's
        # frames repeat.
        data = 0.5 * float(errors.effective_posed) * float(np.log(jnp.mean(gaps)))
        costs.append(data + 0.5 * (np.log(factor) / _FOCAL_STD) ** 2)
    logs, costs = np.log(_CANDIDATES), np.array(costs)
    best = int(np.argmin(costs))
    around = slice(max(best - 1, 0), best + 2)
    if best in (0, len(costs) - 1):
        return float(assumed * _CANDIDATES[best])
    a, b, _ = np.polyfit(logs[around], costs[around], 2)
    found = float(np.clip(-b / (2 * a), logs[best - 1], logs[best + 1]))
    return float(assumed * np.exp(found))


def joint_shape(
    model: HeadModel,
    tables: HeadTables,
    places: tuple[jax.Array, jax.Array],
    errors: PointErrors,
    faces: Faces,
    image_size: tuple[int, int],
    focal: float,
    start: tuple[Float[np.ndarray, " S"], Float[np.ndarray, "S S"]],
    conditional: Conditional,
    rotation: Float[np.ndarray, "3 3"] | None = None,
    images: float = IMAGES,
) -> tuple[Float[np.ndarray, " S"], FlameParams]:
    """The shape of a person seen in F keyframes, and the heads of these.

    Args:
        model, tables, places, errors: of head model and front end.
        faces: the keyframes.
        image_size: height and width.
        focal: pixels of the image.
        start: shape and precision of ``combined_answers``.
        conditional: of the answers.
        rotation: from the frame of the face mesh's normals to the head model's; None where they are one.
        images: independent images that the keyframes are worth.
    """
    shape, precision = start
    frames, count = len(faces), len(shape)
    arrays = CropArrays.of(faces, image_size, focal)
    slope, own = conditional.slope, conditional.precision
    whole = np.block([[precision / frames + slope.T @ own @ slope, -slope.T @ own], [-own @ slope, own]])
    answers = faces.answer.astype(np.float64)
    mean = np.concatenate([np.tile(shape, (frames, 1)), conditional.mean(answers, shape)], axis=1)
    unknowns = whole.shape[0]
    prior = HeadPrior(
        jnp.asarray(mean, jnp.float32), jnp.asarray(whole, jnp.float32), jnp.zeros(unknowns, jnp.float32)
    )
    params = from_unknowns(prior.mean, count)
    camera, _ = _aligned(model, places, params, arrays.points, arrays.focal, arrays.principal_point)
    measured = with_measured_points(FACE_MESH, errors)
    share = images / frames
    residuals = dataclasses.replace(
        measured,
        points=measured.points * share,
        normals=measured.normals * share,
        border=measured.border * share,
    )
    config = GaussNewtonConfig(stages=(Stage(384, STEPS, 1.0),), residuals=residuals)
    anchors = Anchors.photograph(model, places, errors)
    ibug = np.asarray(load_coarse_mesh().ibug68)
    for _ in range(ROUNDS):
        points = corrected_points(model, places, errors, params, camera, arrays.points, float(SIZE))
        normals, masks = _maps(points, size=SIZE)
        if rotation is not None:
            normals = normals @ jnp.asarray(rotation, jnp.float32).T
        both = jnp.concatenate([points[:, ibug, :2], points[..., :2]], axis=1)
        params, camera, _ = _fit_person(
            tables, anchors, Observation(normals, masks, both), params, camera, config, prior
        )
    return np.asarray(params.shape[0], np.float64), params
