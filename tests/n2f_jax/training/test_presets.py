"""Dataclasses as configs: what is None by default can be set, to what its field says."""

import pytest

from n2f_jax.training.presets import common
from n2f_jax.training.setup import model_config, sampler_config


def test_spreads_are_the_head_models_until_they_are_set():
    config = common("small")
    assert sampler_config(config.data).beta_std is None
    config.data.beta_std = 0.7
    assert sampler_config(config.data).beta_std == 0.7
    with pytest.raises(TypeError):
        config.data.psi_std = "wide"


def test_a_camera_mean_is_three_numbers():
    config = common("small")
    config.model.camera_mean = (0.4, 0.5, -2.0)
    assert model_config(config.model).resolved_camera_mean() == (0.4, 0.5, -2.0)
