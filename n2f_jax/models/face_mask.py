"""The face mask of a normal map that nobody segmented: which pixels show the face, and neither hair, hands, glasses,
neck nor background.

The paper masks its input with a face parser (FaRL) and leaves doing without one to the future. Here a small U-Net reads
the mask from the normals themselves, so that a network that was trained on masked maps is shown what it knows. Trained
on rendered heads alone, ``scripts/build/train_face_mask.py``; not in the paper.
"""

from __future__ import annotations

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from n2f_jax.models.folders import PretrainedError, read_safetensors
from n2f_jax.models.parameters import from_dict, unflatten

SIZE = 128  # of the maps that the network reads
ASSET = Path(__file__).parent / "assets" / "face_mask.safetensors"
_WIDTHS = (16, 32, 48, 64)  # at 64, 32, 16 and 8 pixels a side


def _conv(features: int, out: int, rngs: nnx.Rngs, stride: int = 1) -> nnx.Conv:
    init = nnx.initializers.he_normal()
    return nnx.Conv(features, out, (3, 3), strides=stride, kernel_init=init, rngs=rngs)


class FaceMaskNetwork(nnx.Module):
    """Normals → logits of the face mask. Four resolutions; the finest works on squares of 2 × 2 pixels."""

    def __init__(self, *, rngs: nnx.Rngs):
        first, *rest = _WIDTHS
        self.enter = _conv(4 * 4, first, rngs)
        self.down = nnx.List([_conv(a, b, rngs, stride=2) for a, b in zip(_WIDTHS[:-1], rest, strict=True)])
        self.deepest = _conv(_WIDTHS[-1], _WIDTHS[-1], rngs)
        self.whole = nnx.Linear(_WIDTHS[-1], _WIDTHS[-1], rngs=rngs)
        self.up = nnx.List(
            [_conv(a + b, a, rngs) for a, b in zip(_WIDTHS[-2::-1], _WIDTHS[:0:-1], strict=True)]
        )
        self.leave = nnx.Linear(first, 4, rngs=rngs)

    def __call__(self, normals: Float[Array, "B S S 3"]) -> Float[Array, "B S S"]:
        """Logits; S is a multiple of 16.

        Args:
            normals: unit, head frame, of all that the picture shows; zero where there is nothing.
        """
        there = jnp.sum(normals**2, axis=-1, keepdims=True)
        x = jax.nn.relu(self.enter(_squares(jnp.concatenate([normals, there], axis=-1))))
        passed = []
        for layer in self.down:
            passed.append(x)
            x = jax.nn.relu(layer(x))
        x = jax.nn.relu(self.deepest(x) + self.whole(x.mean(axis=(1, 2)))[:, None, None])
        for layer in self.up:
            x = jnp.concatenate([passed.pop(), x.repeat(2, axis=1).repeat(2, axis=2)], axis=-1)
            x = jax.nn.relu(layer(x))
        return _pixels(self.leave(x))


def _squares(x: Float[Array, "B H W C"]) -> Float[Array, "B H/2 W/2 4*C"]:
    """Squares of 2 × 2 pixels side by side in the channels."""
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height // 2, 2, width // 2, 2, channels).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(batch, height // 2, width // 2, 4 * channels)


def _pixels(x: Float[Array, "B H W 4"]) -> Float[Array, "B 2*H 2*W"]:
    """The other way, of one channel."""
    batch, height, width, _ = x.shape
    return (
        x.reshape(batch, height, width, 2, 2).transpose(0, 1, 3, 2, 4).reshape(batch, 2 * height, 2 * width)
    )


def read_face_mask(path: str | Path = ASSET) -> FaceMaskNetwork:
    """The network that ``scripts/build/train_face_mask.py`` wrote.

    Raises:
        PretrainedError: no such file, or not its weights.
    """
    arrays = {name: jnp.asarray(value, jnp.float32) for name, value in read_safetensors(path).items()}
    try:
        return from_dict(FaceMaskNetwork(rngs=nnx.Rngs(0)), unflatten(arrays))
    except (KeyError, ValueError) as error:
        raise PretrainedError(
            f"{path} does not hold the weights of the face mask's network: {error}"
        ) from error


@functools.cache
def _shipped() -> FaceMaskNetwork:
    return read_face_mask()


def predict_masks(normals: Float[Array, "B S S 3"]) -> Float[Array, "B S S"]:
    """Face masks, 0 or 1, of maps that nobody segmented, by the network that ships.

    Args:
        normals: unit, head frame, of all that the crops show (``data.sampler.SyntheticConfig.crop_scale``); zero where
            there is nothing.
    """
    return _predict_masks(_shipped(), jnp.asarray(normals))


@jax.jit
def _predict_masks(network: FaceMaskNetwork, normals: Float[Array, "B S S 3"]) -> Float[Array, "B S S"]:
    side = normals.shape[1]
    seen = normals
    if side != SIZE:
        seen = jax.image.resize(normals, (len(normals), SIZE, SIZE, 3), "linear")
        length = jnp.linalg.norm(seen, axis=-1, keepdims=True)
        seen = jnp.where(length > 0.5, seen / jnp.maximum(length, 0.5), 0.0)
    logits = network(seen)
    if side != SIZE:
        logits = jax.image.resize(logits, (len(normals), side, side), "linear")
    there = jnp.sum(normals**2, axis=-1) > 0.0
    return ((logits > 0.0) & there).astype(jnp.float32)
