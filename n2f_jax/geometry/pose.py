"""Head pose from 2D–3D points: a closed-form start, and damped Gauss–Newton steps from it.

Only the six unknowns of the pose move; the intrinsics are given. Pure JAX: jit and vmap as you like.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from flame_jax.rotations import axis_angle_to_matrix, quaternion_to_matrix
from n2f_jax.geometry.camera import Camera

HUBER = 0.05  # residuals above this share of the point cloud's size count linearly, not squared
MIN_DEPTH = 1e-3  # metres; a point nearer than this counts as behind the camera
_STEPS = 15  # attempted
_DAMPING_START, _DAMPING_DOWN, _DAMPING_UP = 1e-3, 0.3, 8.0
_DAMPING_MIN, _DAMPING_MAX = 1e-7, 1e7


class _Pose(NamedTuple):
    """Pose about the points' centroid, where rotation and translation hardly influence each other.

    ``place`` is (x/z, y/z, log z) of the centroid in camera coordinates: all six numbers are then of order
    one, whatever the units of the image.
    """

    rotation: Float[Array, "3 3"]
    place: Float[Array, "3"]


class _Problem(NamedTuple):
    points: Float[Array, "N 3"]  # about the centroid
    centroid: Float[Array, "3"]
    targets: Float[Array, "N 2"]  # pixels
    weights: Float[Array, "N"]  # sum to one, or all zero
    size: Float[Array, ""]  # pixels; weighted RMS radius of the targets
    focal: Float[Array, ""]
    principal_point: Float[Array, "2"]
    usable: Bool[Array, ""]  # three or more points, not all in one place


def _problem(
    points_3d: Float[Array, "N 3"], points_2d: Float[Array, "N 2"], camera: Camera, weights: Float[Array, "N"]
) -> _Problem:
    """Drops points that are not finite, normalises the weights and centres the 3D points."""
    finite = jnp.isfinite(points_3d).all(-1) & jnp.isfinite(points_2d).all(-1) & jnp.isfinite(weights)
    weights = jnp.where(finite, jnp.maximum(weights, 0.0), 0.0)
    points_3d = jnp.where(finite[:, None], points_3d, 0.0)
    points_2d = jnp.where(finite[:, None], points_2d, 0.0)
    count = jnp.sum(weights > 0)
    weights = weights / jnp.maximum(jnp.sum(weights), 1e-12)
    centroid = weights @ points_3d
    centre_2d = weights @ points_2d
    spread = jnp.sum((points_2d - centre_2d[None]) ** 2, axis=-1)
    size = jnp.sqrt(jnp.maximum(weights @ spread, 1e-12))
    return _Problem(
        points=points_3d - centroid[None],
        centroid=centroid,
        targets=points_2d,
        weights=weights,
        size=size,
        focal=jnp.asarray(camera.focal),
        principal_point=jnp.asarray(camera.principal_point),
        usable=(count >= 3) & (size > 0.01),
    )


def _to_pose(rotation: Float[Array, "3 3"], translation: Float[Array, "3"], problem: _Problem) -> _Pose:
    centre = rotation @ problem.centroid + translation
    depth = jnp.maximum(centre[2], MIN_DEPTH)
    return _Pose(rotation, jnp.concatenate([centre[:2] / depth, jnp.log(depth)[None]]))


def _centre(pose: _Pose) -> Float[Array, "3"]:
    depth = jnp.exp(pose.place[2])
    return jnp.concatenate([pose.place[:2], jnp.ones(1, pose.place.dtype)]) * depth


def _to_camera(pose: _Pose, problem: _Problem) -> Camera:
    return Camera(
        rotation=pose.rotation,
        translation=_centre(pose) - pose.rotation @ problem.centroid,
        focal=problem.focal,
        principal_point=problem.principal_point,
    )


def _residuals(pose: _Pose, problem: _Problem) -> tuple[Float[Array, "N 2"], tuple[Array, ...]]:
    """Reprojection errors as a share of the cloud's size ``(N, 2)``, and what the Jacobian needs."""
    turned = problem.points @ pose.rotation.T
    in_camera = turned + _centre(pose)[None]
    depth = jnp.maximum(in_camera[:, 2:], MIN_DEPTH)
    scale = problem.focal / (depth * problem.size)  # (N, 1)
    residual = scale * in_camera[:, :2] + (problem.principal_point[None] - problem.targets) / problem.size
    return residual, (turned, in_camera, depth, scale)


