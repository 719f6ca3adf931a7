"""Aligning a reconstruction with a scan by their surfaces, as the NoW benchmark does after the landmarks."""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy.spatial.transform import Rotation

from n2f_jax.geometry.alignment import AlignmentError, Similarity
from n2f_jax.mesh.closest_points import Closest, Surface, morton_order


@dataclasses.dataclass(frozen=True)
class Refinement:
    """Where ``refine`` ended.

    Attributes:
        similarity: the alignment.
        closest: of all scan points under it, in the **reconstruction's** frame and unit.
        rms: root mean square of the distances, in the scan's unit.
        steps: accepted and refused Gauss–Newton steps, coarse ones included.
        converged: a further step would move no point by ``tolerance``.
    """

    similarity: Similarity
    closest: Closest
    rms: float
    steps: int
    converged: bool


# The minimum is approached on few points, and only its neighbourhood searched on all of them.
_LEVELS = (500, 3000)


def refine(
    surface: Surface,
    points: np.ndarray,
    start: Similarity,
    scaling: bool,
    tolerance: float,
    max_steps: int = 100,
) -> Refinement:
    """Minimises ``Σ d²`` over rotation, translation and, if ``scaling``, scale of the reconstruction.

    ``d`` is the unsigned distance of each scan point from the aligned surface, in the scan's unit: the objective of
    NoW's ``rigid_scan_2_mesh_alignment``. Damped Gauss–Newton with the exact derivative of the distance: along the
    direction to the closest point. The points are moved instead of the surface, whose tree is built once.

    Args:
        surface: of the reconstruction, in its own frame.
        points: ``(N, 3)`` scan points, in the scan's frame.
        start: from landmarks.
        scaling: False holds ``start.scale``.
        tolerance: in the scan's unit: where a step would move no point further, the search has ended.
        max_steps: of each stage.

    Raises:
        AlignmentError: fewer than 10 points, or nothing finite comes out.
    """
    points = np.asarray(points, np.float64)
    if len(points) < 10:
        raise AlignmentError(f"{len(points)} scan points do not determine an alignment")
    # Along a curve that fills space: neighbours visit the same boxes of the tree, which halves the time of a query, and
    # every n-th point is an even sample of the surface, however the scanner stored it.
    along = morton_order(points)
    points = points[along]
    steps = 0
    for level in (*(level for level in _LEVELS if 2 * level < len(points)), len(points)):
        last = level == len(points)
        part = points if last else points[:: len(points) // level]
        stop = tolerance if last else max(tolerance, _COARSE_STOP * np.ptp(points, axis=0).max())
        start, closest, cost, count, converged = _minimise(surface, part, start, scaling, stop, max_steps)
        steps += count
    if not np.isfinite(cost):
        raise AlignmentError("the alignment did not stay finite")
    closest = closest.reordered(along)
    return Refinement(start, closest, float(np.sqrt(cost / len(points))), steps, converged)


# Of the scan's size: the minimum over a part of the points is no closer to that over all of them.
_COARSE_STOP = 1e-5


# Gauss–Newton takes the surface for flat about its closest points. Faces curve away from there, so every step falls
# short, by a sixth or so; steps are longer by what the one before fell short.
_RELAXATION = 1.2


def _minimise(surface, points, similarity, scaling, tolerance, max_steps):
    centre = points.mean(axis=0)
    radius = np.sqrt(((points - centre) ** 2).sum(axis=1).max())
    closest = surface.closest(similarity.inverse(points))
    cost = similarity.scale**2 * float(closest.distance @ closest.distance)
    damping, steps, converged, relaxation, last = 0.0, 0, False, _RELAXATION, None
    while steps < max_steps and not converged:
        normal, gradient = _normal_equations(surface, points, centre, radius, similarity, closest, scaling)
        while steps < max_steps:
            damped = normal + damping * np.diag(np.diag(normal))
            step = -np.linalg.lstsq(damped, gradient, rcond=None)[0]
            if last is not None and damping == 0.0:
                # What the last step left of the way, seen along it.
                left = float(step @ last) / float(last @ last)
                relaxation = float(np.clip(relaxation / max(1.0 - left, 1e-3), 1.0, 1.5))
            # Upper bound of any point's movement: the parameters are scaled to lengths.
            moved = np.linalg.norm(step[:3]) + np.linalg.norm(step[3:6]) + np.abs(step[6:]).sum()
            if moved < tolerance:
                converged = True
                break
            trial = _moved(similarity, relaxation * step, centre, radius)
            trial_closest = surface.closest(trial.inverse(points))
            trial_cost = trial.scale**2 * float(trial_closest.distance @ trial_closest.distance)
            steps += 1
            if trial_cost <= cost:
                similarity, closest, cost = trial, trial_closest, trial_cost
                damping, last = (damping / 10.0 if damping > 1e-6 else 0.0), step
                break
            damping, relaxation, last = max(10.0 * damping, 1e-3), 1.0, None
    return similarity, closest, cost, steps, converged


def _normal_equations(surface, points, centre, radius, similarity, closest, scaling):
    """``JᵀJ`` and ``Jᵀd`` of the distances for (rotation·radius, translation, log scale·radius) about ``centre``."""
    on_surface = similarity.apply(closest.point)
    direction = points - on_surface
    distance = similarity.scale * closest.distance
    # A point on the surface has no direction to it: there the triangle's normal is the limit.
    tiny = np.flatnonzero(distance < 1e-9 * radius)
    direction /= np.maximum(distance, 1e-300)[:, None]
    direction[tiny] = surface.face_normals[closest.face[tiny]] @ similarity.rotation.T
    arm = (on_surface - centre) / radius
    jacobian = np.empty((len(points), 7 if scaling else 6))
    ax, ay, az = arm.T
    dx, dy, dz = direction.T
    jacobian[:, 0] = az * dy - ay * dz
    jacobian[:, 1] = ax * dz - az * dx
    jacobian[:, 2] = ay * dx - ax * dy
    jacobian[:, 3:6] = -direction
    if scaling:
        jacobian[:, 6] = -(ax * dx + ay * dy + az * dz)
    return jacobian.T @ jacobian, jacobian.T @ distance


def _moved(similarity, step, centre, radius):
    """The similarity followed by a small one about ``centre``."""
    turn = Rotation.from_rotvec(step[:3] / radius)
    factor = float(np.exp(step[6] / radius)) if len(step) > 6 else 1.0
    # By quaternions of unit length, so that rotations stay orthonormal over many steps.
    rotation = (turn * Rotation.from_matrix(similarity.rotation)).as_matrix()
    translation = factor * turn.apply(similarity.translation - centre) + centre + step[3:6]
    return Similarity(similarity.scale * factor, rotation, translation)
