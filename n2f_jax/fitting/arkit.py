"""ARKit's 52 blendshape weights ↔ expression, jaw, eyelids and gaze of a head model.

Each unit is a displacement of the skin, MakeHuman's of the same name (CC0) laid on the open head, or carried to another
model by its correspondence; units add up. Weights to coefficients: the head whose skin lies nearest to the sum, under
the model's prior (regularised Gauss–Newton: the jaw turns). Coefficients to weights: bounded least squares, each weight
within 0 … 1. What the eyes do is no displacement of skin: ``eyeLook…`` are the eyeballs' angles.

Names and meaning: Apple, ARFaceAnchor.BlendShapeLocation. Left and right are the subject's.
"""

from __future__ import annotations

import dataclasses
import functools
import zipfile
from importlib import resources
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from scipy.spatial.transform import Rotation

from flame_jax import FlameParams, HeadModel
from flame_jax.rotations import (
    axis_angle_to_matrix,
    axis_angle_to_rotation_6d,
    rotation_6d_to_axis_angle,
)
from n2f_jax.face_mesh.arkit_names import OF_GAZE, UNITS
from n2f_jax.fitting.bounded_least_squares import bounded_least_squares
from n2f_jax.fitting.head_correspondence import HeadCorrespondence
from n2f_jax.metrics.skin import face_skin
from n2f_jax.models.calibration import from_unknowns, to_unknowns
from n2f_jax.models.resting_head import RestingHead, decode_resting, resting_arrays

ASSET = Path(str(resources.files("n2f_jax.fitting") / "assets" / "arkit_units.npz"))
# Degrees of gaze at which an eyeLook unit has weight 1.
LOOK_FULL_DEG = 30.0
# Of the skin's places, metres; so many of them count as independent.
_NOISE_STD, _POINTS = 0.5e-3, 500.0
# Radians, and closures, beside expression coefficients of the model's own spread.
_JAW_STD, _LID_STD = 0.3, 0.5
_STEPS = 6
# Of a weight: so little that it decides only between units that move the skin alike.
_WEIGHT_STD = 3.0


class ArkitError(ValueError):
    """The asset is missing or damaged, or weights are not what is wanted; one line."""


