"""PyTorch Lightning checkpoints without Lightning, and without running what the file's pickle holds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from n2f_jax.frontends.files import FrontendFileError

MIN_TORCH = (2, 6)


class _Inert(dict):
    """Stands for every class and function that a checkpoint names beside its tensors (OmegaConf's, Lightning's …).

    Holds what the pickle says of an object, and does nothing.
    """

    def __new__(cls, *_: Any, **__: Any) -> _Inert:
        return super().__new__(cls)

    def __init__(self, *arguments: Any, **_: Any):
        super().__init__()
        self.update(arguments=arguments)

    def __setstate__(self, state: Any) -> None:
        self.update(state if isinstance(state, Mapping) else {"state": state})

    def append(self, item: Any) -> None:
        self.setdefault("items_", []).append(item)

    def extend(self, items: Any) -> None:
        self.setdefault("items_", []).extend(items)

    def __hash__(self) -> int:  # it may be a key in a part of the file that nobody reads
        return id(self)


def read_lightning(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Tensors and hyper-parameters of a checkpoint.

    ``torch.load(weights_only=True)``; names that it does not know are given to stand-ins that do nothing.

    Returns:
        The state dict, on the CPU and mapped from the file; and the hyper-parameters as nested plain dicts (OmegaConf
        read without OmegaConf), empty where the file has none.

    Raises:
        FrontendFileError: not a checkpoint, cut off, of PyTorch's format before 1.6, or without a state dict.
        ImportError: PyTorch is older than ``MIN_TORCH``.
    """
    if tuple(int(part) for part in torch.__version__.split(".")[:2]) < MIN_TORCH:
        wanted = ".".join(map(str, MIN_TORCH))
        raise ImportError(
            f"PyTorch {torch.__version__} is too old to read checkpoints safely: pip install 'torch>={wanted}'"
        )
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
        with torch.serialization.safe_globals([(_Inert, name) for name in names]):
            contents = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except FileNotFoundError as error:
        raise FrontendFileError(f"{path} is missing") from error
    except Exception as error:  # torch raises RuntimeError, ValueError, UnpicklingError, EOFError, …
        reason = " ".join(str(error).split())[:200]
        raise FrontendFileError(
            f"{path} is no checkpoint that PyTorch can read safely, or is cut off: download it again ({reason})"
        ) from error
    state = contents.get("state_dict") if isinstance(contents, Mapping) else None
    if not isinstance(state, Mapping) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise FrontendFileError(f"{path} has no 'state_dict' of tensors: it is no Lightning checkpoint")
    parameters = _plain(contents.get("hyper_parameters", {}))
    return dict(state), parameters if isinstance(parameters, dict) else {}


def _plain(value: Any, depth: int = 20) -> Any:
    """OmegaConf's containers keep their items under ``_content``, its leaves their value under ``_val``."""
    if depth == 0:
        return None
    if isinstance(value, _Inert):
        if "_content" in value:
            return _plain(value["_content"], depth - 1)
        if "_val" in value:
            return _plain(value["_val"], depth - 1)
        return {str(key): _plain(item, depth - 1) for key, item in value.items() if key != "arguments"}
    if isinstance(value, Mapping):
        return {str(key): _plain(item, depth - 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, depth - 1) for item in value]
    return value if isinstance(value, (str, bool, int, float, type(None))) else None
