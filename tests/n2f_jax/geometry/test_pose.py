"""Pose from 2D–3D points: known poses come back, the cost never rises, bad input stays finite."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import scipy.spatial

from flame_jax.rotations import axis_angle_to_matrix, euler_to_matrix, matrix_to_axis_angle
from n2f_jax.geometry.camera import Camera, frontal_rotation, project
from n2f_jax.geometry.pose import HUBER, align_camera, estimate_camera

BATCH, POINTS = 64, 51


@pytest.fixture(scope="module")
def problems():
    """Heads seen by an ordinary camera: the size of a face, up to ±40° of yaw, off the image centre."""
    rng = np.random.default_rng(0)
    points = rng.normal(size=(BATCH, POINTS, 3)) * [0.035, 0.045, 0.02] + [0.0, -0.02, 0.05]
    angles = rng.uniform(-1, 1, (BATCH, 3)) * np.radians([20, 40, 20])
    camera = Camera(
        rotation=frontal_rotation(euler_to_matrix(jnp.asarray(angles, jnp.float32))),
        translation=jnp.asarray(
            np.stack([*rng.uniform(-0.2, 0.2, (2, BATCH)), rng.uniform(0.4, 1.6, BATCH)], -1), jnp.float32
        ),
        focal=jnp.asarray(rng.uniform(600, 3000, BATCH), jnp.float32),
        principal_point=jnp.asarray(rng.uniform(200, 500, (BATCH, 2)), jnp.float32),
    )
    points = jnp.asarray(points, jnp.float32)
    return points, project(points, camera), camera


def disturbed(camera: Camera, degrees: float, share: float) -> Camera:
    """Starts off by a turn of ``degrees`` about a random axis and by ``share`` of the distance."""
    rng = np.random.default_rng(1)
    axis = rng.normal(size=(BATCH, 3))
    axis *= np.radians(degrees) / np.linalg.norm(axis, axis=-1, keepdims=True)
    turn = axis_angle_to_matrix(jnp.asarray(axis, jnp.float32))
    shift = jnp.asarray(rng.uniform(-share, share, (BATCH, 3)), jnp.float32) * camera.translation[:, 2:]
    return Camera(turn @ camera.rotation, camera.translation + shift, camera.focal, camera.principal_point)


def rotation_error(a: Camera, b: Camera) -> np.ndarray:
    """Degrees between two cameras' rotations."""
    turn = matrix_to_axis_angle(a.rotation @ jnp.swapaxes(b.rotation, -1, -2))
    return np.degrees(np.linalg.norm(np.asarray(turn), axis=-1))


def pixel_error(points, targets, camera: Camera) -> np.ndarray:
    """Largest reprojection error of each problem as a share of its focal length."""
    error = jnp.linalg.norm(project(points, camera) - targets, axis=-1).max(-1) / camera.focal
    return np.asarray(error)


_align = jax.jit(jax.vmap(align_camera))  # one compilation serves every test


def align(points, targets, camera, weights=None):
    return _align(points, targets, camera, jnp.ones((BATCH, POINTS)) if weights is None else weights)


def cost_of(points, targets, camera: Camera) -> np.ndarray:
    """Mean of Huber's ρ of the reprojection errors, over the RMS radius of the targets; in float64."""
    rotation, translation, focal, centre = (np.asarray(x, np.float64) for x in jax.tree.leaves(camera))
    in_camera = np.einsum("bij,bnj->bni", rotation, points) + translation[:, None]
    pixels = focal[:, None, None] * in_camera[..., :2] / in_camera[..., 2:] + centre[:, None]
    targets = np.asarray(targets, np.float64)
    spread = targets - targets.mean(axis=1, keepdims=True)
    size = np.sqrt((spread**2).sum(axis=-1).mean(axis=1))
    distance = np.linalg.norm(pixels - targets, axis=-1) / size[:, None]
    rho = np.where(distance <= HUBER, 0.5 * distance**2, HUBER * (distance - 0.5 * HUBER)).mean(axis=1)
    return np.where((in_camera[..., 2] <= 0).any(axis=1), np.inf, rho)


def plain_least_squares(points, targets, camera: Camera) -> Camera:
    """SciPy's Levenberg–Marquardt on the squared distances of each problem."""
    rotations, translations = [], []
    for point, target, start in zip(points, targets, _rows(camera), strict=True):

        def residual(x, point=point, target=target, start=start):
            turn = np.asarray(scipy.spatial.transform.Rotation.from_rotvec(x[:3]).as_matrix())
            in_camera = point @ (turn @ start.rotation).T + start.translation + x[3:]
            pixels = start.focal * in_camera[:, :2] / in_camera[:, 2:] + start.principal_point
            return (pixels - target).ravel() / start.focal

        x = scipy.optimize.least_squares(residual, np.zeros(6), method="lm").x
        turn = scipy.spatial.transform.Rotation.from_rotvec(x[:3]).as_matrix()
        rotations.append(turn @ start.rotation)
        translations.append(start.translation + x[3:])
    return Camera(np.stack(rotations), np.stack(translations), camera.focal, camera.principal_point)


