"""Saved folders: what comes back is what was saved, and everything that is wrong is named."""

import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from n2f_jax.models.n2fnet import N2FNet
from n2f_jax.models.parameters import flatten, from_dict, functional, to_dict
from n2f_jax.models.pretrained import (
    HeadModelIdentity,
    HeadModelMismatch,
    InputSpec,
    PretrainedError,
    from_pretrained,
    save_pretrained,
)

pytestmark = pytest.mark.medium

INPUTS = InputSpec(size=32, crop_scale=1.4)


@pytest.fixture(scope="module")
def config(open_head, small_config):
    return small_config(
        camera_mean=(0.5, 0.4, -1.5),
        num_shape=open_head.num_shape,
        num_expression=open_head.num_expression,
    )


@pytest.fixture(scope="module")
def network(config, abstract_and_random):
    """Random everywhere: fresh zeros would come back right from an empty file too."""
    return from_dict(*abstract_and_random(lambda: N2FNet(config, rngs=nnx.Rngs(0))))


@pytest.fixture(scope="module")
def saved(tmp_path_factory, network, config, open_head):
    folder = tmp_path_factory.mktemp("saved") / "net"
    return save_pretrained(
        folder, network, config, head_model=open_head, inputs=INPUTS, notes={"steps": 12, "data": "synthetic"}
    )


@pytest.fixture
def folder(saved, tmp_path):
    """A copy to damage."""
    return shutil.copytree(saved, tmp_path / "net")


def edit(folder, change):
    path = folder / "config.json"
    description = json.loads(path.read_text())
    change(description)
    path.write_text(json.dumps(description))


def test_float32_round_trip_is_exact(saved, network, config, open_head):
    loaded = from_pretrained(saved, open_head)
    assert loaded.config == config
    assert loaded.inputs == INPUTS
    assert loaded.notes == {"steps": 12, "data": "synthetic"}
    assert loaded.head_model == HeadModelIdentity.of(open_head)
    before, after = flatten(to_dict(network)), flatten(to_dict(loaded.network))
    assert before.keys() == after.keys()
    for path in before:
        np.testing.assert_array_equal(before[path], after[path], err_msg=path)
    assert sorted(p.name for p in saved.iterdir()) == ["config.json", "model.safetensors"]


def test_bfloat16_halves_the_file_and_rounds_matrices_only(tmp_path, saved, network, config, open_head):
    half = save_pretrained(
        tmp_path, to_dict(network), config, head_model=open_head, inputs=INPUTS, dtype="bfloat16"
    )
    sizes = [(path / "model.safetensors").stat().st_size for path in (half, saved)]
    assert sizes[0] < 0.6 * sizes[1]
    before, after = flatten(to_dict(network)), flatten(to_dict(from_pretrained(half, open_head).network))
    for path, leaf in before.items():
        expected = leaf.astype(jnp.bfloat16).astype(jnp.float32) if path.endswith("kernel") else leaf
        assert after[path].dtype == jnp.float32
        np.testing.assert_array_equal(after[path], expected, err_msg=path)


def test_saving_twice_gives_the_same_bytes(tmp_path, saved, network, config, open_head):
    again = save_pretrained(
        tmp_path,
        network,
        config,
        head_model=open_head,
        inputs=INPUTS,
        notes={"steps": 12, "data": "synthetic"},
    )
    for name in ("config.json", "model.safetensors"):
        assert (again / name).read_bytes() == (saved / name).read_bytes()


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors"])
def test_missing_file(folder, missing):
    (folder / missing).unlink()
    with pytest.raises(FileNotFoundError, match=missing):
        from_pretrained(folder)


def test_missing_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder"):
        from_pretrained(tmp_path / "nothing")