@functools.cache
def open_head_units() -> Float[np.ndarray, "51 V 3"]:
    """Displacements of the open head's vertices at weight 1, metres.

    Raises:
        ArkitError: the asset is missing or damaged.
    """
    try:
        with np.load(ASSET, allow_pickle=False) as stored:
            names, offsets = (
                tuple(str(name) for name in stored["names"]),
                stored["offsets"].astype(np.float32),
            )
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise ArkitError(f"{ASSET}: {error}; scripts/build/build_arkit_units.py writes it") from error
    if names != UNITS or offsets.ndim != 3 or not np.isfinite(offsets).all():
        raise ArkitError(f"{ASSET} is damaged; scripts/build/build_arkit_units.py writes it")
    return offsets


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ArkitUnits:
    """The units on n points of a model's skin. A pytree.

    Attributes:
        part: the points' head.
        offsets: ``(51, n, 3)`` metres at weight 1.
        weights: ``(n,)`` of the points; their sum is 1.
        expression_std: of the model's coefficients.
        num_shape: S (static).
    """

    part: RestingHead
    offsets: Float[Array, "51 n 3"]
    weights: Float[Array, " n"]
    expression_std: Float[Array, ""]
    num_shape: int = dataclasses.field(metadata={"static": True})

    @classmethod
    def of_open_head(cls, model: HeadModel) -> ArkitUnits:
        """On the open head's face.

        Raises:
            ArkitError: another model, or the asset is damaged.
        """
        offsets = open_head_units()
        if offsets.shape[1] != model.num_vertices:
            raise ArkitError(
                f"{model.name!r} is not the open head: of_model takes its correspondence with the open head"
            )
        face = face_skin(model)
        return cls._on(model, face, offsets[:, face], np.full(len(face), 1.0 / len(face)))

    @classmethod
    def of_model(cls, model: HeadModel, open_head: HeadModel, found: HeadCorrespondence) -> ArkitUnits:
        """On any other head model.

        Args:
            model: the target of ``found``.
            open_head: its source.
            found: ``find_correspondence(open_head, model)``.
        """
        corners = np.asarray(open_head.faces)[found.faces]
        offsets = np.einsum("nk,unkc->unc", found.barycentric, open_head_units()[:, corners])
        return cls._on(model, found.vertices, offsets @ found.rotation.T, found.weights)

    @classmethod
    def _on(cls, model: HeadModel, vertices: Int[np.ndarray, " n"], offsets, weights) -> ArkitUnits:
        return cls(
            RestingHead(**resting_arrays(model, vertices)),
            jnp.asarray(offsets, jnp.float32),
            jnp.asarray(weights, jnp.float32),
            jnp.asarray(model.expression_std, jnp.float32),
            model.num_shape,
        )

    def to_params(self, weights: np.ndarray) -> tuple[FlameParams, Float[np.ndarray, " B"]]:
        """Expressions of the mean head.

        Args:
            weights: ``(B, 51)``, 0 … 1, in the order of ``UNITS``.

        Returns:
            Parameters with shape 0, expression, jaw, eyelids and eyes; and the root mean square distance of the skin
            from the sum of the units, mm.

        Raises:
            ArkitError: other numbers.
        """
        weights = np.asarray(weights, np.float32)
        if weights.ndim != 2 or weights.shape[1] != len(UNITS):
            raise ArkitError(f"weights have shape {weights.shape}, expected (B, {len(UNITS)})")
        if not (np.isfinite(weights).all() and (weights >= 0).all() and (weights <= 1).all()):
            raise ArkitError("weights lie within 0 and 1")
        wanted = jnp.einsum("bu,unc->bnc", jnp.asarray(weights), self.offsets)
        unknowns, left = nearest_expressions(self, wanted)
        neutral = jnp.zeros((len(weights), self.num_shape))
        params = from_unknowns(jnp.concatenate([neutral, unknowns], axis=-1), self.num_shape)
        eyes = axis_angle_to_rotation_6d(jnp.asarray(eyes_of_weights(weights), jnp.float32))
        return dataclasses.replace(params, eyes=eyes), np.asarray(left)

    def to_weights(self, params: FlameParams) -> tuple[Float[np.ndarray, "B 51"], Float[np.ndarray, " B"]]:
        """Weights of heads' expressions; shape, neck and camera count nothing.

        Args:
            params: (B, …).

        Returns:
            0 … 1 in the order of ``UNITS``; and what they leave of the skin's displacement, root mean square, mm.
        """
        return WeightReader(self)(params)


class WeightReader:
    """``ArkitUnits.to_weights``, worked out as far as it can be before there are heads: for many calls.

    Args:
        units: of the model whose heads are asked for.
    """

    def __init__(self, units: ArkitUnits):
        self._units = units
        self._offsets, self._share = (np.asarray(x, np.float64) for x in (units.offsets, units.weights))
        self._root = np.sqrt(self._share)[:, None]
        columns = (self._offsets * self._root).reshape(len(UNITS), -1)
        self._columns = columns
        ridge = (_NOISE_STD / np.sqrt(_POINTS) / _WEIGHT_STD) ** 2
        self._gram = columns @ columns.T + ridge * np.eye(len(UNITS))

    def __call__(self, params: FlameParams) -> tuple[Float[np.ndarray, "B 51"], Float[np.ndarray, " B"]]:
        """As ``ArkitUnits.to_weights``."""
        look = weights_of_eyes(np.asarray(rotation_6d_to_axis_angle(params.eyes)))
        moved = np.asarray(_displacements(self._units, to_unknowns(params)), np.float64)
        # Lids follow the eyes, if they do: what the gaze explains, no other unit has to.
        most = np.where(OF_GAZE, np.maximum(look, 1e-9), 1.0)
        weights = np.zeros((len(moved), len(UNITS)))
        last = None
        for weight, displacement, bound in zip(weights, moved, most, strict=True):
            right = self._columns @ (displacement * self._root).ravel()
            last = bounded_least_squares(self._gram, right, bound, last)
            weight[:] = last
        left = moved - np.einsum("bu,unc->bnc", weights, self._offsets)
        left = 1e3 * np.sqrt((self._share * (left**2).sum(axis=-1)).sum(axis=-1))
        return np.where(OF_GAZE, look, weights), left