def _rows(camera: Camera) -> list[Camera]:
    return [jax.tree.map(lambda x, i=i: np.asarray(x[i], np.float64), camera) for i in range(BATCH)]


def test_known_poses_come_back_from_starts_far_off(problems):
    points, targets, truth = problems
    found = align(points, targets, disturbed(truth, degrees=25, share=0.15))
    assert rotation_error(found, truth).max() < 0.1
    np.testing.assert_allclose(found.translation, truth.translation, atol=2e-3)
    assert pixel_error(points, targets, found).max() < 1e-4
    np.testing.assert_array_equal(found.focal, truth.focal)
    np.testing.assert_array_equal(found.principal_point, truth.principal_point)


def test_rotation_stays_a_rotation(problems):
    points, targets, truth = problems
    found = align(points, targets, disturbed(truth, degrees=25, share=0.15))
    product = found.rotation @ jnp.swapaxes(found.rotation, -1, -2)
    np.testing.assert_allclose(product, np.broadcast_to(np.eye(3), product.shape), atol=5e-6)
    np.testing.assert_allclose(np.linalg.det(found.rotation), 1.0, atol=5e-6)


def test_cost_never_rises_whatever_the_start(problems):
    points, targets, truth = problems
    noise = (
        np.random.default_rng(2).normal(size=targets.shape) * 0.03 * np.asarray(truth.focal)[:, None, None]
    )
    noisy = targets + jnp.asarray(noise, jnp.float32)
    for degrees in (0, 60, 170):
        start = disturbed(truth, degrees, share=0.3)
        before, after = cost_of(points, noisy, start), cost_of(points, noisy, align(points, noisy, start))
        assert (np.asarray(after) <= np.asarray(before) * (1 + 1e-5)).all()
    # … and it does fall where there is something to gain.
    assert (np.asarray(after) < 0.5 * np.asarray(before)).mean() > 0.5


def test_two_starts_survive_a_start_on_the_wrong_side(problems):
    points, targets, truth = problems
    start = disturbed(truth, degrees=170, share=0.3)
    found = align(points, targets, start)
    assert rotation_error(found, truth).max() < 0.1


def test_closed_form_is_near_and_exact_for_far_away_heads(problems):
    points, targets, truth = problems
    estimate = jax.jit(jax.vmap(estimate_camera))
    found = estimate(points, targets, truth)
    assert rotation_error(found, truth).max() < 5  # near heads: the limit of orthography
    scale = 200.0  # same picture size from 200 times as far: perspective vanishes
    far = Camera(
        truth.rotation,
        truth.translation * scale,
        truth.focal * scale,
        truth.principal_point,
    )
    found = estimate(points, project(points, far), far)
    assert rotation_error(found, far).max() < 1.0


def test_gross_outliers_hardly_matter(problems):
    points, targets, truth = problems
    spoiled = targets.at[:, :8].add(0.1 * truth.focal[:, None, None])
    robust = align(points, spoiled, disturbed(truth, 10, 0.05))
    plain = plain_least_squares(np.asarray(points), np.asarray(spoiled), disturbed(truth, 10, 0.05))
    good, bad = rotation_error(robust, truth), rotation_error(plain, truth)
    assert np.median(good) < 2.0
    assert np.median(good) < 0.3 * np.median(bad)


def test_weight_zero_and_missing_points_count_the_same(problems):
    points, targets, truth = problems
    start = disturbed(truth, 15, 0.1)
    weights = jnp.ones((BATCH, POINTS)).at[:, :10].set(0.0)
    weighted = align(points, targets.at[:, :10].add(1e4), start, weights)
    missing = align(points, targets.at[:, :10].set(jnp.nan), start)
    assert rotation_error(weighted, truth).max() < 0.1
    np.testing.assert_allclose(weighted.rotation, missing.rotation, atol=1e-5)


def test_degenerate_input_stays_finite(problems):
    points, targets, truth = problems
    # Problems 0 to 2 say nothing about the pose: no point, one point many times, two points.
    targets = targets.at[0].set(jnp.nan)
    points, targets = points.at[1].set(points[1, 0]), targets.at[1].set(targets[1, 0])
    targets = targets.at[2, 2:].set(jnp.nan)
    # Problems 3 and 4 have starts that are of no use.
    rotation, translation = truth.rotation.at[3].set(jnp.nan), truth.translation.at[4].multiply(-1.0)
    start = Camera(rotation, translation, truth.focal, truth.principal_point)
    found = align(points, targets, start)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found))
    np.testing.assert_array_equal(found.translation[:3], truth.translation[:3])  # left alone
    assert rotation_error(found, truth)[3:].max() < 0.1
