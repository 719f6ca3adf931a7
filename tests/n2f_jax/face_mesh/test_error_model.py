"""The measured errors of the face mesh's points: what is drawn from them, and what a damaged file says."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import n2f_jax.face_mesh.error_model as error_model
from n2f_jax.face_mesh.coarse_mesh import load_coarse_mesh
from n2f_jax.face_mesh.error_model import ErrorModelError, load_point_errors, read_point_errors
from n2f_jax.geometry.camera import FRONTAL

pytestmark = pytest.mark.medium

SIZE, DRAWS = 128, 1500


def turned(yaw_deg):
    """A head's rotation, to the subject's left where positive."""
    c, s = np.cos(np.radians(yaw_deg)), np.sin(np.radians(yaw_deg))
    return np.array([[c, 0, -s], [0, 1, 0], [s, 0, c]], np.float32) @ FRONTAL


def face(errors, rotation, coefficients=None):
    """True points of a crop: the mean head, or one with so many σ along a main direction."""
    points = np.asarray(errors.mean_points, np.float64)
    if coefficients is not None:
        rows = np.asarray(errors.directions, np.float64).reshape(len(coefficients), -1)
        # Coefficients are products with the rows: their dual is what moves one at a time.
        points = points + (np.linalg.pinv(rows) @ coefficients).reshape(-1, 3)
    pixels = 5.2 * SIZE * points @ np.asarray(rotation, np.float64).T
    return jnp.asarray(pixels + np.array([SIZE / 2, SIZE / 2, 0.0]), jnp.float32)


@jax.jit
def many_draws(errors, points, rotation):
    keys = jax.random.split(jax.random.key(0), DRAWS)
    return jax.vmap(lambda key: errors.draw(key, points, rotation, SIZE, "photograph"))(keys)


@pytest.fixture(scope="module", params=error_model.VERSIONS)
def errors(request):
    return load_point_errors(request.param)


def test_the_file_is_small_and_says_where_it_comes_from():
    assert error_model._asset().stat().st_size < 800_000
    about = error_model.about_point_errors()
    assert "measure_point_errors" in about and "photographs" in about


@pytest.mark.parametrize("yaw_deg", [0.0, 30.0, -55.0])
def test_draws_have_the_moments_that_the_fields_say(errors, yaw_deg):
    """Mean, spread at every point and axis, and the covariance of points with one another."""
    rotation = jnp.asarray(turned(yaw_deg))
    points = face(errors, rotation)
    drawn = np.asarray(many_draws(errors, points, rotation), np.float64)
    expected = np.asarray(errors.expected(points, rotation, SIZE), np.float64)
    yaw = np.radians(yaw_deg)
    std, offset = (np.asarray(x, np.float64) for x in (errors.std(yaw), errors.mean_error(yaw)))
    # In the axes of the view, which for these heads are the image's: x, and up and towards the viewer.
    local = (drawn - expected) @ np.diag([1.0, -1.0, -1.0]) / SIZE
    offset = offset @ np.asarray(rotation, np.float64).T @ np.diag([1.0, -1.0, -1.0])
    gain = np.interp(abs(yaw), errors.yaw_knots, errors.offset_gain_std)
    variance = std**2 + (gain * offset) ** 2
    assert np.abs(local.mean(axis=0) / np.sqrt(variance)).max() < 5 / np.sqrt(DRAWS)
    np.testing.assert_allclose(local.var(axis=0) / variance, 1.0, atol=6 * np.sqrt(2 / DRAWS))
    # Between points: what the factor and the common part of the offset say.
    some = np.arange(0, 468, 13)
    smooth = np.asarray(errors.smooth, np.float64)[:, some, 1] * std[some, 1]
    stated = smooth.T @ smooth + gain**2 * np.outer(offset[some, 1], offset[some, 1])
    found = np.cov(local[:, some, 1].T)
    scale = np.sqrt(np.outer(variance[some, 1], variance[some, 1]))
    off = ~np.eye(len(some), dtype=bool)
    assert np.abs((found - stated) / scale)[off].max() < 6 / np.sqrt(DRAWS)


def test_neighbours_err_together(errors):
    """What is drawn is mostly smooth: points within a centimetre correlate, far ones do not."""
    smooth = np.asarray(errors.smooth)
    distance = np.linalg.norm(errors.mean_points[:, None] - errors.mean_points[None], axis=-1)
    correlation = np.einsum("lpc,lqc->pq", smooth, smooth) / 3
    assert correlation[(distance > 0) & (distance < 0.01)].mean() > 0.6
    assert abs(correlation[(distance > 0.07) & (distance < 0.1)].mean()) < 0.25
    assert (smooth**2).sum(axis=0).max() <= 1.0 + 1e-3


def test_a_mirrored_head_is_seen_mirrored(errors):
    mesh = load_coarse_mesh()
    coefficients = np.random.default_rng(0).normal(size=len(errors.directions))
    points = face(errors, turned(35.0), coefficients)
    flip = np.array([-1.0, 1.0, 1.0], np.float32)
    mirrored = (np.asarray(points)[mesh.mirror] - [SIZE, 0, 0]) * flip
    expected = errors.expected(points, jnp.asarray(turned(35.0)), SIZE)
    other = errors.expected(jnp.asarray(mirrored, jnp.float32), jnp.asarray(turned(-35.0)), SIZE)
    back = (np.asarray(other)[mesh.mirror] * flip) + [SIZE, 0, 0]
    moved = np.abs(np.asarray(expected) - np.asarray(points)).max()
    # Directions are their own mirror images or negatives of them up to how little was measured.
    np.testing.assert_allclose(back, expected, atol=0.1 * moved)
    std = errors.std(np.radians(35.0)), errors.std(np.radians(-35.0))
    np.testing.assert_allclose(std[0][mesh.mirror], std[1], rtol=1e-5)


def test_the_pull_is_toward_the_mean(errors):
    """Of what a head differs from the mean along the main directions, a part is lost: less than all, more than none."""
    rotation = jnp.asarray(turned(0.0))
    for j in range(8):
        one = np.zeros(len(errors.directions))
        one[j] = 2.0
        points = face(errors, rotation, one)
        np.testing.assert_allclose(errors.coefficients(points, rotation), one, atol=0.02)
        plain = errors.coefficients(errors.expected(face(errors, rotation), rotation, SIZE), rotation)
        said = errors.coefficients(errors.expected(points, rotation, SIZE), rotation)
        lost = 1.0 - float(said[j] - plain[j]) / 2.0
        assert 0.1 < lost < 1.1


def test_little_is_seen_of_what_the_main_directions_leave(errors):
    """Left whole, it would tell the sampler's heads apart by what no network sees."""
    rotation = jnp.asarray(turned(0.0))
    rows = np.asarray(errors.directions, np.float64).reshape(len(errors.directions), -1)
    noise = np.random.default_rng(0).normal(size=rows.shape[1])
    noise -= np.linalg.pinv(rows) @ (rows @ noise)
    noise = noise.reshape(-1, 3)
    # Nothing that moves or scales the upper face, which is the measure's own pose.
    noise -= noise[errors.upper_face].mean(axis=0)
    points = face(errors, rotation)
    moved = points + jnp.asarray(5.2 * SIZE * 1e-4 * noise @ turned(0.0).T, jnp.float32)
    seen = np.asarray(
        errors.expected(moved, rotation, SIZE) - errors.expected(points, rotation, SIZE), np.float64
    )
    true = np.asarray(moved - points, np.float64)
    slopes = (seen * true).sum(axis=0) / (true * true).sum(axis=0)
    # Image axes of a frontal head are the view's, up to sign.
    np.testing.assert_allclose(slopes, errors.detail, atol=0.05)
    assert (np.asarray(errors.detail) < 0.5).all()


