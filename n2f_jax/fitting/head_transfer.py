"""Heads of one model in the coefficients of another, by dense correspondence: regularised least squares.

The target's skin is moved onto the source's head (``HeadCorrespondence``) by its coefficients, jaw, lids and a small
motion of its frame: distances along the normal count as 0.5 mm, those along the skin, where correspondence is loose, as
3 mm, and the target's population is the prior. Normal equations are those of the mean head, factorised once, so a head
costs two products; the jaw's turn, which is not linear, takes a few of the same steps (the chord method). Pure JAX,
batched.

What a network's answer says of the source's head is carried over by the same linear map: with ``target = M · source``,
the covariance becomes ``M C Mᵀ`` plus what the source's surface does not tell of the target's coefficients.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from flame_jax import FlameParams, HeadModel
from flame_jax.rotations import axis_angle_to_matrix
from n2f_jax.fitting.head_correspondence import HeadCorrespondence
from n2f_jax.fitting.head_tables import HeadTables
from n2f_jax.fitting.prior import HeadPrior, population_precision
from n2f_jax.geometry.camera import Camera
from n2f_jax.mesh.normals import vertex_normals
from n2f_jax.models.calibration import from_unknowns, to_unknowns
from n2f_jax.models.resting_head import RestingHead, decode_resting, resting_arrays

_NORMAL_STD, _ALONG_STD = 0.5e-3, 3e-3  # metres
# So many independent points the skin counts as, however finely it is meshed.
_POINTS = 2000.0
# Of a turn (radians) and shift (metres) of the target's frame.
_FRAME_STD = (0.1, 0.1, 0.1, 0.02, 0.02, 0.02)
_STEPS = 8


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class HeadTransfer:
    """From one head model to another. A pytree: pass it through ``jax.jit`` as an argument.

    N pairs; U = S + E + 5 unknowns of the target: shape, expression, jaw (axis times angle), eyelids.

    Attributes:
        corners, barycentric: ``(N, 3)`` the source's points, by its vertices.
        rotation, translation: source's head frame to target's.
        part: the target's N vertices.
        pivot: ``(3,)`` about which the small motion turns.
        whiten: ``(N, 3, 3)`` differences of points to numbers of unit variance.
        gain: ``(U + 6, 3N)`` step by those numbers.
        shrink: ``(U + 6, U + 6)`` step by the unknowns themselves: the prior's pull.
        precision: ``(U, U)`` of the target's unknowns about what is carried over, answers' errors included.
        population: ``(U,)``.
        num_shape: S (static).
        has_jaw: whether the jaw moves anything (static).
    """

    corners: Int[Array, "N 3"]
    barycentric: Float[Array, "N 3"]
    rotation: Float[Array, "3 3"]
    translation: Float[Array, "3"]
    part: RestingHead
    pivot: Float[Array, "3"]
    whiten: Float[Array, "N 3 3"]
    gain: Float[Array, "W M"]
    shrink: Float[Array, "W W"]
    precision: Float[Array, "U U"]
    population: Float[Array, " U"]
    num_shape: int = dataclasses.field(metadata={"static": True})
    has_jaw: bool = dataclasses.field(metadata={"static": True})

    @classmethod
    def make(
        cls,
        source: HeadModel,
        target: HeadModel,
        found: HeadCorrespondence,
        target_tables: HeadTables,
        answers: Float[np.ndarray | Array, "U_source U_source"] | None = None,
    ) -> HeadTransfer:
        """Works out the map on the host, in float64.

        Args:
            source, target: the models.
            found: their correspondence (``find_correspondence``).
            target_tables: ``HeadTables.from_model(target)``.
            answers: precision of the source's heads about what will be carried over (``AnswerModel.precision``); None:
                they are exact.
        """
        part = RestingHead(**resting_arrays(target, found.vertices))
        pivot = np.asarray(target_tables.pivot, np.float64)
        normals = vertex_normals(np.asarray(target.v_template), np.asarray(target.faces))[found.vertices]
        across = np.einsum("ni,nj->nij", normals, normals)
        whiten = across / _NORMAL_STD + (np.eye(3) - across) / _ALONG_STD
        whiten = whiten * np.sqrt(_POINTS * found.weights.astype(np.float64))[:, None, None]

        jacobian = _slopes_at_rest(part)
        offset = np.asarray(part.template, np.float64) - pivot
        turn = np.stack(
            [np.cross(np.broadcast_to(axis, offset.shape), offset) for axis in np.eye(3)], axis=-1
        )
        shift = np.broadcast_to(np.eye(3), (len(offset), 3, 3))
        jacobian = np.concatenate([jacobian, turn, shift], axis=-1)
        rows = (whiten @ jacobian).reshape(3 * len(offset), -1)
        population = population_precision(target_tables)
        prior = np.concatenate([np.asarray(population, np.float64), np.array(_FRAME_STD) ** -2.0])
        # In units of the prior's deviations: coefficients, radians and metres differ by orders of magnitude.
        scale = prior**-0.5
        scaled = rows * scale
        inverse = scale[:, None] * np.linalg.inv(scaled.T @ scaled + np.eye(len(scale))) * scale
        gain = inverse @ rows.T

        size = len(population)
        covariance = inverse[:size, :size]
        if answers is not None:
            own = RestingHead(**resting_arrays(source))
            corners = np.asarray(source.faces)[found.faces]
            moved = np.einsum("nk,nkcu->ncu", found.barycentric, _slopes_at_rest(own)[corners])
            moved = whiten @ np.einsum("dc,ncu->ndu", found.rotation.astype(np.float64), moved)
            carried = gain[:size] @ moved.reshape(gain.shape[1], -1)
            covariance = covariance + carried @ _inverse(np.asarray(answers, np.float64)) @ carried.T
        arrays = {
            "corners": np.asarray(source.faces)[found.faces],
            "barycentric": found.barycentric,
            "rotation": found.rotation,
            "translation": found.translation,
            "pivot": pivot,
            "whiten": whiten,
            "gain": gain,
            "shrink": inverse * prior,
            "precision": _inverse(covariance),
            "population": population,
        }
        as_32 = {
            key: jnp.asarray(value, jnp.int32 if key == "corners" else jnp.float32)
            for key, value in arrays.items()
        }
        has_jaw = bool(np.any(np.asarray(part.jaw_weight) > 0))
        return cls(**as_32, part=part, num_shape=target.num_shape, has_jaw=has_jaw)

    def carry_over(
        self, vertices: Float[Array, "B V 3"], params: FlameParams, camera: Camera
    ) -> tuple[FlameParams, Camera, HeadPrior]:
        """Heads of the source as heads of the target, in the same place before the same cameras.

        Args:
            vertices: of the source's heads, decoded, metres.
            params: theirs (B, …); only the jaw is looked at.
            camera: of these heads (B, …).

        Returns:
            The target's parameters, neck and eyes at rest; its cameras; and what is known of it before an image is
            looked at, about these parameters.
        """
        source = jnp.einsum("nk,bnkc->bnc", self.barycentric, vertices[:, self.corners])
        wanted = _moved(source, self.rotation, self.translation)
        known = to_unknowns(params)
        size = self.population.shape[0]
        jaw = known[:, -5:-2] if self.has_jaw else jnp.zeros_like(known[:, -5:-2])
        start = jnp.zeros((len(vertices), size + 6)).at[:, size - 5 : size - 2].set(jaw)

        def step(_, unknowns):
            off = jnp.einsum("nij,bnj->bni", self.whiten, self._points(unknowns) - wanted)
            pull = jnp.matmul(unknowns, self.shrink.T, precision=jax.lax.Precision.HIGHEST)
            return unknowns - off.reshape(len(off), -1) @ self.gain.T - pull

        unknowns = jax.lax.fori_loop(0, _STEPS, step, start)
        heads, frame = unknowns[:, :size], unknowns[:, size:]
        # Target's frame → source's: x_source = Rᵀ (T (x − c) + c + shift − t).
        turn = axis_angle_to_matrix(frame[:, :3])
        into = jnp.einsum("bij,kj->bik", camera.rotation, self.rotation)
        rotation = into @ turn
        pivot = jnp.broadcast_to(self.pivot, frame[:, 3:].shape)
        rest = pivot + frame[:, 3:] - jnp.broadcast_to(self.translation, pivot.shape)
        rest = rest - jnp.einsum("bij,bj->bi", turn, pivot)
        translation = jnp.einsum("bij,bj->bi", into, rest) + camera.translation
        moved = dataclasses.replace(camera, rotation=rotation, translation=translation)
        prior = HeadPrior(heads, self.precision, self.population)
        return from_unknowns(heads, self.num_shape), moved, prior

    def _points(self, unknowns):
        """``(B, N, 3)`` the target's vertices after its small motion."""

        def one(unknowns):
            coefficients, jaw, eyelids, turn, shift = jnp.split(
                unknowns, np.cumsum([unknowns.shape[0] - 11, 3, 2, 3]).tolist()
            )
            points, _ = decode_resting(self.part, coefficients, axis_angle_to_matrix(jaw), eyelids)
            return _moved(points - self.pivot[None], axis_angle_to_matrix(turn), self.pivot + shift)

        return jax.vmap(one)(unknowns)


