"""Rotations in the forms the field uses. Every function takes any leading batch axes.

Angles are radians. 6D is the first two **rows** of the matrix, one after the other (PyTorch3D's order, which
Pixel3DMM uses; Zhou et al., CVPR 2019, use columns). Gradients are finite everywhere, at zero rotation too.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Array, Float

IDENTITY_6D = np.array([1, 0, 0, 0, 1, 0], np.float32)

# Below this squared length a vector has no usable direction in float32.
_TINY_SQUARED = 1e-12


def _normalize_or(x: Float[Array, "... 3"], fallback: Float[Array, "... 3"]) -> Float[Array, "... 3"]:
    """``x`` at unit length, or ``fallback`` where x is nearly zero; both branches have finite gradients."""
    squared = jnp.sum(x * x, axis=-1, keepdims=True)
    usable = squared > _TINY_SQUARED
    unit = x * jax.lax.rsqrt(jnp.where(usable, squared, 1.0))
    return jnp.where(usable, unit, fallback)


def _unit_axis(index: jax.Array, dtype: jnp.dtype) -> jax.Array:
    return jax.nn.one_hot(index, 3, dtype=dtype)


def rotation_6d_to_matrix(rotation_6d: Float[Array, "... 6"]) -> Float[Array, "... 3 3"]:
    """Rows by Gram–Schmidt (Zhou et al., CVPR 2019, eq. 15, on rows).

    A first row of zero length counts as x; a second row parallel to the first is replaced by the axis
    least aligned with it. So the result is a rotation for every finite input.
    """
    a, b = rotation_6d[..., :3], rotation_6d[..., 3:]
    x_axis = jnp.broadcast_to(_unit_axis(jnp.asarray(0), a.dtype), a.shape)
    row0 = _normalize_or(a, x_axis)
    spare = _unit_axis(jnp.argmin(jnp.abs(row0), axis=-1), a.dtype)
    spare = spare - jnp.sum(spare * row0, axis=-1, keepdims=True) * row0
    spare = spare * jax.lax.rsqrt(jnp.sum(spare * spare, axis=-1, keepdims=True))
    row1 = _normalize_or(b - jnp.sum(b * row0, axis=-1, keepdims=True) * row0, spare)
    return jnp.stack([row0, row1, jnp.cross(row0, row1)], axis=-2)


def matrix_to_rotation_6d(matrix: Float[Array, "... 3 3"]) -> Float[Array, "... 6"]:
    """The first two rows, one after the other."""
    return matrix[..., :2, :].reshape(*matrix.shape[:-2], 6)


def axis_angle_to_matrix(axis_angle: Float[Array, "... 3"]) -> Float[Array, "... 3 3"]:
    """Rodrigues' formula, ``I + (sin θ/θ) K + ((1 − cos θ)/θ²) K²`` with K the cross-product matrix."""
    squared = jnp.sum(axis_angle * axis_angle, axis=-1)
    small = squared < 1e-6
    safe = jnp.where(small, 1.0, squared)
    angle = jnp.sqrt(safe)
    # Taylor series where the quotients lose their digits.
    sin_over = jnp.where(small, 1.0 - squared / 6.0, jnp.sin(angle) / angle)
    one_minus_cos_over = jnp.where(small, 0.5 - squared / 24.0, (1.0 - jnp.cos(angle)) / safe)
    x, y, z = axis_angle[..., 0], axis_angle[..., 1], axis_angle[..., 2]
    zero = jnp.zeros_like(x)
    k = jnp.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=-1).reshape(*x.shape, 3, 3)
    outer = axis_angle[..., :, None] * axis_angle[..., None, :]
    identity = jnp.broadcast_to(jnp.eye(3, dtype=axis_angle.dtype), outer.shape)
    k_squared = outer - squared[..., None, None] * identity
    return identity + sin_over[..., None, None] * k + one_minus_cos_over[..., None, None] * k_squared


def matrix_to_quaternion(matrix: Float[Array, "... 3 3"]) -> Float[Array, "... 4"]:
    """Unit quaternion (w, x, y, z), w ≥ 0, by the largest of the four components (Shepperd's method)."""
    m = matrix
    xx, yy, zz = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    yz, zx, xy = m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]
    yz_, zx_, xy_ = m[..., 2, 1] + m[..., 1, 2], m[..., 0, 2] + m[..., 2, 0], m[..., 1, 0] + m[..., 0, 1]
    # Row i is the quaternion times four times its i-th component.
    candidates = jnp.stack(
        [
            jnp.stack([1 + xx + yy + zz, yz, zx, xy], axis=-1),
            jnp.stack([yz, 1 + xx - yy - zz, xy_, zx_], axis=-1),
            jnp.stack([zx, xy_, 1 - xx + yy - zz, yz_], axis=-1),
            jnp.stack([xy, zx_, yz_, 1 - xx - yy + zz], axis=-1),
        ],
        axis=-2,
    )
    best = jnp.argmax(jnp.diagonal(candidates, axis1=-2, axis2=-1), axis=-1)
    quaternion = jnp.take_along_axis(candidates, best[..., None, None], axis=-2)[..., 0, :]
    quaternion = quaternion * jax.lax.rsqrt(jnp.sum(quaternion * quaternion, axis=-1, keepdims=True))
    return jnp.where(quaternion[..., :1] < 0, -quaternion, quaternion)


