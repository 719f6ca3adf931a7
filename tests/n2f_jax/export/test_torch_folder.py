"""Folders for PyTorch without PyTorch: what is written, what comes back, what is refused."""

import dataclasses
import functools
import hashlib
import json

import jax
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file

import flame_jax
from n2f_jax.cli.main import main
from n2f_jax.export import torch_folder
from n2f_jax.models.face_mesh_places import FaceMeshPlaces
from n2f_jax.models.folders import PretrainedError
from n2f_jax.models.n2fnet import N2FNet, n2fnet_config
from n2f_jax.models.parameters import flatten, from_dict, map_with_path, to_dict
from n2f_jax.models.pretrained import (
    HeadModelIdentity,
    InputSpec,
    Pretrained,
    from_pretrained,
    save_pretrained,
)
from n2f_jax.reconstruction.reconstructor import DEFAULT_CHECKPOINT
from scripts import export_torch
from tests.flame_jax.gnm_file import write_gnm

pytestmark = pytest.mark.medium

CONFIGS = {
    "grid": {"pooling": "grid", "pool_channels": 3},
    "mean-gated-post": {"pooling": "mean", "gated_mlp": True, "head_norm": "post", "regressor_layers": 2},
}


@functools.cache
def abstract_network(config):
    return nnx.eval_shape(lambda: N2FNet(config, rngs=nnx.Rngs(0)))


def random_pretrained(open_head, **changes) -> Pretrained:
    sizes = {"width": 32, "depth": 2, "num_heads": 2, "mlp_width": 48, "patch_size": 16, "input_size": 32}
    config = n2fnet_config("tiny", **(sizes | {"head_num_heads": 2} | changes))
    rng = np.random.default_rng(0)
    module = abstract_network(config)

    def draw(path, leaf):  # nowhere zero, so that nothing can hide
        fan_in = leaf.size // leaf.shape[-1]
        value = rng.normal(scale=fan_in**-0.5 if path.endswith("kernel") else 0.3, size=leaf.shape)
        return np.asarray(value + path.endswith(("scale", "gamma", "periods")), np.float32)

    tree = map_with_path(draw, to_dict(module))
    return Pretrained(
        from_dict(module, tree),
        config,
        InputSpec(size=32, crop_scale=1.4),
        HeadModelIdentity.of(open_head),
        {"steps": 3},
    )


def assert_same_parameters(a, b):
    a, b = flatten(to_dict(a)), flatten(to_dict(b))
    assert a.keys() == b.keys()
    for path in a:
        np.testing.assert_array_equal(a[path], b[path], err_msg=path)


@pytest.mark.parametrize("name", CONFIGS)
def test_there_and_back_is_bit_identical(tmp_path, open_head, name):
    pretrained = random_pretrained(open_head, **CONFIGS[name])
    torch_folder.write_torch_folder(tmp_path / "torch", pretrained, open_head)
    torch_folder.save_back(tmp_path / "torch", tmp_path / "back")
    back = from_pretrained(tmp_path / "back", open_head)
    assert_same_parameters(pretrained.network, back.network)
    for field in ("config", "inputs", "head_model", "notes"):
        assert getattr(back, field) == getattr(pretrained, field)


def test_layouts_are_those_of_torch(tmp_path, open_head):
    pretrained = random_pretrained(open_head, pooling="mean")
    torch_folder.write_torch_folder(tmp_path, pretrained)
    state, tree = load_file(tmp_path / "model.safetensors"), flatten(to_dict(pretrained.network))
    up = tree["backbone/blocks/1/mlp/up/kernel"]
    np.testing.assert_array_equal(state["backbone.layer.1.mlp.up_proj.weight"], np.asarray(up).T)
    kernel = np.asarray(tree["backbone/patch_embedding/kernel"])
    conv = state["backbone.embeddings.patch_embeddings.weight"]
    assert conv[5, 0, 1, 2] == kernel[1, 2, 0, 5]
    assert len(state) == len(tree)
    assert not (tmp_path / "head_model.safetensors").exists()


def test_card_and_config_say_what_is_needed(tmp_path, open_head):
    torch_folder.write_torch_folder(tmp_path, random_pretrained(open_head), open_head, "net7")
    card = (tmp_path / "README.md").read_text()
    assert card.splitlines()[5] == "# net7"
    for text in ("32 × 32", "open-head", "in the head frame", '"steps": 3'):
        assert text in card
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["inputs"]["crop_scale"] == 1.4
    assert config["head_model"]["sha256"].keys() >= {"v_template", "shapedirs"}
    module = (tmp_path / "torch_n2fnet.py").read_text()
    assert "import jax" not in module
    assert "from n2f_jax" not in module.split('"""', 2)[2]  # only the docstring names the package


