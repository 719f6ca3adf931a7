"""Files of DINOv3 backbones: every kind is read, what is wrong is named, the record says what was done."""

import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from ml_dtypes import bfloat16
from safetensors.numpy import save_file

from n2f_jax.models import dinov3_files
from n2f_jax.models.conversion import ConversionError
from n2f_jax.models.dinov3 import VARIANTS, DinoV3, dinov3_config
from n2f_jax.models.dinov3_files import load_dinov3, read_dinov3, save_dinov3, with_channels
from n2f_jax.models.folders import PretrainedError
from n2f_jax.models.parameters import flatten, from_dict, to_dict
from scripts import convert_weights
from tests.n2f_jax.models.test_conversion import WIDTH, assert_same, config, huggingface_state, meta_state

pytestmark = pytest.mark.medium

DESCRIBED = {
    "model_type": "dinov3_vit",
    "num_attention_heads": 2,
    "rope_theta": 100.0,
    "use_gated_mlp": False,
}


def huggingface_folder(folder, state=None, **described):
    folder.mkdir(exist_ok=True)
    save_file(state or huggingface_state(False), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(DESCRIBED | described))
    return folder


def kernel_of(weights):
    return np.asarray(weights.tree["patch_embedding"]["kernel"])


@pytest.mark.parametrize("prefix", ["layer", "model.layer"])
def test_huggingface_folder(tmp_path, prefix):
    weights = read_dinov3(huggingface_folder(tmp_path / "hf", huggingface_state(False, prefix)))
    assert weights.config == config()
    assert weights.source["names"] == "huggingface"
    assert weights.source["periods"] == "recomputed"
    assert weights.source["ignored"] == ["embeddings.mask_token"]
    assert weights.source["files"].keys() == {"model.safetensors"}