def quaternion_to_matrix(quaternion: Float[Array, "... 4"]) -> Float[Array, "... 3 3"]:
    """Rotation of a quaternion (w, x, y, z); any non-zero length."""
    q = quaternion * jax.lax.rsqrt(jnp.sum(quaternion * quaternion, axis=-1, keepdims=True))
    w, x, y, z = q[..., 0], q[..., 1], q[..., 2], q[..., 3]
    rows = [
        *(1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        *(2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        *(2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    ]
    return jnp.stack(rows, axis=-1).reshape(*w.shape, 3, 3)


def matrix_to_axis_angle(matrix: Float[Array, "... 3 3"]) -> Float[Array, "... 3"]:
    """Axis times angle, the angle in [0, π]; accurate near 0 and near π (through the quaternion)."""
    q = matrix_to_quaternion(matrix)
    w, v = q[..., :1], q[..., 1:]
    squared = jnp.sum(v * v, axis=-1, keepdims=True)
    small = squared < 1e-8
    length = jnp.sqrt(jnp.where(small, 1.0, squared))
    # 2·atan2(|v|, w)/|v| tends to 2/w (1 − |v|²/3w²) at zero, where w is 1.
    scale = jnp.where(small, 2.0 - 2.0 * squared / 3.0, 2.0 * jnp.arctan2(length, w) / length)
    return scale * v


def axis_angle_to_rotation_6d(axis_angle: Float[Array, "... 3"]) -> Float[Array, "... 6"]:
    """Axis times angle → 6D, by the matrix."""
    return matrix_to_rotation_6d(axis_angle_to_matrix(axis_angle))


def rotation_6d_to_axis_angle(rotation_6d: Float[Array, "... 6"]) -> Float[Array, "... 3"]:
    """6D → axis times angle, by the matrix."""
    return matrix_to_axis_angle(rotation_6d_to_matrix(rotation_6d))


def euler_to_matrix(angles: Float[Array, "... 3"]) -> Float[Array, "... 3 3"]:
    """``R_x(angles[0]) · R_y(angles[1]) · R_z(angles[2])``: the project's one Euler order."""
    cx, cy, cz = (jnp.cos(angles[..., i]) for i in range(3))
    sx, sy, sz = (jnp.sin(angles[..., i]) for i in range(3))
    rows = [
        *(cy * cz, -cy * sz, sy),
        *(cx * sz + sx * sy * cz, cx * cz - sx * sy * sz, -sx * cy),
        *(sx * sz - cx * sy * cz, sx * cz + cx * sy * sz, cx * cy),
    ]
    return jnp.stack(rows, axis=-1).reshape(*angles.shape[:-1], 3, 3)


def matrix_to_euler(matrix: Float[Array, "... 3 3"]) -> Float[Array, "... 3"]:
    """Angles of ``R_x·R_y·R_z``, the y angle in [−π/2, π/2].

    At y = ±π/2 only the sum or difference of x and z is determined; z is then 0. Gradients are finite there too, and
    say nothing of y.
    """
    m = matrix
    sine = jnp.clip(m[..., 0, 2], -1.0, 1.0)
    # cos² y; below this, x and z cannot be told apart in float32.
    locked = m[..., 1, 2] ** 2 + m[..., 2, 2] ** 2 < 1e-12
    one, zero = jnp.ones_like(sine), jnp.zeros_like(sine)

    def angle(y: Float[Array, "..."], x: Float[Array, "..."]) -> Float[Array, "..."]:
        return jnp.arctan2(jnp.where(locked, zero, y), jnp.where(locked, one, x))

    # From both sine and cosine: arcsin alone loses half of its digits near ±π/2.
    cosine = jnp.sqrt(jnp.where(locked, one, m[..., 1, 2] ** 2 + m[..., 2, 2] ** 2))
    y = jnp.where(locked, 0.5 * math.pi * jnp.sign(sine), jnp.arctan2(sine, cosine))
    turn = jnp.sign(sine) * jnp.arctan2(
        jnp.where(locked, m[..., 1, 0], zero), jnp.where(locked, m[..., 1, 1], one)
    )
    x = jnp.where(locked, turn, angle(-m[..., 1, 2], m[..., 2, 2]))
    z = jnp.where(locked, zero, angle(-m[..., 0, 1], m[..., 0, 0]))
    return jnp.stack([x, y, z], axis=-1)
