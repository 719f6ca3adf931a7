"""PyTorch tensors to JAX arrays on the device where they are (DLPack)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import torch


def to_jax(tensor: torch.Tensor) -> jax.Array:
    """The tensor as a JAX array, without a trip through the host where JAX has that device too.

    JAX copies only if the memory is not aligned as it needs it. Where PyTorch runs on a device that this JAX has not
    (a GPU beside a JAX for CPUs), the tensor goes to the CPU first. The array may share the tensor's memory: do not
    write to the tensor afterwards.
    """
    tensor = tensor.detach().contiguous()
    if tensor.device.type == "cuda" and not _has_gpu():
        tensor = tensor.cpu()
    return jnp.from_dlpack(tensor)


def _has_gpu() -> bool:
    try:
        return bool(jax.devices("gpu"))
    except RuntimeError:
        return False
