"""Expression, jaw, lids and camera of single frames of a person whose shape is known, from the face mesh's points.

A few Gauss–Newton steps on 468 points in three dimensions: no rendering, so that it takes milliseconds a frame. Before
each step the front end's expected error of the head as it is then is taken off the points (``point_errors``).
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from flame_jax import HeadModel
from flame_jax.rotations import axis_angle_to_matrix
from n2f_jax.face_mesh.error_model import PointErrors, view_axes
from n2f_jax.fitting.linear_solve import solve_positive
from n2f_jax.geometry.camera import Camera, yaw_seen
from n2f_jax.geometry.pose import align_camera, move_camera
from n2f_jax.models.resting_head import RestingHead, decode_resting, resting_arrays
from n2f_jax.tracking.point_errors import expected_errors, seen_points

STEPS = 5
_DAMPING = 1e-3
_CAMERA_PRECISION = (
    1.0,
    1.0,
    1.0,
    1.0,
    1.0,
    400.0,
)  # turn, x/z, y/z, log z about the start, as in other fits
_ROBUST = 3.0  # σ from which a point's error counts linearly: it may be hidden


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class PersonPoints:
    """The face mesh's points on one person's head, ready for fitting. A pytree.

    Attributes:
        head: the 468 points as vertices; its template has the person's shape, its basis the expressions alone.
        pivot: ``(3,)`` about which cameras turn.
        errors: of the network that finds them.
        precision: ``(V, V)`` of expression, jaw and lids about their prior mean, V = E + 5.
    """

    head: RestingHead
    pivot: Float[Array, "3"]
    errors: PointErrors
    precision: Float[Array, "V V"]

    @classmethod
    def make(
        cls,
        model: HeadModel,
        places: tuple[Array, Array],
        shape: Float[np.ndarray, " S"],
        pivot: Float[Array, "3"],
        errors: PointErrors,
        precision: Float[np.ndarray, "V V"],
    ) -> PersonPoints:
        """Of a head model with the points' places on it and a person's shape."""
        arrays = resting_arrays(model)
        corners = np.asarray(model.faces)[np.asarray(places[0])]
        weights = np.asarray(places[1], np.float32)

        def at_points(values: Array) -> np.ndarray:
            return np.einsum("nk,nk...->n...", weights, np.asarray(values)[corners])

        count = model.num_shape
        basis = at_points(arrays["basis"])
        joint_basis = np.asarray(arrays["joint_basis"])
        correctives = arrays["correctives"]
        head = RestingHead(
            template=jnp.asarray(at_points(arrays["template"]) + basis[..., :count] @ shape, jnp.float32),
            basis=jnp.asarray(basis[..., count:], jnp.float32),
            correctives=jnp.asarray(at_points(correctives) if len(correctives) else correctives),
            eyelids=jnp.asarray(at_points(arrays["eyelids"]), jnp.float32),
            jaw_weight=jnp.asarray(at_points(arrays["jaw_weight"]), jnp.float32),
            joint=jnp.asarray(np.asarray(arrays["joint"]) + joint_basis[:, :count] @ shape, jnp.float32),
            joint_basis=jnp.asarray(joint_basis[:, count:], jnp.float32),
        )
        return cls(head, jnp.asarray(pivot), errors, jnp.asarray(precision, jnp.float32))

    def points(self, unknowns: Float[Array, " V"]) -> Float[Array, "468 3"]:
        """Head frame, metres; unknowns are expression, jaw (axis times angle), lids."""
        count = self.head.basis.shape[-1]
        expression, jaw, lids = jnp.split(unknowns, [count, count + 3])
        return decode_resting(self.head, expression, axis_angle_to_matrix(jaw), lids)[0]


@functools.partial(jax.jit, static_argnames=("size", "steps"))
def fit_frames(
    person: PersonPoints,
    points: Float[Array, "B 468 3"],
    mean: Float[Array, "B V"],
    focal: Float[Array, " B"],
    principal_point: Float[Array, "B 2"],
    size: float,
    steps: int = STEPS,
    start: tuple[Float[Array, "B 3 3"], Float[Array, "B 3"]] | None = None,
) -> tuple[Float[Array, "B V"], Camera, Float[Array, " B"]]:
    """B frames of one person.

    Args:
        person: whose.
        points: crop pixels and depth in the same scale.
        mean: what the network's answers make of each frame, given the person's shape; the start as well.
        focal, principal_point: of the crops' cameras.
        size: side of the crops, pixels (static).
        steps: of Gauss–Newton (static).
        start: R and t to begin at, near which the camera is taken to be; NaN, or None: the camera that puts ``mean``
            on the points.

    Returns:
        Expression, jaw, lids; cameras of the crops; root mean square error of the points in the image, in units of
        the crop's side.
    """

    def one(args: tuple[Any, ...]) -> tuple[Array, Camera, Array]:
        if start is None:
            return fit_frame(person, *args, size, steps)
        points, mean, focal, principal_point, (rotation, translation) = args
        aligned = on_points(person, points, mean, focal, principal_point)
        known = jnp.isfinite(rotation).all() & jnp.isfinite(translation).all()
        camera = dataclasses.replace(
            aligned,
            rotation=jnp.where(known, rotation, aligned.rotation),
            translation=jnp.where(known, translation, aligned.translation),
        )
        return fit_frame(person, points, mean, focal, principal_point, size, steps, (mean, camera))

    args: tuple[Any, ...] = (points, mean, focal, principal_point)
    if start is not None:
        args = (*args, start)
    return jax.lax.map(one, args) if jax.default_backend() == "cpu" else jax.vmap(one)(args)


def on_points(
    person: PersonPoints,
    points: Float[Array, "468 3"],
    mean: Float[Array, " V"],
    focal: Float[Array, ""],
    principal_point: Float[Array, "2"],
) -> Camera:
    """The camera that puts the head of these unknowns on the points; arguments as of ``fit_frame``."""
    front = jnp.diag(jnp.asarray([1.0, -1.0, -1.0]))
    camera = Camera(front, jnp.asarray([0.0, 0.0, 1.0]), focal, principal_point)
    return align_camera(person.points(mean), points[:, :2], camera)


def fit_frame(
    person: PersonPoints,
    points: Float[Array, "468 3"],
    mean: Float[Array, " V"],
    focal: Float[Array, ""],
    principal_point: Float[Array, "2"],
    size: float,
    steps: int,
    start: tuple[Float[Array, " V"], Camera] | None = None,
) -> tuple[Float[Array, " V"], Camera, Float[Array, ""]]:
    """One frame, as ``fit_frames``.

    Args:
        person, points, mean, focal, principal_point, size, steps: as there, without the batch axis.
        start: unknowns and camera to begin at, as those of the frame before; None: ``mean``, and the camera that puts
            it on the points.
    """
    if start is None:
        begin, camera = mean, on_points(person, points, mean, focal, principal_point)
    else:
        begin = start[0]
        camera = Camera(start[1].rotation, start[1].translation, focal, principal_point)
    yaw = yaw_seen(camera)
    # A render's spread: what varies from one person's picture to the next is in it, kinds of picture are not.
    spread = person.errors.std(yaw, "render") * size
    axes = view_axes(yaw).T @ camera.rotation.T  # rows: the view's axes in the image's
    # So many of the points' numbers are worth their σ.
    share = person.errors.effective / points.shape[0]
    sigma = jnp.sqrt((spread**2) @ (axes**2)) / jnp.sqrt(share)
    count = mean.shape[0]
    first = camera

    def predicted(step, unknowns, camera):
        moved = move_camera(camera, person.pivot, step[count:])
        seen = seen_points(person.points(unknowns + step[:count]), moved)
        return seen

    def attempt(carry, _):
        unknowns, camera, offset = carry
        zero = jnp.zeros(count + 6)
        seen = predicted(zero, unknowns, camera)
        target = points - expected_errors(person.errors, seen, camera.rotation, size)
        # The depth's zero is nothing that was seen.
        depth = (target[:, 2] - seen[:, 2]).mean()
        target = target.at[:, 2].add(-depth)
        residual = (seen - target) / sigma
        length = jnp.sqrt(jnp.sum(residual**2, axis=1) * share)
        weight = jnp.minimum(1.0, _ROBUST / jnp.maximum(length, 1e-6))
        slopes = jax.jacfwd(predicted)(zero, unknowns, camera) / sigma[..., None]
        weighted = slopes * weight[:, None, None]
        flat, rows = slopes.reshape(-1, count + 6), weighted.reshape(-1, count + 6)
        precision = jnp.zeros((count + 6, count + 6))
        precision = precision.at[:count, :count].set(person.precision)
        precision = precision.at[count:, count:].set(jnp.diag(jnp.asarray(_CAMERA_PRECISION)))
        hessian = rows.T @ flat + precision
        gradient = rows.T @ residual.reshape(-1)
        gradient = gradient.at[:count].add(person.precision @ (unknowns - mean))
        gradient = gradient.at[count:].add(jnp.asarray(_CAMERA_PRECISION) * offset)
        hessian = hessian + _DAMPING * jnp.diag(jnp.diagonal(hessian))
        step = -solve_positive(hessian, gradient[:, None])[:, 0]
        length = jnp.linalg.norm(step[count : count + 3])
        step = step.at[count : count + 3].multiply(jnp.minimum(1.0, 0.5 / jnp.maximum(length, 1e-9)))
        moved = move_camera(camera, person.pivot, step[count:])
        return (unknowns + step[:count], moved, offset + step[count:]), None

    (unknowns, camera, _), _ = jax.lax.scan(attempt, (begin, first, jnp.zeros(6)), length=steps)
    seen = seen_points(person.points(unknowns), camera)
    target = points - expected_errors(person.errors, seen, camera.rotation, size)
    error = jnp.sqrt(jnp.mean(jnp.sum((seen - target)[:, :2] ** 2, axis=1))) / size
    good = jnp.isfinite(error) & jnp.isfinite(unknowns).all() & jnp.isfinite(camera.translation).all()
    unknowns = jnp.where(good, unknowns, mean)
    camera = jax.tree.map(lambda a, b: jnp.where(good, a, b), camera, first)
    return unknowns, camera, jnp.where(good, error, jnp.inf)
