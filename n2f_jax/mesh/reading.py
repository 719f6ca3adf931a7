"""Meshes and scans from files, as they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from flame_jax.files.budget import Budget
from flame_jax.files.npz import ArrayFileError, read_npz
from flame_jax.files.outside import MissingFileError, OutsideFileError, read_regular_file, reason
from n2f_jax.mesh.glb import read_glb
from n2f_jax.mesh.obj import read_obj
from n2f_jax.mesh.off import read_off
from n2f_jax.mesh.ply import read_ply
from n2f_jax.mesh.stl import read_stl
from n2f_jax.mesh.triangle_mesh import MeshError, TriangleMesh

MESH_SUFFIXES = (".obj", ".npz", ".ply", ".stl", ".off", ".glb")
MAX_MESH_BYTES = 1 << 30


class MissingMeshError(MeshError, FileNotFoundError):
    """There is no such file."""


def read_mesh(path: str | Path) -> TriangleMesh:
    """Reads ``.obj``, ``.ply``, ``.stl``, ``.off``, ``.glb``, or an ``.npz`` with ``vertices`` and ``faces``.

    Vertices come one to one and in the file's order for all but ``.stl`` and ``.glb`` (which store triangles'
    corners; equal positions are merged), so that vertex indices into a topology stay valid. Nothing is cleaned.

    What a file says of itself (counts, lengths) is held against what is there, before there is room for it. A file has
    at most 1 GiB; reading takes memory up to about 14 times its size (of an ``.npz``: 256 MiB and 4 times).

    Raises:
        MeshError: missing (``MissingMeshError``), no regular file, not such a file, too large, truncated, or its
            triangles ask for vertices that are not there. The message is one line.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in MESH_SUFFIXES:
        raise MeshError(f"{path}: meshes end in {', '.join(MESH_SUFFIXES)}")
    try:
        vertices, faces = _read(read_regular_file(path, MAX_MESH_BYTES, "mesh files"), suffix)
        vertices = np.asarray(vertices, np.float64).reshape(-1, 3)
        faces = np.asarray(faces, np.int64).reshape(-1, 3)
    except MissingFileError as error:
        raise MissingMeshError(f"{path}: {error}") from error
    except (MeshError, OutsideFileError, ArrayFileError) as error:
        raise MeshError(f"{path}: {error}") from error
    except Exception as error:  # a library has its own ways to say that a file is broken
        raise MeshError(f"{path}: cannot be read ({type(error).__name__}: {reason(error)})") from error
    if len(vertices) == 0:
        raise MeshError(f"{path}: no vertices")
    if faces.size and (faces.min() < 0 or faces.max() >= len(vertices)):
        wrong = faces.min() if faces.min() < 0 else faces.max()
        raise MeshError(f"{path}: triangles ask for vertex {wrong} of {len(vertices)}: truncated?")
    return TriangleMesh(vertices, faces)


def _read(data: bytes, suffix: str) -> tuple[np.ndarray, np.ndarray]:
    if suffix == ".obj":
        return read_obj(data)
    if suffix == ".ply":
        return read_ply(data)
    if suffix == ".off":
        return read_off(data)
    if suffix == ".stl":
        corners = read_stl(data)
        return _merged(corners.reshape(-1, 3), np.arange(3 * len(corners)).reshape(-1, 3))
    if suffix == ".glb":
        return _merged(*read_glb(data))
    arrays = read_npz(data, Budget(len(data)), names=("vertices", "faces"))
    if len(arrays) < 2 or any(array.dtype.kind not in "iuf" for array in arrays.values()):
        raise MeshError("it has no arrays 'vertices' and 'faces' of numbers")
    return arrays["vertices"], arrays["faces"]


def _merged(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    import trimesh

    mesh = trimesh.Trimesh(vertices, faces, process=False)
    mesh.merge_vertices(merge_tex=True, merge_norm=True)
    return mesh.vertices, mesh.faces