def test_truncated_weights(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(PretrainedError, match="truncated"):
        from_pretrained(folder)


def test_one_flipped_bit(folder):
    path = folder / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-7] ^= 1
    path.write_bytes(data)
    with pytest.raises(PretrainedError, match="damaged"):
        from_pretrained(folder)


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", '{"format": "something else"}'])
def test_config_of_another_kind(folder, text):
    (folder / "config.json").write_text(text)
    with pytest.raises(PretrainedError, match=r"config\.json"):
        from_pretrained(folder)


def test_unknown_field_is_named(folder):
    edit(folder, lambda d: d["network"]["backbone"].update(colour="red"))
    with pytest.raises(PretrainedError, match="colour"):
        from_pretrained(folder)


def test_other_format_version(folder):
    edit(folder, lambda d: d.update(format_version=99))
    with pytest.raises(PretrainedError, match="99"):
        from_pretrained(folder)


def test_shapes_that_do_not_fit_name_both(folder):
    edit(folder, lambda d: d["network"]["backbone"].update(mlp_width=80))
    with pytest.raises(PretrainedError, match=r"mlp/up/kernel: .* \(32, 80\), given is \(32, 64\)"):
        from_pretrained(folder)


def test_another_head_model_says_what_differs(saved, open_head):
    moved = dataclasses.replace(open_head, v_template=open_head.v_template + 1e-4, name="other")
    with pytest.raises(HeadModelMismatch) as error:
        from_pretrained(saved, moved)
    message = str(error.value)
    assert "'other'" in message
    assert "values of v_template" in message
    assert "shapedirs" not in message

    fewer = dataclasses.replace(open_head, shapedirs=open_head.shapedirs[..., :10])
    with pytest.raises(HeadModelMismatch, match=r"num_shape: 300 against 10(.|\n)*values of shapedirs$"):
        from_pretrained(saved, fewer)


def test_what_does_not_change_the_coefficients_is_no_difference(saved, open_head):
    """A file of the same head without landmarks, masks or texture coordinates is the same head."""
    bare = dataclasses.replace(
        open_head,
        landmarks=None,
        masks={},
        uv=jnp.zeros((0, 2)),
        uv_faces=jnp.zeros((0, 3), jnp.int32),
        name="x",
    )
    from_pretrained(saved, bare)


def test_network_and_head_model_must_agree_when_saving(tmp_path, network, config, open_head):
    fewer = dataclasses.replace(open_head, exprdirs=open_head.exprdirs[..., :7])
    with pytest.raises(
        PretrainedError, match="expression coefficients: the network has 100, the head model 7"
    ):
        save_pretrained(tmp_path, network, config, head_model=fewer, inputs=INPUTS)
    with pytest.raises(PretrainedError, match="side"):
        save_pretrained(
            tmp_path, network, config, head_model=open_head, inputs=dataclasses.replace(INPUTS, size=64)
        )
    other = dataclasses.replace(config, regressor_layers=2)
    with pytest.raises(PretrainedError, match="missing: flame/hidden/1/kernel"):
        save_pretrained(tmp_path, network, other, head_model=open_head, inputs=INPUTS)
    assert not list(tmp_path.iterdir())


def test_notes_that_are_not_json_leave_the_old_folder_whole(folder, network, config, open_head):
    before = (folder / "config.json").read_bytes()
    with pytest.raises(TypeError):
        save_pretrained(
            folder,
            network,
            config,
            head_model=open_head,
            inputs=INPUTS,
            notes={"x": object()},
            dtype="bfloat16",
        )
    assert (folder / "config.json").read_bytes() == before
    from_pretrained(folder, open_head)


def test_loaded_network_runs(saved, network):
    apply, loaded = functional(from_pretrained(saved).network)
    normals = jax.random.normal(jax.random.key(0), (1, 32, 32, 3))
    mask = jnp.ones((1, 32, 32))
    forward = jax.jit(apply)
    actual, expected = forward(loaded, normals, mask), forward(to_dict(network), normals, mask)
    jax.tree.map(np.testing.assert_array_equal, actual, expected)
    assert actual.camera_position.shape == (1, 3)
