"""Using a sample more than once: a buffer in the training state, for machines that draw slower than they learn.

The paper draws a fresh batch at every step (``echo`` = 1, no buffer). On two CPU cores drawing a batch costs more
than learning from it; a network that has seen few samples learns nearly as much from meeting one again a little
later (Choi et al., "Faster neural network training with data echoing", 2019). So each step draws ``batch / echo``
fresh samples, puts them in place of the oldest of the buffer, and learns from a random ``batch`` of the buffer.
Maps are kept as 8-bit images, as a front end would store them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, UInt8

from n2f_jax.data.synthetic import Batch

Buffer = dict[str, Any]

# Streams derived from a key, apart from the one that ``make_batch`` takes.
_PICK, _FILL = 0x7069636B, 0x66696C6C


def to_bytes(normals: Float[Array, "... 3"]) -> UInt8[Array, "... 3"]:
    """[−1, 1] → 0 … 255, ``(n + 1)/2`` as in the PNG files."""
    return jnp.round((normals + 1.0) * 127.5).astype(jnp.uint8)


def from_bytes(stored: UInt8[Array, "... 3"], mask: Float[Array, "..."]) -> Float[Array, "... 3"]:
    """The normals again, to 1/255, zero outside the mask."""
    return (stored.astype(jnp.float32) / 127.5 - 1.0) * mask[..., None]


def _pack(batch: Batch) -> Buffer:
    packed = dict(batch)
    for prefix in ("", "target_"):
        if f"{prefix}normals" in batch:
            packed[f"{prefix}normals"] = to_bytes(batch[f"{prefix}normals"])
            packed[f"{prefix}mask"] = batch[f"{prefix}mask"] > 0.5
    return packed


def _unpack(packed: Buffer) -> Batch:
    batch = dict(packed)
    for prefix in ("", "target_"):
        if f"{prefix}normals" in packed:
            mask = packed[f"{prefix}mask"].astype(jnp.float32)
            batch[f"{prefix}mask"] = mask
            batch[f"{prefix}normals"] = from_bytes(packed[f"{prefix}normals"], mask)
    return batch


class Replay:
    """Draws training batches, through a buffer or fresh.

    Args:
        draw: ``draw(key, assets, batch_size)``, a fresh batch.
        batch_size: samples a step learns from.
        echo: how often a sample is used, on average. 1 draws every batch fresh and keeps no buffer.
        capacity: samples in the buffer, a multiple of ``batch_size / echo``; a sample stays for
            ``capacity · echo / batch_size`` steps.

    Raises:
        ValueError: the sizes do not divide.
    """

    def __init__(
        self, draw: Callable[[PRNGKeyArray, Any, int], Batch], *, batch_size: int, echo: int, capacity: int
    ):
        if echo < 1 or batch_size % echo:
            raise ValueError(f"replay.echo is {echo}; it must divide the batch size, {batch_size}")
        self.fresh = batch_size // echo
        if echo > 1 and (capacity < batch_size or capacity % self.fresh):
            raise ValueError(
                f"replay.capacity is {capacity}; it must be at least the batch size, {batch_size}, and a "
                f"multiple of the fresh samples of a step, {self.fresh}"
            )
        self.draw, self.batch_size, self.capacity = draw, batch_size, capacity
        self.active = echo > 1

    def fill(self, key: PRNGKeyArray, assets: Any) -> Buffer:
        """A full buffer for a run's first step; empty where every batch is fresh."""
        if not self.active:
            return {}
        chunk = jax.jit(
            lambda index, assets: _pack(
                self.draw(jax.random.fold_in(jax.random.fold_in(key, _FILL), index), assets, self.fresh)
            )
        )
        chunks = [chunk(jnp.asarray(i), assets) for i in range(self.capacity // self.fresh)]
        return jax.tree.map(lambda *parts: jnp.concatenate(parts), *chunks)

    def empty(self, assets: Any) -> Buffer:
        """A buffer of the right shapes, to be read into from a checkpoint."""
        if not self.active:
            return {}
        one = jax.eval_shape(lambda a: _pack(self.draw(jax.random.key(0), a, self.fresh)), assets)
        return jax.tree.map(lambda x: jnp.zeros((self.capacity, *x.shape[1:]), x.dtype), one)

    def next(self, buffer: Buffer, step: Array, key: PRNGKeyArray, assets: Any) -> tuple[Batch, Buffer]:
        """The batch of a step and the buffer after it. Meant to be traced.

        Args:
            buffer: before the step.
            step: its number, from 0.
            key: of this step.
            assets: handed to ``draw``.
        """
        fresh = self.draw(key, assets, self.fresh)
        if not self.active:
            return fresh, buffer
        oldest = (step % (self.capacity // self.fresh)) * self.fresh
        buffer = jax.tree.map(
            lambda old, new: jax.lax.dynamic_update_slice_in_dim(old, new, oldest, axis=0),
            buffer,
            _pack(fresh),
        )
        picked = jax.random.choice(
            jax.random.fold_in(key, _PICK), self.capacity, (self.batch_size,), replace=False
        )
        return _unpack(jax.tree.map(lambda x: x[picked], buffer)), buffer
