"""Our DINOv3 against ``transformers``' with the same random weights: every block, forward and gradients.

Needs PyTorch and transformers (``pip install .[torch]``). The error of a block is measured on the reference's
own input to it, so that it is that block's and nobody else's; the end-to-end error includes all of them.
"""

import re
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from n2f_jax.models.conversion import dinov3_from_torch, dinov3_to_torch
from n2f_jax.models.dinov3 import Block, DinoV3, DinoV3Config, dinov3_config
from n2f_jax.models.dinov3_files import read_dinov3
from n2f_jax.models.parameters import flatten, from_dict, functional, to_dict, unflatten

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

# Releases that these tests were seen to pass with; ``DINOv3ViTModel`` came with 4.56.
OLDEST, NEWEST = (4, 56), (5, 24)
FOUND = tuple(int(part) for part in transformers.__version__.split(".")[:2])
if FOUND < OLDEST or not hasattr(transformers, "DINOv3ViTModel"):
    pytest.skip(
        f"transformers {transformers.__version__} is older than these tests need: {'.'.join(map(str, OLDEST))}",
        allow_module_level=True,
    )
# Of an untested release the tests say so where they fail: which side changed is then the first question.
RELEASE = f"transformers {transformers.__version__}" + (
    f", newer than {'.'.join(map(str, NEWEST))}, which these tests were written for" if FOUND > NEWEST else ""
)
if FOUND > NEWEST:
    warnings.warn(RELEASE, stacklevel=1)

pytestmark = pytest.mark.slow

PER_BLOCK = 1e-5
END_TO_END = 1e-4

SMALL = {
    "plain": DinoV3Config(width=96, depth=4, num_heads=6, mlp_width=320),
    "gated": DinoV3Config(width=64, depth=3, num_heads=2, mlp_width=160, gated_mlp=True),
    "S": dinov3_config("S", depth=2),
    "S+": dinov3_config("S+", depth=2),
    "B": dinov3_config("B", depth=2),
    "H+": dinov3_config("H+", depth=2),
}


def reference_model(config: DinoV3Config, seed: int = 0):
    """A ``DINOv3ViTModel`` whose every array is random: fresh biases and norms would hide mistakes."""
    torch.manual_seed(seed)
    model = transformers.DINOv3ViTModel(
        transformers.DINOv3ViTConfig(
            hidden_size=config.width,
            num_hidden_layers=config.depth,
            num_attention_heads=config.num_heads,
            intermediate_size=config.mlp_width,
            use_gated_mlp=config.gated_mlp,
            hidden_act="silu" if config.gated_mlp else "gelu",
            num_register_tokens=config.num_registers,
        )
    ).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name and name.endswith("weight"):
                parameter.uniform_(0.5, 1.5)
            elif "lambda1" in name:
                parameter.uniform_(-0.5, 0.5)
            elif parameter.ndim == 2 and "proj" in name:
                parameter.normal_(std=parameter.shape[1] ** -0.5)
            elif "patch_embeddings.weight" in name:
                parameter.normal_(std=0.05)
            else:
                parameter.normal_(std=0.3)
    return model


