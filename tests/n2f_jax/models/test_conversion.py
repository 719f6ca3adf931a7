"""Names and layouts of PyTorch weights, without PyTorch: what is read, refused and written back."""

import numpy as np
import pytest
from flax import nnx

from n2f_jax.models.conversion import ConversionError, dinov3_from_torch, dinov3_to_torch
from n2f_jax.models.dinov3 import DinoV3, DinoV3Config
from n2f_jax.models.parameters import flatten, to_dict, unflatten

WIDTH, HIDDEN, PATCH = 16, 24, 4


def config(gated: bool = False) -> DinoV3Config:
    return DinoV3Config(
        width=WIDTH, depth=2, num_heads=2, mlp_width=HIDDEN, patch_size=PATCH, channels=3, gated_mlp=gated
    )


def huggingface_state(gated: bool, prefix: str = "layer") -> dict[str, np.ndarray]:
    """Every key of ``transformers``' state dict with random values, written out from its module."""
    rng = np.random.default_rng(0)
    shapes = {
        "embeddings.cls_token": (1, 1, WIDTH),
        "embeddings.mask_token": (1, 1, WIDTH),
        "embeddings.register_tokens": (1, 4, WIDTH),
        "embeddings.patch_embeddings.weight": (WIDTH, 3, PATCH, PATCH),
        "embeddings.patch_embeddings.bias": (WIDTH,),
        "norm.weight": (WIDTH,),
        "norm.bias": (WIDTH,),
    }
    for n in range(2):
        layer = {f"{name}.{kind}": (WIDTH,) for name in ("norm1", "norm2") for kind in ("weight", "bias")}
        layer |= {f"attention.{x}_proj.weight": (WIDTH, WIDTH) for x in "qkvo"}
        layer |= {f"attention.{x}_proj.bias": (WIDTH,) for x in "qvo"}
        layer |= {"layer_scale1.lambda1": (WIDTH,), "layer_scale2.lambda1": (WIDTH,)}
        layer |= {"mlp.up_proj.weight": (HIDDEN, WIDTH), "mlp.up_proj.bias": (HIDDEN,)}
        layer |= {"mlp.down_proj.weight": (WIDTH, HIDDEN), "mlp.down_proj.bias": (WIDTH,)}
        if gated:
            layer |= {"mlp.gate_proj.weight": (HIDDEN, WIDTH), "mlp.gate_proj.bias": (HIDDEN,)}
        shapes |= {f"{prefix}.{n}.{name}": shape for name, shape in layer.items()}
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def meta_state(gated: bool) -> dict[str, np.ndarray]:
    """The same weights as ``huggingface_state`` under Meta's names, put together by hand."""
    hf = huggingface_state(gated)
    state = {
        "cls_token": hf["embeddings.cls_token"],
        "storage_tokens": hf["embeddings.register_tokens"],
        "mask_token": hf["embeddings.mask_token"][0],
        "patch_embed.proj.weight": hf["embeddings.patch_embeddings.weight"],
        "patch_embed.proj.bias": hf["embeddings.patch_embeddings.bias"],
        "rope_embed.periods": np.array([1.0, 9.9375], np.float32),
        "norm.weight": hf["norm.weight"],
        "norm.bias": hf["norm.bias"],
    }
    mlp = {"gate": "w1", "up": "w2", "down": "w3"} if gated else {"up": "fc1", "down": "fc2"}
    for n in range(2):
        theirs = {
            name.removeprefix(f"layer.{n}."): x for name, x in hf.items() if name.startswith(f"layer.{n}.")
        }
        attention = lambda part, kind, theirs=theirs: theirs[f"attention.{part}_proj.{kind}"]  # noqa: E731
        nothing = np.full(WIDTH, 7.0, np.float32)  # masked, so it must not matter
        block = {
            "attn.qkv.weight": np.concatenate([attention(x, "weight") for x in "qkv"]),
            "attn.qkv.bias": np.concatenate([attention("q", "bias"), nothing, attention("v", "bias")]),
            "attn.qkv.bias_mask": np.repeat(np.float32([1, 0, 1]), WIDTH),
            "ls1.gamma": theirs["layer_scale1.lambda1"],
            "ls2.gamma": theirs["layer_scale2.lambda1"],
        }
        for kind in ("weight", "bias"):
            block |= {f"{name}.{kind}": theirs[f"{name}.{kind}"] for name in ("norm1", "norm2")}
            block[f"attn.proj.{kind}"] = attention("o", kind)
            block |= {f"mlp.{new}.{kind}": theirs[f"mlp.{old}_proj.{kind}"] for old, new in mlp.items()}
        state |= {f"blocks.{n}.{name}": x for name, x in block.items()}
    return state


