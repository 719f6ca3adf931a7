"""Scans that were cut off, or whose header promises what is not there, are refused: half a face is no face."""

import io
import json
import os
import struct

import numpy as np
import pytest
import trimesh

from n2f_jax.mesh.reading import MissingMeshError, read_mesh
from n2f_jax.mesh.triangle_mesh import MeshError

pytestmark = pytest.mark.timeout(30)
BALL = trimesh.creation.icosphere(subdivisions=2)  # 162 vertices, 320 triangles


def exported(kind):
    mesh = trimesh.Trimesh(BALL.vertices, BALL.faces, process=False)
    if kind in ("ascii.ply", "binary.ply"):
        return mesh.export(
            file_type="ply", encoding=kind.split(".")[0].replace("binary", "binary_little_endian")
        )
    if kind == "ascii.stl":
        return mesh.export(file_type="stl_ascii").encode()
    if kind == "mesh.npz":
        stream = io.BytesIO()
        np.savez(stream, vertices=BALL.vertices, faces=BALL.faces)
        return stream.getvalue()
    if kind == "counted.obj":
        return b"# Vertices: 162\n# Faces: 320\n" + mesh.export(file_type="obj").encode()
    content = mesh.export(file_type=kind.split(".")[1])
    return content if isinstance(content, bytes) else content.encode()