def run_reference(model, images: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
    """Embedding and the output of every block; the final tokens."""
    layers = [m for name, m in model.named_modules() if re.fullmatch(r"(model\.)?layer\.\d+", name)]
    states: list[np.ndarray] = []

    def record(_, args, output):
        if not states:
            states.append(args[0].detach().numpy().copy())
        states.append((output[0] if isinstance(output, tuple) else output).detach().numpy().copy())

    hooks = [layer.register_forward_hook(record) for layer in layers]
    with torch.no_grad():
        final = model(torch.from_numpy(images.transpose(0, 3, 1, 2).copy())).last_hidden_state.numpy()
    for hook in hooks:
        hook.remove()
    return states, final


def numpy_state(model) -> dict[str, np.ndarray]:
    return {key: value.numpy() for key, value in model.state_dict().items()}


def ours(config: DinoV3Config, model) -> DinoV3:
    tree, report = dinov3_from_torch(numpy_state(model), config)
    assert report.periods == "recomputed"
    return from_dict(
        nnx.eval_shape(lambda: DinoV3(config, rngs=nnx.Rngs(0))), jax.tree.map(jnp.asarray, tree)
    )


def relative_error(actual, expected: np.ndarray) -> float:
    return float(np.abs(np.asarray(actual) - expected).max() / np.abs(expected).max())


def check_parity(config: DinoV3Config, height: int, width: int, batch: int) -> None:
    reference = reference_model(config)
    images = np.random.default_rng(0).uniform(-1, 1, (batch, height, width, 3)).astype(np.float32)
    states, final = run_reference(reference, images)
    assert len(states) == config.depth + 1
    network = ours(config, reference)
    del reference

    embed = jax.jit(functional(network)[0], static_argnames="method")
    error = relative_error(embed(to_dict(network), images, method="embed"), states[0])
    print(f"relative error of the embedding: {error:.2e}")
    assert error <= PER_BLOCK, RELEASE

    rotary = network.rope(height // 16, width // 16, config.num_prefix_tokens)
    block_apply, _ = functional(nnx.eval_shape(lambda: Block(config, rngs=nnx.Rngs(0))))
    block_apply = jax.jit(block_apply)
    errors = [
        relative_error(block_apply(to_dict(block), jnp.asarray(before), rotary), after)
        for block, before, after in zip(network.blocks, states[:-1], states[1:], strict=True)
    ]
    print(f"largest relative error of a block: {max(errors):.2e}")
    assert max(errors) <= PER_BLOCK, (RELEASE, errors)

    apply, params = functional(network)
    error = relative_error(jax.jit(apply)(params, images), final)
    print(f"relative error of the final tokens after {config.depth} blocks: {error:.2e}")
    assert error <= END_TO_END, RELEASE


@pytest.mark.parametrize("name", SMALL)
def test_every_block_matches(name):
    check_parity(SMALL[name], height=64, width=96, batch=2)


@pytest.mark.parametrize(("height", "width"), [(256, 256), (160, 224)])
def test_full_vit_l_matches(height, width):
    check_parity(dinov3_config("L"), height, width, batch=1)


@pytest.mark.parametrize("name", ["plain", "gated"])
def test_gradients_match(name):
    config = SMALL[name]
    reference = reference_model(config, seed=1)
    rng = np.random.default_rng(1)
    images = rng.uniform(-1, 1, (2, 64, 48, 3)).astype(np.float32)
    weights = rng.normal(size=(2, 5 + 12, config.width)).astype(np.float32)

    pixels = torch.from_numpy(images.transpose(0, 3, 1, 2).copy()).requires_grad_()
    (reference(pixels).last_hidden_state * torch.from_numpy(weights)).sum().backward()
    gradients = {key: parameter.grad for key, parameter in reference.named_parameters()}
    # The mask token is not used; the table wants every other key.
    gradients = {key: torch.zeros(1, 1, config.width) if g is None else g for key, g in gradients.items()}
    expected = flatten(dinov3_from_torch({k: g.numpy() for k, g in gradients.items()}, config)[0])

    apply, params = functional(ours(config, reference))
    loss = jax.jit(jax.grad(lambda p, x: (apply(p, x) * weights).sum(), argnums=(0, 1)))
    actual, on_pixels = loss(params, jnp.asarray(images))
    assert relative_error(on_pixels, pixels.grad.numpy().transpose(0, 2, 3, 1)) <= 2e-5
    for path, gradient in flatten(actual).items():
        if path == "rope/periods":
            assert not np.any(np.asarray(gradient)), "the periods are a constant"
        elif path.endswith("attention/query/bias"):
            # Nearly cancels against the softmax; compared with the scale of its kernel's gradient.
            scale = np.abs(expected[path.replace("bias", "kernel")]).max()
            assert np.abs(np.asarray(gradient) - expected[path]).max() <= 2e-5 * scale, path
        else:
            assert relative_error(gradient, expected[path]) <= 2e-5, path


DEEP = ("blocks/2/norm1/scale", "blocks/12/mlp/down/kernel", "blocks/23/attention/query/kernel")


def test_full_vit_l_gradients_match():
    """Of a scalar loss by the image and by three parameters deep inside, at full size."""
    config = dinov3_config("L")
    reference = reference_model(config, seed=1)
    rng = np.random.default_rng(1)
    images = rng.uniform(-1, 1, (1, 256, 256, 3)).astype(np.float32)
    weights = rng.normal(size=(1, 5 + 256, config.width)).astype(np.float32)
    apply, params = functional(ours(config, reference))

    names = {"layer.2.norm1.weight": DEEP[0], "layer.12.mlp.down_proj.weight": DEEP[1]}
    names |= {"layer.23.attention.q_proj.weight": DEEP[2]}
    wanted = {}
    for key, parameter in reference.named_parameters():
        path = names.get(re.sub(r"^model\.", "", key))
        parameter.requires_grad_(path is not None)
        if path:
            wanted[path] = parameter
    assert wanted.keys() == set(DEEP)
    pixels = torch.from_numpy(images.transpose(0, 3, 1, 2).copy()).requires_grad_()
    (reference(pixels).last_hidden_state * torch.from_numpy(weights)).sum().backward()
    expected = {path: parameter.grad.numpy() for path, parameter in wanted.items()}
    expected = {path: grad.T if path.endswith("kernel") else grad for path, grad in expected.items()}
    expected["image"] = pixels.grad.numpy().transpose(0, 2, 3, 1)
    del reference, wanted

    flat = flatten(params)

    @jax.jit
    @jax.grad
    def gradient(some, rest):
        tokens = apply(unflatten({**rest, **{path: some[path] for path in DEEP}}), some["image"])
        return (tokens * weights).sum()

    some = {path: flat.pop(path) for path in DEEP} | {"image": jnp.asarray(images)}
    errors = {path: relative_error(grad, expected[path]) for path, grad in gradient(some, flat).items()}
    print(f"relative errors of the gradients: { {path: f'{error:.1e}' for path, error in errors.items()} }")
    assert max(errors.values()) <= END_TO_END, (RELEASE, errors)


@pytest.mark.parametrize(("name", "depth", "size"), [("B", 2, 64), ("L", 24, 256)])
def test_bfloat16_stays_close(name, depth, size):
    reference = reference_model(dinov3_config(name, depth=depth))
    images = np.random.default_rng(0).uniform(-1, 1, (1, size, size, 3)).astype(np.float32)
    _, final = run_reference(reference, images)
    params = to_dict(ours(dinov3_config(name, depth=depth), reference))
    half = dinov3_config(name, depth=depth, dtype="bfloat16")
    apply, _ = functional(nnx.eval_shape(lambda: DinoV3(half, rngs=nnx.Rngs(0))))
    tokens = jax.jit(apply)(params, images)
    assert tokens.dtype == jnp.bfloat16
    error = np.asarray(tokens, np.float32) - final
    relative = np.sqrt((error**2).mean() / (final**2).mean())
    print(f"bfloat16, {name} with {depth} blocks, root mean square: {relative:.2e}")
    assert 1e-4 < relative <= 3e-2, RELEASE


def test_a_folder_of_transformers_is_read(tmp_path):
    """What ``save_pretrained`` there writes, as it is published: names, shards and description."""
    config = SMALL["gated"]
    reference = reference_model(config)
    reference.save_pretrained(tmp_path, max_shard_size="200KB")
    assert (tmp_path / "model.safetensors.index.json").is_file()
    weights = read_dinov3(tmp_path)
    assert weights.config == config
    expected = flatten(dinov3_from_torch(numpy_state(reference), config)[0])
    for path, leaf in flatten(weights.tree).items():
        np.testing.assert_array_equal(leaf, expected[path], err_msg=path)


def test_back_to_transformers_is_bit_identical():
    """Out and in again, and a strict load into the reference's own module."""
    config = SMALL["gated"]
    reference = reference_model(config, seed=2)
    state = dinov3_to_torch(to_dict(ours(config, reference)), config)
    names = {re.sub(r"^model\.layer\.", "layer.", key): key for key in reference.state_dict()}
    assert set(names) == set(state)
    fresh = reference_model(config, seed=3)
    # The mask token is not ours to keep: it is zero in what we write.
    fresh.load_state_dict({names[key]: torch.from_numpy(value) for key, value in state.items()}, strict=True)
    for key, value in fresh.state_dict().items():
        if "mask_token" not in key:
            assert torch.equal(value, reference.state_dict()[key]), key
