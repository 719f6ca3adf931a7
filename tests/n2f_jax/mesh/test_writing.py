"""Mesh files, read back by trimesh."""

import json

import numpy as np
import pytest
import trimesh

from n2f_jax.mesh.colors import region_colors
from n2f_jax.mesh.normals import vertex_normals
from n2f_jax.mesh.writing import split_seams, write_glb, write_obj, write_ply


def cube():
    """A 20 cm cube off the origin, wound outwards, each side with its own square of texture."""
    box = trimesh.creation.box((0.2, 0.2, 0.2))
    vertices = np.asarray(box.vertices, np.float32) + np.float32([0.0, 0.1, 0.3])
    faces = np.asarray(box.faces, np.int32)
    uv = np.random.default_rng(0).uniform(size=(36, 2)).astype(np.float32)
    return vertices, faces, uv, np.arange(36, dtype=np.int32).reshape(12, 3)


def load(path):
    return trimesh.load(path, process=False, force="mesh")


def accessor(path, attribute) -> np.ndarray:
    """A float32 vector attribute of a binary glTF's only mesh, read from its bytes."""
    data = path.read_bytes()
    assert data[:4] == b"glTF"
    length = int.from_bytes(data[12:16], "little")
    header, binary = json.loads(data[20 : 20 + length]), data[28 + length :]
    index = header["meshes"][0]["primitives"][0]["attributes"][attribute]
    entry = header["accessors"][index]
    view = header["bufferViews"][entry["bufferView"]]
    start = view.get("byteOffset", 0) + entry.get("byteOffset", 0)
    return np.frombuffer(binary, "<f4", entry["count"] * 3, start).reshape(-1, 3)


def test_normals_point_outwards_and_loose_vertices_get_a_unit_vector(tmp_path):
    vertices, faces, _, _ = cube()
    write_glb(tmp_path / "head.glb", np.concatenate([vertices, vertices[:1]]), faces)
    normals = accessor(tmp_path / "head.glb", "NORMAL")
    np.testing.assert_allclose(np.linalg.norm(normals, axis=-1), 1.0, atol=1e-6)
    assert (np.sum(normals[:-1] * (vertices - vertices.mean(0)), -1) > 0).all()
    np.testing.assert_array_equal(normals[-1], [0, 0, 1])


def test_obj_keeps_vertex_order_and_texture(tmp_path):
    vertices, faces, uv, uv_faces = cube()
    write_obj(tmp_path / "head.obj", vertices, faces, uv, uv_faces)
    lines = (tmp_path / "head.obj").read_text().splitlines()
    written = np.array([line.split()[1:] for line in lines if line.startswith("v ")], float)
    np.testing.assert_allclose(written, vertices, atol=1e-7)
    corners = [[c.split("/") for c in line.split()[1:]] for line in lines if line.startswith("f ")]
    indices = np.array(corners, int) - 1
    np.testing.assert_array_equal(indices[..., 0], faces)
    np.testing.assert_array_equal(indices[..., 1], uv_faces)
    mesh = load(tmp_path / "head.obj")
    assert mesh.volume == pytest.approx(0.008, rel=1e-4)  # positive: wound outwards
    # trimesh keeps the texture coordinate of each corner through its own reindexing
    np.testing.assert_allclose(mesh.visual.uv[mesh.faces], uv[uv_faces], atol=1e-5)


def test_obj_without_texture(tmp_path):
    vertices, faces, _, _ = cube()
    write_obj(tmp_path / "plain.obj", vertices, faces)
    mesh = load(tmp_path / "plain.obj")
    assert mesh.volume == pytest.approx(0.008, rel=1e-4)
    assert "vt" not in (tmp_path / "plain.obj").read_text()


@pytest.mark.parametrize("textured", [True, False])
def test_glb_opens_with_metres_normals_and_colours(tmp_path, textured):
    vertices, faces, uv, uv_faces = cube()
    colors = np.tile(np.array([200, 150, 100], np.uint8), (8, 1))
    colors[2] = 255
    texture = (uv, uv_faces) if textured else (None, None)
    write_glb(tmp_path / "head.glb", vertices, faces, *texture, colors=colors, name="someone")
    scene = trimesh.load(tmp_path / "head.glb", process=False)
    assert list(scene.geometry) == ["someone"]
    np.testing.assert_array_equal(scene.graph[scene.graph.nodes_geometry[0]][0], np.eye(4))
    mesh = scene.geometry["someone"]
    np.testing.assert_array_equal(mesh.vertices[:8].astype(np.float32), vertices)
    assert mesh.volume == pytest.approx(0.008, rel=1e-4)
    stored = accessor(tmp_path / "head.glb", "NORMAL")  # trimesh computes its own on loading
    np.testing.assert_allclose(stored[:8], vertex_normals(vertices, faces), atol=1e-6)
    shown = mesh.visual.vertex_attributes["color"]
    assert tuple(shown[2][:3]) == (255, 255, 255)
    np.testing.assert_array_equal(shown[0][:3], [147, 78, 32])  # glTF's colours are linear
    if textured:
        np.testing.assert_allclose(mesh.visual.uv[mesh.faces], uv[uv_faces], atol=1e-5)


def test_seam_splitting_keeps_every_corner():
    _, faces, _, uv_faces = cube()
    new_faces, vertex_of, uv_of = split_seams(faces, uv_faces, 10)  # two loose vertices
    np.testing.assert_array_equal(vertex_of[:10], np.arange(10))
    np.testing.assert_array_equal(vertex_of[new_faces], faces)
    np.testing.assert_array_equal(uv_of[new_faces], uv_faces)
    same, vertex_of, _ = split_seams(faces, faces, 8)  # no seam: nothing is added
    np.testing.assert_array_equal(same, faces)
    assert len(vertex_of) == 8


def test_region_colours(open_head):
    colors = region_colors(open_head)
    skin = colors[np.argmax(np.asarray(open_head.v_template)[:, 1])]  # the crown
    eyes = colors[np.asarray(open_head.masks["eyeballs"])]
    white = (eyes == eyes.max(axis=0)).all(axis=1)
    assert 0.5 < white.mean() < 1  # an iris, but not all of it
    assert (colors == skin).all(axis=1).mean() > 0.5
    assert not (eyes == skin).all(axis=1).any()


@pytest.mark.parametrize("coloured", [True, False])
def test_ply(tmp_path, coloured):
    vertices, faces, _, _ = cube()
    colors = np.arange(24, dtype=np.uint8).reshape(8, 3) if coloured else None
    write_ply(tmp_path / "head.ply", vertices, faces, colors)
    mesh = load(tmp_path / "head.ply")
    np.testing.assert_array_equal(mesh.vertices.astype(np.float32), vertices)
    np.testing.assert_array_equal(mesh.faces, faces)
    if coloured:
        np.testing.assert_array_equal(mesh.visual.vertex_colors[:, :3], colors)
    # Byte by byte, since trimesh computes normals of its own on loading.
    header, _, body = (tmp_path / "head.ply").read_bytes().partition(b"end_header\n")
    assert b"format binary_little_endian 1.0" in header
    for number in ("x", "y", "z", "nx", "ny", "nz"):
        assert f"property float {number}\n".encode() in header
    row = np.dtype([("place", "<f4", 3), ("normal", "<f4", 3), ("colour", "u1", 4 if coloured else 0)])
    stored = np.frombuffer(body, row, len(vertices))
    np.testing.assert_array_equal(stored["place"], vertices)
    np.testing.assert_allclose(stored["normal"], vertex_normals(vertices, faces), atol=1e-6)
