"""Reads a file of any known format, told by its first bytes, into arrays, or raises an error with what to do."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from flame_jax.files import restricted_pickle, torch_tensors
from flame_jax.files.restricted_pickle import RefusedPickle, Shell


class FileError(ValueError):
    """A file that cannot be used; the message names it, says what is wrong and what to do."""


def read(path: str | Path) -> Any:
    """The contents of an ``.npz``, ``.npy``, ``.safetensors`` or pickle, whatever its suffix.

    Returns:
        A dict of arrays for ``.npz`` and ``.safetensors``; what was stored for the others, SciPy's sparse matrices
        and chumpy's arrays as NumPy arrays.

    Raises:
        FileError: missing, unreadable, empty, a web page, cut off, or a pickle that asks for what no model file
            needs. Nothing in the file has been run.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        if size > restricted_pickle.MAX_BYTES:
            raise FileError(
                f"{path} has {size} bytes; model files have at most {restricted_pickle.MAX_BYTES}"
            )
        data = path.read_bytes()
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror or error}") from error
    try:
        return _parse(data)
    except (RefusedPickle, FileError) as error:
        raise FileError(f"{path} {error}") from error


def _parse(data: bytes) -> Any:
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
        return _npz(data)
    if data.startswith(b"\x93NUMPY"):
        return _npy(data)
    if len(data) > 9 and data[8:9] == b"{" and int.from_bytes(data[:8], "little") < len(data):
        return _safetensors(data)
    return to_arrays(restricted_pickle.loads(data, names=torch_tensors.NAMES))


def _npz(data: bytes) -> dict[str, np.ndarray]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = archive.namelist()
            total = sum(entry.file_size for entry in archive.infolist())
        if not all(name.endswith(".npy") for name in names):
            raise FileError("is a zip archive and no .npz: unpack it and give the file inside")
        if total > 4 * restricted_pickle.MAX_BYTES:
            raise FileError(f"would unpack to {total} bytes")
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            return {key: arrays[key] for key in arrays.files}
    except FileError:
        raise
    except Exception as error:
        raise FileError(f"is not an .npz of plain arrays: {error}") from error


def _npy(data: bytes) -> Any:
    stream = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(stream)
        reader = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }.get(version)
        if reader is None:
            raise FileError(f"is an .npy of version {version}")
        shape, _, dtype = reader(stream)
        if not dtype.hasobject:
            return np.load(io.BytesIO(data), allow_pickle=False)
    except FileError:
        raise
    except Exception as error:
        raise FileError(f"is not a sound .npy: {error}") from error
    value = to_arrays(restricted_pickle.loads(data[stream.tell() :], names=torch_tensors.NAMES))
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
        raise FileError(f"is not a sound .safetensors file: {error}") from error


def to_arrays(value: Any) -> Any:
    """Sparse matrices and chumpy arrays of a restricted pickle as NumPy arrays; other shells stay."""
    if isinstance(value, dict):
        return {key: to_arrays(item) for key, item in value.items()}
    if isinstance(value, list):
        return [to_arrays(item) for item in value]
    if isinstance(value, Shell):
        if value.module.startswith("scipy"):
            return _dense(value)
        content = value.state.get("x") if isinstance(value.state, dict) else None
        return content if isinstance(content, np.ndarray) else value
    return value


def _dense(shell: Shell) -> np.ndarray:
    """A compressed sparse matrix as a dense array, with every index checked."""
    state: dict[Any, Any] = shell.state if isinstance(shell.state, dict) else {}
    shape = state.get("_shape", state.get("shape"))
    data = state.get("data")
    if (
        not (isinstance(shape, tuple) and len(shape) == 2 and isinstance(data, np.ndarray) and data.ndim == 1)
        or not all(type(n) is int and 0 <= n < 1 << 24 for n in shape)
        or shape[0] * shape[1] > 1 << 26
    ):
        raise RefusedPickle(f"holds a {shell.name} that is broken or too large")
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
    return indices
