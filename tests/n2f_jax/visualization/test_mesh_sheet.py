"""The sheet of a mesh: what is where, whichever way it is turned."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import trimesh

from n2f_jax.mesh.triangle_mesh import MeshError
from n2f_jax.visualization.layout import BACKGROUND
from n2f_jax.visualization.mesh_sheet import (
    TexturedMesh,
    look_at,
    mesh_sheet,
    open_head_mesh,
    read_textured_mesh,
)

pytestmark = pytest.mark.medium

ROOT = Path(__file__).resolve().parents[3]


def arrow():
    """A box with a smaller one on its right, seen from the front."""
    body = trimesh.creation.box((2, 2, 2))
    tip = trimesh.creation.box((1, 0.5, 0.5))
    tip.apply_translation((2, 0, 0))
    mesh = trimesh.util.concatenate([body, tip])
    return TexturedMesh(np.asarray(mesh.vertices), np.asarray(mesh.faces), None)


def test_the_camera_sees_the_whole_mesh():
    mesh = arrow()
    for yaw in (0, 70, 180):
        points, focal, radius = look_at(mesh.vertices, yaw, 20, 128)
        pixels = focal * points[:, :2] / points[:, 2:] + 64
        assert (pixels > 0).all() and (pixels < 128).all()
        assert points[:, 2].min() > radius


def test_right_is_right_and_the_mask_moves_right():
    size = 96
    sheet = mesh_sheet(arrow(), yaw=0.0, pitch=0.0, size=size).astype(int)
    assert sheet.shape[2] == 3
    tile = sheet.shape[1] // 3
    triangles = np.abs(sheet[:size, :tile] - np.array(BACKGROUND)).sum(-1) > 60
    columns = np.flatnonzero(triangles.any(axis=0))
    left, right = (triangles[:, part].sum() for part in (columns[:12], columns[-12:]))
    assert left > 3 * right > 0  # the small box is at the right
    slope = sheet[-size - 31 : -31, 2 * tile :]
    red = (slope[..., 0] - slope[..., 2]).clip(0)
    blue = (slope[..., 2] - slope[..., 0]).clip(0) * (slope[..., 2] > 100)
    u = np.arange(slope.shape[1])
    assert (red.sum(0) * u).sum() / red.sum() > (blue.sum(0) * u).sum() / blue.sum() + 20


def test_the_open_head_is_drawn_with_its_texture():
    mesh = open_head_mesh()
    assert mesh.uv is not None and len(mesh.uv) == len(mesh.vertices)
    assert mesh_sheet(mesh, size=64).std() > 20


def test_reads_texture_coordinates(tmp_path):
    (tmp_path / "a.obj").write_text(
        "v 0 0 0\nv 1 0 0\nv 0 1 0\nvt 0 0\nvt 1 0\nvt 0 1\nf 1/1 2/2 3/3\n", encoding="utf-8"
    )
    mesh = read_textured_mesh(tmp_path / "a.obj")
    np.testing.assert_allclose(mesh.uv, mesh.vertices[:, :2])
    trimesh.creation.icosphere(1).export(tmp_path / "b.ply")
    assert read_textured_mesh(tmp_path / "b.ply").uv is None
    (tmp_path / "c.obj").write_bytes(b"not a mesh")
    with pytest.raises(MeshError):
        read_textured_mesh(tmp_path / "c.obj")


def test_a_broken_file_is_one_line_and_an_exit_code(tmp_path):
    (tmp_path / "c.stl").write_bytes(b"solid nothing")
    run = subprocess.run(
        [sys.executable, ROOT / "scripts/draw.py", "mesh", tmp_path / "c.stl", "--out", tmp_path / "c.png"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 2
    assert run.stderr.startswith("error: ") and run.stderr.count("\n") == 1
    assert not (tmp_path / "c.png").exists()
