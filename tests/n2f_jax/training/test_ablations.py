"""The paper's ablations as configs: what the network is shown, and which settings go together."""

import dataclasses

import jax
import numpy as np
import pytest

from n2f_jax.data.sampler import SyntheticConfig, network_inputs
from n2f_jax.training import setup
from n2f_jax.training.setup import SetupError
from n2f_jax.training.step import step_key
from tests.n2f_jax.training.config_file import read_config
from tests.runtime_types import unchecked

from .conftest import make_objective

pytestmark = pytest.mark.medium

ABLATIONS = ("uv", "uv_normals", "no_segmentation")


@pytest.fixture(scope="module")
def shown(request, open_head):
    """Of each ablation and of the normals: the same four heads as the network is shown them."""
    result = {}
    for name in ("normals", *ABLATIONS):
        path = "configs/stage1.py" if name == "normals" else f"configs/ablations/{name}.py"
        variant = "small" if name == "normals" else "stage1-small"
        config = read_config(request.config.rootpath / path, variant)
        config.update_from_flattened_dict({"data.front_end_share": 0.0, "model.input_size": 64})
        config.batch_size = 4
        setup.check(config, open_head)
        objective = make_objective(config)
        assets = setup.build_assets(config, open_head)
        batch = jax.jit(lambda assets, o=objective: o.batch(step_key(0, 3), assets, targets=True))(assets)
        inputs, mask = network_inputs(batch, objective.sampler)
        assert inputs.shape[-1] == config.model.backbone.channels
        result[name] = (np.asarray(inputs), np.asarray(mask), jax.device_get(batch))
    return result


def test_uv_is_that_of_the_mesh_and_lies_beside_the_normals(shown, open_head):
    normals, mask, _ = shown["normals"]
    uv, uv_mask, _ = shown["uv"]
    both, _, _ = shown["uv_normals"]
    np.testing.assert_array_equal(mask, uv_mask)
    np.testing.assert_array_equal(both, np.concatenate([uv, normals], axis=-1))
    assert (uv[mask == 0] == 0).all() and np.abs(uv).max() <= 1
    known = 2 * np.asarray(open_head.uv) - 1
    inside = uv[mask > 0]
    assert (inside >= known.min(axis=0)).all() and (inside <= known.max(axis=0)).all()
    assert inside.std(axis=0).min() > 0.05


def test_without_segmentation_the_whole_head_is_shown(shown):
    normals, mask, _ = shown["normals"]
    whole, ones, batch = shown["no_segmentation"]
    assert (ones == 1).all()
    np.testing.assert_allclose(whole[mask > 0], normals[mask > 0], atol=1e-6)
    more = (np.abs(whole).sum(-1) > 0) & (mask == 0)
    assert (more.mean(axis=(1, 2)) > 0.05).all()
    # What is compared with is the face alone.
    np.testing.assert_array_equal(batch["target_mask"], mask)
    assert (np.abs(batch["target_normals"]).sum(-1)[mask == 0] == 0).all()


@unchecked()
def test_settings_that_do_not_go_together_are_named(request, open_head):
    base = SyntheticConfig(image_size=32)
    for changes, message in (
        ({"channels": "depth"}, "channels is 'depth'"),
        ({"channels": "uv", "front_end_share": 0.5}, "does not go with front_end_share"),
        ({"masked": False, "hair_share": 0.5}, "does not go with hair_share"),
        ({"masked": False, "channels": "uv"}, "does not go with channels"),
    ):
        with pytest.raises(ValueError, match=message):
            dataclasses.replace(base, **changes)
    config = read_config(request.config.rootpath / "configs/ablations/uv.py", "stage1-small")
    config.model.backbone.channels = 3
    with pytest.raises(SetupError, match=r"model\.backbone\.channels is 3"):
        setup.check(config, open_head)
    config.data.front_end_share = 0.5
    with pytest.raises(SetupError, match="data: channels = 'uv' does not go with front_end_share"):
        setup.check(config, open_head)
    config.model.backbone.channels, config.data.front_end_share = 2, 0.0
    with pytest.raises(SetupError, match="no texture coordinates"):
        setup.check(config, dataclasses.replace(open_head, uv=open_head.uv[:0]))


@pytest.mark.parametrize("size", ["", "-small"])
@pytest.mark.parametrize("stage", ["stage1", "stage2"])
@pytest.mark.parametrize("name", ABLATIONS)
def test_an_ablation_is_its_stage_and_what_it_names(request, name, stage, size):
    root = request.config.rootpath / "configs"
    ablation = read_config(root / "ablations" / f"{name}.py", stage + size).to_dict()
    plain = read_config(root / f"{stage}.py", size[1:] or "paper").to_dict()
    changed = {
        (section, field)
        for section in ("data", "loss", "optimizer", "validation")
        for field in plain[section]
        if plain[section][field] != ablation[section][field]
    }
    assert changed <= {("data", "channels"), ("data", "masked"), ("data", "front_end_share")}
    assert changed & {("data", "channels"), ("data", "masked")}
