"""Reconstructed heads as files, and the network for PyTorch.

Names are looked up when they are used: ``n2f_jax.export.torch_n2fnet`` is for machines without JAX.
"""

import importlib
from typing import Any

_HOMES = {
    "FORMATS": "meshes",
    "region_colors": "meshes",
    "write_glb": "meshes",
    "write_obj": "meshes",
    "write_ply": "meshes",
    "KEYS": "parameters",
    "load_parameters": "parameters",
    "save_parameters": "parameters",
}

__all__ = [
    "FORMATS",
    "KEYS",
    "load_parameters",
    "region_colors",
    "save_parameters",
    "write_glb",
    "write_obj",
    "write_ply",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