def _cost(pose: _Pose, problem: _Problem) -> Float[Array, ""]:
    residual, (_, in_camera, _, _) = _residuals(pose, problem)
    distance = jnp.linalg.norm(residual, axis=-1)
    behind = jnp.any((in_camera[:, 2] <= MIN_DEPTH) & (problem.weights > 0))
    huber = jnp.where(distance <= HUBER, 0.5 * distance**2, HUBER * (distance - 0.5 * HUBER))
    cost = problem.weights @ huber
    return jnp.where(behind | ~jnp.isfinite(cost), jnp.inf, cost)


def _step(pose: _Pose, problem: _Problem, damping: Float[Array, ""]) -> _Pose:
    """One damped Gauss–Newton step on the iteratively reweighted squares (Huber's weights)."""
    residual, (turned, in_camera, depth, scale) = _residuals(pose, problem)
    distance = jnp.linalg.norm(residual, axis=-1)
    robust = problem.weights * jnp.where(distance <= HUBER, 1.0, HUBER / jnp.maximum(distance, 1e-12))

    # d residual / d x_cam, (N, 2, 3): scale · [1 0 −x/z; 0 1 −y/z].
    slope = -in_camera[:, :2] / depth
    eye = jnp.broadcast_to(jnp.eye(2, dtype=slope.dtype), (*slope.shape, 2))
    by_camera = scale[..., None] * jnp.concatenate([eye, slope[..., None]], axis=-1)
    # d x_cam / d ω = −[turned]×, d x_cam / d place = z·[e_x, e_y, centre / z].
    x, y, z = turned[:, 0], turned[:, 1], turned[:, 2]
    zero = jnp.zeros_like(x)
    by_turn = jnp.stack(
        [jnp.stack([zero, z, -y], -1), jnp.stack([-z, zero, x], -1), jnp.stack([y, -x, zero], -1)], axis=-2
    )
    centre = _centre(pose)
    by_place = jnp.stack(
        [jnp.eye(3, dtype=x.dtype)[0] * centre[2], jnp.eye(3, dtype=x.dtype)[1] * centre[2], centre], axis=-1
    )
    by_place = jnp.broadcast_to(by_place, by_turn.shape)
    jacobian = by_camera @ jnp.concatenate([by_turn, by_place], axis=-1)  # (N, 2, 6)

    gradient = jnp.einsum("n,nij,ni->j", robust, jacobian, residual)
    hessian = jnp.einsum("n,nij,nik->jk", robust, jacobian, jacobian)
    diagonal = jnp.diagonal(hessian)
    hessian = hessian + jnp.diag(damping * jnp.maximum(diagonal, 1e-6) + 1e-9)
    step = -_solve(hessian, gradient[:, None])[:, 0]
    # A quaternion (1, ω/2) is the turn ω to first order, and a rotation however long the step.
    turn = quaternion_to_matrix(jnp.concatenate([jnp.ones(1, step.dtype), 0.5 * step[:3]]))
    return _Pose(turn @ pose.rotation, pose.place + step[3:])


