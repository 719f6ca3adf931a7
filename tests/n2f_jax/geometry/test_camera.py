"""The pinhole camera."""

import jax
import jax.numpy as jnp
import numpy as np

import flame_jax
from n2f_jax.geometry import FRONTAL, Camera, frontal_rotation, intrinsics_matrix, project, to_camera


def random_camera(rng, batch=()):
    rotation = flame_jax.rotations.axis_angle_to_matrix(
        jnp.asarray(rng.normal(0, 0.5, (*batch, 3)), jnp.float32)
    )
    return Camera(
        rotation=frontal_rotation(rotation),
        translation=jnp.asarray(rng.normal(0, 0.05, (*batch, 3)) + np.array([0, 0, 1]), jnp.float32),
        focal=jnp.asarray(rng.uniform(200, 400, batch), jnp.float32),
        principal_point=jnp.asarray(rng.uniform(100, 140, (*batch, 2)), jnp.float32),
    )


def frontal_camera():
    return Camera(
        frontal_rotation(jnp.eye(3)),
        jnp.asarray([0.0, 0.0, 1.0]),
        jnp.asarray(300.0),
        jnp.asarray([128.0, 120.0]),
    )


def test_frontal_head_faces_the_camera():
    np.testing.assert_array_equal(frontal_rotation(jnp.eye(3)), FRONTAL)
    # Origin, the subject's left (+x), the top of the head (+y), the tip of the nose (+z).
    points = jnp.asarray([[0.0, 0.0, 0.0], [0.1, 0.0, 0.0], [0.0, 0.1, 0.0], [0.0, 0.0, 0.1]])
    camera = frontal_camera()
    pixels = project(points, camera)
    np.testing.assert_allclose(pixels[0], [128, 120], atol=1e-4)
    np.testing.assert_allclose(pixels[1], [158, 120], atol=1e-4)  # at the right of the picture
    np.testing.assert_allclose(pixels[2], [128, 90], atol=1e-4)  # up
    np.testing.assert_allclose(to_camera(points, camera)[3], [0, 0, 0.9], atol=1e-6)  # nearer


def test_frontal_rotation_is_its_own_inverse():
    rotation = flame_jax.rotations.axis_angle_to_matrix(jnp.asarray([0.3, -0.2, 0.5]))
    turned = frontal_rotation(rotation)
    np.testing.assert_array_equal(turned, rotation @ jnp.asarray(FRONTAL))
    np.testing.assert_array_equal(frontal_rotation(turned), rotation)


def test_a_head_turned_to_its_left_looks_to_the_right_of_the_picture():
    rotation = flame_jax.rotations.euler_to_matrix(jnp.asarray([0.0, 0.4, 0.0]))
    camera = Camera(
        frontal_rotation(rotation),
        jnp.asarray([0.0, 0.0, 1.0]),
        jnp.asarray(300.0),
        jnp.asarray([128.0, 128.0]),
    )
    # R_φ acts in the camera's frame: y points down there, so a positive angle turns the nose (towards −z) to
    # −x.
    nose = project(jnp.asarray([[0.0, 0.0, 0.1]]), camera)[0]
    expected_x = -np.sin(0.4) * 0.1
    np.testing.assert_allclose(nose[0], 128 + 300 * expected_x / (1 - 0.1 * np.cos(0.4)), rtol=1e-5)


def test_projection_is_the_intrinsics_matrix():
    rng = np.random.default_rng(0)
    camera = random_camera(rng)
    points = jnp.asarray(rng.normal(0, 0.1, (20, 3)), jnp.float32)
    homogeneous = (
        np.asarray(to_camera(points, camera), np.float64)
        @ np.asarray(intrinsics_matrix(camera), np.float64).T
    )
    np.testing.assert_allclose(project(points, camera), homogeneous[:, :2] / homogeneous[:, 2:], rtol=1e-5)


def test_batches_broadcast():
    rng = np.random.default_rng(1)
    camera = random_camera(rng, (2, 3))
    points = jnp.asarray(rng.normal(0, 0.1, (7, 3)), jnp.float32)
    pixels = jax.jit(project)(points, camera)
    assert pixels.shape == (2, 3, 7, 2)
    single = jax.tree.map(lambda x: x[1, 2], camera)
    np.testing.assert_allclose(pixels[1, 2], project(points, single), rtol=1e-6)
    assert intrinsics_matrix(camera).shape == (2, 3, 3, 3)
    many = project(jnp.broadcast_to(points, (2, 3, 7, 3)), camera)
    np.testing.assert_allclose(many, pixels, rtol=1e-6)
