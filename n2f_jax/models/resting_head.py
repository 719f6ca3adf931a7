"""A head model with neck and eyes at rest, as the network predicts heads: of the joints only the jaw turns."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from flame_jax import JOINT_NAMES, HeadModel

_JAW = JOINT_NAMES.index("jaw")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class RestingHead:
    """All vertices of a head model, or some of them. A pytree. K = S + E directions.

    Attributes:
        template: ``(V, 3)`` mean head, metres.
        basis: ``(V, 3, K)`` shape directions, then expression directions.
        correctives: ``(V, 3, 9)`` pose correctives of the jaw, or ``(0, 3, 9)`` where the model has none.
        eyelids: ``(V, 3, 2)``.
        jaw_weight: ``(V,)`` skinning weight of the jaw.
        joint: ``(3,)`` the jaw's joint of the mean head.
        joint_basis: ``(3, K)`` how it moves with the coefficients.
    """

    template: Float[Array, "V 3"]
    basis: Float[Array, "V 3 K"]
    correctives: Float[Array, "_ 3 9"]
    eyelids: Float[Array, "V 3 2"]
    jaw_weight: Float[Array, " V"]
    joint: Float[Array, "3"]
    joint_basis: Float[Array, "3 K"]


def resting_arrays(model: HeadModel, vertices: Int[np.ndarray, " V"] | None = None) -> dict[str, Array]:
    """The fields of ``RestingHead``.

    Args:
        model: the head model.
        vertices: which of its vertices; None for all.
    """
    chosen = np.arange(model.num_vertices) if vertices is None else vertices
    basis = np.concatenate([np.asarray(model.shapedirs), np.asarray(model.exprdirs)], axis=-1)
    regressor = np.asarray(model.J_regressor)[_JAW]
    # posedirs holds nine numbers for each of the last joints, the jaw among them.
    first = model.posedirs.shape[-1] - 9 * (len(JOINT_NAMES) - _JAW)
    correctives = np.asarray(model.posedirs)[..., first : first + 9]
    return {
        "template": jnp.asarray(np.asarray(model.v_template)[chosen]),
        "basis": jnp.asarray(basis[chosen]),
        "correctives": jnp.asarray(correctives[chosen] if model.has_pose_correctives else correctives[:0]),
        "eyelids": jnp.asarray(np.moveaxis(np.asarray(model.eyelids), 0, -1)[chosen]),
        "jaw_weight": jnp.asarray(np.asarray(model.weights)[chosen, _JAW]),
        "joint": jnp.asarray(regressor @ np.asarray(model.v_template)),
        "joint_basis": jnp.asarray(np.einsum("v,vck->ck", regressor, basis)),
    }


def decode_resting(
    head: RestingHead, coefficients: Float[Array, " K"], turn: Float[Array, "3 3"], eyelids: Float[Array, "2"]
) -> tuple[Float[Array, "V 3"], Float[Array, "V 3"]]:
    """``flame_jax.decode`` of one head; ``turn`` is the jaw's rotation.

    Returns:
        The vertices, and where they lie before skinning, from the jaw's joint.
    """
    num_vertices = head.template.shape[0]
    flat = head.basis.reshape(3 * num_vertices, -1)
    rest = head.template + (flat @ coefficients).reshape(num_vertices, 3)
    still = jnp.eye(3, dtype=turn.dtype)
    if head.correctives.shape[0]:
        rest = rest + head.correctives @ (turn - still).reshape(9)
    from_joint = rest - (head.joint + head.joint_basis @ coefficients)[None]
    swing = from_joint @ (turn - still).T
    return rest + head.jaw_weight[:, None] * swing + head.eyelids @ eyelids, from_joint
