"""A track in FLAME's own terms, as other programs read them: which head models it takes, and frames ready to write."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from scipy.spatial.transform import Rotation

from flame_jax import FlameParams, HeadModel, decode
from n2f_jax.face_mesh.map_frames import FLAME_TRIANGLES, FLAME_VERTICES
from n2f_jax.models.pretrained import HeadModelIdentity, identity_sha256
from n2f_jax.tracking.track_file import frame_params

NUM_SHAPE, NUM_EXPRESSION = 300, 100  # what programs for FLAME allot; fewer are filled up with zeros
_BATCH = 16  # frames decoded at once
_LID_NOISE = 1e-3  # metres that the lids' displacement is worth less than, against a unit of expression
_CANONICAL_JAW = np.radians(12.0)  # opened mouth of metrical-tracker's and INSTA's canonical mesh


class FlameError(ValueError):
    """A head model that is not FLAME, or not the track's; the message says what is needed and how to get there."""


def require_flame(model: HeadModel, what: str) -> None:
    """Refuses head models that programs for FLAME cannot take.

    Args:
        model: the head model.
        what: what needs FLAME, for the message.

    Raises:
        FlameError: other sizes than FLAME's.
    """
    found = (model.num_vertices, model.num_faces, model.num_shape, model.num_expression)
    fits = (
        found[:2] == (FLAME_VERTICES, FLAME_TRIANGLES)
        and found[2] <= NUM_SHAPE
        and found[3] <= NUM_EXPRESSION
    )
    if not fits:
        raise FlameError(
            f"{what} takes FLAME ({FLAME_VERTICES} vertices, {FLAME_TRIANGLES} triangles, at most {NUM_SHAPE} shape "
            f"and {NUM_EXPRESSION} expression directions); {model.name!r} has {found[0]}, {found[1]}, {found[2]}, "
            f"{found[3]}: track with n2f track --head-model PATH (docs/flame.md); for single heads there is "
            "n2f convert coefficients"
        )


def require_same_model(track: Mapping[str, Any], model: HeadModel) -> None:
    """Refuses a head model that is not the one a track's coefficients belong to.

    Raises:
        FlameError: it is another one.
    """
    if track["head_model_sha256"] != identity_sha256(HeadModelIdentity.of(model)):
        raise FlameError(
            f"the track's coefficients are those of head model {track['head_model']!r}, which {model.name!r} is not: "
            "name it by --head-model, or track with another: n2f track --head-model PATH"
        )


@dataclasses.dataclass(frozen=True)
class FlameFrame:
    """One frame. NumPy; metres, radians.

    Attributes:
        vertices: ``(5023, 3)`` of the track's mesh, head frame; ``(0, 3)`` where it was not asked for.
        expression: ``(100,)``.
        expression_with_lids: ``(100,)`` that also does what expressions can of the lids' closure.
        jaw: ``(3,)`` axis times angle.
        eyes: ``(2, 3)`` left, right.
        eyelids: ``(2,)``.
        rotation, translation: of ``x_cam = R·x_head + t``, float64.
        root_joint: ``(3,)`` where FLAME's root joint lies, with ``expression_with_lids``: the point about which
            global rotations turn.
    """

    vertices: Float[np.ndarray, "V 3"]
    expression: Float[np.ndarray, "100"]
    expression_with_lids: Float[np.ndarray, "100"]
    jaw: Float[np.ndarray, "3"]
    eyes: Float[np.ndarray, "2 3"]
    eyelids: Float[np.ndarray, "2"]
    rotation: Float[np.ndarray, "3 3"]
    translation: Float[np.ndarray, "3"]
    root_joint: Float[np.ndarray, "3"]


