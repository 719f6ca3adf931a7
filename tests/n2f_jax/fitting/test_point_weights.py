"""What points weigh in a fit: alike by default, by their measured errors where these are given."""

import jax.numpy as jnp
import numpy as np
import pytest

from n2f_jax.face_mesh.coarse_mesh import load_coarse_mesh
from n2f_jax.face_mesh.embedding import face_mesh_embedding
from n2f_jax.face_mesh.error_model import load_point_errors
from n2f_jax.fitting.observations import Anchors
from n2f_jax.fitting.residuals import ResidualConfig, Values, term_weights, with_measured_points


def values(noise):
    """Residuals of which only the noise is looked at."""
    nothing = jnp.zeros(1)
    pairs = jnp.zeros((1, 2))
    return Values(
        *(pairs, nothing, pairs, nothing, nothing, pairs, nothing),
        means=jnp.zeros(3),
        noise=jnp.asarray(noise),
        in_front=jnp.asarray(True),
    )


def test_without_errors_points_weigh_alike(open_head):
    embedding = face_mesh_embedding(open_head)
    anchors = Anchors.photograph(open_head, embedding)
    weights = np.asarray(anchors.weights)
    np.testing.assert_array_equal(weights[:17], 0.0)
    np.testing.assert_array_equal(weights[17:68], np.float32(1) / np.float32(51))
    np.testing.assert_array_equal(weights[68:], np.float32(1 / 468))
    assert ResidualConfig().points == 20.0 and ResidualConfig().point_noise == 0.02


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_with_errors_a_point_weighs_its_precision(open_head, version):
    errors = load_point_errors(version)
    embedding = face_mesh_embedding(open_head)
    plain, weighed = (
        Anchors.photograph(open_head, embedding),
        Anchors.photograph(open_head, embedding, errors),
    )
    np.testing.assert_array_equal(plain.faces, weighed.faces)
    weights = np.asarray(weighed.weights, np.float64)
    rms = np.asarray(errors.image_rms, np.float64)
    np.testing.assert_array_equal(weights[:17], 0.0)
    for part, sigma in ((weights[17:68], rms[load_coarse_mesh().ibug68[17:]]), (weights[68:], rms)):
        assert part.sum() == pytest.approx(1.0, rel=1e-5)
        product = part * sigma**2
        np.testing.assert_allclose(product, product.mean(), rtol=1e-4)
    # Points differ enough to matter: eyes and nose are found better than the outline.
    assert rms.max() > 1.5 * rms.min()
    alone = Anchors.photograph(open_head, None, errors)
    np.testing.assert_allclose(alone.weights, weighed.weights[:68], rtol=1e-6)


def test_measured_count_and_noise_take_the_place_of_guesses():
    errors = load_point_errors("v1")
    config = with_measured_points(ResidualConfig(normals=7.0), errors)
    assert config.normals == 7.0 and config.border == ResidualConfig().border
    assert 2.0 < config.points < 68.0 and 0.005 < config.point_noise < 0.03
    weights = term_weights(values([1e-4, 1e-4, 1e-4]), config)
    np.testing.assert_allclose(weights[1], config.points / config.point_noise**2, rtol=1e-5)
    # Where residuals are larger than what was measured they count, as they did.
    large = term_weights(values([1e-4, 0.05, 1e-4]), config)
    np.testing.assert_allclose(large[1], config.points / 0.05**2, rtol=1e-5)
    # With the anchors' weights each point has its own σ: Σ 1/σ² of all of them, over how many there are.
    mean_precision = np.mean(1.0 / np.asarray(errors.image_rms, np.float64) ** 2)
    np.testing.assert_allclose(1.0 / config.point_noise**2, mean_precision, rtol=1e-6)
