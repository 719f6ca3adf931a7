"""Building blocks shared by the backbone and the heads: attention, MLPs, normalisation, rotary tables.

Parameters are float32; ``dtype`` is what is computed in. Normalisation statistics and the softmax stay
float32 whatever ``dtype`` is, because bf16 has too few digits for either.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Literal

import jax
import jax.extend
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

# PyTorch's default; Flax's own is 1e-6.
LAYER_NORM_EPSILON = 1e-5
_XAVIER = nnx.initializers.xavier_uniform()

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "gelu_erf": functools.partial(jax.nn.gelu, approximate=False),
    "gelu_tanh": functools.partial(jax.nn.gelu, approximate=True),
}


def linear(
    in_features: int,
    out_features: int,
    *,
    dtype: jnp.dtype,
    rngs: nnx.Rngs,
    use_bias: bool = True,
    kernel_init: nnx.Initializer = _XAVIER,
) -> nnx.Linear:
    """``nnx.Linear`` with Xavier-uniform kernels unless told otherwise, and biases that start at zero.

    One key is drawn from ``rngs``, for the kernel. ``nnx.Linear`` would draw a second one for the bias, which needs
    none, and every seed would give another network than it has given so far.
    """
    key = rngs.params()

    def init_kernel(_: Array, shape: tuple[int, ...], param_dtype: DTypeLike) -> Array:
        return kernel_init(key, shape, param_dtype)

    return nnx.Linear(
        in_features, out_features, use_bias=use_bias, dtype=dtype, kernel_init=init_kernel, rngs=nnx.Rngs(0)
    )


class LayerNorm(nnx.Module):
    """LayerNorm over the channels with PyTorch's epsilon; statistics in float32, the result in the input's dtype."""

    # Not nnx.LayerNorm (with use_fast_variance=False, dtype=float32 and a cast): it multiplies in another order, so
    # outputs differ in the last digits, and a float32 training step of the tiny network takes 12 % longer on a CPU.
    # The variance takes two passes, since the fast one cancels.

    def __init__(self, features: int):
        self.scale = nnx.Param(jnp.ones((features,), jnp.float32))
        self.bias = nnx.Param(jnp.zeros((features,), jnp.float32))

    def __call__(self, x: Float[Array, "... width"]) -> Float[Array, "... width"]:
        wide = x.astype(jnp.float32)
        centred = wide - wide.mean(axis=-1, keepdims=True)
        variance = jnp.square(centred).mean(axis=-1, keepdims=True)
        normal = centred * jax.lax.rsqrt(variance + LAYER_NORM_EPSILON)
        return add_channels(times_channels(normal, self.scale[...]), self.bias[...]).astype(x.dtype)


def add_channels(x: Float[Array, "... width"], values: Float[Array, " width"]) -> Float[Array, "... width"]:
    """``x + values`` along the last axis, in x's dtype."""
    return x + jnp.expand_dims(values.astype(x.dtype), tuple(range(x.ndim - 1)))


def times_channels(x: Float[Array, "... width"], values: Float[Array, " width"]) -> Float[Array, "... width"]:
    """``x · values`` along the last axis, in x's dtype."""
    return x * jnp.expand_dims(values.astype(x.dtype), tuple(range(x.ndim - 1)))


class Constant(nnx.Variable[Array]):
    """An array that is saved and converted with the parameters but is never trained."""


