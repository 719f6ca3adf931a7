"""What is done to maps and points, against their definitions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from n2f_jax.data import degrade


@pytest.fixture(scope="module")
def blob():
    rng = np.random.default_rng(0)
    return (ndimage.gaussian_filter(rng.normal(size=(40, 40)), 4) > 0.0).astype(np.float32)


@pytest.mark.parametrize("radius", [0, 1, 3])
def test_erosion_is_scipys(blob, radius):
    """City-block erosion; the crop's border is no edge of the mask."""
    found = degrade.erode(jnp.asarray(blob), jnp.asarray(float(radius)), 4)
    expected = ndimage.binary_erosion(blob, iterations=radius, border_value=1) if radius else blob
    np.testing.assert_array_equal(found, expected)


def test_point_noise_has_the_spread_and_the_smoothness_asked_for():
    rng = np.random.default_rng(1)
    grid = np.stack(np.meshgrid(np.linspace(20, 80, 12), np.linspace(20, 80, 12)), axis=-1).reshape(-1, 2)
    points = jnp.asarray(np.concatenate([grid, rng.normal(size=(144, 1))], axis=1), jnp.float32)
    keys = jax.random.split(jax.random.key(0), 800)
    moved = jax.jit(jax.vmap(lambda k: degrade.perturb_points(k, points, noise=0.02, z_scale=0.0, size=100)))(
        keys
    )
    shift = np.asarray(moved) - np.asarray(points)
    np.testing.assert_allclose(shift.std(axis=(0, 1)), 2.0, rtol=0.08)
    np.testing.assert_allclose(shift.mean(axis=(0, 1)), 0.0, atol=0.2)
    # Neighbours, 5.5 % of the crop apart, move together.
    shift = shift.reshape(800, 12, 12, 3)
    difference = (shift[:, :, 1:] - shift[:, :, :-1]).std()
    assert difference < 0.5 * shift.std()


def test_z_scale_scales_depth_alone():
    points = jnp.asarray([[10.0, 20.0, 4.0], [30.0, 40.0, -8.0]])
    keys = jax.random.split(jax.random.key(0), 3000)
    moved = np.asarray(
        jax.jit(jax.vmap(lambda k: degrade.perturb_points(k, points, noise=0.0, z_scale=0.1, size=100)))(keys)
    )
    np.testing.assert_array_equal(moved[..., :2], np.broadcast_to(points[:, :2], moved[..., :2].shape))
    logs = np.log(moved[:, 0, 2] / 4.0)
    np.testing.assert_allclose(moved[:, 1, 2] / -8.0, moved[:, 0, 2] / 4.0, rtol=1e-5)
    assert abs(logs.mean()) < 0.01
    assert logs.std() == pytest.approx(0.1, rel=0.08)


def test_degraded_maps_stay_consistent():
    """Normals are zero where the mask is, the mask only shrinks, and holes come as often as asked."""
    mask = jnp.ones((32, 32)).at[:4].set(0.0)
    normals = jnp.zeros((32, 32, 3)).at[..., 2].set(1.0) * mask[..., None]
    keys = jax.random.split(jax.random.key(0), 600)
    cut = jax.jit(
        jax.vmap(lambda k: degrade.degrade_maps(k, normals, mask, mask_erosion=0.0, occluder_share=0.3))
    )(keys)
    new_normals, new_mask = map(np.asarray, cut)
    assert (new_mask <= np.asarray(mask)).all()
    np.testing.assert_array_equal(new_normals[..., 2], new_mask)
    share = np.mean([(m != np.asarray(mask)).any() for m in new_mask])
    assert 0.2 < share < 0.35  # a hole that falls wholly outside the mask does not show


def test_nothing_asked_nothing_done():
    mask, normals = jnp.ones((8, 8)), jnp.ones((8, 8, 3))
    same = degrade.degrade_maps(jax.random.key(0), normals, mask, mask_erosion=0.0, occluder_share=0.0)
    assert same[0] is normals
    assert same[1] is mask
    points = jnp.ones((5, 3))
    assert degrade.perturb_points(jax.random.key(0), points, noise=0.0, z_scale=0.0, size=8) is points
