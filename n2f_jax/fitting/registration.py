"""Registration of a head model to a scan or to a mesh of any other topology.

Landmarks give the first pose; then, in turn, nearest points are paired (both ways, by ``correspondences``) and a
Gauss–Newton step is taken on their point-to-plane distances (Chen & Medioni 1992), over pose, shape, expression, jaw
and eyelids under the sampler's prior, with robust weights. What the coefficients cannot express may be left to offsets
of the vertices (``offsets``). Holes and cut necks pull at nothing: pairs on a border of the scan do not count.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from flame_jax import FlameParams, HeadModel
from flame_jax.rotations import axis_angle_to_matrix, axis_angle_to_rotation_6d
from n2f_jax.fitting.correspondences import ModelSkin, Pairs, ScanSurface
from n2f_jax.fitting.head_tables import HeadTables, Posed, pose
from n2f_jax.fitting.linear_solve import solve_positive
from n2f_jax.fitting.offsets import fit_offsets
from n2f_jax.fitting.prior import population_precision
from n2f_jax.geometry.alignment import AlignmentError, Similarity, procrustes_of_landmarks
from n2f_jax.mesh.triangle_mesh import MeshError, TriangleMesh
from n2f_jax.metrics.skin import skin_vertices

NUM_POSE = 7  # turn, shift, log scale


@dataclasses.dataclass(frozen=True)
class Stage:
    """One leg of a registration.

    Attributes:
        steps: at most.
        max_distance: metres on the head; nearest points further away are no pairs.
        landmark_std: metres, how far off landmarks are taken to be. Planes do not hold a surface that slides along
            itself: landmarks do.
        coefficients: False moves the pose alone.
    """

    steps: int
    max_distance: float
    landmark_std: float
    coefficients: bool = True


@dataclasses.dataclass(frozen=True)
class RegistrationConfig:
    """How to register.

    Attributes:
        stages: from the first pose on.
        scaling: whether the scan's scale is found; False: the scan is in metres, and the size is the shape's.
        scale_std: of the log scale about what the landmarks say of the mean head: people's sizes differ by so much, and
            the surface does not tell a large head from a large scale.
        noise_std: metres; the least that pairs are taken to be off, beside what they are seen to be.
        rest: whether expression, jaw and eyelids stay at rest.
        tolerance: metres; a stage ends when no point is moved further by a step.
        samples: points spread over the scan.
        offsets: whether vertices are then moved off what coefficients express.
    """

    stages: tuple[Stage, ...] = (
        Stage(20, 0.04, 0.003, coefficients=False),
        Stage(15, 0.02, 0.003),
        Stage(20, 0.008, 0.003),
        Stage(20, 0.005, 0.003),
    )
    scaling: bool = False
    scale_std: float = 0.03
    noise_std: float = 2e-4
    rest: bool = False
    tolerance: float = 3e-5
    samples: int = 3000
    offsets: bool = False


@dataclasses.dataclass(frozen=True)
class Registration:
    """A head model laid over a scan.

    Attributes:
        params: FLAME parameters, unbatched; neck and eyes at rest.
        similarity: head frame (metres) → scan frame.
        vertices: ``(V, 3)`` of the model, head frame, metres, offsets included.
        offsets: ``(V, 3)`` by which they differ from what ``params`` decode to, head frame; zeros without.
        distance: root mean square distance of the scan's points that were paired, metres on the head.
        paired: share of the model's skin that found its place on the scan.
        steps: taken in all.
    """

    params: FlameParams
    similarity: Similarity
    vertices: Float[np.ndarray, "V 3"]
    offsets: Float[np.ndarray, "V 3"]
    distance: float
    paired: float
    steps: int


class Registrar:
    """Registers one head model to any number of scans.

    Args:
        model: with landmarks and, so that its inner parts stay away from scans, masks.
        config: how.

    Raises:
        ValueError: the model has no landmarks.
    """

    def __init__(self, model: HeadModel, config: RegistrationConfig | None = None):
        if model.landmarks is None:
            raise ValueError(
                f"head model {model.name!r} has no landmark embedding, from which registration starts"
            )
        self.model, self.config = model, config or RegistrationConfig()
        self._tables = HeadTables.from_model(model)
        self._faces = np.asarray(model.faces, np.int64)
        self._skin = ModelSkin(self._faces, skin_vertices(model))
        self._landmark_corners = self._faces[np.asarray(model.landmarks.static_faces)]
        self._landmark_weights = np.asarray(model.landmarks.static_barycentric, np.float64)
        free = np.asarray(population_precision(self._tables), np.float64) ** -0.5
        if self.config.rest:
            free[model.num_shape :] = 0.0
        self._prior_std = free

    def __call__(self, scan: TriangleMesh, landmarks: Float[np.ndarray, "68 3"]) -> Registration:
        """Registers the model to a scan.

        Args:
            scan: cleaned; metres, or any unit with ``config.scaling``.
            landmarks: the 68 of iBUG's scheme on it, same frame; rows that are not known are NaN. At least three that
                do not lie on a line. Those of the jaw line are taken for the static ones of the model and used for the
                first pose only where there are no others.

        Raises:
            AlignmentError: landmarks that determine no pose, or a scan that the model never meets.
            MeshError: a scan without surface.
        """
        config = self.config
        landmarks = np.asarray(landmarks, np.float64)
        if len(scan.faces) == 0:
            raise MeshError("a scan of points without triangles has no surface to register to")
        known = np.isfinite(landmarks).all(axis=1)
        if known[17:].sum() >= 3:
            known[:17] = False  # the outline seen from wherever it was marked is no place on the skin
        state = _State.start(self._tables)
        vertices = self._decode(state)
        own = self._landmarks_on(vertices)
        similarity = first = procrustes_of_landmarks(own[known], landmarks[known], scaling=config.scaling)
        surface = ScanSurface(scan, config.samples)
        marked = self._landmark_pairs(landmarks, known)
        steps, forth = 0, None
        for stage in config.stages:
            for _ in range(stage.steps):
                placed = similarity.apply(vertices)
                forth, back = self._skin.pairs(placed, surface, stage.max_distance * float(similarity.scale))
                grown = float(np.log(similarity.scale / first.scale))
                state, similarity = self._step(
                    state, similarity, placed, Pairs.joined(forth, back), marked, stage, grown
                )
                vertices = self._decode(state)
                steps += 1
                moved = np.linalg.norm(similarity.apply(vertices) - placed, axis=1).max()
                if moved < config.tolerance * float(similarity.scale):
                    break
        if forth is None or forth.counts.sum() < 50:
            raise AlignmentError(
                "the head model found no place on the scan: wrong landmarks, a wrong unit, or no head"
            )
        offsets = np.zeros_like(vertices)
        if config.offsets:
            offsets = fit_offsets(self._skin, self._faces, vertices, similarity, surface, marked)
        placed = similarity.apply(vertices + offsets)
        forth, back = self._skin.pairs(
            placed, surface, config.stages[-1].max_distance * float(similarity.scale)
        )
        residual = _plane_distances(placed, back)[back.counts] / float(similarity.scale)
        return Registration(
            params=state.params(self.model),
            similarity=similarity,
            vertices=vertices + offsets,
            offsets=offsets,
            distance=float(np.sqrt(np.mean(residual**2))) if len(residual) else float("nan"),
            paired=float(forth.counts.mean()),
            steps=steps,
        )

    def _decode(self, state: _State) -> np.ndarray:
        return np.asarray(_vertices(self._tables, state), np.float64)

    def _landmarks_on(self, vertices: np.ndarray) -> np.ndarray:
        return np.einsum("nc,nci->ni", self._landmark_weights, vertices[self._landmark_corners])

    def _landmark_pairs(self, landmarks: np.ndarray, known: np.ndarray) -> Pairs:
        """Each landmark three times, with the axes as normals: distances of points, not of planes."""
        return Pairs(
            np.tile(self._landmark_corners, (3, 1)),
            np.tile(self._landmark_weights, (3, 1)),
            np.tile(np.where(known[:, None], landmarks, 0.0), (3, 1)),
            np.repeat(np.eye(3), len(landmarks), axis=0),
            np.tile(known, 3),
        )

    def _step(self, state, similarity, placed, pairs: Pairs, marked: Pairs, stage, grown):
        """One Gauss–Newton step: the new state and pose."""
        config, scale = self.config, float(similarity.scale)
        residual = _plane_distances(placed, pairs) / scale
        weight = _robust_weights(residual, pairs.counts, config.noise_std)
        each = np.concatenate([weight, marked.counts / stage.landmark_std**2])
        pairs = Pairs.joined(pairs, marked)
        corners, weights = pairs.corners, pairs.weights
        # In the head's frame and metres, so that float32 has small numbers to work with.
        target = similarity.inverse(pairs.target)
        normal = pairs.normal @ similarity.rotation
        std = np.array([1.0] * 6 + [config.scale_std if config.scaling else 0.0])
        if stage.coefficients:
            std = np.concatenate([std, self._prior_std])
        solved = _solve(
            self._tables,
            state,
            jnp.asarray(corners.astype(np.int32)),
            *(jnp.asarray(x, jnp.float32) for x in (weights, target, normal, each, std, grown)),
        )
        step = np.zeros(NUM_POSE + len(self._prior_std))
        step[: len(std)] = solved
        if not np.isfinite(step).all():
            raise AlignmentError("the registration did not stay finite")
        centre = np.asarray(self._tables.pivot, np.float64)
        turn = np.asarray(axis_angle_to_matrix(jnp.asarray(step[:3], jnp.float32)), np.float64)
        # The small motion is about the face's centre in the head's frame: x ↦ e^s·T·(x − c) + c + shift.
        factor = float(np.exp(step[6]))
        shift = centre + step[3:6] - factor * turn @ centre
        rotation = similarity.rotation @ turn
        u, _, vt = np.linalg.svd(rotation)
        new = Similarity(scale * factor, u @ vt, scale * similarity.rotation @ shift + similarity.translation)
        return state.moved(step[NUM_POSE:]), new


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _State:
    coefficients: Float[Array, " K"]
    jaw: Float[Array, "3"]
    eyelids: Float[Array, "2"]

    @classmethod
    def start(cls, tables: HeadTables) -> _State:
        return cls(jnp.zeros(tables.basis.shape[-1]), jnp.zeros(3), jnp.zeros(2))

    def moved(self, step: np.ndarray) -> _State:
        count = self.coefficients.shape[0]
        step = jnp.asarray(step, jnp.float32)
        return _State(
            self.coefficients + step[:count],
            self.jaw + step[count : count + 3],
            self.eyelids + step[count + 3 :],
        )

    def params(self, model: HeadModel) -> FlameParams:
        return FlameParams.resting(
            shape=self.coefficients[: model.num_shape],
            expression=self.coefficients[model.num_shape :],
            jaw=axis_angle_to_rotation_6d(self.jaw),
            eyelids=self.eyelids,
        )


@jax.jit
def _vertices(tables: HeadTables, state: _State) -> Float[Array, "V 3"]:
    return pose(tables, state.coefficients, state.jaw, state.eyelids).vertices


@jax.jit
def _solve(tables, state, corners, weights, target, normal, each, std, grown):
    """The step: pose, coefficients, jaw, eyelids; or the pose alone, where ``std`` has no more.

    Args:
        tables, state: of the head.
        corners, weights: ``(N, 3)`` the model's points.
        target, normal: ``(N, 3)`` the scan's, in the head's frame.
        each: ``(N,)`` weights of the squared distances, 1/m².
        std: ``(7 + K + 5,)`` or ``(7,)`` σ of the prior; 0 holds an unknown. Turn and shift have none: there a unit.
        grown: log of the scale over that about which its prior is.
    """
    posed = pose(tables, state.coefficients, state.jaw, state.eyelids)
    points = jnp.einsum("nc,nci->ni", weights, posed.vertices[corners])
    residual = jnp.sum(normal * (points - target), axis=-1)
    arm = points - jnp.broadcast_to(tables.pivot, points.shape)
    jacobian = jnp.concatenate(
        [jnp.cross(arm, normal), normal, jnp.sum(arm * normal, axis=-1, keepdims=True)], axis=-1
    )
    now = jnp.concatenate([jnp.zeros(6), grown[None]])
    if std.shape[0] > NUM_POSE:
        slopes = _slopes(tables, posed, corners, weights, normal)
        jacobian = jnp.concatenate([jacobian, slopes], axis=-1)
        now = jnp.concatenate([now, state.coefficients, state.jaw, state.eyelids])
    # Unknowns in units of their σ: what has none is held.
    scaled = jacobian * std[None]
    pull = jnp.where(std > 0.0, now / jnp.where(std > 0.0, std, 1.0), 0.0)
    precision = jnp.where(jnp.arange(std.shape[0]) < 6, 1e-3, 1.0)
    weighted = scaled * each[:, None]
    matrix = jnp.matmul(weighted.T, scaled, precision=jax.lax.Precision.HIGHEST) + jnp.diag(precision)
    gradient = weighted.T @ residual + precision * pull
    return -std * solve_positive(matrix, gradient[:, None])[:, 0]


def _slopes(tables: HeadTables, posed: Posed, corners, weights, normal):
    """``(N, K + 5)`` derivatives of ``normal · point`` by coefficients, jaw and eyelids."""
    swing = posed.turn - jnp.eye(3)
    total = 0.0
    for corner in range(3):  # one corner at a time: a third of the memory
        vertex, share = corners[:, corner], weights[:, corner]
        direction = normal * share[:, None]
        jaw = tables.jaw_weight[vertex][:, None] * direction
        swung = jaw @ swing
        by_coefficients = jnp.einsum("nc,nck->nk", direction + swung, tables.basis[vertex])
        by_coefficients = by_coefficients - swung @ tables.joint_basis
        by_jaw = jnp.einsum("nc,cdj,nd->nj", jaw, posed.turn_slope, posed.from_joint[vertex])
        if tables.correctives.shape[0]:
            correctives = jnp.einsum(
                "ncp,pj->ncj", tables.correctives[vertex], posed.turn_slope.reshape(9, 3)
            )
            by_jaw = by_jaw + jnp.einsum("nc,ncj->nj", direction + swung, correctives)
        by_eyelids = jnp.einsum("nc,nce->ne", direction, tables.eyelids[vertex])
        total = total + jnp.concatenate([by_coefficients, by_jaw, by_eyelids], axis=-1)
    return total


def _plane_distances(placed: np.ndarray, pairs: Pairs) -> np.ndarray:
    points = np.einsum("nc,nci->ni", pairs.weights, placed[pairs.corners])
    return ((points - pairs.target) * pairs.normal).sum(axis=1)


def _robust_weights(residual: np.ndarray, counts: np.ndarray, noise_std: float) -> np.ndarray:
    """Weights of Geman and McClure's loss over the variance, its scale from the median of what is seen; 1/m²."""
    if not counts.any():
        return np.zeros(len(residual))
    std = max(noise_std, 1.4826 * float(np.median(np.abs(residual[counts]))))
    return np.where(counts, 1.0 / (1.0 + (residual / (3.0 * std)) ** 2) ** 2 / std**2, 0.0)
