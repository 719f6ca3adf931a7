"""Files that ``torch.load`` reads, written without PyTorch: dicts of NumPy arrays, numbers and texts.

``torch.save`` makes a zip archive, stored and not compressed, of ``NAME/data.pkl`` (one pickle) and ``NAME/version``;
tensors would lie beside them, NumPy arrays are in the pickle. It is put together here from the opcodes of Python's
pickle protocol 3, so that arrays are named ``numpy.core.multiarray``: NumPy 2's own pickles name ``numpy._core``,
which the NumPy of most programs that read such files does not have.
"""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from n2f_jax.runtime.atomic_files import atomic_path

# NumPy's codes of the kinds of numbers that are written: the byte order is little-endian for all.
_KINDS = frozenset("biuf")


def write_torch_file(path: str | Path, value: Mapping[str, Any]) -> None:
    """Writes a file for ``torch.load(path, weights_only=False)``, atomically.

    Args:
        path: the file.
        value: texts to dicts of the same kind, arrays, whole numbers, texts.

    Raises:
        TypeError: it holds something else.
        OSError: it cannot be written.
    """
    program = b"\x80\x03" + _pickled(value) + b"."
    name = Path(path).stem
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        for member, content in (("data.pkl", program), ("version", b"3\n")):
            # A fixed date: the same values are the same file.
            archive.writestr(zipfile.ZipInfo(f"{name}/{member}"), content)


def _pickled(value: Any) -> bytes:
    if isinstance(value, Mapping):
        items = b"".join(_pickled(key) + _pickled(item) for key, item in value.items())
        return b"}(" + items + b"u"
    if isinstance(value, str):
        text = value.encode("utf-8", "surrogatepass")
        return b"X" + struct.pack("<I", len(text)) + text
    if isinstance(value, int) and not isinstance(value, bool) and -(2**31) <= value < 2**31:
        return b"J" + struct.pack("<i", value)
    if isinstance(value, np.ndarray) and value.dtype.kind in _KINDS:
        return _array(value)
    raise TypeError(f"{type(value).__name__} is not written to such files")


def _array(array: np.ndarray) -> bytes:
    """``_reconstruct(ndarray, (0,), b"b")`` with the state (1, shape, dtype, Fortran's order, bytes)."""
    data = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    made = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R"
    shape = b"(" + b"".join(b"J" + struct.pack("<i", n) for n in array.shape) + b"t"
    order = "|" if data.dtype.itemsize == 1 else "<"
    # dtype(code, align=False, copy=True), then its state: version, byte order, no fields, −1, −1, 0.
    code = f"{data.dtype.kind}{data.dtype.itemsize}"
    numbers = b"J" + struct.pack("<i", -1)
    dtype = b"cnumpy\ndtype\n" + _pickled(code) + b"K\x00K\x01\x87R"
    dtype += b"(K\x03" + _pickled(order) + b"NNN" + numbers + numbers + b"K\x00tb"
    raw = data.tobytes()
    return made + b"(K\x01" + shape + dtype + b"\x89B" + struct.pack("<I", len(raw)) + raw + b"tb"