def test_units_are_crop_sides(errors):
    """Twice the pixels, the same picture; and neither the head's place nor the depth's zero matters."""
    rotation, key = jnp.asarray(turned(-20.0)), jax.random.key(4)
    points = face(errors, rotation)
    once, twice = (errors.draw(key, k * points, rotation, k * SIZE) for k in (1, 2))
    np.testing.assert_allclose(twice, 2.0 * once, rtol=1e-4, atol=1e-2)
    shift = jnp.asarray([[7.0, -3.0, 50.0]])
    np.testing.assert_allclose(errors.draw(key, points + shift, rotation, SIZE), once + shift, atol=1e-2)


def test_photographs_vary_more_than_renders(errors):
    assert float(errors.photograph_scale) > 0.9 and float(errors.kind_std) > 0.0
    render, photograph = (np.asarray(errors.std(0.3, kind)) for kind in ("render", "photograph"))
    assert np.mean(photograph) > np.mean(render)
    assert not np.isnan(render).any()


def test_errors_of_the_file_are_named(tmp_path):
    with pytest.raises(ErrorModelError, match="v1, v2, not of 'v3'"):
        load_point_errors("v3")
    with pytest.raises(ErrorModelError, match=r"missing: scripts/build/measure_point_errors\.py writes it"):
        read_point_errors(tmp_path / "none.npz")
    broken = tmp_path / "broken.npz"
    broken.write_bytes(error_model._asset().read_bytes()[:5000])
    with pytest.raises(ErrorModelError, match=r"broken\.npz is damaged"):
        read_point_errors(broken)
    with np.load(error_model._asset()) as data:
        arrays = {name: data[name] for name in data.files}
    wrong = {
        "short": arrays | {"v2_pull": arrays["v2_pull"][:, :3]},
        "nan": arrays | {"v1_spread": arrays["v1_spread"] * np.float16(np.nan)},
        "values": arrays | {"values": np.str_(json.dumps({"v1": {}}))},
        "part": {name: value for name, value in arrays.items() if name != "directions"},
    }
    for name, content in wrong.items():
        path = tmp_path / f"{name}.npz"
        np.savez(path, **content)
        with pytest.raises(ErrorModelError, match=f"{name}.npz is damaged"):
            read_point_errors(path)


def test_a_pytree_goes_through_jit(errors):
    rotation = jnp.asarray(turned(10.0))
    points = face(errors, rotation)
    traced = jax.jit(lambda model, key: model.draw(key, points, rotation, SIZE))(errors, jax.random.key(1))
    np.testing.assert_allclose(traced, errors.draw(jax.random.key(1), points, rotation, SIZE), atol=1e-3)
    doubled = dataclasses.replace(errors, spread=2.0 * errors.spread)
    np.testing.assert_allclose(doubled.std(0.2, "render"), 2.0 * errors.std(0.2, "render"), rtol=1e-6)
