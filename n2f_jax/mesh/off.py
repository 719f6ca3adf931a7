"""OFF files, their counts held against the data."""

from __future__ import annotations

import re

import numpy as np

from n2f_jax.mesh.polygons import fans, parse_numbers
from n2f_jax.mesh.triangle_mesh import MeshError

_COMMENT = re.compile(rb"#[^\n]*")
_HEADER = re.compile(rb"\s*(C?OFF)\b")


def read_off(text: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Vertices and faces of an OFF or COFF file; colours are passed over.

    Args:
        text: the file.

    Returns:
        ``(V, 3)`` vertices in the file's order and ``(F, 3)`` triangles (polygons are cut into fans), whose indices
        are not checked.

    Raises:
        MeshError: it is no such file, or has another number of lines than it says.
    """
    text = _COMMENT.sub(b"", text.replace(b"\r\n", b"\n").replace(b"\r", b"\n"))
    header = _HEADER.match(text)
    if header is None:
        raise MeshError("it is no OFF file")
    lines = [line for line in text[header.end() :].split(b"\n") if line.strip()]
    counts = parse_numbers(lines[0], np.int64) if lines else np.zeros(0, np.int64)
    if len(counts) < 2 or counts.min() < 0:
        raise MeshError("its line of counts is none")
    # As Python's integers, which do not overflow.
    num_vertices, num_faces = int(counts[0]), int(counts[1])
    if len(lines) - 1 != num_vertices + num_faces:
        raise MeshError(
            f"it says {num_vertices} vertices and {num_faces} faces, and {len(lines) - 1} lines follow: cut off?"
        )
    vertex_lines, face_lines = lines[1 : num_vertices + 1], lines[num_vertices + 1 :]
    vertices = parse_numbers(b" ".join(vertex_lines), np.float64)
    columns = len(vertex_lines[0].split()) if vertex_lines else 3
    if columns < 3 or vertices.size != columns * num_vertices:
        raise MeshError(f"its vertices hold {vertices.size} numbers in {num_vertices} lines: truncated?")
    corners, sizes = [], []
    for line in face_lines:
        size, *rest = line.split()
        if not size.isdigit() or len(size) > 9 or len(rest) < int(size):
            raise MeshError("a face has fewer corners than it says: truncated?")
        sizes.append(int(size))
        corners += rest[: int(size)]
    indices = parse_numbers(b" ".join(corners), np.int64)
    return vertices.reshape(-1, columns)[:, :3], fans(indices, np.array(sizes, np.int64))
