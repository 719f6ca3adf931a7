"""From photographs to heads: ``Reconstructor``, the result ``Head``, and runs over many photographs.

Names are looked up when they are used, so that reading a saved head needs neither JAX nor a front end.
"""

import importlib
from typing import Any

_HOMES = {"Head": "head", "Reconstructor": "reconstructor"}

__all__ = ["Head", "Reconstructor"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
