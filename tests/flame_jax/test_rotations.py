import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from flame_jax import rotations as rot

pytestmark = pytest.mark.medium


@pytest.fixture(scope="module")
def random_rotations():
    return Rotation.random(200, rng=np.random.default_rng(0))


def test_axis_angle_matches_scipy(random_rotations):
    ours = jax.jit(rot.axis_angle_to_matrix)(random_rotations.as_rotvec().astype(np.float32))
    np.testing.assert_allclose(ours, random_rotations.as_matrix(), atol=2e-6)


def test_euler_is_rx_ry_rz():
    angles = np.random.default_rng(1).uniform(-1.4, 1.4, (100, 3)).astype(np.float32)
    ours = jax.jit(rot.euler_to_matrix)(angles)
    np.testing.assert_allclose(ours, Rotation.from_euler("XYZ", angles).as_matrix(), atol=2e-6)
    np.testing.assert_allclose(jax.jit(rot.matrix_to_euler)(ours), angles, atol=2e-5)


def test_quaternion_round_trip(random_rotations):
    matrices = random_rotations.as_matrix().astype(np.float32)
    quaternions = jax.jit(rot.matrix_to_quaternion)(matrices)
    expected = random_rotations.as_quat(canonical=True, scalar_first=True)
    np.testing.assert_allclose(quaternions, expected, atol=1e-5)
    np.testing.assert_allclose(jax.jit(rot.quaternion_to_matrix)(quaternions), matrices, atol=2e-6)


@pytest.mark.parametrize("angle", [0.0, 1e-6, 1e-3, 1.0, 3.1, np.pi - 1e-4, np.pi])
def test_matrix_to_axis_angle_at_every_angle(angle):
    axis = np.array([0.6, -0.48, 0.64])
    matrix = Rotation.from_rotvec(angle * axis).as_matrix().astype(np.float32)
    back = np.asarray(jax.jit(rot.matrix_to_axis_angle)(matrix))
    np.testing.assert_allclose(Rotation.from_rotvec(back).as_matrix(), matrix, atol=1e-5)


def test_6d_is_the_first_two_rows(random_rotations):
    matrices = random_rotations.as_matrix().astype(np.float32)
    six = rot.matrix_to_rotation_6d(jnp.asarray(matrices))
    np.testing.assert_array_equal(six[:, :3], matrices[:, 0, :])
    np.testing.assert_array_equal(six[:, 3:], matrices[:, 1, :])
    np.testing.assert_allclose(jax.jit(rot.rotation_6d_to_matrix)(six), matrices, atol=1e-6)


@pytest.mark.parametrize(
    "six",
    [[0] * 6, [1, 0, 0, 2, 0, 0], [0, 0, 0, 1, 0, 0], [1e-9] * 6, [0, 0, 5, 0, 0, -3], [3, 4, 0, 3, 4, 1e-5]],
)
def test_degenerate_6d_gives_a_rotation_with_finite_gradients(six):
    six = jnp.asarray(six, jnp.float32)
    matrix = np.asarray(rot.rotation_6d_to_matrix(six))
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-3)
    assert np.linalg.det(matrix) == pytest.approx(1.0, abs=1e-3)
    gradient = jax.grad(lambda s: jnp.sum(rot.rotation_6d_to_matrix(s) * jnp.arange(9.0).reshape(3, 3)))(six)
    assert np.isfinite(gradient).all()


def test_gradients_at_zero_are_the_generators():
    jacobian = jax.jacfwd(rot.axis_angle_to_matrix)(jnp.zeros(3))
    for axis in range(3):
        step = np.zeros(3)
        step[axis] = 1e-6
        expected = (Rotation.from_rotvec(step).as_matrix() - np.eye(3)) / 1e-6
        np.testing.assert_allclose(jacobian[..., axis], expected, atol=1e-5)
    back = jax.jacfwd(lambda v: rot.matrix_to_axis_angle(rot.axis_angle_to_matrix(v)))(jnp.zeros(3))
    np.testing.assert_allclose(back, np.eye(3), atol=1e-5)


FORMS = {
    "6d": (rot.matrix_to_rotation_6d, rot.rotation_6d_to_matrix),
    "axis angle": (rot.matrix_to_axis_angle, rot.axis_angle_to_matrix),
    "euler": (rot.matrix_to_euler, rot.euler_to_matrix),
    "quaternion": (rot.matrix_to_quaternion, rot.quaternion_to_matrix),
}
# Nothing, half turns about the axes and about a skew one, and the Euler angles' locks.
SPECIAL = np.concatenate(
    [
        np.eye(3)[None],
        Rotation.from_rotvec(np.pi * np.eye(3)).as_matrix(),
        Rotation.from_rotvec([[np.pi * 0.6, 0, np.pi * 0.8]]).as_matrix(),
        Rotation.from_euler("XYZ", [[0.3, np.pi / 2, -0.8], [1.0, -np.pi / 2, 0.4]]).as_matrix(),
    ]
).astype(np.float32)


@pytest.mark.parametrize("form", FORMS)
def test_round_trips_of_random_and_special_rotations(random_rotations, form):
    there, back = FORMS[form]
    matrices = np.concatenate([random_rotations.as_matrix().astype(np.float32), SPECIAL])
    again = jax.jit(lambda m: back(there(m)))(matrices)
    np.testing.assert_allclose(again, matrices, atol=3e-6)


@pytest.mark.parametrize("form", FORMS)
def test_gradients_are_finite_at_special_rotations(form):
    there, back = FORMS[form]
    weight = jnp.asarray(np.random.default_rng(0).normal(size=(3, 3)), jnp.float32)

    def both(matrix):
        parameters = there(matrix)
        return jnp.sum(parameters), jnp.sum(back(parameters) * weight)

    gradients = jax.jit(jax.vmap(jax.jacrev(both)))(SPECIAL)
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradients))
    at_zero = jax.jacrev(back)(there(jnp.eye(3)))
    assert np.isfinite(at_zero).all()
