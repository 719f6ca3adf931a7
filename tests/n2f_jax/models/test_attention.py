"""Attention: every way of cutting and choosing gives softmax(q·kᵀ/√d)·v."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from n2f_jax.models import layers


def arrays(batch=5, tokens=7, heads=3, channels=8, dtype=np.float32):
    rng = np.random.default_rng(0)
    return [jnp.asarray(rng.normal(size=(batch, tokens, heads, channels)), dtype) for _ in range(3)]


def expected(query, key, value):
    """In float64, head by head."""
    query, key, value = (np.asarray(x, np.float64) for x in (query, key, value))
    out = np.zeros_like(query)
    for b in range(query.shape[0]):
        for h in range(query.shape[2]):
            weights = np.exp(query[b, :, h] @ key[b, :, h].T / np.sqrt(query.shape[-1]))
            out[b, :, h] = weights / weights.sum(-1, keepdims=True) @ value[b, :, h]
    return out


# One image's scores are 4·3·7·7 = 588 bytes: whole, in twos with one left over, one by one, and at most so many pieces.
@pytest.mark.parametrize(
    ("limit", "most", "pieces"), [(5 << 20, 16, 1), (1200, 16, 3), (1, 16, 5), (1, 2, 2)]
)
def test_pieces_change_nothing(monkeypatch, limit, most, pieces):
    monkeypatch.setattr(layers, "_SCORES_BYTES", limit)
    monkeypatch.setattr(layers, "_MOST_PIECES", most)
    attend = lambda *x: layers.attend(*x)  # noqa: E731  (a function of its own for each limit: jit caches)
    np.testing.assert_allclose(jax.jit(attend)(*arrays()), expected(*arrays()), atol=1e-6)
    assert str(jax.make_jaxpr(attend)(*arrays())).count("dot_general") == 2 * pieces

    def loss(query, key, value):
        return jnp.square(layers.attend(query, key, value)).sum()

    gradients = jax.jit(jax.grad(loss, argnums=(0, 1, 2)))(*arrays())
    for a, b in zip(gradients, reference_gradients(*arrays()), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.parametrize("tokens", [7, 8])
def test_fused_attention_takes_odd_numbers_of_tokens(tokens):
    """cuDNN's gradient does not; here JAX's plain implementation stands for it."""
    given = arrays(tokens=tokens)
    fused = functools.partial(layers.fused_attention, implementation="xla")
    np.testing.assert_allclose(jax.jit(fused)(*given), expected(*given), atol=1e-6)
    gradients = jax.jit(jax.grad(lambda *x: jnp.square(fused(*x)).sum(), argnums=(0, 1, 2)))(*given)
    for a, b in zip(gradients, reference_gradients(*given), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    assert ("pad[" in str(jax.make_jaxpr(fused)(*given))) == (tokens % 2 == 1)


@jax.jit
@functools.partial(jax.grad, argnums=(0, 1, 2))
def reference_gradients(query, key, value):
    """By JAX's own."""
    return jnp.square(jax.nn.dot_product_attention(query, key, value, implementation="xla")).sum()


@pytest.mark.parametrize(
    ("backend", "version", "dtype", "channels", "fused"),
    [
        ("gpu", "cuda 12080", jnp.bfloat16, 64, True),
        ("gpu", "cuda 12080", jnp.float32, 64, False),
        ("gpu", "cuda 12080", jnp.bfloat16, 160, False),
        ("gpu", "rocm 60300", jnp.bfloat16, 64, False),
        ("cpu", "", jnp.bfloat16, 64, False),
    ],
)
def test_cudnn_is_chosen_where_it_can_be(monkeypatch, backend, version, dtype, channels, fused):
    """The choice alone: there is no GPU in the tests."""
    chosen = []
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    monkeypatch.setattr(
        jax.extend.backend, "get_backend", lambda: type("Backend", (), {"platform_version": version})
    )
    monkeypatch.setattr(
        jax.nn,
        "dot_product_attention",
        lambda query, key, value, *, implementation, **lengths: chosen.append(implementation) or query,
    )
    layers.attend(*arrays(channels=channels, dtype=dtype))
    assert chosen == (["cudnn"] if fused else [])
