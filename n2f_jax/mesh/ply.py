"""PLY files, ASCII and binary, their header's counts held against the data.

trimesh reads the format, but takes what is there: an ASCII file that is cut off gives what is left of it, and in a
binary one the first face tells for all how many corners they have.
"""

from __future__ import annotations

import dataclasses
import re

import numpy as np

from n2f_jax.mesh.polygons import fans, parse_numbers
from n2f_jax.mesh.triangle_mesh import MeshError

_MAX_HEADER_BYTES = 1 << 16
_END = re.compile(rb"[\r\n]end_header[ \t]*(?:\r\n|\n|\r)")
_FORMATS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}
_TYPES = {
    name: dtype
    for dtype, names in {
        "i1": "char int8",
        "u1": "uchar uint8",
        "i2": "short int16",
        "u2": "ushort uint16",
        "i4": "int int32",
        "u4": "uint uint32",
        "i8": "int64",
        "u8": "uint64",
        "f4": "float float32",
        "f8": "double float64",
    }.items()
    for name in names.split()
}
_CORNERS = ("vertex_indices", "vertex_index")


@dataclasses.dataclass(frozen=True)
class _Property:
    """One value, or a list of them: then ``count`` is the dtype of its length."""

    name: str
    dtype: np.dtype
    count: np.dtype | None = None


@dataclasses.dataclass
class _Element:
    name: str
    number: int
    properties: list[_Property] = dataclasses.field(default_factory=list)

    @property
    def least_bytes(self) -> int:
        """Of one in a binary file, where all its lists are empty."""
        return sum((p.count or p.dtype).itemsize for p in self.properties)


# Name → values: an array with a row an element; for a list its values in a row, and how many each element has.
_Values = dict[str, np.ndarray | tuple[np.ndarray, np.ndarray]]