def assert_same(a, b):
    assert a.keys() == b.keys()
    for path in a:
        np.testing.assert_array_equal(a[path], b[path], err_msg=path)


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("prefix", ["layer", "model.layer"])
def test_huggingface_fills_every_array(gated, prefix):
    state = huggingface_state(gated, prefix)
    tree, report = dinov3_from_torch(state, config(gated))
    assert (report.scheme, report.ignored, report.periods) == (
        "huggingface",
        ("embeddings.mask_token",),
        "recomputed",
    )
    network = nnx.eval_shape(lambda: DinoV3(config(gated), rngs=nnx.Rngs(0)))
    flat, expected = flatten(tree), flatten(to_dict(network))
    assert {k: v.shape for k, v in flat.items()} == {k: v.shape for k, v in expected.items()}
    np.testing.assert_allclose(flat["rope/periods"], [1.0, 10.0], rtol=1e-6)  # 100^(2k / 4)
    np.testing.assert_array_equal(
        flat["blocks/1/mlp/down/kernel"], state[f"{prefix}.1.mlp.down_proj.weight"].T
    )
    kernel, conv = flat["patch_embedding/kernel"], state["embeddings.patch_embeddings.weight"]
    assert kernel[1, 2, 0, 5] == conv[5, 0, 1, 2]  # (row, column, in, out) from (out, in, row, column)


@pytest.mark.parametrize("gated", [False, True])
def test_meta_and_huggingface_give_the_same_tree(gated):
    hf, _ = dinov3_from_torch(huggingface_state(gated), config(gated))
    meta, report = dinov3_from_torch(meta_state(gated), config(gated))
    assert report.periods == "file"
    assert set(report.ignored) == {"mask_token", *(f"blocks.{n}.attn.qkv.bias_mask" for n in range(2))}
    hf, meta = flatten(hf), flatten(meta)
    np.testing.assert_array_equal(meta.pop("rope/periods"), np.float32([1.0, 9.9375]))
    del hf["rope/periods"]
    assert_same(hf, meta)


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("scheme", ["huggingface", "meta"])
def test_out_and_in_again_is_bit_identical(gated, scheme):
    tree, _ = dinov3_from_torch(huggingface_state(gated), config(gated))
    state = dinov3_to_torch(tree, config(gated), scheme)
    original = huggingface_state(gated) if scheme == "huggingface" else meta_state(gated)
    assert {k: v.shape for k, v in state.items()} == {k: v.shape for k, v in original.items()}
    again, _ = dinov3_from_torch(state, config(gated))
    assert_same(flatten(tree), flatten(again))


def test_satellite_norm_is_knowingly_ignored():
    extra = {f"local_cls_norm.{kind}": np.ones(WIDTH, np.float32) for kind in ("weight", "bias")}
    _, report = dinov3_from_torch(meta_state(False) | extra, config())
    assert set(extra) <= set(report.ignored)


def test_everything_that_is_wrong_is_listed():
    state = huggingface_state(False)
    del state["layer.1.norm2.bias"]
    state["layer.0.mlp.up_proj.weight"] = np.zeros((HIDDEN + 1, WIDTH), np.float32)
    state["layer.2.norm1.weight"] = np.zeros(WIDTH, np.float32)
    with pytest.raises(ConversionError) as error:
        dinov3_from_torch(state, config())
    message = str(error.value)
    assert "missing: layer.1.norm2.bias" in message
    assert "layer.0.mlp.up_proj.weight: (25, 16) does not fit our blocks/0/mlp/up/kernel, (16, 24)" in message
    assert "unknown: layer.2.norm1.weight" in message


def test_gated_weights_do_not_fit_a_plain_network():
    with pytest.raises(ConversionError, match=r"unknown: layer\.0\.mlp\.gate_proj\.weight"):
        dinov3_from_torch(huggingface_state(True), config(False))


def test_a_key_bias_that_acts_is_refused():
    state = meta_state(False)
    del state["blocks.1.attn.qkv.bias_mask"]
    with pytest.raises(ConversionError, match=r"blocks\.1\.attn\.qkv\.bias has a key part"):
        dinov3_from_torch(state, config())


def test_names_of_something_else():
    with pytest.raises(ConversionError, match=r"conv1\.weight"):
        dinov3_from_torch({"conv1.weight": np.zeros(3)}, config())


def test_a_path_without_a_row_is_an_error():
    tree, _ = dinov3_from_torch(huggingface_state(False), config())
    extended = unflatten(flatten(tree) | {"blocks/0/attention/key/bias": np.zeros(WIDTH, np.float32)})
    state = dinov3_to_torch(extended, config())
    assert "layer.0.attention.k_proj.bias" in state  # the table has a row, the network of today no use
    with pytest.raises(ConversionError, match=r"k_proj\.bias"):
        dinov3_from_torch(state, config())
    with pytest.raises(ConversionError, match=r"no rule .* pooling/kernel"):
        dinov3_to_torch(unflatten(flatten(tree) | {"pooling/kernel": np.zeros(3)}), config())
