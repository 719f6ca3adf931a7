"""The front end's measured error, taken out: what its points would be if it saw a head as a given head is.

The face mesh sees heads nearer to its own mean than they are, each from the same side in every frame of a clip, so no
mean over frames helps. What it says of a known head on average was measured (``face_mesh.error_model``); of a head that
is being fitted, the same is taken off the observed points before each round, so the fit ends where the head *explains*
what was said.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from flame_jax import FlameParams, HeadModel, decode, points_on_mesh
from n2f_jax.face_mesh.error_model import PointErrors
from n2f_jax.geometry.camera import Camera, project_camera_points, to_camera


def seen_points(points: Float[Array, "N 3"], camera: Camera) -> Float[Array, "N 3"]:
    """Points of the head frame as the face mesh gives them: u, v in pixels, and a depth in the same scale about their
    middle, growing away from the camera. Without batch axes."""
    in_camera = to_camera(points, camera)
    middle = in_camera[:, 2].mean()
    depth = (in_camera[:, 2:] - middle) * camera.focal / middle
    return jnp.concatenate([project_camera_points(in_camera, camera), depth], axis=1)


def expected_errors(
    errors: PointErrors, points: Float[Array, "468 3"], rotation: Float[Array, "3 3"], size: float
) -> Float[Array, "468 3"]:
    """What the front end gets wrong of such points on average, in their unit.

    Args:
        errors: of the network that found the points.
        points: of ``seen_points``.
        rotation: of the head.
        size: side of the crop, in the points' unit.
    """
    return errors.expected(points, rotation, size) - points


@functools.partial(jax.jit, static_argnames="size")
def corrected_points(
    model: HeadModel,
    places: tuple[Array, Array],
    errors: PointErrors,
    params: FlameParams,
    camera: Camera,
    points: Float[Array, "B 468 3"],
    size: float,
) -> Float[Array, "B 468 3"]:
    """Observed points of B crops less what the front end would get wrong of these heads.

    Args:
        model: the head model.
        places: triangles and barycentrics of the points on it.
        errors: of the network that found them.
        params, camera: of B heads; cameras of the crops.
        points: crop pixels, as observed.
        size: side of the crops, pixels (static).
    """
    vertices, _ = decode(model, params)
    on_heads = points_on_mesh(vertices, model.faces, *places)

    def one(head: Array, camera: Camera) -> Array:
        return expected_errors(errors, seen_points(head, camera), camera.rotation, size)

    return points - jax.vmap(one)(on_heads, camera)
