"""What the channels of the network's input may hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

# By name, how many they are; the parts of a name are the maps, in their order.
CHANNELS = {"normals": 3, "uv": 2, "uv+normals": 5}


def maps_of(channels: str) -> list[str]:
    """Names of the maps that ``channels`` consists of."""
    return channels.split("+")


def join_maps(maps: Mapping[str, Any], channels: str) -> Float[Array, "B S S C"]:
    """The maps that ``channels`` names, side by side along the last axis."""
    return jnp.concatenate([maps[name] for name in maps_of(channels)], axis=-1)
