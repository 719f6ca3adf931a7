"""Mesh files of every kind, good and damaged; what trimesh writes is read back."""

import numpy as np
import pytest
import trimesh

from n2f_jax.mesh.reading import read_mesh
from n2f_jax.mesh.triangle_mesh import MeshError, TriangleMesh

TETRAHEDRON = TriangleMesh(
    np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]),
    np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]]),
)


def obj(tmp_path, text):
    path = tmp_path / "mesh.obj"
    path.write_bytes(text.encode())
    return path


V = "v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\n"
TWO = [[0, 1, 2], [0, 2, 3]]


@pytest.mark.parametrize(
    ("text", "faces"),
    [
        (V + "f 1 2 3\nf 1 3 4\n", TWO),
        ("# a comment\nmtllib a.mtl\n" + V + "f 1 2 3\nf 1 3 4", TWO),
        (V + "vt 0 0\nvn 0 0 1\nf 1/1/1 2/1/1 3/1/1\nf 1/1/1 3/1/1 4/1/1\n", TWO),
        (V + "f 1//1 2//1 3//1\ns off\nf 1//1 3//1 4//1\n", TWO),
        (V + "f 1 2 3 4\n", TWO),
        (V + "f 1 2 3\nf 1 2 3 4\nf 2 3 4\n", [[0, 1, 2], *TWO, [1, 2, 3]]),
        (V + "f -4 -3 -2\nf -4 -2 -1\n", TWO),
        (V.replace("\n", " 0.5 0.5 0.5\n") + "f 1 2 3\nf 1 3 4\n", TWO),
        ((V + "f 1 2 3\nf 1 3 4\n").replace("\n", "\r\n"), TWO),
        ("v 0 0 0\nv 1 0 0\nv 1 1 0\nf 1 2 3\nv 0 1 0\nf 1 3 4\n", TWO),
        ("v\t0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nf 1 2 3\nf 1 3 4\n", TWO),
        (V, []),
    ],
)
def test_obj_keeps_vertices_in_order_and_cuts_polygons(tmp_path, text, faces):
    mesh = read_mesh(obj(tmp_path, text))
    np.testing.assert_array_equal(mesh.vertices, [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]])
    np.testing.assert_array_equal(mesh.faces, np.array(faces).reshape(-1, 3))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello\n",
        "v 0 0\nv 1 0\n",
        V[:-3] + "\nf 1 2 3\n",
        V + "f 1 2 3\nf 1 2",
        V + "f 1 2 9\n",
        V + "f 1 2 x\n",
        V.replace("1 1 0", "1 1 zero"),
        V + "f 0 1 2\n",
    ],
)
def test_damaged_obj_files_are_named(tmp_path, text):
    with pytest.raises(MeshError, match=r"mesh\.obj"):
        read_mesh(obj(tmp_path, text))


@pytest.mark.parametrize("suffix", [".ply", ".off", ".stl", ".glb", ".npz"])
def test_other_formats(tmp_path, suffix):
    path = tmp_path / f"mesh{suffix}"
    if suffix == ".npz":
        np.savez(path, vertices=TETRAHEDRON.vertices, faces=TETRAHEDRON.faces)
    else:
        trimesh.Trimesh(TETRAHEDRON.vertices, TETRAHEDRON.faces, process=False).export(path)
    mesh = read_mesh(path)
    assert mesh.vertices.shape == (4, 3) and mesh.faces.shape == (4, 3)
    corners = np.sort(mesh.vertices[mesh.faces].sum(axis=1), axis=0)
    expected = np.sort(TETRAHEDRON.vertices[TETRAHEDRON.faces].sum(axis=1), axis=0)
    np.testing.assert_allclose(corners, expected, atol=1e-6)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(MeshError, match="mesh"):
        read_mesh(path)


def test_unknown_suffix_and_missing_file(tmp_path):
    with pytest.raises(MeshError, match="meshes end in"):
        read_mesh(tmp_path / "a.fbx")
    with pytest.raises(FileNotFoundError):
        read_mesh(tmp_path / "a.obj")
