"""DINOv3's vision transformer in Flax NNX.

Pre-norm blocks with LayerScale, rotary positions on the patches only, a class token and four register
tokens in front, no bias on the key projection. Source: facebookresearch/dinov3 and the ``DINOv3ViTModel`` of
Hugging Face transformers, against which ``tests/n2f_jax/models/test_dinov3_parity.py`` compares every block.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from n2f_jax.models.layers import (
    Attention,
    GatedMlp,
    LayerNorm,
    LayerScale,
    Mlp,
    RotaryPositions,
    add_channels,
)


@dataclasses.dataclass(frozen=True)
class DinoV3Config:
    """Sizes and numerics of a DINOv3 backbone.

    Attributes:
        width: channels of a token.
        depth: number of blocks.
        num_heads: attention heads of a block.
        mlp_width: hidden channels of a block's MLP.
        gated_mlp: SwiGLU instead of GELU (S+ and H+).
        patch_size: pixels along the side of a patch.
        channels: input channels: 3 for normals, 2 for UV, 5 for both.
        num_registers: register tokens after the class token.
        rope_base: the longest rotary period's bound.
        layer_scale_init: LayerScale before training. DINOv3 starts at 1e-5 (and is loaded anyway).
        gelu: ``'erf'`` is exact, as DINOv3 has it; ``'tanh'`` the usual approximation, cheaper on a CPU.
        dtype: what is computed in, ``'float32'`` or ``'bfloat16'``; parameters stay float32.
        remat: recompute each block in the backward pass instead of keeping its activations.
    """

    width: int
    depth: int
    num_heads: int
    mlp_width: int
    gated_mlp: bool = False
    patch_size: int = 16
    channels: int = 3
    num_registers: int = 4
    rope_base: float = 100.0
    layer_scale_init: float = 1e-5
    gelu: Literal["erf", "tanh"] = "erf"
    dtype: Literal["float32", "bfloat16"] = "float32"
    remat: bool = False

    @property
    def num_prefix_tokens(self) -> int:
        """Tokens before the patches: the class token and the registers."""
        return 1 + self.num_registers


VARIANTS: dict[str, DinoV3Config] = {
    "S": DinoV3Config(width=384, depth=12, num_heads=6, mlp_width=1536),
    "S+": DinoV3Config(width=384, depth=12, num_heads=6, mlp_width=1536, gated_mlp=True),
    "B": DinoV3Config(width=768, depth=12, num_heads=12, mlp_width=3072),
    "L": DinoV3Config(width=1024, depth=24, num_heads=16, mlp_width=4096),
    "H+": DinoV3Config(width=1280, depth=32, num_heads=20, mlp_width=5120, gated_mlp=True),
    # Ours, trained from scratch on a CPU. LayerScale starts at 1, because 1e-5 takes thousands of steps to
    # open; the tanh GELU is cheaper there. The class and register tokens stay: they alone are not rotated, so
    # only through them does a patch know where it is and not just how far from others, which the camera's u
    # and v need.
    "tiny": DinoV3Config(
        patch_size=32, width=192, depth=6, num_heads=3, mlp_width=768, layer_scale_init=1.0, gelu="tanh"
    ),
}


def dinov3_config(variant: str, **changes: Any) -> DinoV3Config:
    """The configuration of a named size: ``S``, ``S+``, ``B``, ``L``, ``H+`` or our ``tiny``.

    Args:
        variant: a key of ``VARIANTS``.
        **changes: fields to replace.

    Raises:
        ValueError: the variant is unknown.
    """
    if variant not in VARIANTS:
        raise ValueError(f"unknown DINOv3 variant {variant!r}; there are {', '.join(VARIANTS)}")
    return dataclasses.replace(VARIANTS[variant], **changes)


class PatchEmbedding(nnx.Module):
    """The first convolution, whose stride is its size: one matrix product per patch.

    ``kernel`` is ``(patch, patch, channels, width)``, Flax's layout of a convolution.
    """

    def __init__(self, config: DinoV3Config, *, rngs: nnx.Rngs):
        self.patch = config.patch_size
        self.dtype = jnp.dtype(config.dtype)
        shape = (self.patch, self.patch, config.channels, config.width)
        init = nnx.initializers.xavier_uniform(in_axis=(0, 1, 2), out_axis=3)
        self.kernel = nnx.Param(init(rngs.params(), shape, jnp.float32))
        self.bias = nnx.Param(jnp.zeros((config.width,), jnp.float32))

    def __call__(self, images: Float[Array, "B H W C"]) -> Float[Array, "B N width"]:
        batch, height, width, channels = images.shape
        if height % self.patch or width % self.patch:
            raise ValueError(
                f"the image is {height}×{width} pixels; both must be multiples of the patch size {self.patch}"
            )
        if channels != self.kernel.shape[2]:
            raise ValueError(
                f"the image has {channels} channels; this network was built for {self.kernel.shape[2]}"
            )
        rows, columns = height // self.patch, width // self.patch
        patches = images.astype(self.dtype).reshape(batch, rows, self.patch, columns, self.patch, channels)
        patches = patches.transpose(0, 1, 3, 2, 4, 5).reshape(batch, rows * columns, -1)
        kernel = self.kernel[...].astype(self.dtype).reshape(patches.shape[-1], -1)
        return add_channels(patches @ kernel, self.bias[...])


class Block(nnx.Module):
    """One pre-norm transformer block."""

    def __init__(self, config: DinoV3Config, *, rngs: nnx.Rngs):
        dtype = jnp.dtype(config.dtype)
        self.norm1 = LayerNorm(config.width)
        self.attention = Attention(config.width, config.num_heads, key_bias=False, dtype=dtype, rngs=rngs)
        self.layer_scale1 = LayerScale(config.width, config.layer_scale_init)
        self.norm2 = LayerNorm(config.width)
        self.mlp: GatedMlp | Mlp
        if config.gated_mlp:
            self.mlp = GatedMlp(config.width, config.mlp_width, dtype=dtype, rngs=rngs)
        else:
            self.mlp = Mlp(
                config.width, config.mlp_width, activation=f"gelu_{config.gelu}", dtype=dtype, rngs=rngs
            )
        self.layer_scale2 = LayerScale(config.width, config.layer_scale_init)

    def __call__(
        self,
        x: Float[Array, "B N width"],
        rotary: tuple[Float[Array, "N half"], Float[Array, "N half"]],
    ) -> Float[Array, "B N width"]:
        x = x + self.layer_scale1(self.attention(self.norm1(x), rotary))
        return x + self.layer_scale2(self.mlp(self.norm2(x)))


class DinoV3(nnx.Module):
    """The backbone: image → tokens ``[class, registers, patches row by row]`` after the final norm.

    Takes any image whose sides are multiples of the patch size.
    """

    def __init__(self, config: DinoV3Config, *, rngs: nnx.Rngs):
        self.config = config
        init = nnx.initializers.truncated_normal(0.02)
        self.class_token = nnx.Param(init(rngs.params(), (1, 1, config.width), jnp.float32))
        self.register_tokens = nnx.Param(
            init(rngs.params(), (1, config.num_registers, config.width), jnp.float32)
        )
        self.patch_embedding = PatchEmbedding(config, rngs=rngs)
        self.rope = RotaryPositions(config.width // config.num_heads, config.rope_base)
        self.blocks = nnx.List([Block(config, rngs=rngs) for _ in range(config.depth)])
        self.norm = LayerNorm(config.width)

    def embed(self, images: Float[Array, "B H W C"]) -> Float[Array, "B N width"]:
        """Tokens before the first block."""
        patches = self.patch_embedding(images)
        prefix = jnp.concatenate([self.class_token[...], self.register_tokens[...]], axis=1)
        prefix = jnp.broadcast_to(prefix.astype(patches.dtype), (images.shape[0], *prefix.shape[1:]))
        return jnp.concatenate([prefix, patches], axis=1)

    def hidden_states(self, images: Float[Array, "B H W C"]) -> list[Float[Array, "B N width"]]:
        """What a parity test compares: the embedding, then the output of every block (before ``norm``)."""
        patch = self.config.patch_size
        x = self.embed(images)
        rotary = self.rope(images.shape[1] // patch, images.shape[2] // patch, self.config.num_prefix_tokens)
        run = nnx.remat(Block.__call__) if self.config.remat else Block.__call__
        states = [x]
        for block in self.blocks:
            states.append(run(block, states[-1], rotary))
        return states

    def __call__(self, images: Float[Array, "B H W C"]) -> Float[Array, "B N width"]:
        """All tokens after the final norm, the class token and the registers first."""
        return self.norm(self.hidden_states(images)[-1])

    def patch_tokens(self, images: Float[Array, "B H W C"]) -> Float[Array, "B N width"]:
        """The patch tokens alone, row by row, after the final norm."""
        return self.norm(self.hidden_states(images)[-1][:, self.config.num_prefix_tokens :])


def count_parameters(module: nnx.Module) -> int:
    """Trainable numbers in a module; works on the abstract module of ``nnx.eval_shape`` too."""
    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(module, nnx.Param)))