def estimate_camera(
    points_3d: Float[Array, "N 3"],
    points_2d: Float[Array, "N 2"],
    camera: Camera,
    weights: Float[Array, "N"] | None = None,
) -> Camera:
    """Pose by scaled orthography, in closed form: a start that needs no start.

    Least squares for the 2×3 affine map from centred 3D to centred 2D points; its nearest pair of orthonormal
    rows is the rotation, its scale the depth (the first pass of DeMenthon and Davis's POSIT, IJCV 1995).

    Args:
        points_3d: head frame, metres. Not all in one plane, or the result is only a guess.
        points_2d: pixels of the image that ``camera``'s intrinsics belong to.
        camera: its ``focal`` and ``principal_point`` are used and returned; its pose is returned where the
            points say nothing (fewer than three usable ones).
        weights: one a point; None for equal ones. Points that are not finite are left out.

    Returns:
        A ``Camera`` without batch axes (use ``jax.vmap``).
    """
    weights = jnp.ones(points_3d.shape[0], points_3d.dtype) if weights is None else weights
    problem = _problem(points_3d, points_2d, camera, weights)
    # In a camera turned towards the points, orthography errs by their depth only, not by where they lie.
    rays = (problem.targets - problem.principal_point[None]) / problem.focal
    towards = rotation_to_z(jnp.append(problem.weights @ rays, 1.0))
    rays = jnp.concatenate([rays, jnp.ones_like(rays[:, :1])], axis=-1) @ towards.T
    flat = rays[:, :2] / jnp.maximum(rays[:, 2:], MIN_DEPTH)
    centre = problem.weights @ flat
    flat = flat - centre[None]
    moments = jnp.einsum("n,ni,nj->ij", problem.weights, problem.points, problem.points)
    ridge = 1e-6 * jnp.trace(moments) + 1e-20
    cross = jnp.einsum("n,ni,nj->ij", problem.weights, problem.points, flat)
    affine = _solve(moments + ridge * jnp.eye(3, dtype=moments.dtype), cross).T  # (2, 3)
    stretch = _sqrt_2x2(affine @ affine.T)
    rows = _solve(stretch, affine)  # the polar factor
    rotation = towards.T @ jnp.concatenate([rows, jnp.cross(rows[0], rows[1])[None]])
    depth = 2.0 / jnp.maximum(jnp.trace(stretch), 1e-12)
    position = towards.T @ (jnp.append(centre, 1.0) * depth)
    found = Camera(rotation, position - rotation @ problem.centroid, problem.focal, problem.principal_point)
    return _choose(problem.usable & _finite(found), found, camera)


def align_camera(
    points_3d: Float[Array, "N 3"],
    points_2d: Float[Array, "N 2"],
    camera: Camera,
    weights: Float[Array, "N"] | None = None,
) -> Camera:
    """Moves a camera's pose so that the 3D points fall on the 2D points (Levenberg–Marquardt).

    The cost is ``Σ wᵢ ρ(‖uᵢ − pᵢ‖ / size)`` with Huber's ρ, ``size`` the RMS radius of the 2D points, weights scaled
    to sum to one. A step that does not lower the cost, or that puts a point behind the camera, is refused, so the
    result is never worse than the start. There are two, ``camera`` and ``estimate_camera``'s, which helps where the
    first is far off (more than some 60°); the lower cost wins.

    Args:
        points_3d: head frame, metres.
        points_2d: pixels of the image that ``camera``'s intrinsics belong to.
        camera: the start; without batch axes (use ``jax.vmap``).
        weights: one a point; None for equal ones. Points that are not finite are left out.

    Returns:
        The camera with the same intrinsics; ``camera`` where fewer than three points are usable.
    """
    weights = jnp.ones(points_3d.shape[0], points_3d.dtype) if weights is None else weights
    closed_form = estimate_camera(points_3d, points_2d, camera, weights)
    starts = jax.tree.map(lambda a, b: jnp.stack([a, b]), camera, closed_form)
    problem = _problem(points_3d, points_2d, camera, weights)
    found, costs = jax.vmap(_descend, in_axes=(0, None))(starts, problem)
    best = jnp.argmin(costs)
    return jax.tree.map(lambda leaf: leaf[best], found)


def _descend(camera: Camera, problem: _Problem) -> tuple[Camera, Float[Array, ""]]:
    """From one start, which is returned where nothing better is found; and the cost, inf where it is of no use."""
    start = _to_pose(jnp.asarray(camera.rotation), jnp.asarray(camera.translation), problem)
    dtype = problem.points.dtype

    def attempt(carry: Any, _: None) -> tuple[Any, None]:
        pose, trial, cost, damping = carry
        trial_cost = _cost(trial, problem)
        better = trial_cost < cost  # False for NaN
        pose = jax.tree.map(lambda new, old: jnp.where(better, new, old), trial, pose)
        cost = jnp.where(better, trial_cost, cost)
        damping = jnp.where(better, damping * _DAMPING_DOWN, damping * _DAMPING_UP)
        damping = jnp.clip(damping, _DAMPING_MIN, _DAMPING_MAX)
        return (pose, _step(pose, problem, damping), cost, damping), None

    # The first trial is the start itself: one evaluation of the cost in the program serves all.
    damping = jnp.asarray(_DAMPING_START / _DAMPING_DOWN, dtype)
    first = (start, start, jnp.asarray(jnp.inf, dtype), damping)
    (pose, _, cost, _), _ = jax.lax.scan(attempt, first, length=_STEPS + 1)
    found = _to_camera(pose, problem)
    good = problem.usable & jnp.isfinite(cost) & _finite(found)
    return _choose(good, found, camera), jnp.where(good, cost, jnp.inf)


