"""Parameters to vertices: blendshapes, linear blend skinning, eyelids.

Li, Bolkart, Black, Li, Romero: "Learning a model of facial shape and expression from 4D scans" (FLAME),
SIGGRAPH Asia 2017, eqs. 1–5. All functions are pure and take any leading batch axes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import jax.numpy as jnp

from flame_jax.rotations import rotation_6d_to_matrix

if TYPE_CHECKING:
    from jaxtyping import Array, Float

    from flame_jax.model import HeadModel
    from flame_jax.params import FlameParams


def blendshapes(
    directions: Float[Array, "V 3 K"], coefficients: Float[Array, "... count"]
) -> Float[Array, "... V 3"]:
    """Displacements ``Σ_k coefficients[k] · directions[:, :, k]`` in metres.

    Fewer coefficients than directions drive the first directions, so a model with 300 shapes takes 100.
    """
    count = coefficients.shape[-1]
    if count > directions.shape[-1]:
        raise ValueError(f"{count} coefficients for {directions.shape[-1]} directions")
    num_vertices = directions.shape[0]
    flat = directions[..., :count].reshape(num_vertices * 3, count)
    # The directions first: with the coefficients first XLA's CPU compiler copies all of them transposed, forward or
    # backward, which takes four times as long at one head.
    return jnp.einsum("vk,...k->...v", flat, coefficients).reshape(*coefficients.shape[:-1], num_vertices, 3)


def pose_correctives(
    posedirs: Float[Array, "V 3 P"], rotations: Float[Array, "... J 3 3"]
) -> Float[Array, "... V 3"]:
    """Displacements linear in ``R_j − I`` of the joints that have correctives, the last ones (FLAME eq. 4)."""
    turned = rotations[..., rotations.shape[-3] - posedirs.shape[-1] // 9 :, :, :]
    offset = turned - jnp.broadcast_to(jnp.eye(3, dtype=rotations.dtype), turned.shape)
    return blendshapes(posedirs, offset.reshape(*offset.shape[:-3], -1))


def rest_joints(
    model: HeadModel, posed: Float[Array, "... V 3"], shape: Float[Array, "... count"]
) -> Float[Array, "... J 3"]:
    """Joints before they turn, metres: regressed from ``posed``, the head with its shape and expression; or moved by
    the shape alone, where the model says so (``joint_template``)."""
    if model.joint_template is None or model.joint_shapedirs is None:
        # From the shape with its expression: FLAME's paper says the shape alone, every implementation does this.
        return jnp.einsum("jv,...vc->...jc", model.J_regressor, posed)
    moved = blendshapes(model.joint_shapedirs, shape)
    return moved + jnp.broadcast_to(model.joint_template, moved.shape)


def joint_transforms(
    rotations: Float[Array, "... J 3 3"], joints: Float[Array, "... J 3"], parents: tuple[int, ...]
) -> tuple[Float[Array, "... J 3 3"], Float[Array, "... J 3"]]:
    """World rotation and position of every joint, down the kinematic chain (forward kinematics).

    Args:
        rotations: each joint's rotation relative to its parent.
        joints: rest positions, metres.
        parents: parent of each joint, −1 for the root; a parent comes before its children.
    """
    world_rotations = [rotations[..., 0, :, :]]
    world_positions = [joints[..., 0, :]]
    for joint, parent in enumerate(parents[1:], start=1):
        bone = (joints[..., joint, :] - joints[..., parent, :])[..., None]
        world_rotations.append(jnp.matmul(world_rotations[parent], rotations[..., joint, :, :]))
        world_positions.append(world_positions[parent] + jnp.matmul(world_rotations[parent], bone)[..., 0])
    return jnp.stack(world_rotations, axis=-3), jnp.stack(world_positions, axis=-2)


def skin(
    vertices: Float[Array, "... V 3"],
    weights: Float[Array, "V J"],
    rotations: Float[Array, "... J 3 3"],
    joints: Float[Array, "... J 3"],
    posed_joints: Float[Array, "... J 3"],
) -> Float[Array, "... V 3"]:
    """Linear blend skinning: ``Σ_j w_j (R_j (v − J_j) + J'_j)`` (FLAME eq. 1)."""
    # Fold the rest joint into the translation, so that one 3×4 transform a joint is blended.
    translations = posed_joints - jnp.matmul(rotations, joints[..., None])[..., 0]
    # Coordinate by coordinate and joint by joint, so that all of it is one pass over the vertices: blending
    # the transforms first writes twelve numbers a vertex to memory and takes over ten times as long on a CPU.
    batch = rotations.shape[:-3]
    coordinates = [vertices[..., axis] for axis in range(3)]

    def spread(x: Float[Array, "..."]) -> Float[Array, "... V"]:
        return jnp.broadcast_to(x[..., None], (*batch, weights.shape[0]))

    skinned = []
    for row in range(3):
        total = jnp.zeros_like(coordinates[0])
        for joint in range(weights.shape[1]):
            moved = spread(translations[..., joint, row])
            for axis in range(3):
                moved = moved + spread(rotations[..., joint, row, axis]) * coordinates[axis]
            total = total + jnp.broadcast_to(weights[:, joint], moved.shape) * moved
        skinned.append(total)
    return jnp.stack(skinned, axis=-1)


def decode(
    model: HeadModel,
    params: FlameParams,
    root_rotation: Float[Array, "... 3 3"] | None = None,
    *,
    eyelids: Literal["after", "before"] = "after",
) -> tuple[Float[Array, "... V 3"], Float[Array, "... 5 3"]]:
    """Vertices and joints of a head in the head frame.

    Args:
        model: the head model.
        params: parameters with any leading batch axes, the same on every field.
        root_rotation: rotation about the root joint; identity if None. A photograph's head pose belongs in
            the camera, about the head's origin; this one is for animation files that pose the root.
        eyelids: the lids' displacement is added ``'after'`` skinning, as Pixel3DMM does, or ``'before'``, so that
            it turns with neck and root. The two are the same where those are at rest.

    Returns:
        ``(..., V, 3)`` vertices and ``(..., 5, 3)`` posed joints (``JOINT_NAMES``), metres.
    """
    neck = rotation_6d_to_matrix(params.neck)
    jaw = rotation_6d_to_matrix(params.jaw)
    eyes = rotation_6d_to_matrix(params.eyes)
    if root_rotation is None:
        root_rotation = jnp.broadcast_to(jnp.eye(3, dtype=jaw.dtype), jaw.shape)
    rotations = jnp.concatenate([jnp.stack([root_rotation, neck, jaw], axis=-3), eyes], axis=-3)

    # The template is added with its own leading axes, so that no implicit rank promotion happens.
    offsets = blendshapes(model.shapedirs, params.shape) + blendshapes(model.exprdirs, params.expression)
    posed = offsets + jnp.broadcast_to(model.v_template, offsets.shape)
    joints = rest_joints(model, posed, params.shape)
    if model.has_pose_correctives:
        posed = posed + pose_correctives(model.posedirs, rotations)

    lids = jnp.einsum("...e,evc->...vc", params.eyelids, model.eyelids)
    if eyelids == "before":
        posed = posed + lids
    elif eyelids != "after":
        raise ValueError(f"eyelids are added 'after' or 'before' skinning, not {eyelids!r}")
    world_rotations, posed_joints = joint_transforms(rotations, joints, model.parents)
    vertices = skin(posed, model.weights, world_rotations, joints, posed_joints)
    return (vertices + lids if eyelids == "after" else vertices), posed_joints
