"""Reads a file of any known format, told by its first bytes, into arrays, or raises an error with what to do."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

from flame_jax.files import restricted_pickle, torch_tensors
from flame_jax.files.budget import Budget, OverBudgetError
from flame_jax.files.npz import ArrayFileError, read_npy, read_npy_header, read_npz
from flame_jax.files.outside import OutsideFileError, read_regular_file, reason
from flame_jax.files.pickle_opcodes import MAX_BYTES, RefusedPickle
from flame_jax.files.restricted_pickle import Shell


class FileError(ValueError):
    """A file that cannot be used; the message names it, says what is wrong and what to do."""


def read(path: str | Path) -> Any:
    """The contents of an ``.npz``, ``.npy``, ``.safetensors`` or pickle, whatever its suffix.

    Returns:
        A dict of arrays for ``.npz`` and ``.safetensors``; what was stored for the others, SciPy's sparse matrices
        and chumpy's arrays as NumPy arrays.

    A file has at most 512 MiB, and what it makes at most 256 MiB and four times its own size (``budget``), whatever
    it says of itself; a pickle has at most 200,000 opcodes, which take two seconds. Objects that a pickle refers
    to twice are one object here.

    Raises:
        FileError: missing, no regular file, unreadable, empty, a web page, cut off, too large or making too much, or
            a pickle that asks for what no model file needs. Nothing in the file has been run.
    """
    path = Path(path)
    try:
        data = read_regular_file(path, MAX_BYTES, "model files")
        return _parse(data, Budget(len(data)))
    except (OutsideFileError, RefusedPickle, ArrayFileError, OverBudgetError, FileError) as error:
        raise FileError(f"{path} {error}") from error


def _parse(data: bytes, budget: Budget) -> Any:
    start = data[:512].lstrip().lower()
    if not data:
        raise FileError("is empty: download it again")
    if start.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        raise FileError(
            "is a web page, perhaps a login page saved under this name: log in and download it again"
        )
    if start.startswith(b"version https://git-lfs"):
        raise FileError("is a Git LFS pointer and not the file itself: run `git lfs pull` where it came from")
    if data.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"7z\xbc\xaf", b"Rar!")):
        raise FileError("is compressed: unpack it first")
    if data.startswith(b"PK\x03\x04"):
        return read_npz(data, budget)
    if data.startswith(b"\x93NUMPY"):
        return _npy(data, budget)
    if len(data) > 9 and data[8:9] == b"{" and int.from_bytes(data[:8], "little") < len(data):
        return _safetensors(data)
    return _unpickled(data, budget)


def _unpickled(data: bytes, budget: Budget) -> Any:
    value = restricted_pickle.loads(data, names=torch_tensors.names(budget), budget=budget)
    return to_arrays(value, budget)


def _npy(data: bytes, budget: Budget) -> Any:
    stream = io.BytesIO(data)
    shape, _, dtype = read_npy_header(stream)
    if not dtype.hasobject:
        return read_npy(data, budget)
    value = _unpickled(data[stream.tell() :], budget)
    # np.save of one object writes an array without axes around it.
    return value[0] if shape == () and isinstance(value, list) and len(value) == 1 else value


def _safetensors(data: bytes) -> dict[str, np.ndarray]:
    try:
        from safetensors.numpy import load
    except ImportError as error:
        raise FileError("is a .safetensors file, which needs the package safetensors") from error
    try:
        return load(data)
    except Exception as error:
        raise FileError(f"is not a sound .safetensors file: {reason(error)}") from error


def to_arrays(value: Any, budget: Budget) -> Any:
    """Sparse matrices and chumpy arrays of a restricted pickle as NumPy arrays; other shells stay.

    What is shared stays shared: a list of two equal lists of two equal lists … has no end otherwise.
    """
    return _to_arrays(value, budget, {})


def _to_arrays(value: Any, budget: Budget, done: dict[int, Any]) -> Any:
    if not isinstance(value, (dict, list, Shell)):
        return value
    if id(value) in done:
        return done[id(value)]
    made: Any = value
    if isinstance(value, dict):
        made = {key: _to_arrays(item, budget, done) for key, item in value.items()}
    elif isinstance(value, list):
        made = [_to_arrays(item, budget, done) for item in value]
    elif value.module.startswith("scipy"):
        made = _dense(value, budget)
    elif isinstance(value.state, dict) and isinstance(value.state.get("x"), np.ndarray):
        made = value.state["x"]
    done[id(value)] = made
    return made


def _dense(shell: Shell, budget: Budget) -> np.ndarray:
    """A compressed sparse matrix as a dense array, with every index checked."""
    state: dict[Any, Any] = shell.state if isinstance(shell.state, dict) else {}
    shape = state.get("_shape", state.get("shape"))
    data = state.get("data")
    if (
        not (isinstance(shape, tuple) and len(shape) == 2 and isinstance(data, np.ndarray) and data.ndim == 1)
        or data.dtype.kind not in "biufc"
        or not all(type(n) is int and 0 <= n < 1 << 24 for n in shape)
    ):
        raise RefusedPickle(f"holds a {shell.name} that is broken or too large")
    budget.take(16 * (shape[0] * shape[1] + 4 * data.size + shape[0] + shape[1]))
    form = shell.name[:3]
    if form == "coo":
        rows, columns = state.get("row"), state.get("col")
        if rows is None and isinstance(state.get("coords"), tuple) and len(state["coords"]) == 2:
            rows, columns = state["coords"]
    else:
        columns = state.get("indices")
        count = shape[0] if form == "csr" else shape[1]
        pointers = _checked_indices(state.get("indptr"), data.size + 1, count + 1)
        lengths = np.diff(pointers)
        if pointers[0] != 0 or pointers[-1] != data.size or (lengths < 0).any():
            raise RefusedPickle(f"holds a {shell.name} whose pointers are not sound")
        rows = np.repeat(np.arange(count), lengths)
        if form == "csc":
            rows, columns = columns, rows
    places = (_checked_indices(rows, shape[0], data.size), _checked_indices(columns, shape[1], data.size))
    dense = np.zeros(shape, np.result_type(data, np.float32))
    np.add.at(dense, places, data)
    return dense


def _checked_indices(indices: Any, upper: int, count: int) -> np.ndarray:
    """``indices``, if they are ``count`` integers from 0 to below ``upper``."""
    if not (isinstance(indices, np.ndarray) and indices.shape == (count,) and indices.dtype.kind in "iu") or (
        count and (indices.min() < 0 or indices.max() >= upper)
    ):
        raise RefusedPickle("holds a sparse matrix whose indices are not sound")
    return indices.astype(np.int64)  # whose differences may be negative
