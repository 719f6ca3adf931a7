"""Morph targets of a person's head: ARKit's 52 by name, and the head model's own directions."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from flame_jax import JOINT_NAMES, HeadModel, decode
from n2f_jax.face_mesh.arkit_names import UNITS
from n2f_jax.fitting.arkit import ArkitUnits

TONGUE = "tongueOut"
ARKIT_NAMES = (*UNITS, TONGUE)
LIDS = ("eyelid_left", "eyelid_right")
CAPTURED = "captured"


@dataclasses.dataclass(frozen=True)
class Targets:
    """Displacements of a head's vertices before skinning, metres at weight 1. K targets.

    Attributes:
        names: K.
        offsets: ``(K, V, 3)``.
    """

    names: tuple[str, ...]
    offsets: Float[np.ndarray, "K V 3"]

    def __add__(self, other: Targets) -> Targets:
        return Targets(self.names + other.names, np.concatenate([self.offsets, other.offsets]))


def arkit_targets(model: HeadModel, units: ArkitUnits, shape: Float[np.ndarray, " S"]) -> Targets:
    """ARKit's 52: what the decoder makes of each unit at weight 1 on this person, less the head at rest.

    So a jaw that opens is the jaw's turn, and eyes that look are turned eyeballs, each as its straight line from the
    head at rest. ``tongueOut`` moves nothing: no head model here has a tongue that moves.
    """
    params, _ = units.to_params(np.eye(len(UNITS), dtype=np.float32))
    rows = jnp.broadcast_to(jnp.asarray(shape, jnp.float32), (len(UNITS), len(shape)))
    made, _ = jax.jit(decode)(model, dataclasses.replace(params, shape=rows))
    rest = np.asarray(model.v_template, np.float64) + np.asarray(model.shapedirs, np.float64) @ shape
    offsets = np.asarray(made, np.float64) - rest
    # Below float32's own rounding of a head's coordinates.
    offsets[np.abs(offsets) < 1e-7] = 0.0
    return Targets(ARKIT_NAMES, np.concatenate([offsets, np.zeros_like(offsets[:1])]))


def signed(names: tuple[str, ...], directions: Float[np.ndarray, "K V 3"]) -> Targets:
    """Two targets a direction, ``NAME_plus`` and ``NAME_minus``: programs clip weights to 0 … 1 (Blender, Unity)."""
    both = np.stack([directions, -directions], axis=1).reshape(-1, *directions.shape[1:])
    return Targets(tuple(f"{name}_{sign}" for name in names for sign in ("plus", "minus")), both)


def signed_weights(values: Float[np.ndarray, "B K"]) -> Float[np.ndarray, "B 2K"]:
    """Weights of what ``signed`` made. Between two frames they blend as the values do, across zero too."""
    return np.stack([np.maximum(values, 0.0), np.maximum(-values, 0.0)], axis=-1).reshape(len(values), -1)


def expression_targets(model: HeadModel, reach: float) -> Targets:
    """The head model's expression directions, ``expression_000_plus``, ``…_minus`` …, and its lids,
    ``eyelid_left_plus`` ….

    Args:
        model: the head model.
        reach: the coefficient at which a direction's weight is 1.
    """
    directions = reach * np.moveaxis(np.asarray(model.exprdirs, np.float64), -1, 0)
    names = tuple(f"expression_{number:03d}" for number in range(len(directions)))
    return signed((*names, *LIDS), np.concatenate([directions, np.asarray(model.eyelids, np.float64)]))


def captured_target(
    model: HeadModel, expression: Float[np.ndarray, " E"], eyelids: Float[np.ndarray, "2"]
) -> Targets:
    """One target, ``captured``: the expression and the lids of a photograph, without the jaw's turn."""
    offset = np.asarray(model.exprdirs, np.float64) @ expression
    offset = offset + np.einsum("e,evc->vc", eyelids, np.asarray(model.eyelids, np.float64))
    return Targets((CAPTURED,), offset[None])


def corrective_targets(model: HeadModel) -> Targets | None:
    """Pose correctives, ``corrective_jaw_00_plus``, ``…_minus`` … ``_22_minus``: weights are the elements of
    ``R − I`` of the joint's rotation.

    None where the model has none; joints whose correctives move nothing are left out.
    """
    if not model.has_pose_correctives:
        return None
    parts = np.moveaxis(np.asarray(model.posedirs, np.float64), -1, 0)
    joints = JOINT_NAMES[len(JOINT_NAMES) - len(parts) // 9 :]
    blocks = parts.reshape(len(joints), 9, *parts.shape[1:])
    moving = [number for number, block in enumerate(blocks) if block.any()]
    names = [f"corrective_{joints[number]}_{i}{k}" for number in moving for i in range(3) for k in range(3)]
    return signed(tuple(names), blocks[moving].reshape(-1, *parts.shape[1:]))