KINDS = [
    "ascii.ply",
    "binary.ply",
    "ascii.stl",
    "binary.stl",
    "mesh.off",
    "mesh.glb",
    "mesh.npz",
    "counted.obj",
]


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_is_cut_off(tmp_path, kind):
    path, content = tmp_path / kind, exported(kind)
    path.write_bytes(content)
    whole = read_mesh(path)
    assert (len(whole.vertices), len(whole.faces)) == (162, 320)
    np.testing.assert_allclose(np.linalg.norm(whole.vertices, axis=1), 1, atol=1e-4)
    for percent in (5, 30, 60, 70, 80, 90, 95, 99):
        path.write_bytes(content[: len(content) * percent // 100])
        with pytest.raises(MeshError, match=r"mesh|ply|stl|obj") as caught:
            read_mesh(path)
        assert "\n" not in str(caught.value) and "charset" not in str(caught.value)


HEADER = "ply\nformat {} 1.0\nelement vertex {}\nproperty float x\nproperty float y\nproperty float z\n"
FACES = "element face {}\nproperty list uchar int vertex_indices\n"
CORNERS = "0 0 0\n1 0 0\n1 1 0\n0 1 0\n"


def ply(tmp_path, text, data=b""):
    (tmp_path / "scan.ply").write_bytes(text.encode() + data)
    return tmp_path / "scan.ply"


@pytest.mark.parametrize(
    "text",
    [
        HEADER.format("ascii", 10**12) + "end_header\n0 0 0\n",  # 10¹² vertices, one line
        HEADER.format("binary_little_endian", 10**12) + "end_header\n0 0 0 0 0 0 ",
        HEADER.format("ascii", 4) + FACES.format(10**12) + "end_header\n" + CORNERS + "3 0 1 2\n",
        HEADER.format("ascii", 4) + FACES.format(1) + "end_header\n" + CORNERS + "3 0 1 2\n3 0 2 3\n",
        HEADER.format("ascii", 4) + FACES.format(2) + "end_header\n" + CORNERS + "3 0 1 2\n4 0 2 3\n",
        HEADER.format("ascii", 4) + FACES.format(1) + "end_header\n" + CORNERS + "3 0 1 2.5\n",
        HEADER.format("ascii", 4) + FACES.format(1) + "end_header\n" + CORNERS + "-1 0 1 2\n",
        HEADER.format("ascii", 4) + FACES.format(1) + "end_header\n" + CORNERS + "2 0 1\n",
        HEADER.format("ascii", 4) + FACES.format(1) + "end_header\n" + CORNERS + "nan 0 1\n",
        HEADER.format("ascii", 4) + "element tristrips 1\nproperty list int int vertex_indices\nend_header\n"
        + CORNERS + "3 0 1 2\n",
        HEADER.format("ascii", 1) + "end_header\n",
        HEADER.format("ascii", 1),
        "ply\nend_header\n",
    ],
)  # fmt: skip
def test_ply_files_that_are_not_what_they_say(tmp_path, text):
    with pytest.raises(MeshError, match=r"scan\.ply"):
        read_mesh(ply(tmp_path, text))


def test_triangles_and_quads_in_one_ply(tmp_path):
    faces = [[0, 1, 2], [0, 2, 3], [0, 1, 2], [1, 2, 3]]
    text = HEADER.format("ascii", 4) + FACES.format(3) + "comment c\nend_header\n" + CORNERS
    np.testing.assert_array_equal(
        read_mesh(ply(tmp_path, text + "4 0 1 2 3\n3 0 1 2\n3 1 2 3\n")).faces, faces
    )
    lists = (
        struct.pack(">B4i", 4, 0, 1, 2, 3) + struct.pack(">B3i", 3, 0, 1, 2) + struct.pack(">B3i", 3, 1, 2, 3)
    )
    vertices = np.array(CORNERS.split(), ">f4").tobytes()
    text = HEADER.format("binary_big_endian", 4) + FACES.format(3) + "end_header\n"
    mesh = read_mesh(ply(tmp_path, text, vertices + lists))
    np.testing.assert_array_equal(mesh.faces, faces)
    np.testing.assert_array_equal(mesh.vertices[2], [1, 1, 0])
    for wrong in (lists[:-1], lists + b"\0", b"\xff" + lists[1:]):
        with pytest.raises(MeshError, match=r"fewer|follow|damaged"):
            read_mesh(ply(tmp_path, text, vertices + wrong))


def test_ply_with_texture_coordinates_keeps_its_vertices(tmp_path):
    """trimesh splits them along the seams."""
    text = (
        HEADER.format("ascii", 4)
        + FACES.format(2)
        + "property list uchar float texcoord\nend_header\n"
        + CORNERS
    )
    lines = "3 0 1 2 6 0 0 1 0 1 1\n3 0 2 3 6 .5 .5 0 0 1 1\n"
    assert read_mesh(ply(tmp_path, text + lines)).vertices.shape == (4, 3)
    points = HEADER.format("ascii", 4) + FACES.format(0) + "end_header\n" + CORNERS
    assert read_mesh(ply(tmp_path, points)).faces.shape == (0, 3)


def test_a_corrupt_stl_is_named_as_one(tmp_path):
    path = tmp_path / "scan.stl"
    for content in (b"\x80" * 50, b"\x80" * 500, b"solid x\nfacet\nvertex 0 0 0\nendfacet\nendsolid\n"):
        path.write_bytes(content)
        with pytest.raises(MeshError, match=r"scan\.stl: .*(cut off|no STL)"):
            read_mesh(path)


def glb(tmp_path, change):
    content = exported("mesh.glb")
    length = int.from_bytes(content[12:16], "little")
    description = json.loads(content[20 : 20 + length])
    change(description)
    text = json.dumps(description).encode()
    text += b" " * (-len(text) % 4)
    rest = content[20 + length :]
    head = struct.pack("<4sII", b"glTF", 2, 20 + len(text) + len(rest)) + struct.pack(
        "<I4s", len(text), b"JSON"
    )
    (tmp_path / "a.glb").write_bytes(head + text + rest)
    return tmp_path / "a.glb"


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d["accessors"][0].update(count=10**12),
        lambda d: [a.pop("bufferView") for a in d["accessors"]],
        lambda d: d["buffers"][0].update(uri="../secret.bin"),
        lambda d: d.update(nodes=[{"mesh": 0}] * 5000),
        lambda d: d.update(nodes=[{"children": [1]}, {"children": [0], "mesh": 0}]),
        lambda d: d.update(meshes=[[[]]]),
        lambda d: d.update(accessors=3),
    ],
)
def test_glb_files_that_are_not_what_they_say(tmp_path, change):
    assert len(read_mesh(glb(tmp_path, lambda d: None)).faces) == 320
    with pytest.raises(MeshError, match=r"a\.glb: .* (data|file|tree|repeats|description)"):
        read_mesh(glb(tmp_path, change))


def test_what_is_no_regular_file(tmp_path):
    os.mkfifo(tmp_path / "pipe.ply")
    with pytest.raises(MeshError, match="not a regular file"):
        read_mesh(tmp_path / "pipe.ply")
    with pytest.raises(MissingMeshError, match="does not exist"):
        read_mesh(tmp_path / "absent.npz")