class FlameTrack:
    """A track and its FLAME model. Meshes are decoded some at a time.

    Attributes:
        track: of ``track_file.KEYS``.
        model: FLAME.
        shape: ``(300,)`` float32.
        lid_expression: ``(100, 2)`` expression that comes nearest to the left and the right lid's closure.

    Raises:
        FlameError: the model is not FLAME, or not the track's.
    """

    def __init__(self, track: Mapping[str, Any], model: HeadModel, what: str = "a track for FLAME"):
        require_flame(model, what)
        require_same_model(track, model)
        self.track, self.model = track, model
        self.shape = _padded(track["shape"], NUM_SHAPE)
        self._root_of_shape, self._root_of_expression = root_joint(model, track["shape"])
        self._own_lid_expression = lids_as_expression(model)
        self.lid_expression = np.zeros((NUM_EXPRESSION, 2))
        self.lid_expression[: model.num_expression] = self._own_lid_expression
        self._first, self._vertices = -1, np.zeros((0, FLAME_VERTICES, 3), np.float32)

    def frame(self, row: int, mesh: bool = True) -> FlameFrame:
        """A frame by its number in the track; it is not lost. Without ``mesh`` it has no vertices."""
        track = self.track
        expression = np.asarray(track["expression"][row], np.float64)
        lids = np.asarray(track["eyelids"][row], np.float64)
        with_lids = expression + self._own_lid_expression @ lids
        return FlameFrame(
            vertices=self._mesh(row) if mesh else np.zeros((0, 3), np.float32),
            expression=_padded(expression, NUM_EXPRESSION),
            expression_with_lids=_padded(with_lids, NUM_EXPRESSION),
            jaw=np.asarray(track["jaw_pose"][row], np.float32),
            eyes=np.asarray(track["eyes_pose"][row], np.float32),
            eyelids=np.asarray(track["eyelids"][row], np.float32),
            rotation=np.asarray(track["rotation"][row], np.float64),
            translation=np.asarray(track["translation"][row], np.float64),
            root_joint=self._root_of_shape + self._root_of_expression @ with_lids,
        )

    def canonical(self) -> Float[np.ndarray, "V 3"]:
        """The person's mesh with a mouth that is open by 12°, as metrical-tracker and INSTA have it."""
        shape = jnp.asarray(self.track["shape"], jnp.float32)
        turn = Rotation.from_rotvec([_CANONICAL_JAW, 0, 0]).as_matrix()[:2].reshape(-1)
        params = FlameParams.resting(
            shape, jnp.zeros(self.model.num_expression), jnp.asarray(turn, jnp.float32), jnp.zeros(2)
        )
        return np.asarray(decode(self.model, params)[0])

    def lids_left(self, rows: np.ndarray) -> float:
        """Root mean square of what expressions leave of the lids' displacement where lids move, mm, in the mean
        over frames."""
        lids = np.asarray(self.model.eyelids, np.float64)  # (2, V, 3)
        moved = np.linalg.norm(lids, axis=-1).max(axis=0) > 1e-6
        if not moved.any() or not len(rows):
            return 0.0
        basis = np.asarray(self.model.exprdirs, np.float64)[moved]
        off = lids[:, moved] - np.einsum("vck,ke->evc", basis, self._own_lid_expression)
        # Mean squares of lids' closures: one 2 × 2 matrix for all frames.
        squares = np.einsum("evc,fvc->ef", off, off) / moved.sum()
        closure = np.asarray(self.track["eyelids"], np.float64)[rows]
        return 1e3 * float(np.sqrt(np.einsum("te,ef,tf->t", closure, squares, closure)).mean())

    def _mesh(self, row: int) -> np.ndarray:
        if not self._first <= row < self._first + len(self._vertices):
            # Lost frames are NaN and decode to NaN; a short batch would be compiled anew.
            rows = np.minimum(np.arange(row, row + _BATCH), len(self.track["seconds"]) - 1)
            self._first, self._vertices = (
                row,
                np.asarray(_decoded(self.model, frame_params(self.track, rows))),
            )
        return self._vertices[row - self._first]


@jax.jit
def _decoded(model: HeadModel, params: FlameParams) -> Float[Array, "B V 3"]:
    return decode(model, params)[0]


def root_joint(
    model: HeadModel, shape: Float[np.ndarray, " S"]
) -> tuple[Float[np.ndarray, "3"], Float[np.ndarray, "3 E"]]:
    """Where a person's root joint lies at rest, metres, and by how much each unit of expression moves it."""
    regressor = np.asarray(model.J_regressor[0], np.float64)
    resting = np.asarray(model.v_template, np.float64) + np.einsum(
        "vck,k->vc", np.asarray(model.shapedirs, np.float64), np.asarray(shape, np.float64)
    )
    return regressor @ resting, np.einsum("v,vck->ck", regressor, np.asarray(model.exprdirs, np.float64))


def lids_as_expression(model: HeadModel) -> Float[np.ndarray, "E 2"]:
    """Expressions that come nearest to either lid's closure over the whole head, each coefficient N(0, 1) before.

    GaussianAvatars and VHAP have no lids beyond FLAME's expressions.
    """
    basis = np.asarray(model.exprdirs, np.float64).reshape(-1, model.num_expression)
    lids = np.asarray(model.eyelids, np.float64).reshape(2, -1)
    normal = basis.T @ basis + _LID_NOISE**2 * np.eye(model.num_expression)
    return np.linalg.solve(normal, basis.T @ lids.T)


def neck_rim(model: HeadModel) -> Int[np.ndarray, "3"]:
    """Vertices of the neck's open rim: outermost to the subject's right, to the left, and foremost; none where the
    mesh is closed. ``(3,)`` or ``(0,)``."""
    faces = np.asarray(model.faces, np.int64)
    edges = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1)
    edges, count = np.unique(edges, axis=0, return_counts=True)
    rim = edges[count == 1]
    if not len(rim):
        return np.zeros(0, np.int64)
    # Loops: the smallest vertex of each, spread along the edges.
    label = np.arange(model.num_vertices)
    while True:
        least = np.minimum(label[rim[:, 0]], label[rim[:, 1]])
        before = label.copy()
        np.minimum.at(label, rim[:, 0], least)
        np.minimum.at(label, rim[:, 1], least)
        if (label == before).all():
            break
    on_rim = np.unique(rim)
    template = np.asarray(model.v_template)
    loops = [on_rim[label[on_rim] == one] for one in np.unique(label[on_rim])]
    lowest = min(loops, key=lambda loop: template[loop, 1].mean())
    x, z = template[lowest, 0], template[lowest, 2]
    return lowest[[x.argmin(), x.argmax(), z.argmax()]]


def _padded(values: np.ndarray, count: int) -> Float[np.ndarray, " count"]:
    values = np.asarray(values, np.float32)
    return np.pad(values, (0, count - len(values)))
