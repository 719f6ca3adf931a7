import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from n2f_jax.geometry.alignment import Similarity
from n2f_jax.metrics.head_errors import rotation_error_degrees, vertex_errors


def test_vertex_errors_ignore_pose_and_see_size(open_head):
    """Turned and moved: 0 mm. One per cent too large: one per cent of the distance to the face's centre."""
    truth = jnp.asarray(open_head.v_template)
    turn = jnp.asarray(Rotation.from_euler("xyz", [20, -30, 10], degrees=True).as_matrix(), jnp.float32)
    moved = Similarity(1.0, turn, jnp.asarray([0.1, -0.2, 0.3])).apply(truth)
    errors = jax.jit(lambda a, b: vertex_errors(open_head, a, b))
    assert max(float(value) for value in errors(moved, truth).values()) < 2e-3
    face = np.asarray(truth)[np.asarray(open_head.masks["face"])]
    expected = 1000 * 0.01 * np.linalg.norm(face - face.mean(0), axis=1).mean()
    assert float(errors(1.01 * truth, truth)["face"]) == pytest.approx(expected, rel=1e-3)


def test_rotation_error_keeps_its_digits():
    for degrees in (0.0, 1e-3, 0.5, 30.0, 179.0):
        turn = jnp.asarray(Rotation.from_euler("y", degrees, degrees=True).as_matrix(), jnp.float32)
        found = float(rotation_error_degrees(turn, jnp.eye(3)))
        assert found == pytest.approx(degrees, rel=1e-3, abs=1e-5)
