"""The backbone without PyTorch: sizes, positions, numerics. Parity is in ``test_dinov3_parity.py``."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from n2f_jax.models.dinov3 import VARIANTS, DinoV3, DinoV3Config, count_parameters, dinov3_config
from n2f_jax.models.layers import RotaryPositions, rotate
from n2f_jax.models.parameters import functional

pytestmark = pytest.mark.medium

SMALL = DinoV3Config(width=32, depth=1, num_heads=2, mlp_width=64, patch_size=4, layer_scale_init=1.0)

# Trainable numbers; published rounded, as 21.6M, 28.7M, 85.7M, 303.1M, 840.6M.
PUBLISHED = {"S": 21_596_160, "S+": 28_692_480, "B": 85_659_648, "L": 303_128_576, "H+": 840_591_360}


def abstract(config: DinoV3Config) -> DinoV3:
    return nnx.eval_shape(lambda: DinoV3(config, rngs=nnx.Rngs(0)))


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_parameter_counts(name):
    one, two = (count_parameters(abstract(dinov3_config(name, depth=depth))) for depth in (1, 2))
    assert one + (VARIANTS[name].depth - 1) * (two - one) == PUBLISHED[name]


@pytest.mark.parametrize("name", VARIANTS)
def test_token_shapes_of_every_variant(name):
    config = dinov3_config(name, depth=2)
    apply, params = functional(abstract(config))
    tokens = jax.eval_shape(apply, params, jax.ShapeDtypeStruct((2, 96, 160, 3), jnp.float32))
    assert tokens.shape == (2, 5 + (96 // config.patch_size) * (160 // config.patch_size), config.width)
    assert tokens.dtype == jnp.float32


def test_unknown_variant_names_the_known_ones():
    with pytest.raises(ValueError, match=r"'XL'.*S\+"):
        dinov3_config("XL")


def test_rotary_tables_match_a_float64_loop():
    rows, columns, head_dim, prefix = 3, 5, 64, 5
    cos, sin = RotaryPositions(head_dim)(rows, columns, prefix)
    assert cos.shape == sin.shape == (prefix + rows * columns, head_dim // 2)
    for token in range(prefix + rows * columns):
        for channel in range(head_dim // 2):
            if token < prefix:
                angle = 0.0
            else:
                i, j = divmod(token - prefix, columns)
                k = channel % (head_dim // 4)
                centre = (i + 0.5) / rows if channel < head_dim // 4 else (j + 0.5) / columns
                angle = 2 * np.pi * (2 * centre - 1) / 100 ** (2 * k / (head_dim / 2))
            assert abs(cos[token, channel] - np.cos(angle)) < 2e-6
            assert abs(sin[token, channel] - np.sin(angle)) < 2e-6


def test_rotation_is_rotate_half():
    """``x·cos + rotate_half(x)·sin`` with tables tiled twice, in float64, element by element."""
    rng = np.random.default_rng(0)
    x, angles = rng.normal(size=(1, 7, 2, 8)), rng.normal(size=(7, 4))
    expected = np.zeros_like(x)
    for token in range(7):
        for c in range(8):
            partner = -x[0, token, :, c + 4] if c < 4 else x[0, token, :, c - 4]
            a = angles[token, c % 4]
            expected[0, token, :, c] = x[0, token, :, c] * np.cos(a) + partner * np.sin(a)
    actual = rotate(jnp.float32(x), jnp.float32(np.cos(angles)), jnp.float32(np.sin(angles)))
    np.testing.assert_allclose(actual, expected, atol=1e-6)


def test_published_periods():
    """The values of Meta's files, which are these rounded to bf16."""
    periods = RotaryPositions(64).periods[...].astype(jnp.bfloat16).astype(jnp.float32)
    np.testing.assert_array_equal(periods[:4], [1, 1.3359375, 1.78125, 2.375])
    np.testing.assert_array_equal(periods[-2:], [56.25, 75])


@pytest.fixture(scope="module")
def params(abstract_and_random):
    """Random parameters of ``SMALL``."""
    return abstract_and_random(lambda: DinoV3(SMALL, rngs=nnx.Rngs(0)))[1]


def test_periods_are_loadable_and_never_trained(params):
    network = abstract(SMALL)
    apply, _ = functional(network)
    images = jax.random.normal(jax.random.key(0), (1, 8, 12, 3))
    loss = jax.jit(jax.value_and_grad(lambda p: jnp.square(apply(p, images)[..., :3]).sum()))
    value, gradient = loss(params)
    assert not np.any(np.asarray(gradient["rope"]["periods"]))
    changed = params | {"rope": {"periods": params["rope"]["periods"] * 1.5}}
    assert abs(loss(changed)[0] - value) > 1e-4
    assert count_parameters(network) == sum(x.size for x in jax.tree.leaves(params)) - SMALL.width // 2 // 4


def test_remat_changes_nothing(params):
    images = jax.random.normal(jax.random.key(0), (2, 8, 8, 3))
    results = []
    for remat in (False, True):
        apply, _ = functional(abstract(dataclasses.replace(SMALL, remat=remat)))
        step = jax.jit(jax.value_and_grad(lambda p, apply=apply: jnp.square(apply(p, images)[..., 0]).sum()))
        results.append(step(params))
        assert ("remat" in str(jax.make_jaxpr(step)(params))) == remat
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), *results)


def test_bfloat16_computes_in_bfloat16_on_float32_parameters(params):
    apply, shapes = functional(abstract(dataclasses.replace(SMALL, dtype="bfloat16")))
    assert {x.dtype for x in jax.tree.leaves(shapes)} == {jnp.dtype("float32")}
    images = jax.random.normal(jax.random.key(0), (1, 16, 16, 3))
    half = jax.jit(apply)(params, images)
    full = jax.jit(functional(abstract(SMALL))[0])(params, images)
    assert half.dtype == jnp.bfloat16
    error = np.asarray(half, np.float32) - full
    assert 1e-4 < np.sqrt(np.mean(error**2)) < 0.05  # some error, or it was not computed in bf16


@pytest.mark.parametrize(
    ("shape", "message"),
    [((1, 10, 16, 3), "10×16"), ((1, 16, 16, 5), "5 channels; this network was built for 3")],
)
def test_unfitting_images_are_refused(shape, message):
    apply, params = functional(abstract(SMALL))
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(apply, params, jax.ShapeDtypeStruct(shape, jnp.float32))
