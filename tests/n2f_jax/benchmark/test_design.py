"""What is controlled is what changes."""

import collections
import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from n2f_jax.benchmark.design import CELLS, draw_scene, frontal, setting_of
from n2f_jax.benchmark.head import load_benchmark_head
from n2f_jax.geometry.camera import frontal_rotation

pytestmark = pytest.mark.medium

HEADS = 4


@pytest.fixture(scope="module")
def draw():
    model = load_benchmark_head()

    def of(**values):
        setting = dataclasses.replace(
            frontal(HEADS), **{name: jnp.full(HEADS, float(value)) for name, value in values.items()}
        )
        return draw_scene(model, jnp.arange(HEADS), setting, size=64, crop_scale=1.4)

    return of


def test_every_cell_is_used_alike():
    setting = setting_of(jnp.arange(2 * len(CELLS)))
    names = ("yaw", "pitch", "strength", "crop_error")
    rows = np.stack([np.asarray(getattr(setting, name)) for name in names], axis=-1)
    counts = collections.Counter(tuple(np.round(row, 4).tolist()) for row in rows)
    assert len(counts) == len(CELLS)
    assert set(counts.values()) == {2}
    # The first few heads already spread over all yaws.
    assert len(np.unique(np.asarray(setting.yaw)[:10])) == 5


def test_the_same_number_is_the_same_person(draw):
    still, turned = draw(), draw(yaw=40, strength=1.5, crop_error=0.05)
    np.testing.assert_array_equal(still.params.shape, turned.params.shape)
    np.testing.assert_allclose(turned.params.expression, 1.5 * still.params.expression, rtol=1e-5)
    assert np.abs(np.asarray(draw(strength=0).params.expression)).max() == 0.0


def test_yaw_turns_the_head_as_the_samplers(draw):
    rotation = np.asarray(frontal_rotation(draw(yaw=40).camera.rotation))
    # φ = R_x·R_y·R_z: the z axis's x component is sin φ_y, whatever the roll.
    np.testing.assert_allclose(np.degrees(np.arcsin(rotation[:, 0, 2])), 40.0, atol=1e-3)


def test_crop(draw):
    exact, off = draw(), draw(crop_error=0.1)
    middle = lambda s: np.asarray((s.landmarks_2d.max(axis=1) + s.landmarks_2d.min(axis=1)) / 2) / 64  # noqa: E731
    extent = lambda s: np.asarray((s.landmarks_2d.max(axis=1) - s.landmarks_2d.min(axis=1)).max(axis=-1)) / 64  # noqa: E731
    np.testing.assert_allclose(middle(exact), 0.5, atol=1e-4)
    np.testing.assert_allclose(extent(exact), 1 / 1.4, atol=1e-4)
    scale = extent(exact) / extent(off)
    np.testing.assert_allclose(np.abs(np.log(scale)), 0.1, atol=1e-3)
    # The shift is in units of the exact crop's side.
    np.testing.assert_allclose(np.linalg.norm(middle(off) - 0.5, axis=-1) * scale, 0.1, atol=1e-3)


def test_a_longer_lens_from_further_away_keeps_the_size(draw):
    near, far = draw(), draw(focal=4.0)
    np.testing.assert_allclose(far.camera.translation[:, 2], 4 * near.camera.translation[:, 2], rtol=1e-5)
    np.testing.assert_allclose(np.asarray(far.camera.focal / near.camera.focal), 4.0, rtol=0.08)
