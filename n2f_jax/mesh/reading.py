"""Meshes and scans from files, as they are."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import numpy as np

from n2f_jax.mesh.triangle_mesh import MeshError, TriangleMesh

# Read by trimesh; .obj is read here, .npz is ours.
TRIMESH_SUFFIXES = (".ply", ".stl", ".off", ".glb")
MESH_SUFFIXES = (".obj", ".npz", *TRIMESH_SUFFIXES)


def read_mesh(path: str | Path) -> TriangleMesh:
    """Reads ``.obj``, ``.ply``, ``.stl``, ``.off``, ``.glb``, or an ``.npz`` with ``vertices`` and ``faces``.

    Vertices come one to one and in the file's order for all but ``.stl`` and ``.glb`` (which store triangles'
    corners; equal positions are merged), so that vertex indices into a topology stay valid. Nothing is cleaned.

    Raises:
        MeshError: not such a file, truncated, or its triangles ask for vertices that are not there.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in MESH_SUFFIXES:
        raise MeshError(f"{path}: meshes end in {', '.join(MESH_SUFFIXES)}")
    try:
        if suffix == ".obj":
            vertices, faces = _read_obj(path.read_bytes())
        elif suffix == ".npz":
            with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
                vertices, faces = archive["vertices"], archive["faces"]
        else:
            vertices, faces = _read_with_trimesh(path, suffix)
        vertices = np.asarray(vertices, np.float64).reshape(-1, 3)
        faces = np.asarray(faces, np.int64).reshape(-1, 3)
    except FileNotFoundError:
        raise
    except MeshError as error:
        raise MeshError(f"{path}: {error}") from error
    except Exception as error:  # every reader has its own ways to say that a file is broken
        raise MeshError(f"{path}: cannot be read ({type(error).__name__}: {error})") from error
    if len(vertices) == 0:
        raise MeshError(f"{path}: no vertices")
    if faces.size and (faces.min() < 0 or faces.max() >= len(vertices)):
        raise MeshError(f"{path}: triangles ask for vertex {faces.max()} of {len(vertices)}: truncated?")
    return TriangleMesh(vertices, faces)


def _read_with_trimesh(path: Path, suffix: str) -> tuple[np.ndarray, np.ndarray]:
    import trimesh

    loaded = trimesh.load(path, process=False, maintain_order=True)
    if isinstance(loaded, trimesh.Scene):
        loaded = loaded.to_mesh()
    if suffix in (".stl", ".glb"):
        loaded.merge_vertices(merge_tex=True, merge_norm=True)
    return loaded.vertices, getattr(loaded, "faces", np.zeros((0, 3)))


_TEXTURE_AND_NORMAL = re.compile(rb"/[^\s]*")


def _numbers(text: bytes, kind: type) -> np.ndarray:
    """All numbers of a text, fast; an error where it holds anything else."""
    with warnings.catch_warnings():
        # Read up to the first thing that is no number, fromstring only warns.
        warnings.simplefilter("error")
        try:
            return np.fromstring(text, dtype=kind, sep=" ")
        except (DeprecationWarning, ValueError) as error:
            raise MeshError("something in it is no number: truncated?") from error


def _read_obj(text: bytes) -> tuple[np.ndarray, np.ndarray]:
    """``v`` and ``f`` of a Wavefront file.

    trimesh splits vertices along texture seams, which would break indices into a topology; this keeps them. Polygons
    are cut into fans; negative (relative) indices count back from the vertices read so far, as they should.
    """
    if b"\r" in text:
        text = text.replace(b"\r", b"")
    vertex_text, num_vertices, face_text, num_faces = _split_obj(b"\n" + text.rstrip() + b"\n")
    if not num_vertices:
        raise MeshError("no vertices")
    # Colours may follow the coordinates; all lines must agree.
    columns = len(vertex_text[: vertex_text.find(b"\n", 1)].split())
    numbers = _numbers(vertex_text, np.float64)
    if columns < 3 or numbers.size != columns * num_vertices:
        raise MeshError(f"its v lines hold {numbers.size} numbers in {num_vertices} lines: truncated?")
    vertices = numbers.reshape(-1, columns)[:, :3]
    if not num_faces:
        return vertices, np.zeros((0, 3), np.int64)
    if b"-" in face_text:
        return vertices, _relative_faces(text.split(b"\n"))
    if b"/" in face_text:
        face_text = _TEXTURE_AND_NORMAL.sub(b"", face_text)
    indices = _numbers(face_text, np.int64)
    ends = np.flatnonzero(indices == 0)
    sizes = np.diff(ends, prepend=-1) - 1
    if len(sizes) != num_faces or sizes.min() < 3:
        raise MeshError("a face of fewer than three corners, or a vertex 0: truncated?")
    if sizes.min() == sizes.max():
        return vertices, _fans(indices.reshape(-1, sizes[0] + 1)[:, :-1]) - 1
    faces = [_fans(one[None]) for one in np.split(np.delete(indices, ends), np.cumsum(sizes)[:-1])]
    return vertices, np.concatenate(faces) - 1


_VERTEX_LINE = re.compile(rb"^v[ \t]([^\n]*)", re.MULTILINE)
_FACE_LINE = re.compile(rb"^f[ \t]([^\n]*)", re.MULTILINE)


def _split_obj(text: bytes) -> tuple[bytes, int, bytes, int]:
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


def _fans(polygons: np.ndarray) -> np.ndarray:
    """``(n, k)`` polygons → ``(n·(k−2), 3)`` triangles, each polygon's together."""
    count, corners = polygons.shape
    order = np.stack([np.zeros(corners - 2, int), np.arange(1, corners - 1), np.arange(2, corners)], axis=-1)
    return polygons[:, order].reshape(count * (corners - 2), 3)


def _relative_faces(lines: list[bytes]) -> np.ndarray:
    seen, faces = 0, []
    for line in lines:
        if line.startswith((b"v ", b"v\t")):
            seen += 1
        elif line.startswith((b"f ", b"f\t")):
            corners = _numbers(_TEXTURE_AND_NORMAL.sub(b"", line[2:]), np.int64)
            if len(corners) < 3:
                raise MeshError(f"a face of {len(corners)} corners: truncated?")
            faces.append(_fans(np.where(corners < 0, seen + corners, corners - 1)[None]))
    return np.concatenate(faces)
