"""Binary glTF files: trimesh reads them; what they announce is held against what is there before."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np

from n2f_jax.mesh.triangle_mesh import MeshError

_MAX_JSON_BYTES = 1 << 24
_MAX_ITEMS = 10_000  # of nodes, meshes' primitives, accessors, …
_COMPONENT_BYTES = {5120: 1, 5121: 1, 5122: 2, 5123: 2, 5125: 4, 5126: 4}
_COMPONENTS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT2": 4, "MAT3": 9, "MAT4": 16}


def read_glb(data: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Vertices and triangles of all meshes of a scene, each where its node puts it; materials are passed over.

    Args:
        data: the file.

    Returns:
        ``(V, 3)`` vertices, split as the file has them, and ``(F, 3)`` triangles.

    Raises:
        MeshError: it is no GLB file, is cut off, refers to another file, is compressed, or repeats its meshes more
            often than its size allows.
    """
    description, num_binary = _chunks(data)
    try:
        _check(description, num_binary, len(data))
    except (KeyError, TypeError, IndexError, AttributeError, OverflowError) as error:
        raise MeshError(f"its description is not glTF's ({type(error).__name__}: {error})") from error
    import trimesh

    # From memory: a path would let the description name other files.
    loaded = trimesh.load(io.BytesIO(data), file_type="glb", process=False, skip_materials=True)
    if isinstance(loaded, trimesh.Scene):
        loaded = loaded.to_mesh()
    return np.asarray(loaded.vertices), np.asarray(getattr(loaded, "faces", np.zeros((0, 3), np.int64)))


def _chunks(data: bytes) -> tuple[dict[str, Any], int]:
    """The JSON, and the number of bytes of the binary chunk."""
    words = np.frombuffer(data[:20], "<u4") if len(data) >= 20 else np.zeros(5, "<u4")
    if data[:4] != b"glTF" or words[1] != 2 or data[16:20] != b"JSON":
        raise MeshError("it is no binary glTF 2 file")
    if words[2] != len(data):
        raise MeshError(f"its header says {words[2]} bytes, it has {len(data)}: cut off?")
    length = int(words[3])
    if length > min(len(data) - 20, _MAX_JSON_BYTES):
        raise MeshError("its description is cut off, or far too long")
    try:
        description = json.loads(data[20 : 20 + length])
    except (ValueError, RecursionError) as error:
        raise MeshError(f"its description is no JSON: {type(error).__name__}") from error
    rest = data[20 + length :][:8]
    binary = int.from_bytes(rest[:4], "little") if rest[4:] == b"BIN\0" else 0
    if rest and binary > len(data) - 28 - length:
        raise MeshError(f"its header says {binary} bytes of data, and there are fewer: cut off?")
    if not isinstance(description, dict):
        raise MeshError("its description is no glTF")
    return description, binary


def _check(description: dict[str, Any], num_binary: int, file_bytes: int) -> None:
    for key, value in description.items():
        if isinstance(value, list) and len(value) > _MAX_ITEMS:
            raise MeshError(f"it has {len(value)} {key}, more than {_MAX_ITEMS}")
    required = description.get("extensionsRequired", [])
    if any("compress" in str(name) for name in required):
        raise MeshError("it is compressed: export it without compression")
    buffers = description.get("buffers", [])
    if any("uri" in buffer for buffer in buffers) or len(buffers) > 1:
        raise MeshError("it refers to another file for its data")
    if any(_whole(buffer["byteLength"]) > num_binary for buffer in buffers):
        raise MeshError("its data are shorter than it says: cut off?")
    views = []
    for view in description.get("bufferViews", []):
        if (
            _whole(view["buffer"]) != 0
            or _whole(view.get("byteOffset", 0)) + _whole(view["byteLength"]) > num_binary
        ):
            raise MeshError("a part of its data ends beyond them: cut off?")
        views.append((_whole(view["byteLength"]), _whole(view.get("byteStride", 0))))
    accessors = description.get("accessors", [])
    for accessor in accessors:
        size = _COMPONENT_BYTES[accessor["componentType"]] * _COMPONENTS[accessor["type"]]
        count = _whole(accessor["count"])
        if "sparse" in accessor or "bufferView" not in accessor:
            raise MeshError("it has arrays without data: sparse or compressed ones are not read")
        length, stride = views[_whole(accessor["bufferView"])]
        if stride and not size <= stride <= 252:
            raise MeshError("an array in it overlaps itself")
        if count and _whole(accessor.get("byteOffset", 0)) + (count - 1) * (stride or size) + size > length:
            raise MeshError("an array in it ends beyond its data: cut off?")
    sizes = []
    for mesh in description.get("meshes", []):
        total = 0
        for primitive in mesh["primitives"]:
            used = [
                *primitive["attributes"].values(),
                *([primitive["indices"]] if "indices" in primitive else []),
            ]
            total += sum(1 + accessors[_whole(index)]["count"] for index in used)
        sizes.append(total)
    _check_nodes(description.get("nodes", []), sizes, file_bytes)


def _check_nodes(nodes: list[dict[str, Any]], sizes: list[int], file_bytes: int) -> None:
    """A mesh is made once for each node that has it, and a node hangs in one place."""
    parents: dict[int, int] = {}
    for number, node in enumerate(nodes):
        for child in node.get("children", []):
            if not 0 <= _whole(child) < len(nodes) or child in parents:
                raise MeshError("its nodes are no tree")
            parents[child] = number
    for number in range(len(nodes)):
        seen = set()
        while number in parents and number not in seen:
            seen.add(number)
            number = parents[number]
        if number in seen:
            raise MeshError("its nodes are no tree")
        if len(seen) > 1000:
            raise MeshError("its nodes are nested too deeply")
    if sum(sizes[_whole(node["mesh"])] for node in nodes if "mesh" in node) > file_bytes:
        raise MeshError("it repeats its meshes more often than is read")


def _whole(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise MeshError(f"its description has {str(value)[:40]!r} where a whole number belongs")
    return value