class RotaryPositions(nnx.Module):
    """DINOv3's rotary position embedding of a patch grid.

    Patch centres ``(i + 0.5) / rows`` and ``(j + 0.5) / columns`` are mapped to [−1, 1], so any grid spans
    the same angles; an angle is ``2π · coordinate / period``. The periods are a loadable constant, because
    Meta's files hold them rounded to bf16 while others recompute them in float32.

    Args:
        head_dim: channels of one attention head, a multiple of 4.
        base: periods run from 1 up to (not including) ``base``: ``base^(2k / (head_dim / 2))``.
    """

    def __init__(self, head_dim: int, base: float = 100.0):
        if head_dim % 4:
            raise ValueError(f"rotary positions need a head size that is a multiple of 4, got {head_dim}")
        exponent = jnp.arange(head_dim // 4, dtype=jnp.float32) * (2.0 / (head_dim // 2))
        self.periods = Constant(jnp.float32(base) ** exponent)

    def __call__(
        self, rows: int, columns: int, prefix: int
    ) -> tuple[Float[Array, "N half"], Float[Array, "N half"]]:
        """Cosines and sines for ``prefix`` tokens without a position (angle 0), then the patches row by row.

        The first half of the channels turns with y, the second with x; channel c is paired with
        ``c + head_dim / 2`` (rotate-half), so half of the table is all that is needed.
        """
        periods = jax.lax.stop_gradient(self.periods[...])
        y = 2.0 * (jnp.arange(rows, dtype=jnp.float32) + 0.5) / rows - 1.0
        x = 2.0 * (jnp.arange(columns, dtype=jnp.float32) + 0.5) / columns - 1.0
        grid = jnp.stack(jnp.meshgrid(y, x, indexing="ij"), axis=-1).reshape(rows * columns, 2, 1)
        angles = (2.0 * jnp.pi * grid / periods[None, None, :]).reshape(rows * columns, -1)
        angles = jnp.pad(angles, ((prefix, 0), (0, 0)))
        return _kept(jnp.cos(angles)), _kept(jnp.sin(angles))


def _kept(table: Float[Array, "N half"]) -> Float[Array, "N half"]:
    """The same table, computed once on a CPU.

    XLA's CPU compiler fuses sines into every use, so that each block would compute them anew for all its heads; a
    product, even with the identity, is not fused.
    """
    if jax.default_backend() != "cpu":
        return table
    return jnp.matmul(table, jnp.eye(table.shape[1], dtype=table.dtype), precision="highest")


def rotate(
    x: Float[Array, "B N heads head_dim"], cos: Float[Array, "N half"], sin: Float[Array, "N half"]
) -> Float[Array, "B N heads head_dim"]:
    """Turns each channel pair ``(c, c + half)`` by its token's angle."""
    first, second = jnp.split(x, 2, axis=-1)
    cos = cos[None, :, None, :].astype(x.dtype)
    sin = sin[None, :, None, :].astype(x.dtype)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


class Attention(nnx.Module):
    """Multi-head self-attention; ``key_bias=False`` is DINOv3's, whose key projection has none."""

    def __init__(self, width: int, num_heads: int, *, key_bias: bool, dtype: jnp.dtype, rngs: nnx.Rngs):
        if width % num_heads:
            raise ValueError(f"width {width} does not split into {num_heads} heads")
        self.num_heads = num_heads
        self.query = linear(width, width, dtype=dtype, rngs=rngs)
        self.key = linear(width, width, use_bias=key_bias, dtype=dtype, rngs=rngs)
        self.value = linear(width, width, dtype=dtype, rngs=rngs)
        self.output = linear(width, width, dtype=dtype, rngs=rngs)

    def __call__(
        self,
        x: Float[Array, "B N width"],
        rotary: tuple[Float[Array, "N half"], Float[Array, "N half"]] | None = None,
    ) -> Float[Array, "B N width"]:
        batch, tokens, width = x.shape
        split = (batch, tokens, self.num_heads, width // self.num_heads)
        query = self.query(x).reshape(split)
        key = self.key(x).reshape(split)
        value = self.value(x).reshape(split)
        if rotary is not None:
            query, key = rotate(query, *rotary), rotate(key, *rotary)
        mixed = attend(query, key, value)
        return self.output(mixed.reshape(batch, tokens, width))


# Scores of this many bytes stay in the cache of a CPU core while they are normalised and used.
_SCORES_BYTES = 5 << 20
_MOST_PIECES = 16


def attend(
    query: Float[Array, "B N heads head_dim"],
    key: Float[Array, "B M heads head_dim"],
    value: Float[Array, "B M heads head_dim"],
) -> Float[Array, "B N heads head_dim"]:
    """Scaled dot-product attention; the softmax is float32.

    Half-precision on CUDA is cuDNN's fused attention. JAX has no fused attention for CPUs: there the batch is cut into
    pieces whose scores stay in the cache, which is two to four times as fast at 16 images of 261 tokens.
    """
    if _cudnn_attends(query):
        return fused_attention(query, key, value, "cudnn")
    query, key, value = (jnp.swapaxes(x, 1, 2) for x in (query * query.shape[-1] ** -0.5, key, value))

    def piece(query: Array, key: Array, value: Array) -> Array:
        scores = jnp.matmul(query, jnp.swapaxes(key, -1, -2), preferred_element_type=jnp.float32)
        return jnp.matmul(jax.nn.softmax(scores, axis=-1).astype(value.dtype), value)

    batch, heads, tokens, _ = query.shape
    size = batch
    if jax.default_backend() == "cpu":
        fitting = _SCORES_BYTES // (4 * heads * tokens * key.shape[2])
        size = min(batch, max(1, fitting, -(-batch // _MOST_PIECES)))
    mixed = [
        piece(*(x[start : start + size] for x in (query, key, value))) for start in range(0, batch, size)
    ]
    return jnp.swapaxes(jnp.concatenate(mixed) if len(mixed) > 1 else mixed[0], 1, 2)


def fused_attention(
    query: Float[Array, "B N heads head_dim"],
    key: Float[Array, "B M heads head_dim"],
    value: Float[Array, "B M heads head_dim"],
    implementation: Literal["xla", "cudnn"],
) -> Float[Array, "B N heads head_dim"]:
    """``jax.nn.dot_product_attention`` of any number of tokens.

    JAX 0.11 refuses cuDNN's gradient for an odd number of them (ViT-L/16 at 256² has 261): they are made even, and the
    ones that were added are not looked at.
    """
    tokens, others = query.shape[1], key.shape[1]
    if tokens % 2 == 0 and others % 2 == 0:
        return jax.nn.dot_product_attention(query, key, value, implementation=implementation)
    query, key, value = (
        jnp.pad(x, ((0, 0), (0, x.shape[1] % 2), (0, 0), (0, 0))) for x in (query, key, value)
    )
    lengths = jnp.full((query.shape[0],), others, jnp.int32)
    mixed = jax.nn.dot_product_attention(
        query,
        key,
        value,
        query_seq_lengths=jnp.full_like(lengths, tokens),
        key_value_seq_lengths=lengths,
        implementation=implementation,
    )
    return mixed[:, :tokens]


def _cudnn_attends(query: Array) -> bool:
    """Whether cuDNN's fused attention takes this: half precision on CUDA, heads of 8 to 128 channels."""
    if query.dtype not in (jnp.bfloat16, jnp.float16) or jax.default_backend() != "gpu":
        return False
    cuda = "cuda" in jax.extend.backend.get_backend().platform_version.lower()
    return cuda and query.shape[-1] % 8 == 0 and query.shape[-1] <= 128


class Mlp(nnx.Module):
    """``down(act(up(x)))``."""

    def __init__(self, width: int, hidden: int, *, activation: str, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.activation = ACTIVATIONS[activation]
        self.up = linear(width, hidden, dtype=dtype, rngs=rngs)
        self.down = linear(hidden, width, dtype=dtype, rngs=rngs)

    def hidden(self, x: Float[Array, "... width"]) -> Float[Array, "... hidden"]:
        return self.activation(self.up(x))

    def __call__(self, x: Float[Array, "... width"]) -> Float[Array, "... width"]:
        return self.down(self.hidden(x))


class GatedMlp(nnx.Module):
    """SwiGLU, ``down(silu(gate(x)) · up(x))``: the MLP of DINOv3 S+ and H+."""

    def __init__(self, width: int, hidden: int, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.gate = linear(width, hidden, dtype=dtype, rngs=rngs)
        self.up = linear(width, hidden, dtype=dtype, rngs=rngs)
        self.down = linear(hidden, width, dtype=dtype, rngs=rngs)

    def __call__(self, x: Float[Array, "... width"]) -> Float[Array, "... width"]:
        return self.down(jax.nn.silu(self.gate(x)) * self.up(x))


class LayerScale(nnx.Module):
    """A learned gain per channel on a residual branch."""

    def __init__(self, features: int, init: float):
        self.gamma = nnx.Param(jnp.full((features,), init, jnp.float32))

    def __call__(self, x: Float[Array, "B N width"]) -> Float[Array, "B N width"]:
        return times_channels(x, self.gamma[...])
