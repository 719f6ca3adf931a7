"""Samples of the front end with measured errors: their statistics, their crop, and what stays as it was."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flame_jax
from n2f_jax.data import degrade, sampler
from n2f_jax.data.degradation_presets import FRONT_END, FRONT_END_MEASURED
from n2f_jax.data.sampler import SyntheticConfig
from n2f_jax.face_mesh.coarse_mesh import head_rotation, load_coarse_mesh
from n2f_jax.face_mesh.error_model import load_point_errors
from n2f_jax.geometry.camera import project
from n2f_jax.render import HeadTopology

pytestmark = pytest.mark.slow

MEASURED = SyntheticConfig(image_size=48, front_end_share=0.5, **FRONT_END_MEASURED["v1"])


@pytest.fixture(scope="module")
def mesh():
    return jax.tree.map(jnp.asarray, load_coarse_mesh())


@pytest.fixture(scope="module")
def batches(open_head, mesh):
    """Four heads, two of them the front end's, with measured errors and with none."""
    topology = HeadTopology.from_model(open_head)

    def make(config):
        draw = jax.jit(
            lambda key: sampler.make_batch(
                key, open_head, topology, config, 4, coarse_mesh=mesh, targets=True
            )
        )
        return jax.device_get(draw(jax.random.key(2)))

    return make(MEASURED), make(dataclasses.replace(MEASURED, point_errors=""))


def test_drawn_points_have_the_measured_statistics(open_head, mesh):
    """Over heads and cameras of the sampler, in the axes of each head, about frontal: mean and spread of the model."""
    errors = load_point_errors("v1")
    config = dataclasses.replace(MEASURED, phi_std_deg=(5.0, 3.0, 10.0))

    def one(key):
        params_key, camera_key, points_key = jax.random.split(key, 3)
        vertices, _ = flame_jax.decode(open_head, sampler.sample_params(params_key, open_head, config))
        camera = sampler.sample_camera(camera_key, config)
        landmarks = project(flame_jax.landmarks68(open_head, vertices), camera)
        crop = sampler.landmark_crop(landmarks, config.crop_scale)
        camera = sampler.crop_camera(camera, crop, 48)
        true = sampler.coarse_points(mesh, open_head, vertices, camera)
        seen = sampler.seen_points(points_key, true, config, 48)
        rotation = head_rotation(true, mesh)
        return ((seen - errors.expected(true, rotation, 48)) @ rotation) / 48

    rest = np.asarray(jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(0), 1200)), np.float64)
    gain = float(errors.offset_gain_std[0]) * np.asarray(errors.mean_error(0.0))
    stated = np.sqrt(np.asarray(errors.std(0.04), np.float64) ** 2 + gain**2)
    ratio = rest.std(axis=0) / stated
    # Yaws differ from head to head, so points need not agree to sampling error; photographs, not renders.
    assert abs(np.median(ratio) - 1.0) < 0.05
    assert (np.abs(ratio - 1.0) < 0.25).mean() > 0.97
    assert float(np.median(errors.std(0.04) / errors.std(0.04, "render"))) > 1.1


def test_the_crop_is_cut_on_what_is_seen(batches, open_head, mesh):
    """The mask's places follow the seen landmarks; parameters and camera stay the head's own."""
    measured, exact = batches
    for batch in batches:
        vertices, _ = flame_jax.decode(open_head, batch["params"])
        found = project(
            flame_jax.landmarks68(open_head, vertices), jax.tree.map(jnp.asarray, batch["camera"])
        )
        np.testing.assert_allclose(found, batch["landmarks_2d"], atol=2e-2)
    # The box of the true landmarks fills the crop exactly where the crop was cut on them, and not where it was not.
    extent = [np.ptp(batch["landmarks_2d"], axis=1).max(axis=1) * 1.4 / 48 for batch in batches]
    np.testing.assert_allclose(extent[1], 1.0, atol=1e-3)
    assert (np.abs(extent[0][:2] - 1.0) > 3e-3).all() and (np.abs(extent[0][:2] - 1.0) < 0.2).all()
    for name in ("shape", "expression", "jaw"):
        np.testing.assert_array_equal(getattr(measured["params"], name), getattr(exact["params"], name))


def test_other_samples_are_what_they_were(batches):
    measured, exact = batches
    for name in ("normals", "mask", "target_normals", "target_mask", "landmarks_2d"):
        np.testing.assert_array_equal(measured[name][2:], exact[name][2:])
    assert (np.abs(measured["normals"][:2] - exact["normals"][:2]).max(axis=(1, 2, 3)) > 0.05).all()


def test_without_the_option_points_are_as_before(mesh):
    points = 20.0 * jax.random.normal(jax.random.key(1), (468, 3)) + 24.0
    config = SyntheticConfig(**FRONT_END)
    seen = sampler.seen_points(jax.random.key(0), points, config, 48)
    before = degrade.perturb_points(jax.random.key(0), points, noise=0.008, z_scale=0.06, size=48)
    np.testing.assert_array_equal(seen, before)
    assert SyntheticConfig().point_errors == ""


def test_a_wider_crop_shows_the_same_errors(mesh):
    """Errors are in units of the landmarks' box and not of whatever crop the network likes."""
    config = dataclasses.replace(MEASURED, point_errors="v2")
    points = 200.0 * jnp.asarray(load_coarse_mesh().reference) * jnp.asarray([[1.0, -1.0, -1.0]])
    key = jax.random.key(3)
    usual = sampler.seen_points(key, points, config, 48) - points
    wide = dataclasses.replace(config, crop_scale=2.8)
    np.testing.assert_allclose(
        sampler.seen_points(key, points, wide, 48) - points, 0.5 * usual, rtol=1e-3, atol=1e-4
    )


def test_what_does_not_go_together_is_refused(mesh, open_head):
    with pytest.raises(ValueError, match="point_errors is 'v3'; there are '', v1, v2"):
        SyntheticConfig(point_errors="v3")
    with pytest.raises(ValueError, match="takes the place of point_noise"):
        SyntheticConfig(point_errors="v1", point_noise=0.008)
    topology = HeadTopology.from_model(open_head)
    small = dataclasses.replace(open_head, faces=open_head.faces[:500], name="small")
    with pytest.raises(
        ValueError,
        match=r"point_errors = 'v1' needs the front end's 468 points on the head model.*'small' has 500 triangles",
    ):
        sampler.make_batch(jax.random.key(0), small, topology, MEASURED, 4, coarse_mesh=mesh)
    with pytest.raises(ValueError, match="needs the front end's coarse mesh"):
        sampler.make_batch(jax.random.key(0), open_head, topology, MEASURED, 4)


def test_maps_of_seen_points_are_drawn_in_their_crop(batches):
    """A front-end sample's mask reaches as far as its landmarks' box says: the crop is the one at inference."""
    measured, _ = batches
    for mask in measured["mask"][:2]:
        rows = np.flatnonzero(mask.any(axis=1))
        columns = np.flatnonzero(mask.any(axis=0))
        longer = max(rows[-1] - rows[0], columns[-1] - columns[0]) + 1
        assert 48 / 1.4 - 2 < longer < 48
