"""Plain arrays out of ``.npz`` and ``.npy`` bytes, within a budget of bytes.

``numpy.load`` believes what a file says of itself: it makes room for the shape in an array's header, and unpacks
whatever a zip archive holds. Here a header is held against the bytes that follow it, before there is room for them.
"""

from __future__ import annotations

import io
import warnings
import zipfile
from collections.abc import Collection

import numpy as np

from flame_jax.files.budget import Budget, OverBudgetError
from flame_jax.files.outside import reason

# The zip module makes ten bytes of each byte of an archive's table of contents.
_MAX_DIRECTORY_BYTES = 1 << 20
_END_RECORD, _END_RECORD_BYTES, _ZIP64_LOCATOR = b"PK\x05\x06", 22, b"PK\x06\x07"


class ArrayFileError(ValueError):
    """Bytes that are no such file; the message is a reason that goes on from the file's name."""


def read_npz(data: bytes, budget: Budget, names: Collection[str] | None = None) -> dict[str, np.ndarray]:
    """The arrays of an ``.npz``.

    Args:
        data: the file.
        budget: what the arrays may take; counted before they are made.
        names: of those wanted, without ``.npy``; None for all. Others are not unpacked, missing ones are left out.

    Returns:
        Name → array, of any shape and dtype without objects.

    Raises:
        ArrayFileError: it is cut off, damaged or no ``.npz`` of plain arrays, or over the budget.
    """
    try:
        with open_zip(data) as archive:
            entries = archive.infolist()
            if not all(entry.filename.endswith(".npy") for entry in entries):
                raise ArrayFileError("is a zip archive and no .npz: unpack it and give the file inside")
            wanted = {entry.filename[: -len(".npy")]: entry for entry in entries}
            if names is not None:
                wanted = {name: entry for name, entry in wanted.items() if name in names}
            arrays = {}
            for name, entry in wanted.items():
                budget.take(entry.file_size)
                with archive.open(entry) as stream:
                    assert isinstance(stream, io.BufferedIOBase)  # which its type does not say
                    arrays[name] = _read_array(stream, entry.file_size)
            return arrays
    except OverBudgetError as error:
        raise ArrayFileError(f"would unpack to too much: it {error}") from error
    except ArrayFileError:
        raise
    except Exception as error:  # zipfile, zlib and NumPy have many ways to say that a file is broken
        raise ArrayFileError(f"is not an .npz of plain arrays: {reason(error)}") from error


def open_zip(data: bytes) -> zipfile.ZipFile:
    """``zipfile.ZipFile``, where the table of contents has a size that a file of arrays has.

    Raises:
        ArrayFileError: it has not.
        zipfile.BadZipFile: it is no zip archive, or cut off.
    """
    end = data.rfind(_END_RECORD, max(0, len(data) - _END_RECORD_BYTES - (1 << 16)))
    if end >= 0:
        size = int.from_bytes(data[end + 12 : end + 16], "little")
        if size > _MAX_DIRECTORY_BYTES or _ZIP64_LOCATOR in data[max(0, end - 20) : end]:
            raise ArrayFileError("is an archive of far too many files")
    return zipfile.ZipFile(io.BytesIO(data))


def read_npy_header(stream: io.BufferedIOBase) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether it is in Fortran's order, and dtype; leaves the stream at the data.

    Raises:
        ArrayFileError: no such header.
    """
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    try:
        version = np.lib.format.read_magic(stream)
        if version not in readers:
            raise ArrayFileError(f"is an .npy of version {version}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # headers of Python 2
            return readers[version](stream)
    except ArrayFileError:
        raise
    except Exception as error:
        raise ArrayFileError(f"is not a sound .npy: {reason(error)}") from error


def read_npy(data: bytes, budget: Budget) -> np.ndarray:
    """The array of an ``.npy`` without objects.

    Raises:
        ArrayFileError: it is cut off, damaged, holds objects, or is over the budget.
    """
    try:
        budget.take(len(data))
        return _read_array(io.BytesIO(data), len(data))
    except ArrayFileError:
        raise
    except Exception as error:
        raise ArrayFileError(f"is not a sound .npy: {reason(error)}") from error


def _read_array(stream: io.BufferedIOBase, size: int) -> np.ndarray:
    shape, fortran, dtype = read_npy_header(stream)
    if dtype.hasobject:
        raise ArrayFileError("is not an .npz of plain arrays: it holds objects")
    count = 1
    for n in shape:
        count *= n
    nbytes = count * dtype.itemsize
    if min(shape, default=0) < 0 or not 0 <= nbytes <= size or (nbytes == 0 and count):
        raise ArrayFileError(f"holds an array of shape {shape}, and no data for it: cut off?")
    # An array of its own, filled in place; of bytes, because one of texts has no buffer.
    raw = np.empty(nbytes, np.uint8)
    if stream.readinto(raw.data) != nbytes:
        raise ArrayFileError(f"holds an array of shape {shape}, and no data for it: cut off?")
    if stream.read(1):
        raise ArrayFileError(f"holds an array of shape {shape}, and more data than that")
    if dtype.kind == "U":
        check_text(raw, dtype)
    # With an axis of no entries the view's last axis would not be known.
    array = raw.view(dtype) if count else np.empty(0, dtype)
    return array.reshape(shape, order="F" if fortran else "C")


def check_text(raw: np.ndarray, dtype: np.dtype) -> None:
    """Raises ``ArrayFileError`` where an array of text holds what no letter is: Python fails on it when it is used."""
    letters = raw.view(np.dtype("u4").newbyteorder(dtype.byteorder))
    if letters.size and letters.max() > 0x10FFFF:
        raise ArrayFileError("holds text that is none")