def test_shards_give_the_same(tmp_path):
    state = huggingface_state(False)
    whole = read_dinov3(huggingface_folder(tmp_path / "hf", state))
    shards = tmp_path / "shards"
    shards.mkdir()
    (shards / "config.json").write_text(json.dumps(DESCRIBED))
    names = [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    index = {key: names[i % 2] for i, key in enumerate(state)}
    for name in names:
        save_file({key: state[key] for key in state if index[key] == name}, shards / name)
    (shards / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    assert_same(flatten(whole.tree), flatten(read_dinov3(shards).tree))
    (shards / names[1]).unlink()
    with pytest.raises(FileNotFoundError, match="00002-of-00002"):
        read_dinov3(shards)


def test_gated_and_half_precision_in_the_file(tmp_path):
    state = {key: value.astype(bfloat16) for key, value in huggingface_state(True).items()}
    weights = read_dinov3(huggingface_folder(tmp_path / "hf", state, use_gated_mlp=True, hidden_act="silu"))
    assert weights.config == config(gated=True)
    for leaf in jax.tree.leaves(weights.tree):
        assert leaf.dtype == np.float32
    expected = state["layer.1.mlp.gate_proj.weight"].astype(np.float32).T
    np.testing.assert_array_equal(flatten(weights.tree)["blocks/1/mlp/gate/kernel"], expected)


def test_meta_names_in_safetensors_with_the_satellite_norm(tmp_path):
    state = meta_state(False)
    state |= {f"local_cls_norm.{kind}": np.ones(WIDTH, np.float32) for kind in ("weight", "bias")}
    save_file(state, tmp_path / "sat.safetensors")
    weights = read_dinov3(tmp_path / "sat.safetensors")
    assert weights.config == config()  # two heads, by the number of periods
    assert weights.source["periods"] == "file"
    assert {"local_cls_norm.weight", "local_cls_norm.bias"} <= set(weights.source["ignored"])
    np.testing.assert_array_equal(flatten(weights.tree)["rope/periods"], state["rope_embed.periods"])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_our_folder_comes_back(tmp_path, dtype):
    weights = read_dinov3(huggingface_folder(tmp_path / "hf"))
    save_dinov3(tmp_path / "ours", weights, dtype)
    back = read_dinov3(tmp_path / "ours")
    assert (back.config, back.source) == (weights.config, weights.source)
    expected = flatten(weights.tree)
    if dtype == "bfloat16":
        expected = {
            path: leaf.astype(bfloat16).astype(np.float32) if path.endswith("kernel") else leaf
            for path, leaf in expected.items()
        }
    assert_same(expected, flatten(back.tree))
    assert_same(flatten(load_dinov3(tmp_path / "ours", config())), expected)


def test_published_sizes_are_recognised():
    """By the arrays' shapes alone; shapes as the published files have them."""
    for name in ("S", "S+", "B", "L", "H+"):
        variant = VARIANTS[name]
        width, hidden = variant.width, variant.mlp_width
        shapes = {
            "cls_token": (1, 1, width),
            "storage_tokens": (1, 4, width),
            "patch_embed.proj.weight": (width, 3, 16, 16),
            "rope_embed.periods": (16,),
            f"blocks.0.mlp.{'w1' if variant.gated_mlp else 'fc1'}.weight": (hidden, width),
            f"blocks.{variant.depth - 1}.norm1.weight": (width,),
        }
        if variant.gated_mlp:
            shapes["blocks.0.mlp.w2.weight"] = (hidden, width)
        state = {key: np.broadcast_to(np.float32(0), shape) for key, shape in shapes.items()}
        found = dinov3_files.infer_config(state, None)
        assert found == variant
        assert dinov3_files.variant_name(found) == name


def test_five_channels_answer_as_three_at_first(tmp_path):
    three = read_dinov3(huggingface_folder(tmp_path / "hf"))
    five = with_channels(three, 5)
    rng = np.random.default_rng(0)
    normals = rng.uniform(-1, 1, (1, 8, 8, 3)).astype(np.float32)
    uv = rng.uniform(-1, 1, (1, 8, 8, 2)).astype(np.float32)

    def tokens(weights, images):
        network = nnx.eval_shape(lambda: DinoV3(weights.config, rngs=nnx.Rngs(0)))
        return from_dict(network, jax.tree.map(jnp.asarray, weights.tree)).patch_embedding(
            jnp.asarray(images)
        )

    both = tokens(five, np.concatenate([uv, normals], axis=-1))
    np.testing.assert_allclose(both, tokens(three, normals), rtol=1e-5, atol=1e-5)
    assert "u and v start at zero" in five.source["patch_embedding"]
    assert kernel_of(five).shape == (4, 4, 5, WIDTH)


def test_two_channels_sum_to_what_grey_gave(tmp_path):
    three = read_dinov3(huggingface_folder(tmp_path / "hf"))
    two = kernel_of(with_channels(three, 2))
    np.testing.assert_allclose(two.sum(axis=2), kernel_of(three).sum(axis=2), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(two[:, :, 0], two[:, :, 1])
    with pytest.raises(PretrainedError, match="3 channels cannot be made one of 4"):
        with_channels(three, 4)


def test_another_size_names_both(tmp_path):
    with pytest.raises(PretrainedError, match=r"width: 16 there, 384 here; depth: 2 there, 12 here"):
        load_dinov3(huggingface_folder(tmp_path / "hf"), dinov3_config("S"))


def test_shape_that_does_not_fit_names_both(tmp_path):
    state = huggingface_state(False) | {"layer.1.norm1.weight": np.zeros(WIDTH + 1, np.float32)}
    with pytest.raises(
        ConversionError,
        match=r"layer\.1\.norm1\.weight: \(17,\) does not fit our blocks/1/norm1/scale, \(16,\)",
    ):
        read_dinov3(huggingface_folder(tmp_path / "hf", state))


@pytest.mark.parametrize(
    ("described", "message"),
    [
        ({"model_type": "dinov3_convnext"}, "'dinov3_convnext', not a 'dinov3_vit'"),
        ({"rope_theta": 10.0}, r"rope_theta is 10\.0, here 100\.0"),
        ({"key_bias": True}, "key_bias is True"),
        ({"layer_norm_eps": 1e-6}, "layer_norm_eps"),
    ],
)
def test_a_description_of_another_network_is_refused(tmp_path, described, message):
    with pytest.raises(PretrainedError, match=message):
        read_dinov3(huggingface_folder(tmp_path / "hf", **described))


def damaged(tmp_path):
    """Name → (file or folder that cannot be read, what the message has to say)."""
    folder = huggingface_folder(tmp_path / "hf")
    data = (folder / "model.safetensors").read_bytes()
    cases = {
        "truncated.safetensors": (data[:-100], "not a safetensors file"),
        "half_a_header.safetensors": (data[:50], "not a safetensors file"),
        "empty.safetensors": (b"", "not a safetensors file"),
        "text.safetensors": (b"<html>log in first</html>", "not a safetensors file"),
        "weights.h5": (data, "neither .pth nor .safetensors"),
    }
    for name, (content, message) in cases.items():
        (tmp_path / name).write_bytes(content)
        yield tmp_path / name, message
    save_file({"conv1.weight": np.zeros(3, np.float32)}, tmp_path / "resnet.safetensors")
    yield tmp_path / "resnet.safetensors", "conv1.weight"
    (tmp_path / "nothing").mkdir()
    yield tmp_path / "nothing", "holds neither"
    yield tmp_path / "absent", "there is no file or folder"
    (folder / "config.json").write_text("{")
    yield folder, "not JSON"


def test_damaged_and_wrong_files_are_named(tmp_path, capsys):
    for path, message in damaged(tmp_path):
        assert convert_weights.main([str(path), "--out", str(tmp_path / "out")]) == 2, path
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert path.name in error
        assert message in error
        assert not (tmp_path / "out").exists()


def test_script_converts_and_says_what_it_did(tmp_path, capsys):
    folder = huggingface_folder(tmp_path / "hf")
    assert convert_weights.main([str(folder), "--out", str(tmp_path / "ours"), "--channels", "5"]) == 0
    out = capsys.readouterr().out
    for text in (
        "custom: width 16, 2 blocks, 2 heads",
        "recomputed in float32",
        "u and v start at zero",
        "mask_token",
    ):
        assert text in out
    assert read_dinov3(tmp_path / "ours").config.channels == 5


def test_training_starts_from_a_converted_backbone(tmp_path, open_head):
    """``--config.backbone_weights`` takes the folder; a wrong one is a refusal, not a traceback."""
    from configs import stage1
    from n2f_jax.training.setup import SetupError, initial_params

    folder = huggingface_folder(tmp_path / "hf")
    settings = stage1.get_config("small")
    settings.backbone_weights = str(folder)
    backbone = {"width": WIDTH, "depth": 2, "num_heads": 2, "mlp_width": 24, "patch_size": 4, "channels": 5}
    settings.model.backbone.update(backbone)
    settings.model.update({"input_size": 8, "head_num_heads": 2})
    params = initial_params(settings, open_head)
    expected = with_channels(read_dinov3(folder), 5).tree
    jax.tree.map(np.testing.assert_array_equal, params["backbone"], expected)
    settings.model.backbone.depth = 3
    with pytest.raises(SetupError, match="depth: 2 there, 3 here"):
        initial_params(settings, open_head)
    settings.backbone_weights = str(tmp_path / "absent")
    with pytest.raises(SetupError, match="absent"):
        initial_params(settings, open_head)


def test_pth_without_pytorch_says_so(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    (tmp_path / "x.pth").write_bytes(b"")
    with pytest.raises(PretrainedError, match="needs PyTorch"):
        read_dinov3(tmp_path / "x.pth")


class TestPth:
    """Meta's own files."""

    @pytest.fixture(autouse=True)
    def torch(self):
        return pytest.importorskip("torch")

    def write(self, torch, path, state, **options):
        torch.save({key: torch.from_numpy(value) for key, value in state.items()}, path, **options)
        return path

    @pytest.mark.parametrize("zipped", [True, False])
    @pytest.mark.parametrize("gated", [True, False])
    def test_is_read(self, tmp_path, torch, gated, zipped):
        state = meta_state(gated)
        path = self.write(torch, tmp_path / "m.pth", state, _use_new_zipfile_serialization=zipped)
        weights = read_dinov3(path)
        assert weights.config == config(gated)
        assert (weights.source["names"], weights.source["periods"]) == ("meta", "file")
        qkv = state["blocks.1.attn.qkv.weight"]
        np.testing.assert_array_equal(
            flatten(weights.tree)["blocks/1/attention/value/kernel"], qkv[2 * WIDTH :].T
        )

    def test_what_is_wrong_is_said(self, tmp_path, torch):
        path = self.write(torch, tmp_path / "m.pth", meta_state(False))
        whole = path.read_bytes()
        for content in (
            whole[: len(whole) // 2],
            whole[:-10],
            b"",
            b"<html>log in first</html>",
            b"PK\3\4 no",
        ):
            path.write_bytes(content)
            with pytest.raises(PretrainedError, match=r"m\.pth"):
                read_dinov3(path)
        torch.save({"model": {"cls_token": torch.zeros(1)}}, path)
        with pytest.raises(PretrainedError, match="no state dict of tensors: model"):
            read_dinov3(path)

    def test_code_in_it_is_not_run(self, tmp_path, torch):
        class Evil:
            def __reduce__(self):
                return subprocess.check_call, (["touch", str(tmp_path / "ran")],)

        torch.save({"cls_token": Evil()}, tmp_path / "m.pth")
        with pytest.raises(PretrainedError, match="not loaded"):
            read_dinov3(tmp_path / "m.pth")
        assert not (tmp_path / "ran").exists()


def test_tokens_are_the_same_from_either_owner_s_file(tmp_path):
    """What comes out of the whole road: the same network from Meta's and from Hugging Face's names."""
    save_file(meta_state(False), tmp_path / "meta.safetensors")
    trees = [
        read_dinov3(p).tree for p in (tmp_path / "meta.safetensors", huggingface_folder(tmp_path / "hf"))
    ]
    a, b = (flatten(tree) for tree in trees)
    assert a.pop("rope/periods") is not None and b.pop("rope/periods") is not None
    assert_same(a, b)
    assert (
        a.keys() | {"rope/periods"}
        == flatten(to_dict(nnx.eval_shape(lambda: DinoV3(config(), rngs=nnx.Rngs(0))))).keys()
    )