def read_ply(data: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Vertices and faces of a PLY file; what else it holds is checked for its size only.

    Args:
        data: the file.

    Returns:
        ``(V, 3)`` vertices in the file's order and ``(F, 3)`` triangles (polygons are cut into fans), whose indices
        are not checked; ``(0, 3)`` for a bare point cloud.

    Raises:
        MeshError: it is no PLY file, holds less or more than its header says, or stores triangle strips.
    """
    order, elements, start = _read_header(data)
    names = [element.name for element in elements]
    if len(set(names)) != len(names) or "vertex" not in names:
        raise MeshError("its header has no vertices, or has them twice")
    if "face" not in names and "tristrips" in names:
        raise MeshError("it stores triangle strips, which are not read: convert it to faces")
    found = _read_ascii(data[start:], elements) if order == "" else _read_binary(data, start, elements)
    try:
        coordinates = [found["vertex"][axis] for axis in "xyz"]
    except KeyError as error:
        raise MeshError(f"its vertices have no {error}") from error
    if any(isinstance(axis, tuple) for axis in coordinates):
        raise MeshError("its coordinates are lists")
    vertices = np.stack(coordinates, axis=-1).astype(np.float64)
    polygons = next((found["face"][name] for name in _CORNERS if name in found.get("face", {})), None)
    if polygons is None:
        if "face" in names and next(e.number for e in elements if e.name == "face"):
            raise MeshError("its faces have no vertex_indices")
        return vertices, np.zeros((0, 3), np.int64)
    if not isinstance(polygons, tuple):
        raise MeshError("its faces' corners are no lists")
    corners, sizes = polygons
    return vertices, fans(_whole(corners), sizes)


def _read_header(data: bytes) -> tuple[str, list[_Element], int]:
    """Byte order ("" for ASCII), the elements, and where their data start."""
    end = _END.search(data, 0, _MAX_HEADER_BYTES)
    if not data.startswith(b"ply") or end is None:
        raise MeshError("it is no PLY file: its header has no beginning or no end")
    order: str | None = None
    elements: list[_Element] = []
    for line in data[: end.start()].decode("ascii", "replace").splitlines()[1:]:
        match line.split():
            case ["format", name, _] if name in _FORMATS:
                order = _FORMATS[name]
            case ["element", name, number] if order is not None and number.isdecimal() and len(number) < 19:
                elements.append(_Element(name, int(number)))
            case ["property", "list", count, dtype, name] if elements and {count, dtype} <= _TYPES.keys():
                if _TYPES[count][0] == "f":
                    raise MeshError("a list in it has a length that is no whole number")
                kinds = np.dtype((order or "=") + _TYPES[dtype]), np.dtype((order or "=") + _TYPES[count])
                elements[-1].properties.append(_Property(name, *kinds))
            case ["property", dtype, name] if elements and dtype in _TYPES:
                elements[-1].properties.append(_Property(name, np.dtype((order or "=") + _TYPES[dtype])))
            case [] | ["comment", *_] | ["obj_info", *_]:
                pass
            case _:
                raise MeshError(f"a line of its header is none of PLY's: {line[:60]!r}")
    if order is None:
        raise MeshError("its header does not say whether it is ASCII or binary")
    if any(not element.properties or len(element.properties) > 1000 for element in elements):
        raise MeshError("an element in its header has no properties, or too many")
    return order, elements, end.end()


def _too_short(element: _Element) -> MeshError:
    return MeshError(f"its header says {element.number} of {element.name}, and there are fewer: cut off?")


def _read_binary(data: bytes, position: int, elements: list[_Element]) -> dict[str, _Values]:
    found: dict[str, _Values] = {}
    for element in elements:
        if element.number * element.least_bytes > len(data) - position:
            raise _too_short(element)
        if element.number == 0:
            found[element.name] = {}
            continue
        values, position = _read_alike(data, position, element) or _read_one_by_one(data, position, element)
        found[element.name] = values
    if position != len(data):
        raise MeshError(f"{len(data) - position} bytes follow what its header says")
    return _with_empty(found, elements)


def _read_alike(data: bytes, position: int, element: _Element) -> tuple[_Values, int] | None:
    """All at once, where each list has the same length in every element; None where it has not."""
    fields: list[tuple[str, np.dtype, tuple[int, ...]]] = []
    place = position
    for i, one in enumerate(element.properties):
        if one.count is not None:
            length = _length(data, place, one.count, element)
            fields.append((f"n{i}", one.count, ()))
            fields.append((f"v{i}", one.dtype, (length,)))
            place += one.count.itemsize + length * one.dtype.itemsize
        else:
            fields.append((f"v{i}", one.dtype, ()))
            place += one.dtype.itemsize
        if place > len(data):
            raise _too_short(element)
    if element.number * (place - position) > len(data) - position:
        return None
    rows = np.frombuffer(data, np.dtype(fields), element.number, position)
    values: _Values = {}
    for i, one in enumerate(element.properties):
        if one.count is None:
            values[one.name] = rows[f"v{i}"]
        elif (rows[f"n{i}"] != rows[f"n{i}"][0]).any():
            return None
        else:
            values[one.name] = rows[f"v{i}"].reshape(-1), rows[f"n{i}"].astype(np.int64)
    return values, position + element.number * (place - position)


def _read_one_by_one(data: bytes, position: int, element: _Element) -> tuple[_Values, int]:
    """Lists of different lengths; only the lists are kept, which faces have."""
    lists: dict[str, tuple[list[bytes], list[int]]] = {
        p.name: ([], []) for p in element.properties if p.count
    }
    for _ in range(element.number):
        for one in element.properties:
            size = one.dtype.itemsize
            if one.count is not None:
                length = _length(data, position, one.count, element)
                position += one.count.itemsize
                size *= length
                parts, lengths = lists[one.name]
                parts.append(data[position : position + size])
                lengths.append(length)
            position += size
            if position > len(data):
                raise _too_short(element)
    dtypes = {one.name: one.dtype for one in element.properties}
    values: _Values = {
        name: (np.frombuffer(b"".join(parts), dtypes[name]), np.array(lengths, np.int64))
        for name, (parts, lengths) in lists.items()
    }
    return values, position


def _length(data: bytes, position: int, dtype: np.dtype, element: _Element) -> int:
    raw = data[position : position + dtype.itemsize]
    if len(raw) < dtype.itemsize:
        raise _too_short(element)
    length = int.from_bytes(raw, "big" if dtype.str[0] == ">" else "little", signed=dtype.kind == "i")
    if not 0 <= length <= len(data) - position:
        raise MeshError(f"a list of {length} values in {element.name}: damaged, or cut off")
    return length


def _read_ascii(text: bytes, elements: list[_Element]) -> dict[str, _Values]:
    # A value takes two bytes, its space included.
    if sum(element.number * len(element.properties) for element in elements) > len(text):
        raise _too_short(max(elements, key=lambda element: element.number))
    numbers = parse_numbers(text, np.float64)
    found: dict[str, _Values] = {}
    position = 0
    for element in elements:
        if element.number == 0:
            continue
        lists = [one for one in element.properties if one.count is not None]
        if not lists:
            size = element.number * len(element.properties)
            rows = numbers[position : position + size]
            if rows.size < size:
                raise _too_short(element)
            rows = rows.reshape(element.number, -1)
            found[element.name] = {one.name: rows[:, i] for i, one in enumerate(element.properties)}
            position += size
        else:
            found[element.name], position = _ascii_lists(numbers, position, element)
    if position != numbers.size:
        raise MeshError(f"{numbers.size - position} numbers follow what its header says")
    return _with_empty(found, elements)


def _ascii_lists(numbers: np.ndarray, position: int, element: _Element) -> tuple[_Values, int]:
    properties = element.properties
    if len(properties) == 1 and position < numbers.size:
        # All of one length, as in nearly every file.
        length = numbers[position]
        if 0 <= length < numbers.size and length == int(length):
            size = element.number * (int(length) + 1)
            rows = numbers[position : position + size]
            if rows.size == size and (rows[:: int(length) + 1] == length).all():
                rows = rows.reshape(element.number, -1)
                lengths = np.full(element.number, int(length))
                return {properties[0].name: (rows[:, 1:].reshape(-1), lengths)}, position + size
    starts: dict[str, list[int]] = {one.name: [] for one in properties if one.count is not None}
    sizes: dict[str, list[int]] = {name: [] for name in starts}
    for _ in range(element.number):
        for one in properties:
            if position >= numbers.size:
                raise _too_short(element)
            if one.count is None:
                position += 1
                continue
            length = numbers[position]
            if not 0 <= length <= numbers.size or length != int(length):
                raise MeshError(f"a list of {length:g} values in {element.name}: damaged, or cut off")
            starts[one.name].append(position + 1)
            sizes[one.name].append(int(length))
            position += 1 + int(length)
            if position > numbers.size:
                raise _too_short(element)
    values: _Values = {}
    for name in starts:
        begin, lengths = np.array(starts[name]), np.array(sizes[name], np.int64)
        within = np.arange(int(lengths.sum())) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        values[name] = numbers[np.repeat(begin, lengths) + within], lengths
    return values, position


def _with_empty(found: dict[str, _Values], elements: list[_Element]) -> dict[str, _Values]:
    """Elements of which there are none have empty values."""
    none = np.zeros(0)
    for element in elements:
        if element.number == 0:
            found[element.name] = {
                p.name: none if p.count is None else (none, none.astype(np.int64)) for p in element.properties
            }
    return found


def _whole(corners: np.ndarray) -> np.ndarray:
    """Vertex indices as integers."""
    if corners.dtype.kind == "f":
        if not (np.abs(corners) < 2**53).all() or (corners != np.floor(corners)).any():
            raise MeshError("a face has a corner that is no whole number: truncated?")
    elif corners.size and corners.max() > np.iinfo(np.int64).max:
        raise MeshError("a face has a corner that no vertex can be")
    return corners.astype(np.int64)
