import numpy as np
import pytest
import trimesh

from n2f_jax.mesh.triangle_mesh import MeshError, TriangleMesh, clean, read_mesh, vertex_normals

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


def test_cleaning_takes_out_what_spoils_a_measurement_and_counts_it():
    vertices = np.concatenate([TETRAHEDRON.vertices, [[9.0, 9, 9], [np.nan, 0, 0], [0.5, 0, 0]]])
    extra = [
        [0, 1, 2],
        [3, 3, 1],
        [0, 6, 1],
    ]  # the first triangle again, a repeated corner, corners in a line
    mesh, kept, report = clean(TriangleMesh(vertices, np.concatenate([TETRAHEDRON.faces, extra])))
    np.testing.assert_array_equal(mesh.vertices, TETRAHEDRON.vertices)
    np.testing.assert_array_equal(mesh.faces, TETRAHEDRON.faces)
    np.testing.assert_array_equal(kept, range(4))
    assert (report.not_finite, report.unreferenced, report.degenerate, report.duplicate) == (1, 2, 2, 1)
    assert str(report) == "1 not finite, 2 unreferenced, 2 degenerate, 1 duplicate"


def test_cleaning_renumbers_triangles():
    shifted = TriangleMesh(np.concatenate([[[5.0, 5, 5]], TETRAHEDRON.vertices]), TETRAHEDRON.faces + 1)
    mesh, kept, _ = clean(shifted)
    np.testing.assert_array_equal(mesh.vertices[mesh.faces], TETRAHEDRON.vertices[TETRAHEDRON.faces])
    np.testing.assert_array_equal(kept, [1, 2, 3, 4])


def test_a_hole_and_a_point_cloud_are_kept():
    open_mesh, _, report = clean(TriangleMesh(TETRAHEDRON.vertices, TETRAHEDRON.faces[:2]))
    assert len(open_mesh.faces) == 2 and str(report) == ""
    cloud, _, _ = clean(TriangleMesh(TETRAHEDRON.vertices, np.zeros((0, 3), np.int64)))
    assert len(cloud.vertices) == 4


def test_a_surface_through_nowhere_and_an_empty_one_are_refused():
    vertices = TETRAHEDRON.vertices.copy()
    vertices[3, 1] = np.inf
    with pytest.raises(MeshError, match=r"scan7: 3 triangles .* not finite"):
        clean(TriangleMesh(vertices, TETRAHEDRON.faces), "scan7")
    with pytest.raises(MeshError, match="without area"):
        clean(TriangleMesh(np.zeros((3, 3)), np.array([[0, 1, 2]])))
    with pytest.raises(MeshError, match="no vertex is left"):
        clean(TriangleMesh(np.full((3, 3), np.nan), np.zeros((0, 3), np.int64)))


def test_normals_are_area_weighted():
    rng = np.random.default_rng(0)
    mesh = trimesh.creation.icosphere(subdivisions=2)
    vertices = mesh.vertices * rng.uniform(0.8, 1.2, (len(mesh.vertices), 1))
    expected = np.zeros_like(vertices)
    for face in mesh.faces:
        a, b, c = vertices[face]
        expected[face] += np.cross(b - a, c - a)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(vertex_normals(TriangleMesh(vertices, mesh.faces)), expected, atol=1e-12)
    lonely = TriangleMesh(np.concatenate([vertices, [[0.0, 0, 0]]]), mesh.faces)
    np.testing.assert_array_equal(vertex_normals(lonely)[-1], 0)
