import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flame_jax
from flame_jax.loading import head_model_from_arrays
from flame_jax.rotations import euler_to_matrix

from .random_model import random_arrays

ARRAYS = random_arrays()


@pytest.fixture(scope="module")
def model():
    return head_model_from_arrays(ARRAYS, default_name="random")


def corners(vertices, face_indices, barycentric):
    return np.einsum("nkc,nk->nc", vertices[ARRAYS["f"][face_indices]], barycentric)


def test_static_landmarks_are_barycentric_points(model):
    vertices = np.random.default_rng(0).normal(size=(2, 60, 3)).astype(np.float32)
    found = jax.jit(flame_jax.landmarks68)(model, vertices)
    for i in range(2):
        expected = corners(vertices[i], ARRAYS["full_lmk_faces_idx"], ARRAYS["full_lmk_bary_coords"])
        np.testing.assert_allclose(found[i], expected, atol=1e-6)


def test_dynamic_contour_takes_the_bin_of_each_head(model):
    vertices = np.random.default_rng(1).normal(size=(4, 60, 3)).astype(np.float32)
    yaw = jnp.deg2rad(jnp.asarray([0.2, -12.4, 7.0, 80.0]))
    found = jax.jit(flame_jax.landmarks68)(model, vertices, yaw)
    static = flame_jax.landmarks68(model, vertices)
    for i, index in enumerate([0, 12, 46, 78]):
        expected = corners(
            vertices[i], ARRAYS["dynamic_lmk_faces_idx"][index], ARRAYS["dynamic_lmk_bary_coords"][index]
        )
        np.testing.assert_allclose(found[i, :17], expected, atol=1e-6)
    np.testing.assert_allclose(found[:, 17:], static[:, 17:], atol=1e-6)


def test_yaw_is_the_y_rotation():
    for degrees in (-60, -5, 0, 30):
        rotation = euler_to_matrix(jnp.asarray([0.0, np.deg2rad(degrees), 0.0]))
        assert np.rad2deg(float(flame_jax.yaw_from_rotation(rotation))) == pytest.approx(degrees, abs=0.01)


def test_a_model_without_landmarks_says_so():
    arrays = {k: v for k, v in ARRAYS.items() if "lmk" not in k}
    model = head_model_from_arrays(arrays, default_name="bare")
    with pytest.raises(ValueError, match="'bare' has no landmark embedding"):
        flame_jax.landmarks68(model, model.v_template)
