"""STL files, ASCII and binary, what they announce held against what is there."""

from __future__ import annotations

import re

import numpy as np

from n2f_jax.mesh.polygons import parse_numbers
from n2f_jax.mesh.triangle_mesh import MeshError

_HEADER_BYTES = 84  # the last four are the number of triangles
_TRIANGLE = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attributes", "<u2")])
_VERTEX = re.compile(rb"^\s*vertex\s([^\n]*)", re.MULTILINE | re.IGNORECASE)
_FACET, _END_FACET, _SOLID, _END_SOLID = (
    re.compile(rb"^\s*" + word + rb"\b", re.MULTILINE | re.IGNORECASE)
    for word in (b"facet", b"endfacet", b"solid", b"endsolid")
)


def read_stl(data: bytes) -> np.ndarray:
    """The triangles' corners, ``(F, 3, 3)``.

    Args:
        data: the file.

    Raises:
        MeshError: it is no STL file, or cut off: a binary file has other bytes than its number of triangles takes, an
            ASCII file does not end what it begins.
    """
    # A binary file may begin with "solid" too: its size tells, to the byte.
    count = int.from_bytes(data[_HEADER_BYTES - 4 : _HEADER_BYTES], "little")
    if len(data) >= _HEADER_BYTES and len(data) == _HEADER_BYTES + count * _TRIANGLE.itemsize:
        return np.frombuffer(data, _TRIANGLE, count, _HEADER_BYTES)["corners"].astype(np.float64)
    if data[:1024].lstrip()[:5].lower() == b"solid":
        return _read_ascii(data)
    if len(data) < _HEADER_BYTES:
        raise MeshError(f"it is no STL file: {len(data)} bytes, and no ASCII")
    raise MeshError(
        f"its header says {count} triangles, which take {count * _TRIANGLE.itemsize} bytes; "
        f"{len(data) - _HEADER_BYTES} follow: cut off, or no STL file"
    )


def _read_ascii(text: bytes) -> np.ndarray:
    def count(pattern: re.Pattern[bytes]) -> int:
        return sum(1 for _ in pattern.finditer(text))

    if count(_SOLID) != count(_END_SOLID):
        raise MeshError("a solid in it does not end: cut off?")
    facets = count(_FACET)
    numbers = parse_numbers(b" ".join(_VERTEX.findall(text)), np.float64)
    if facets != count(_END_FACET) or numbers.size != 9 * facets:
        raise MeshError(f"it has {facets} facets and {numbers.size} coordinates, not 9 each: cut off?")
    return numbers.reshape(-1, 3, 3)
