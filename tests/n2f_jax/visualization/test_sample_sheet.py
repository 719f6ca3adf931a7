"""The pages of samples: what they show, and that broken maps show."""

import dataclasses

import numpy as np
import pytest

from n2f_jax.data.assets import Assets
from n2f_jax.data.degradation_presets import STRONG
from n2f_jax.data.sampler import SyntheticConfig
from n2f_jax.render import HeadTopology
from n2f_jax.visualization import sample_sheet

pytestmark = pytest.mark.medium


@pytest.mark.slow
def test_a_page_shows_every_sample(open_head):
    assets = Assets(model=open_head, topology=HeadTopology.from_model(open_head), coarse_mesh=None)
    config = SyntheticConfig(image_size=32)
    page = sample_sheet.sample_page(assets, config, num=3, columns=2, tile=32)
    assert page.dtype == np.uint8 and page.ndim == 3
    # Two rows of two cells: the fourth cell is empty, the third is not.
    lower = page[page.shape[0] // 2 :]
    half = page.shape[1] // 2
    assert lower[:, :half].std() > 20 > lower[:, half + 10 :].std()


def test_broken_maps_are_magenta():
    normals = np.zeros((2, 2, 3), np.float32)
    normals[0] = 0.0, 0.0, 1.0
    mask = np.array([[1, 0], [1, 0]], np.float32)
    magenta = (sample_sheet.normal_panel(normals, mask) == (255, 0, 255)).all(axis=-1)
    np.testing.assert_array_equal(magenta, [[False, True], [True, False]])


def test_panels_show_change():
    before, after = np.array([[1.0, 1.0, 0.0]]), np.array([[1.0, 0.0, 1.0]])
    white, red, blue = sample_sheet.mask_change_panel(before, after)[0]
    assert white.tolist() == [255, 255, 255]
    assert red[0] > red[2] and blue[2] > blue[0]
    flat = np.zeros((1, 2, 3))
    flat[..., 2] = 1.0
    turned = flat.copy()
    turned[0, 1] = 0.0, np.sin(np.radians(15)), np.cos(np.radians(15))
    same, far = sample_sheet.angle_panel(flat, turned)[0].astype(int)
    assert np.ptp(same) < 5 and far[0] - far[2] > 150


def test_every_preset_is_a_config():
    for setting in STRONG.values():
        dataclasses.replace(SyntheticConfig(), **setting)
