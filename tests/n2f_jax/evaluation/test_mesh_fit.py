"""``n2f fit --mesh``: files in, files out, and landmarks of meshes that come without any."""

import dataclasses

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

import flame_jax
from flame_jax.rotations import axis_angle_to_matrix, matrix_to_rotation_6d
from n2f_jax.cli.fit import main
from n2f_jax.evaluation.landmarks3d import LandmarkError, read_landmarks68
from n2f_jax.evaluation.mesh_fit import KEYS, fit_meshes
from n2f_jax.evaluation.mesh_landmarks import find_landmarks
from n2f_jax.evaluation.predictions import read_prediction
from n2f_jax.evaluation.regions import template_of
from n2f_jax.mesh.closest_points import Surface
from n2f_jax.mesh.reading import read_mesh
from n2f_jax.mesh.triangle_mesh import MeshError, TriangleMesh
from n2f_jax.mesh.writing import write_ply

pytestmark = pytest.mark.medium
TURN = Rotation.from_euler("xyz", [5, -8, 3], degrees=True).as_matrix()


@pytest.fixture(scope="module")
def model(open_head):
    """Fewer directions, so that fits are quick."""
    return dataclasses.replace(
        open_head, shapedirs=open_head.shapedirs[..., :20], exprdirs=open_head.exprdirs[..., :5]
    )


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    """A head in millimetres with landmarks, the same without triangles, and a file that is no mesh."""
    folder = tmp_path_factory.mktemp("scans")
    shape = np.random.default_rng(0).normal(0.0, 0.8, model.num_shape).astype(np.float32)
    params = dataclasses.replace(flame_jax.FlameParams.neutral(model), shape=shape)
    vertices = np.asarray(flame_jax.decode(model, params)[0], np.float64)
    skin = template_of(model).visible_part(1000.0 * vertices @ TURN.T)
    write_ply(folder / "head.ply", skin.vertices, skin.faces)
    landmarks = np.asarray(flame_jax.landmarks68(model, vertices.astype(np.float32)), np.float64)
    np.savetxt(folder / "head_landmarks.txt", 1000.0 * landmarks[17:] @ TURN.T)
    (folder / "broken.obj").write_text("nothing")
    return folder


def test_a_folder_of_scans(folder, model, tmp_path):
    said = []
    paths = [folder / "head.ply", folder / "broken.obj"]
    counts = fit_meshes(paths, tmp_path, model, say=said.append, progress=False)
    assert counts == {"written": 1, "error": 1} and len(said) == 1 and "broken.obj" in said[0]
    assert fit_meshes(paths[:1], tmp_path, model, progress=False) == {"before": 1}
    with np.load(tmp_path / "head.npz", allow_pickle=False) as stored:
        values = {key: stored[key] for key in stored.files}
    assert values.keys() == KEYS.keys()
    assert float(values["scan_scale"]) == pytest.approx(1000.0)
    np.testing.assert_allclose(values["scan_rotation"], TURN, atol=0.02)
    scan = read_mesh(folder / "head.ply")
    placed = read_mesh(tmp_path / "head.ply")
    distance = Surface(TriangleMesh(placed.vertices, placed.faces)).closest(scan.vertices).distance
    assert np.mean(distance) < 0.2  # millimetres, as the scan
    again = values["scan_scale"] * values["vertices"] @ values["scan_rotation"].T + values["scan_translation"]
    np.testing.assert_allclose(again, placed.vertices, atol=0.01)
    # The coefficients decode to the mesh, and the evaluator reads the file.
    params = dataclasses.replace(
        flame_jax.FlameParams.neutral(model),
        shape=values["shape"],
        expression=values["expression"],
        eyelids=values["eyelids"],
        jaw=matrix_to_rotation_6d(axis_angle_to_matrix(values["jaw_pose"])),
    )
    np.testing.assert_allclose(flame_jax.decode(model, params)[0], values["vertices"], atol=1e-5)
    assert read_prediction(tmp_path / "head.npz").unit == "m"


def test_bad_usage_says_so(folder, model, tmp_path, capsys):
    for arguments, message in (
        ([], "one of: a preprocessed folder, --mesh FILE"),
        (["faces", "--mesh", "a.obj"], "one of: a preprocessed folder, --mesh FILE"),
        (["--mesh", str(folder / "head.ply")], "--mesh needs --out"),
    ):
        assert main(arguments) == 2
        assert message in capsys.readouterr().err
    with pytest.raises(ValueError, match="two meshes are called head"):
        fit_meshes([folder / "head.ply", "other/head.obj"], tmp_path, model)
    said = []
    fit_meshes([folder / "head.ply"], tmp_path / "m", model, unit="m", say=said.append, progress=False)
    assert "which is no face; in mm it would be" in said[0]


def test_landmark_files_may_know_a_part(tmp_path):
    points = np.full((68, 3), np.nan)
    points[[36, 45, 54]] = np.eye(3)
    np.save(tmp_path / "some.npy", points)
    np.testing.assert_array_equal(read_landmarks68(tmp_path / "some.npy"), points)
    points[36] = np.nan
    np.save(tmp_path / "few.npy", points)
    with pytest.raises(LandmarkError, match="fewer than three"):
        read_landmarks68(tmp_path / "few.npy")
    np.save(tmp_path / "seven.npy", np.arange(21.0).reshape(7, 3))
    seven = read_landmarks68(tmp_path / "seven.npy")
    np.testing.assert_array_equal(seven[[36, 54]], [[0, 1, 2], [18, 19, 20]])
    assert np.isfinite(seven).all(axis=1).sum() == 7


@pytest.mark.slow  # half a minute: a dozen pictures of 512²
def test_landmarks_are_found_whichever_way_up_a_mesh_is(open_head):
    """z up and facing −y, as many scanners have it, in millimetres."""
    template = template_of(open_head)
    turn = np.array([[-1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]]) @ np.diag([-1.0, 1.0, 1.0])
    assert np.linalg.det(turn) == pytest.approx(1.0)
    mesh = template.visible_part(1000.0 * template.mesh.vertices @ turn.T + 50.0)
    found = find_landmarks(mesh)
    true = 1000.0 * np.asarray(flame_jax.landmarks68(open_head, open_head.v_template)) @ turn.T + 50.0
    known = np.isfinite(found).all(axis=1)
    assert not known[:17].any() and known.sum() > 45
    assert np.linalg.norm((found - true)[known], axis=1).mean() < 5.0


def test_a_mesh_without_a_face_is_refused(open_head, monkeypatch):
    mesh = TriangleMesh(np.asarray(open_head.v_template, np.float64), np.asarray(open_head.faces, np.int64))
    seen = []
    monkeypatch.setattr(
        "n2f_jax.evaluation.mesh_landmarks.portrait", lambda mesh, *rest: seen.append(mesh.vertices)
    )
    with pytest.raises(MeshError, match=r"vase: no face was found on it from any side.*\.npy"):
        find_landmarks(mesh, "vase", lambda image: [])
    # All 24 ways to put a mesh's axes, the usual one first.
    assert len({np.round(vertices[:50], 6).tobytes() for vertices in seen}) == 24 == len(seen)
    first = seen[0] - seen[0].mean(axis=0)
    own = mesh.vertices - mesh.vertices.mean(axis=0)
    np.testing.assert_allclose(first / first.std(), own / own.std(), atol=1e-6)