@jax.jit
def nearest_expressions(
    units: ArkitUnits, wanted: Float[Array, "B n 3"]
) -> tuple[Float[Array, "B W"], Float[Array, " B"]]:
    """Expression, jaw and eyelids (W = E + 5) that move the points most nearly as wanted, under the model's prior.

    Args:
        units: their points and model; the units themselves count nothing.
        wanted: displacements, metres.

    Returns:
        The coefficients, and the root mean square distance left, mm.
    """
    size = units.part.basis.shape[-1] - units.num_shape
    deviation = jnp.concatenate(
        [jnp.full(size, units.expression_std), jnp.full(3, _JAW_STD), jnp.full(2, _LID_STD)]
    )
    root = jnp.sqrt(units.weights * _POINTS)[:, None] / _NOISE_STD

    def one(wanted: Float[Array, "n 3"]) -> tuple[Array, Array]:
        def residuals(unknowns):
            return ((displacement(units, unknowns * deviation) - wanted) * root).ravel()

        def step(_, unknowns):
            jacobian = jax.jacfwd(residuals)(unknowns)
            gradient = jacobian.T @ residuals(unknowns) + unknowns
            return unknowns - jnp.linalg.solve(jacobian.T @ jacobian + jnp.eye(size + 5), gradient)

        unknowns = jax.lax.fori_loop(0, _STEPS, step, jnp.zeros(size + 5)) * deviation
        off = jnp.sum((displacement(units, unknowns) - wanted) ** 2, axis=-1)
        return unknowns, 1e3 * jnp.sqrt(jnp.sum(units.weights * off))

    return jax.lax.map(one, wanted)


def displacement(units: ArkitUnits, unknowns: Float[Array, " W"]) -> Float[Array, "n 3"]:
    """By how much an expression of the mean head moves the points."""
    expression, jaw, eyelids = jnp.split(unknowns, [unknowns.shape[0] - 5, unknowns.shape[0] - 2])
    coefficients = jnp.concatenate([jnp.zeros(units.num_shape), expression])
    vertices, _ = decode_resting(units.part, coefficients, axis_angle_to_matrix(jaw), eyelids)
    return vertices - units.part.template


@jax.jit
def _displacements(units: ArkitUnits, unknowns: Float[Array, "B U"]) -> Float[Array, "B n 3"]:
    return jax.vmap(displacement, in_axes=(None, 0))(units, unknowns[:, units.num_shape :])


def weights_of_eyes(eyes: Float[np.ndarray, "B 2 3"]) -> Float[np.ndarray, "B 51"]:
    """``eyeLook…`` weights of eyeballs' rotations (axis times angle, radians; left, right); the others are 0."""
    eyes = np.asarray(eyes, np.float64)
    ahead = Rotation.from_rotvec(eyes.reshape(-1, 3)).apply([0.0, 0.0, 1.0]).reshape(*eyes.shape)
    side = np.degrees(np.arctan2(ahead[..., 0], ahead[..., 2])) / LOOK_FULL_DEG  # to the subject's left
    up = np.degrees(np.arctan2(ahead[..., 1], np.hypot(ahead[..., 0], ahead[..., 2]))) / LOOK_FULL_DEG
    weights = np.zeros((len(eyes), len(UNITS)))
    for eye, (name, outward) in enumerate((("Left", side[:, 0]), ("Right", -side[:, 1]))):
        for unit, value in (("Out", outward), ("In", -outward), ("Up", up[:, eye]), ("Down", -up[:, eye])):
            weights[:, UNITS.index(f"eyeLook{unit}{name}")] = np.clip(value, 0.0, 1.0)
    return weights


def eyes_of_weights(weights: Float[np.ndarray, "B 51"]) -> Float[np.ndarray, "B 2 3"]:
    """The other way."""
    weights = np.asarray(weights, np.float64)
    of = lambda unit, name: weights[:, UNITS.index(f"eyeLook{unit}{name}")]  # noqa: E731
    turns = []
    for name, sign in (("Left", 1.0), ("Right", -1.0)):
        side = sign * (of("Out", name) - of("In", name)) * LOOK_FULL_DEG
        up = (of("Up", name) - of("Down", name)) * LOOK_FULL_DEG
        turns.append(Rotation.from_euler("YX", np.stack([side, -up], axis=-1), degrees=True).as_rotvec())
    return np.stack(turns, axis=1)
