"""The pinhole camera: from the head frame to pixels.

Conventions (one place, cited elsewhere): OpenCV's camera frame, x right, y down, z forward;
``x_cam = R · x_head + t`` in metres; ``u = f · x / z + c`` in pixels, where u = 0 is the image's left edge
and v = 0 its top edge, so pixel (row 0, column 0) has its centre at (0.5, 0.5). A head seen frontally has ``R
= diag(1, −1, −1)``: the subject's left (+x of the head frame) is at the right of the picture.
"""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

# Head frame (y up, z out of the face) to the camera frame (y down, z forward) of a frontal face.
FRONTAL = np.diag(np.array([1.0, -1.0, -1.0], np.float32))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Camera:
    """A pinhole camera with square pixels. A pytree of JAX or of NumPy arrays, all of the same leading batch axes.

    Attributes:
        rotation: ``(..., 3, 3)`` R, head frame to camera frame.
        translation: ``(..., 3)`` t, metres: where the head's origin lies in the camera frame.
        focal: ``(...,)`` focal length in pixels.
        principal_point: ``(..., 2)`` (c_u, c_v) in pixels from the image's top left corner.
    """

    rotation: Float[Array | np.ndarray, "... 3 3"]
    translation: Float[Array | np.ndarray, "... 3"]
    focal: Float[Array | np.ndarray, "..."]
    principal_point: Float[Array | np.ndarray, "... 2"]


def frontal_rotation(rotation: Float[Array, "... 3 3"]) -> Float[Array, "... 3 3"]:
    """``R = R_φ · diag(1, −1, −1)``: the camera's rotation from the head pose R_φ (identity = frontal).

    It is its own inverse: applied to R it gives R_φ back.
    """
    # Negating columns is exact, unlike a matrix product at reduced precision.
    return rotation * jnp.broadcast_to(jnp.asarray([1.0, -1.0, -1.0], rotation.dtype), rotation.shape)


def to_camera(points: Float[Array, "... N 3"], camera: Camera) -> Float[Array, "... N 3"]:
    """Points of the head frame in the camera frame, ``R·x + t``; batch axes broadcast."""
    batch = jnp.broadcast_shapes(points.shape[:-2], camera.rotation.shape[:-2])
    points = jnp.broadcast_to(points, (*batch, *points.shape[-2:]))
    moved = jnp.broadcast_to(camera.translation[..., None, :], points.shape)
    # Column by column: in full precision everywhere, and on CPUs faster than a product with a 3 × 3 matrix.
    for axis in range(3):
        column = jnp.broadcast_to(camera.rotation[..., None, :, axis], points.shape)
        moved = moved + jnp.broadcast_to(points[..., axis : axis + 1], points.shape) * column
    return moved


def project_camera_points(points_cam: Float[Array, "... N 3"], camera: Camera) -> Float[Array, "... N 2"]:
    """Pixels of points in the camera frame (only ``focal`` and ``principal_point`` are used)."""
    focal = jnp.broadcast_to(camera.focal[..., None, None], (*points_cam.shape[:-1], 1))
    center = jnp.broadcast_to(camera.principal_point[..., None, :], (*points_cam.shape[:-1], 2))
    return focal * points_cam[..., :2] / points_cam[..., 2:] + center


def project(points: Float[Array, "... N 3"], camera: Camera) -> Float[Array, "... N 2"]:
    """Pixels (u, v) of points of the head frame. Points at depth 0 give inf; nothing is clipped."""
    return project_camera_points(to_camera(points, camera), camera)


def yaw_seen(camera: Camera) -> Float[Array, "..."]:
    """Heads' yaw in radians about the rays that they are seen along, which need not be the optical axis.

    ``flame_jax.yaw_from_rotation`` of the head's rotation after the ray to its origin was turned onto the z axis; of
    that only the head's x axis along the ray matters. Positive turns the face to the subject's left. A constant to
    every derivative.

    Args:
        camera: of the heads, any leading batch axes.
    """
    camera = jax.lax.stop_gradient(camera)
    ray = camera.translation / jnp.linalg.norm(camera.translation, axis=-1, keepdims=True)
    return jnp.arcsin(jnp.clip(jnp.sum(ray * camera.rotation[..., :, 0], axis=-1), -1.0, 1.0))


def pitch_yaw_roll(rotation: Float[np.ndarray, "3 3"]) -> tuple[float, float, float]:
    """Head pose in radians: ``R·diag(1, −1, −1) = R_x(pitch)·R_y(yaw)·R_z(roll)``. Zero is frontal.

    Args:
        rotation: R, head frame to camera frame.
    """
    r = rotation * [1.0, -1.0, -1.0]
    yaw = math.asin(float(np.clip(r[0, 2], -1.0, 1.0)))
    return math.atan2(-r[1, 2], r[2, 2]), yaw, math.atan2(-r[0, 1], r[0, 0])


def intrinsics_matrix(camera: Camera) -> Float[Array, "... 3 3"]:
    """``K = [[f, 0, c_u], [0, f, c_v], [0, 0, 1]]`` in our pixels (u = 0 at the left edge).

    OpenCV counts pixel centres as integers: its matrix has ``c − 0.5``.
    """
    zero, one = jnp.zeros_like(camera.focal), jnp.ones_like(camera.focal)
    u, v = camera.principal_point[..., 0], camera.principal_point[..., 1]
    rows = [camera.focal, zero, u, zero, camera.focal, v, zero, zero, one]
    return jnp.stack(rows, axis=-1).reshape(*camera.focal.shape, 3, 3)


def project_points(points_camera: np.ndarray, intrinsics: np.ndarray) -> np.ndarray:
    """Pixels ``(N, 2)`` of points ``(N, 3)`` in the camera frame, float64."""
    image = np.asarray(points_camera, np.float64) @ np.asarray(intrinsics, np.float64).T
    return image[:, :2] / image[:, 2:]
