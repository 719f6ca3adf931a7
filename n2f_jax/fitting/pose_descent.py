"""A head's pose from its normal map and mask, by gradient descent through the renderer.

What the renderer's gradients are good for when nothing else is known: no landmarks, no correspondences. The head's
shape is given; rotation and translation are found from a start some way off.
"""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from flame_jax.rotations import axis_angle_to_matrix
from n2f_jax.geometry.camera import Camera
from n2f_jax.render import HeadTopology, render_head


@dataclasses.dataclass(frozen=True)
class PoseDescentConfig:
    """How to descend.

    Attributes:
        steps: of Adam, the rate falling to zero along a cosine.
        rate: radians a step at the start.
        metres_per_radian: how far a translation goes where a rotation goes one radian: about the size of a head.
        mask_weight: of the mask's mean squared error against the normals'.
        normal_frame: of the normal map, ``'camera'`` or ``'head'``.
    """

    steps: int = 150
    rate: float = 0.02
    metres_per_radian: float = 0.1
    mask_weight: float = 1.0
    normal_frame: str = "camera"


def move(camera: Camera, rotation: Float[Array, "3"], shift: Float[Array, "3"]) -> Camera:
    """The camera with the head turned about its origin (axis times angle, camera frame) and shifted (metres)."""
    turn = axis_angle_to_matrix(rotation)
    return dataclasses.replace(
        camera, rotation=jnp.matmul(turn, camera.rotation), translation=camera.translation + shift
    )


def descend(
    topology: HeadTopology,
    vertices_head: Float[Array, "V 3"],
    start: Camera,
    normals: Float[Array, "H W 3"],
    mask: Float[Array, "H W"],
    config: PoseDescentConfig,
) -> tuple[Camera, Float[Array, " steps"]]:
    """Finds the pose under which the head's normals and mask look like the given ones.

    The loss is the mean over pixels of ``‖m·N − m*·N*‖² + mask_weight·(m − m*)²`` with the antialiased mask m. One
    head; use ``jax.lax.map`` for more.

    Args:
        topology: of the head.
        vertices_head: decoded head, metres.
        start: where to start; its intrinsics stay.
        normals: what is seen, unit vectors in ``config.normal_frame``.
        mask: its mask.
        config: how to descend.

    Returns:
        The camera after the last step, and the loss before each step.
    """
    size = mask.shape
    target = normals * mask[..., None]

    def loss_of(x: Float[Array, "6"]) -> Float[Array, ""]:
        camera = move(start, x[:3], config.metres_per_radian * x[3:])
        maps = render_head(topology, vertices_head, camera, size, config.normal_frame, antialias=True)
        off = maps.normals * maps.mask[..., None] - target
        return jnp.mean(jnp.sum(off * off, axis=-1)) + config.mask_weight * jnp.mean((maps.mask - mask) ** 2)

    def rate(count: Array) -> Float[Array, ""]:
        share = count.astype(jnp.float32) / config.steps
        return config.rate * 0.5 * (1.0 + jnp.cos(math.pi * share))

    optimizer = optax.adam(rate)

    def step(state, _):
        x, moments = state
        loss, gradient = jax.value_and_grad(loss_of)(x)
        # optax raises a Python float to the power of an integer counter, which strict promotion forbids.
        with jax.numpy_dtype_promotion("standard"):
            updates, moments = optimizer.update(gradient, moments)
        return (optax.apply_updates(x, updates), moments), loss

    x = jnp.zeros(6)
    (x, _), losses = jax.lax.scan(step, (x, optimizer.init(x)), length=config.steps)
    return move(start, x[:3], config.metres_per_radian * x[3:]), losses
