"""PyTorch tensors inside a pickle, without PyTorch: DECA's ``landmark_embedding.npy`` holds two.

A tensor in a plain pickle is ``torch._utils._rebuild_tensor_v2(storage, offset, size, stride, …)``, and its storage
``torch.storage._load_from_bytes(b)`` where b is a file of torch's format before 1.6: pickles of a magic number, of
the protocol (1001), of system facts, of the object (storages by persistent id) and of the storages' keys, then for
each key its number of elements (int64) and its raw elements.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np

from flame_jax.files import restricted_pickle
from flame_jax.files.restricted_pickle import RefusedPickle

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


def _load_from_bytes(data: Any) -> _Storage:
    if isinstance(data, str):
        data = data.encode("latin1")
    if not isinstance(data, (bytes, bytearray)):
        raise RefusedPickle("holds a torch storage without its bytes")
    data = bytes(data)
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
        rest = data[position:]
        length = restricted_pickle.check_opcodes(rest, allow_persistent_ids=index == 3)
        names = _STORAGE_NAMES if index == 3 else None
        parts.append(
            restricted_pickle.loads(
                rest[:length], names=names, persistent_load=persistent_load if index == 3 else None
            )
        )
        position += length
    magic, protocol, _, which, keys = parts
    if magic != _MAGIC or protocol != _PROTOCOL or which != 0 or [str(k) for k in keys] != [wanted[0][0]]:
        raise RefusedPickle("holds a torch storage of an unknown format")
    _, dtype, count = wanted[0]
    stream = io.BytesIO(data[position:])
    stored = int.from_bytes(stream.read(8), "little")
    raw = stream.read()
    if stored != count or len(raw) != count * dtype.itemsize:
        raise RefusedPickle("holds a torch storage that is cut off")
    return _Storage(np.frombuffer(raw, dtype))


def _rebuild_tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> np.ndarray:
    numbers = (offset, *size, *stride)
    if not isinstance(storage, _Storage) or len(size) != len(stride) or len(size) > 8:
        raise RefusedPickle("holds a torch tensor without a storage")
    if not all(type(n) is int and 0 <= n <= _MAX_ELEMENTS for n in numbers):
        raise RefusedPickle("holds a torch tensor of impossible sizes")
    elements = storage.elements
    count = int(np.prod(size, dtype=object))
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if count > _MAX_ELEMENTS or (count and last >= elements.size):
        raise RefusedPickle("holds a torch tensor that reaches beyond its storage")
    if count == 0:
        return np.zeros(size, elements.dtype)
    steps = tuple(step * elements.itemsize for step in stride)
    return np.lib.stride_tricks.as_strided(elements[offset:], size, steps, writeable=False).copy()


NAMES: dict[tuple[str, str], Callable[..., Any]] = {
    ("torch._utils", "_rebuild_tensor"): _rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch.storage", "_load_from_bytes"): _load_from_bytes,
}
