"""PyTorch tensors inside a pickle, without PyTorch: DECA's ``landmark_embedding.npy`` holds two.

A tensor in a plain pickle is ``torch._utils._rebuild_tensor_v2(storage, offset, size, stride, …)``, and its storage
``torch.storage._load_from_bytes(b)`` where b is a file of torch's format before 1.6: pickles of a magic number, of
the protocol (1001), of system facts, of the object (storages by persistent id) and of the storages' keys, then for
each key its number of elements (int64) and its raw elements.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from flame_jax.files import restricted_pickle
from flame_jax.files.budget import Budget
from flame_jax.files.pickle_opcodes import RefusedPickle, check_opcodes

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
_DTYPES = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}
_MAX_ELEMENTS = 1 << 26


class _StorageType:
    """A class such as ``torch.FloatStorage``, which is named and never called."""

    def __init__(self, dtype: str) -> None:
        self.dtype = np.dtype(dtype)

    def __call__(self, *_: Any) -> None:
        raise RefusedPickle("makes a torch storage outside a tensor")


class _Storage:
    def __init__(self, elements: np.ndarray) -> None:
        self.elements = elements


_STORAGE_NAMES: dict[tuple[str, str], Callable[..., Any]] = {
    ("torch", name): _StorageType(dtype) for name, dtype in _DTYPES.items()
}


class _Tensors:
    """The stand-ins, and the account of what they make."""

    def __init__(self, budget: Budget) -> None:
        self.budget = budget

    def load_from_bytes(self, data: Any) -> _Storage:
        if not isinstance(data, (str, bytes, bytearray)):
            raise RefusedPickle("holds a torch storage without its bytes")
        self.budget.take(2 * len(data))  # the copy here, and the elements
        data = data.encode("latin1") if isinstance(data, str) else bytes(data)
        wanted: list[tuple[str, np.dtype, int]] = []

        def persistent_load(pid: Any) -> int:
            kind, storage_type, key, _, count = pid[:5]
            dtype = getattr(getattr(storage_type, "function", None), "dtype", None)
            if kind not in ("storage", b"storage") or dtype is None or type(count) is not int:
                raise RefusedPickle("refers to something that is no torch storage")
            wanted.append((str(key), dtype, count))
            return len(wanted) - 1

        position = 0
        parts = []
        for index in range(5):
            is_object = index == 3
            end = check_opcodes(data, allow_persistent_ids=is_object, budget=self.budget, start=position)
            parts.append(
                restricted_pickle.loads(
                    data[position:end],
                    names=_STORAGE_NAMES if is_object else None,
                    persistent_load=persistent_load if is_object else None,
                    budget=self.budget,
                )
            )
            position = end
        magic, protocol, _, which, keys = parts
        if (
            (magic, protocol, which) != (_MAGIC, _PROTOCOL, 0)
            or len(wanted) != 1
            or not isinstance(keys, list)
            or keys not in ([wanted[0][0]], [wanted[0][0].encode()])
        ):
            raise RefusedPickle("holds a torch storage of an unknown format")
        _, dtype, count = wanted[0]
        stored = int.from_bytes(data[position : position + 8], "little")
        raw = memoryview(data)[position + 8 :]
        if stored != count or len(raw) != count * dtype.itemsize:
            raise RefusedPickle("holds a torch storage that is cut off")
        return _Storage(np.frombuffer(raw, dtype))

    def rebuild_tensor(self, storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> np.ndarray:
        if (
            not isinstance(storage, _Storage)
            or not all(isinstance(part, (tuple, list)) and len(part) <= 8 for part in (size, stride))
            or len(size) != len(stride)
        ):
            raise RefusedPickle("holds a torch tensor without a storage")
        if not all(type(n) is int and 0 <= n <= _MAX_ELEMENTS for n in (offset, *size, *stride)):
            raise RefusedPickle("holds a torch tensor of impossible sizes")
        elements = storage.elements
        count = math.prod(size)
        last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
        # One element may stand for many (a stride of 0). No model file does so, and it is how few bytes become many.
        if count > elements.size or (count and last >= elements.size):
            raise RefusedPickle("holds a torch tensor that reaches beyond its storage")
        self.budget.take(count * elements.itemsize)
        if count == 0:
            return np.zeros(size, elements.dtype)
        steps = tuple(step * elements.itemsize for step in stride)
        return np.lib.stride_tricks.as_strided(elements[offset:], size, steps, writeable=False).copy()


def names(budget: Budget) -> dict[tuple[str, str], Callable[..., Any]]:
    """Stand-ins for ``restricted_pickle.loads``, which count what they make in ``budget``."""
    tensors = _Tensors(budget)
    return {
        ("torch._utils", "_rebuild_tensor"): tensors.rebuild_tensor,
        ("torch._utils", "_rebuild_tensor_v2"): tensors.rebuild_tensor,
        ("torch.storage", "_load_from_bytes"): tensors.load_from_bytes,
    }