def edit(folder, change):
    state = load_file(folder / "model.safetensors")
    change(state)
    save_file(state, folder / "model.safetensors")
    data = (folder / "model.safetensors").read_bytes()
    config = json.loads((folder / "config.json").read_text())
    config["weights"] |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("flame.output.bias"), r"missing: flame\.output\.bias"),
        (lambda s: s.update(extra=np.zeros(3, np.float32)), r"unknown: extra \(3,\)"),
        (
            lambda s: s.update({"camera.output.bias": np.zeros(8, np.float32)}),
            r"camera\.output\.bias: \(8,\) does not fit our camera/output/bias, \(9,\)",
        ),
    ],
)
def test_weights_that_do_not_fit_are_named(tmp_path, open_head, change, message):
    torch_folder.write_torch_folder(tmp_path, random_pretrained(open_head))
    edit(tmp_path, change)
    with pytest.raises(PretrainedError, match=message):
        torch_folder.read_torch_folder(tmp_path)


def test_script_there_and_back_with_the_shipped_checkpoint(tmp_path, open_head, capsys):
    assert export_torch.main(["default", "--out", str(tmp_path / "t"), "--head-model", "open"]) == 0
    assert export_torch.main([str(tmp_path / "t"), "--from-torch", "--out", str(tmp_path / "b")]) == 0
    assert_same_parameters(
        from_pretrained(DEFAULT_CHECKPOINT).network, from_pretrained(tmp_path / "b", open_head).network
    )
    assert "with vertices" in capsys.readouterr().out


def test_fine_tuning_starts_from_what_came_back(tmp_path, open_head):
    from n2f_jax.training.setup import params_from_run

    pretrained = random_pretrained(open_head)
    torch_folder.write_torch_folder(tmp_path / "t", pretrained)
    torch_folder.save_back(tmp_path / "t", tmp_path / "b")
    params = params_from_run(tmp_path / "b", pretrained.config, open_head)
    jax.tree.map(np.testing.assert_array_equal, params, to_dict(pretrained.network))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "there is no folder nowhere"),
        (["nowhere", "--from-torch"], "there is no folder nowhere"),
        ([str(DEFAULT_CHECKPOINT), "--from-torch"], "'n2f-jax/n2fnet'"),
        (["default", "--head-model", "nothing.npz"], "nothing.npz"),
    ],
)
def test_script_says_what_is_wrong_in_one_line(tmp_path, capsys, arguments, message):
    assert export_torch.main([*arguments, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("error: ")
    assert not (tmp_path / "out").exists()


def test_gnms_joints_are_refused_in_one_line(tmp_path, capsys):
    """The network of a GNM head is exported, its head model is not; nor does it become FLAME's archive."""
    path = write_gnm(tmp_path)
    model = flame_jax.load_head_model(path)
    pretrained = random_pretrained(model, num_shape=model.num_shape, num_expression=model.num_expression)
    save_pretrained(
        tmp_path / "network",
        pretrained.network,
        pretrained.config,
        head_model=model,
        inputs=pretrained.inputs,
    )
    arguments = ["export", "torch", str(tmp_path / "network"), "--out", str(tmp_path / "torch")]
    assert main([*arguments, "--head-model", str(path)]) == 2
    error = capsys.readouterr().err
    assert "PyTorch's head has FLAME's joints" in error and error.count("\n") == 1
    assert not (tmp_path / "torch").exists()
    assert main(arguments) == 0
    assert torch_folder.read_torch_folder(tmp_path / "torch").head_model.name == model.name
    assert main(["convert", "head-model", str(path), "--out", str(tmp_path / "archive.npz")]) == 2
    error = capsys.readouterr().err
    assert "use it as it is" in error and error.count("\n") == 1


def test_places_of_the_face_mesh_come_back(tmp_path, open_head):
    places = FaceMeshPlaces(
        np.arange(468, dtype=np.int32), np.full((468, 3), 1 / 3, np.float32), np.eye(3, dtype=np.float32)
    )
    pretrained = dataclasses.replace(random_pretrained(open_head), face_mesh=places)
    torch_folder.write_torch_folder(tmp_path / "torch", pretrained)
    torch_folder.save_back(tmp_path / "torch", tmp_path / "back")
    back = from_pretrained(tmp_path / "back", open_head)
    np.testing.assert_array_equal(back.face_mesh.faces, places.faces)
