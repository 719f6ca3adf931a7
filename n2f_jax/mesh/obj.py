"""Wavefront OBJ files."""

from __future__ import annotations

import re

import numpy as np

from n2f_jax.mesh.polygons import fans, parse_numbers
from n2f_jax.mesh.triangle_mesh import MeshError

_TEXTURE_AND_NORMAL = re.compile(rb"/[^\s]*")
_VERTEX_LINE = re.compile(rb"^v[ \t]([^\n]*)", re.MULTILINE)
_FACE_LINE = re.compile(rb"^f[ \t]([^\n]*)", re.MULTILINE)
# The format has no counts, but MeshLab and others write them as comments before the first vertex.
_COUNT = re.compile(rb"^#\s*(Vertices|Faces):\s*(\d{1,15})\s*$", re.MULTILINE)
_HEADER_BYTES = 4096


def read_obj(text: bytes) -> tuple[np.ndarray, np.ndarray]:
    """``v`` and ``f`` of a Wavefront file.

    trimesh splits vertices along texture seams, which would break indices into a topology; this keeps them. Polygons
    are cut into fans; negative (relative) indices count back from the vertices read so far, as they should.

    Args:
        text: the file.

    Returns:
        ``(V, 3)`` vertices and ``(F, 3)`` triangles, whose indices are not checked.

    Raises:
        MeshError: it is none, or holds fewer vertices or faces than its comments say.
    """
    if b"\r" in text:
        text = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    vertex_text, num_vertices, face_text, num_faces = _split(b"\n" + text.rstrip() + b"\n")
    if not num_vertices:
        raise MeshError("no vertices")
    _check_comments(text, {b"Vertices": num_vertices, b"Faces": num_faces})
    # Colours may follow the coordinates; all lines must agree.
    columns = len(vertex_text[: vertex_text.find(b"\n", 1)].split())
    numbers = parse_numbers(vertex_text, np.float64)
    if columns < 3 or numbers.size != columns * num_vertices:
        raise MeshError(f"its v lines hold {numbers.size} numbers in {num_vertices} lines: truncated?")
    vertices = numbers.reshape(-1, columns)[:, :3]
    if not num_faces:
        return vertices, np.zeros((0, 3), np.int64)
    if b"-" in face_text:
        return vertices, _relative_faces(text.split(b"\n"))
    if b"/" in face_text:
        face_text = _TEXTURE_AND_NORMAL.sub(b"", face_text)
    indices = parse_numbers(face_text, np.int64)
    ends = np.flatnonzero(indices == 0)
    sizes = np.diff(ends, prepend=-1) - 1
    if len(sizes) != num_faces:
        raise MeshError("a face with a vertex 0: truncated?")
    return vertices, fans(np.delete(indices, ends), sizes) - 1


def _check_comments(text: bytes, found: dict[bytes, int]) -> None:
    header = text[: min(_HEADER_BYTES, max(0, text.find(b"\nv")))]
    for name, count in _COUNT.findall(header):
        if int(count) != found[name]:
            what = name.decode().lower()
            raise MeshError(f"its header says {int(count)} {what}, it holds {found[name]}: cut off?")


def _split(text: bytes) -> tuple[bytes, int, bytes, int]:
    """Coordinates (a line a vertex) and indices (a 0, which no index is, after every face), and how many lines each.

    ``text`` starts and ends with a newline.
    """
    first, second = text.find(b"\nv "), text.find(b"\nf ")
    if 0 <= first < second and b"\nv\t" not in text[:first]:
        # Scanners write all vertices, then all faces: two replacements instead of a look at every line.
        blocks = text[first:second], text[second:-1]
        counts = [block.count(b"\n") for block in blocks]
        if counts == [blocks[0].count(b"\nv "), blocks[1].count(b"\nf ")]:
            vertex_text, face_text = blocks[0].replace(b"\nv ", b"\n"), blocks[1].replace(b"\nf ", b" 0 ")
            return vertex_text[1:] + b"\n", counts[0], face_text[3:] + b" 0", counts[1]
    vertex_lines, face_lines = _VERTEX_LINE.findall(text), _FACE_LINE.findall(text)
    return (
        b"\n".join(vertex_lines) + b"\n",
        len(vertex_lines),
        b" 0 ".join(face_lines) + b" 0",
        len(face_lines),
    )


def _relative_faces(lines: list[bytes]) -> np.ndarray:
    seen, faces = 0, []
    for line in lines:
        if line.startswith((b"v ", b"v\t")):
            seen += 1
        elif line.startswith((b"f ", b"f\t")):
            corners = parse_numbers(_TEXTURE_AND_NORMAL.sub(b"", line[2:]), np.int64)
            faces.append(fans(np.where(corners < 0, seen + corners, corners - 1), np.array([len(corners)])))
    return np.concatenate(faces)