def rotation_to_z(direction: Float[Array, "3"]) -> Float[Array, "3 3"]:
    """The smallest rotation that turns ``direction`` (z > 0) onto the z axis."""
    x, y, z = direction / jnp.linalg.norm(direction)
    skew = jnp.array([[0.0, 0.0, -x], [0.0, 0.0, -y], [x, y, 0.0]], direction.dtype)
    return jnp.eye(3, dtype=direction.dtype) + skew + skew @ skew / (1.0 + z)


def _solve(matrix: Float[Array, "n n"], right: Float[Array, "n k"]) -> Float[Array, "n k"]:
    """``matrix⁻¹ · right`` for a small positive definite matrix, by Gauss–Jordan elimination.

    Compiles in a tenth of the time of the LAPACK call, and vmap makes it elementwise work.
    """
    size = matrix.shape[0]

    def eliminate(k: Int[Array, ""], table: Float[Array, "n w"]) -> Float[Array, "n w"]:
        pivot = table[k] / table[k, k]
        table = table - table[:, k][:, None] * pivot[None]
        return table.at[k].set(pivot)

    table = jnp.concatenate([matrix, right], axis=1)
    return jax.lax.fori_loop(0, size, eliminate, table)[:, size:]


def _sqrt_2x2(matrix: Float[Array, "2 2"]) -> Float[Array, "2 2"]:
    """The square root of a positive semi-definite matrix (Cayley–Hamilton)."""
    determinant = jnp.maximum(matrix[0, 0] * matrix[1, 1] - matrix[0, 1] * matrix[1, 0], 0.0)
    root = jnp.sqrt(determinant)
    divisor = jnp.sqrt(jnp.maximum(jnp.trace(matrix) + 2.0 * root, 1e-30))
    return (matrix + root * jnp.eye(2, dtype=matrix.dtype)) / divisor


def _finite(camera: Camera) -> Bool[Array, ""]:
    return jnp.isfinite(camera.rotation).all() & jnp.isfinite(camera.translation).all()


def _choose(condition: Bool[Array, ""], yes: Camera, no: Camera) -> Camera:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), yes, no)


def moved_pose(
    rotation: Float[Array, "3 3"],
    translation: Float[Array, "3"],
    pivot: Float[Array, "3"],
    turn: Float[Array, "3"],
    shift: Float[Array, "3"],
) -> tuple[Float[Array, "3 3"], Float[Array, "3"]]:
    """The pose with the head turned about ``pivot`` and shifted.

    Args:
        rotation, translation: head to camera.
        pivot: head frame, metres.
        turn: axis times angle, camera frame, radians.
        shift: added to (x/z, y/z, log z) of the pivot in the camera frame.
    """
    centre = rotation @ pivot + translation
    depth = jnp.maximum(centre[2], MIN_DEPTH)
    place = centre[:2] / depth + shift[:2]
    # No step goes further than a factor of e: the exponential must not overflow in a step that will be refused.
    depth = depth * jnp.exp(jnp.clip(shift[2], -1.0, 1.0))
    turned = axis_angle_to_matrix(turn) @ rotation
    return turned, jnp.append(place, 1.0) * depth - turned @ pivot


def move_camera(camera: Camera, pivot: Float[Array, "3"], step: Float[Array, "6"]) -> Camera:
    """``moved_pose`` of a camera; ``step`` is turn, then shift."""
    pose = jnp.asarray(camera.rotation), jnp.asarray(camera.translation)
    rotation, translation = moved_pose(*pose, pivot, step[:3], step[3:])
    return dataclasses.replace(camera, rotation=rotation, translation=translation)
