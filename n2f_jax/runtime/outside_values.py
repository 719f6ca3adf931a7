"""Arrays, tables and JSON out of files from outside, in bounds: what ``flame_jax.files`` reads, with one error.

A file's size is bounded before it is opened, and what it makes before it is made. Missing files are missing files.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from flame_jax.files.budget import Budget
from flame_jax.files.npz import ArrayFileError, read_npy, read_npz
from flame_jax.files.outside import MissingFileError, OutsideFileError, one_line, read_regular_file, reason
from n2f_jax.runtime.json_values import parse_json

# JSON and tables take up to about 30 times their size (a list in a list in a list …); arrays 256 MiB and 5 times.
MAX_TEXT_BYTES = 16 << 20
MAX_ARRAY_BYTES = 1 << 30
_NUMBERS = "iuf"


class OutsideValueError(ValueError):
    """A file that is not what it should be; the message is one line that names it."""


def read_bytes(path: str | Path, limit: int, what: str) -> bytes:
    """A regular file of at most ``limit`` bytes; ``what`` has at most so many, in the plural.

    Raises:
        FileNotFoundError: there is none.
        OutsideValueError: no regular file, larger, or it cannot be read.
    """
    try:
        return read_regular_file(path, limit, what)
    except MissingFileError as error:
        raise FileNotFoundError(f"{path}: {error}") from error
    except OutsideFileError as error:
        raise OutsideValueError(f"{path}: {error}") from error


def read_text(path: str | Path) -> str:
    """A text file of at most 16 MiB; what is no UTF-8 is replaced.

    Raises:
        FileNotFoundError, OutsideValueError: as ``read_bytes``.
    """
    return read_bytes(path, MAX_TEXT_BYTES, "such files").decode("utf-8", "replace")


def read_json(path: str | Path) -> Any:
    """What a JSON file of at most 16 MiB holds; its kind is for the caller to check.

    Raises:
        FileNotFoundError, OutsideValueError: as ``read_bytes``; or it is no UTF-8, no JSON, or too deep.
    """
    data = read_bytes(path, MAX_TEXT_BYTES, "JSON files")
    try:
        return parse_json(data.decode("utf-8"))
    except ValueError as error:
        raise OutsideValueError(f"{path}: not JSON: {reason(error)}") from error


def read_arrays(path: str | Path, names: Collection[str] | None = None) -> dict[str, np.ndarray]:
    """The arrays of an ``.npz`` of at most 1 GiB, or those of them that ``names`` says and that are there.

    Raises:
        FileNotFoundError, OutsideValueError: as ``read_bytes``; or it is damaged, no ``.npz`` of plain arrays, or
            would unpack to more than 256 MiB and 4 times its size.
    """
    data = read_bytes(path, MAX_ARRAY_BYTES, "files of arrays")
    try:
        return read_npz(data, Budget(len(data)), names)
    except ArrayFileError as error:
        raise OutsideValueError(f"{path}: {error}") from error


def read_array(path: str | Path) -> np.ndarray:
    """The numbers of an ``.npy`` of at most 1 GiB.

    Raises:
        FileNotFoundError, OutsideValueError: as ``read_bytes``; or it is damaged, or its values are no real numbers.
    """
    data = read_bytes(path, MAX_ARRAY_BYTES, "files of arrays")
    try:
        return numbers(read_npy(data, Budget(len(data))))
    except (ArrayFileError, ValueError) as error:
        raise OutsideValueError(f"{path}: {reason(error)}") from error


def read_table(path: str | Path) -> np.ndarray:
    """``(rows, columns)`` float64 of a text file of numbers, at most 16 MiB; ``#`` begins a comment.

    Raises:
        FileNotFoundError, OutsideValueError: as ``read_bytes``; or it holds something else, or nothing.
    """
    text = read_text(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # no rows; said below
            table = np.loadtxt(io.StringIO(text), ndmin=2)
    except (ValueError, OverflowError) as error:
        raise OutsideValueError(f"{path}: is no table of numbers: {reason(error)}") from error
    if not table.size:
        raise OutsideValueError(f"{path}: holds no numbers")
    return table


def told(path: str | Path, error: Exception) -> str:
    """What a reader that met ``error`` says of the file, in one line: its name, once, and the fault."""
    text = one_line(str(error), 1000)
    # Of a frame FILE.npz/FRAME the file may be named.
    if text.startswith((str(path), f"{Path(path).parent}:")):
        return text
    missing = f"{text} is missing" if isinstance(error, KeyError) else reason(error)
    return f"{path}: {missing}"


def numbers(values: Any, dtype: type = np.float64) -> np.ndarray:
    """An array of real numbers, from one or from lists as JSON gives them.

    Args:
        values: what a file holds.
        dtype: ``np.float64``, or ``np.int64`` for whole numbers.

    Raises:
        ValueError: lists of different lengths, text, objects, or (for ``np.int64``) no whole numbers of 63 bits.
    """
    try:
        array = np.asarray(values)
    except (ValueError, TypeError, OverflowError) as error:
        raise ValueError("holds no array of numbers: lists of different lengths?") from error
    if array.size and array.dtype.kind not in _NUMBERS:
        raise ValueError(f"holds {one_line(str(array.dtype), 60)} where numbers are expected")
    if not array.size:
        return np.zeros(array.shape, dtype)
    if dtype is np.int64:
        if not (np.isfinite(array).all() and (np.abs(array.astype(np.float64)) < 1 << 62).all()):
            raise ValueError("holds numbers that are no whole ones of 63 bits")
        if not np.array_equal(array.astype(np.int64), array):
            raise ValueError("holds numbers that are no whole ones")
    return array.astype(dtype)


def is_rotation(matrix: np.ndarray, tolerance: float = 1e-2) -> bool:
    """Whether ``(3, 3)`` finite numbers turn and do not mirror, as far as files hold digits."""
    return bool(np.abs(matrix @ matrix.T - np.eye(3)).max() <= tolerance and np.linalg.det(matrix) >= 0)
