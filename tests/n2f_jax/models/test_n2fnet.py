"""The network's heads, outputs and camera; the whole forward pass against a float64 loop in NumPy."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy.special import erf

from flame_jax.rotations import IDENTITY_6D, euler_to_matrix, matrix_to_rotation_6d
from n2f_jax.geometry.camera import Camera, frontal_rotation, project
from n2f_jax.models.n2fnet import (
    N2FNet,
    N2FNetConfig,
    N2FOutput,
    camera_from_output,
    n2fnet_config,
    uvs_from_camera,
)
from n2f_jax.models.parameters import flatten, functional

pytestmark = pytest.mark.medium

SIZES = {"width": 32, "depth": 1, "num_heads": 2, "mlp_width": 48, "patch_size": 16}
HEADS = {"num_shape": 7, "num_expression": 5, "head_num_heads": 4, "pooling": "mean", "input_size": 48}


def small(**changes) -> N2FNetConfig:
    return n2fnet_config("tiny", **(SIZES | HEADS | changes))


@pytest.fixture(scope="module")
def randomised(abstract_and_random):
    """Jitted apply function and random parameters of a network, the same ones for the same configuration."""

    @functools.cache
    def build(config: N2FNetConfig):
        module, params = abstract_and_random(lambda: N2FNet(config, rngs=nnx.Rngs(0)))
        return jax.jit(functional(module)[0]), params

    return build


def inputs(config: N2FNetConfig, batch: int = 2, height: int = 32, width: int = 48):
    rng = np.random.default_rng(1)
    normals = rng.uniform(-1, 1, (batch, height, width, config.backbone.channels))
    mask = rng.uniform(size=(batch, height, width)) > 0.3
    return normals.astype(np.float32), mask.astype(np.float32)


class Reference:
    """N2FNet in float64, written from the description alone: explicit loops over images, heads and tokens."""

    def __init__(self, config: N2FNetConfig, params):
        self.c = config
        self.p = {path: np.asarray(leaf, np.float64) for path, leaf in flatten(params).items()}

    def gelu(self, x):
        if self.c.backbone.gelu == "erf":
            return 0.5 * x * (1 + erf(x / np.sqrt(2)))
        return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))

    def linear(self, name, x):
        return x @ self.p[f"{name}/kernel"] + self.p.get(f"{name}/bias", 0.0)

    def norm(self, name, x):
        centred = x - x.mean(-1, keepdims=True)
        return (
            centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * self.p[f"{name}/scale"]
            + self.p[f"{name}/bias"]
        )

    def attention(self, name, x, heads, angles=None):
        width = x.shape[-1]
        size = width // heads
        q, k, v = (self.linear(f"{name}/{part}", x) for part in ("query", "key", "value"))
        mixed = np.zeros_like(x)
        for head in range(heads):
            part = slice(head * size, (head + 1) * size)
            qh, kh = q[:, part].copy(), k[:, part].copy()
            if angles is not None:
                for array in (qh, kh):
                    for token in range(len(x)):
                        for c in range(size // 2):
                            z = complex(array[token, c], array[token, c + size // 2])
                            z *= np.exp(1j * angles[token, c])
                            array[token, c], array[token, c + size // 2] = z.real, z.imag
            score = qh @ kh.T / np.sqrt(size)
            weight = np.exp(score - score.max(-1, keepdims=True))
            mixed[:, part] = weight / weight.sum(-1, keepdims=True) @ v[:, part]
        return self.linear(f"{name}/output", mixed)

    def mlp(self, name, x):
        if f"{name}/gate/kernel" in self.p:
            gate = self.linear(f"{name}/gate", x)
            return self.linear(f"{name}/down", gate / (1 + np.exp(-gate)) * self.linear(f"{name}/up", x))
        return self.linear(f"{name}/down", self.gelu(self.linear(f"{name}/up", x)))

    def head(self, name, tokens, mean):
        heads = self.c.head_num_heads
        if self.c.head_norm == "pre":
            x = tokens + self.attention(f"{name}/attention", self.norm(f"{name}/norm1", tokens), heads)
            x = x + self.mlp(f"{name}/feed_forward", self.norm(f"{name}/norm2", x))
            x = self.norm(f"{name}/pool_norm", x if self.c.pooling == "grid" else x.mean(0))
        else:
            x = self.norm(f"{name}/norm1", tokens + self.attention(f"{name}/attention", tokens, heads))
            x = self.norm(f"{name}/norm2", x + self.mlp(f"{name}/feed_forward", x))
            x = x if self.c.pooling == "grid" else x.mean(0)
        if self.c.pooling == "grid":
            x = np.concatenate([self.linear(f"{name}/pool_reduce", token) for token in x])
            x = self.linear(f"{name}/pool_mix", x)
        for layer in range(self.c.regressor_layers):
            x = self.gelu(self.linear(f"{name}/hidden/{layer}", x))
        return self.linear(f"{name}/output", x) + mean

    def __call__(self, normals, mask):
        b = self.c.backbone
        size, periods = b.width // b.num_heads, self.p["backbone/rope/periods"]
        outputs = []
        for image, visible in zip(np.float64(normals), np.float64(mask), strict=True):
            image = image * visible[:, :, None]
            rows, columns = image.shape[0] // b.patch_size, image.shape[1] // b.patch_size
            tokens = [self.p["backbone/class_token"][0, 0], *self.p["backbone/register_tokens"][0]]
            angles = [np.zeros(size // 2)] * len(tokens)
            for i in range(rows):
                for j in range(columns):
                    top, left = i * b.patch_size, j * b.patch_size
                    patch = image[top : top + b.patch_size, left : left + b.patch_size]
                    kernel = self.p["backbone/patch_embedding/kernel"]
                    bias = self.p["backbone/patch_embedding/bias"]
                    tokens.append(np.tensordot(patch, kernel, 3) + bias)
                    y, x = 2 * (i + 0.5) / rows - 1, 2 * (j + 0.5) / columns - 1
                    angles.append(np.concatenate([2 * np.pi * y / periods, 2 * np.pi * x / periods]))
            x, angles = np.stack(tokens), np.stack(angles)
            for n in range(b.depth):
                name = f"backbone/blocks/{n}"
                a = self.attention(f"{name}/attention", self.norm(f"{name}/norm1", x), b.num_heads, angles)
                x = x + a * self.p[f"{name}/layer_scale1/gamma"]
                x = (
                    x
                    + self.mlp(f"{name}/mlp", self.norm(f"{name}/norm2", x))
                    * self.p[f"{name}/layer_scale2/gamma"]
                )
            x = self.norm("backbone/norm", x)[1 + b.num_registers :]
            flame_mean = np.zeros(self.c.num_shape + self.c.num_expression + 8)
            flame_mean[[-8, -4]] = 1
            camera_mean = np.array([1, 0, 0, 0, 1, 0, *self.c.resolved_camera_mean()])
            outputs.append((self.head("flame", x, flame_mean), self.head("camera", x, camera_mean)))
        flame, camera = (np.stack(part) for part in zip(*outputs, strict=True))
        s, e = self.c.num_shape, self.c.num_expression
        return [
            flame[:, :s],
            flame[:, s : s + e],
            flame[:, s + e : -2],
            flame[:, -2:],
            camera[:, :6],
            camera[:, 6:],
        ]


@pytest.mark.parametrize(
    "changes",
    [
        {"gelu": "erf"},
        {"gelu": "tanh", "channels": 5, "regressor_layers": 2},
        {
            "gated_mlp": True,
            "head_norm": "post",
            "camera_parameterization": "translation",
            "num_registers": 2,
        },
        {"pooling": "grid", "pool_channels": 3},
    ],
    ids=["erf", "tanh-5-channels", "gated-post-norm", "grid-pooling"],
)
def test_forward_matches_a_float64_reference(changes, randomised):
    config = small(depth=2, **changes)
    apply, params = randomised(config)
    # Not square, where the network takes any size.
    normals, mask = inputs(config, height=48 if config.pooling == "grid" else 32)
    output = apply(params, normals, mask)
    for actual, expected in zip(
        jax.tree.leaves(output), Reference(config, params)(normals, mask), strict=True
    ):
        np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_grid_pooling_refuses_another_size():
    config = small(pooling="grid", pool_channels=3)
    apply, params = functional(nnx.eval_shape(lambda: N2FNet(config, rngs=nnx.Rngs(0))))
    with pytest.raises(ValueError, match="6 patches; grid pooling was built for 9"):
        jax.eval_shape(apply, params, *inputs(config))


def test_untrained_network_answers_the_mean():
    config = small()
    apply, params = functional(N2FNet(config, rngs=nnx.Rngs(3)))
    output = jax.jit(apply)(params, *inputs(config))
    identity = np.tile(IDENTITY_6D, (2, 1))
    np.testing.assert_array_equal(output.shape, np.zeros((2, 7)))
    np.testing.assert_array_equal(output.expression, np.zeros((2, 5)))
    np.testing.assert_array_equal(output.jaw, identity)
    np.testing.assert_array_equal(output.eyelids, np.zeros((2, 2)))
    np.testing.assert_array_equal(output.camera_rotation_6d, identity)
    np.testing.assert_allclose(output.camera_uvs, np.tile([0.5, 0.5, -1.55], (2, 1)), rtol=1e-6)
    params = output.flame_params()
    assert params.neck.shape == (2, 6)
    assert params.eyes.shape == (2, 2, 6)


def test_what_the_mask_hides_does_not_matter(randomised):
    config = small()
    apply, params = randomised(config)
    normals, mask = inputs(config)
    output = apply(params, normals, mask)
    hidden_changed = np.where(mask[..., None] == 0, 0.7, normals).astype(np.float32)
    seen_changed = np.where(mask[..., None] == 1, 0.7, normals).astype(np.float32)
    jax.tree.map(np.testing.assert_array_equal, output, apply(params, hidden_changed, mask))
    assert np.abs(output.shape - apply(params, seen_changed, mask).shape).max() > 1e-2


def test_heads_have_their_own_weights(randomised):
    """Each loss reaches its own module and the backbone, and nothing of the other module."""
    config = small()
    apply, params = randomised(config)
    normals, mask = inputs(config)

    @jax.jit
    @jax.grad
    def gradient_of(p, weights):
        leaves = jax.tree.leaves(apply(p, normals, mask))
        return sum(weight * jnp.square(x).sum() for weight, x in zip(weights, leaves, strict=True))

    for own, other, weights in [
        ("flame", "camera", [1, 1, 1, 1, 0, 0]),
        ("camera", "flame", [0, 0, 0, 0, 1, 1]),
    ]:
        gradient = flatten(gradient_of(params, jnp.asarray(weights, jnp.float32)))
        for path, leaf in gradient.items():
            touched = bool(np.any(np.asarray(leaf)))
            assert touched == (not path.startswith(f"{other}/") and not path.endswith("periods")), (own, path)


def test_paper_sizes_of_the_full_network():
    """Of the heads on a ViT-L, whose blocks (all alike, counted in test_dinov3.py) are but two here."""
    config = n2fnet_config("L")
    assert (config.backbone.depth, config.backbone.width) == (24, 1024)
    config = n2fnet_config("L", depth=2)
    network = nnx.eval_shape(lambda: N2FNet(config, rngs=nnx.Rngs(0)))
    apply, params = functional(network)
    shapes = {path: leaf.shape for path, leaf in flatten(params).items()}
    assert config.input_size == 256
    assert config.head_num_heads == 16
    for head in ("flame", "camera"):
        assert shapes[f"{head}/feed_forward/up/kernel"] == (1024, 4096)
        assert shapes[f"{head}/attention/query/kernel"] == (1024, 1024)
    assert shapes["flame/output/kernel"] == (1024, 300 + 100 + 6 + 2)
    assert shapes["camera/output/kernel"] == (1024, 9)
    image = jax.ShapeDtypeStruct((1, 256, 256, 3), jnp.float32)
    output = jax.eval_shape(apply, params, image, jax.ShapeDtypeStruct((1, 256, 256), jnp.float32))
    assert output.shape.shape == (1, 300)


def test_bfloat16_answers_in_float32(randomised):
    config = small(dtype="bfloat16", remat=True)
    apply, params = randomised(config)
    normals, mask = inputs(config)
    half = apply(params, normals, mask)
    full = randomised(small())[0](params, normals, mask)
    for a, b in zip(jax.tree.leaves(half), jax.tree.leaves(full), strict=True):
        assert a.dtype == jnp.float32
        assert np.sqrt(np.mean((a - b) ** 2)) < 0.05 * np.sqrt(np.mean(b**2))


def output_with(rotation_6d, position, parameterization="uvs") -> N2FOutput:
    batch = position.shape[0]
    empty, jaw = jnp.zeros((batch, 2)), jnp.zeros((batch, 6))
    return N2FOutput(empty, empty, jaw, empty, rotation_6d, position, parameterization)


def test_head_origin_projects_to_uv_and_the_crop_is_e_to_the_s_wide():
    size = 128
    uvs = jnp.array([[0.5, 0.4, -1.5], [0.1, 0.9, -2.0]])
    focal, centre = jnp.array([300.0, 900.0]), jnp.array([[60.0, 200.0], [-40.0, 64.0]])
    angles = jnp.array([[0.3, -0.2, 0.1], [-0.5, 0.4, 0.2]])
    rotation = euler_to_matrix(angles)
    output = output_with(matrix_to_rotation_6d(rotation), uvs)
    camera = jax.jit(camera_from_output)(output, focal, centre, size)
    np.testing.assert_allclose(camera.rotation, frontal_rotation(rotation), atol=1e-6)
    np.testing.assert_allclose(project(jnp.zeros((2, 1, 3)), camera)[:, 0], size * uvs[:, :2], atol=1e-3)
    # A step of e^s metres across the view, at the origin's depth, is one crop's side.
    across = jnp.exp(uvs[:, 2])[:, None] * camera.rotation[:, 0, :]
    moved = project(across[:, None, :], camera)[:, 0]
    np.testing.assert_allclose(moved - size * uvs[:, :2], np.tile([size, 0], (2, 1)), atol=1e-2)
    np.testing.assert_allclose(uvs_from_camera(camera, size), uvs, atol=1e-5)


def test_camera_does_not_depend_on_the_crop_resolution():
    """The same answer for the crop drawn at twice the size: the same camera in metres."""
    output = output_with(jnp.asarray(IDENTITY_6D)[None], jnp.array([[0.45, 0.55, -1.4]]))
    a = camera_from_output(output, 250.0, jnp.array([50.0, 70.0]), 128)
    b = camera_from_output(output, 500.0, jnp.array([100.0, 140.0]), 256)
    np.testing.assert_allclose(a.translation, b.translation, rtol=1e-6)


def test_translation_is_taken_as_it_is():
    position = jnp.array([[0.01, -0.02, 1.1]])
    output = output_with(jnp.asarray(IDENTITY_6D)[None], position, "translation")
    camera = camera_from_output(output, 300.0, jnp.array([64.0, 64.0]), 128)
    assert isinstance(camera, Camera)
    np.testing.assert_array_equal(camera.translation, position)
    with pytest.raises(AttributeError, match="translation"):
        _ = output.camera_uvs


def test_config_fields_reach_the_backbone():
    config = n2fnet_config("tiny", channels=2, num_shape=10, dtype="bfloat16")
    assert (config.backbone.channels, config.num_shape, config.backbone.dtype) == (2, 10, "bfloat16")
    assert config.input_size == 128
    with pytest.raises(TypeError, match="no_such_field"):
        n2fnet_config("tiny", no_such_field=1)
    assert dataclasses.replace(config, camera_mean=(0.4, 0.5, -2.0)).resolved_camera_mean() == (
        0.4,
        0.5,
        -2.0,
    )