def _moved(points, rotation, translation):
    turned = jnp.matmul(points, rotation.T, precision=jax.lax.Precision.HIGHEST)
    return turned + jnp.broadcast_to(translation, turned.shape)


def _slopes_at_rest(head: RestingHead) -> Float[np.ndarray, "V 3 U"]:
    """Derivatives of the vertices by coefficients, jaw and lids, of the mean head at rest."""
    rest, basis = np.asarray(head.template, np.float64), np.asarray(head.basis, np.float64)
    arm = rest - np.asarray(head.joint, np.float64)
    weight = np.asarray(head.jaw_weight, np.float64)[:, None]
    jaw = np.stack([weight * np.cross(np.broadcast_to(axis, arm.shape), arm) for axis in np.eye(3)], axis=-1)
    if head.correctives.shape[0]:
        # Derivatives of a rotation matrix by axis times angle at rest, row by row.
        generators = np.cross(np.eye(3)[:, None, :], np.eye(3)[None, :, :]).transpose(0, 2, 1).reshape(3, 9)
        jaw = jaw + np.asarray(head.correctives, np.float64) @ generators.T
    return np.concatenate([basis, jaw, np.asarray(head.eyelids, np.float64)], axis=-1)


def _inverse(matrix: np.ndarray) -> np.ndarray:
    """Of a symmetric positive definite matrix whose diagonal spans orders of magnitude."""
    scale = np.sqrt(np.diag(matrix))
    inverse = np.linalg.inv(matrix / scale[:, None] / scale) / scale[:, None] / scale
    return 0.5 * (inverse + inverse.T)
