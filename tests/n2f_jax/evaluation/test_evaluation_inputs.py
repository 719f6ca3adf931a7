"""Units, landmark files, predictions, folders."""

import dataclasses
import json
import re

import jax.numpy as jnp
import numpy as np
import pytest

import flame_jax
from flame_jax.rotations import axis_angle_to_matrix, matrix_to_rotation_6d
from n2f_jax.evaluation import layouts
from n2f_jax.evaluation.landmarks3d import (
    SEVEN_OF_51,
    SEVEN_OF_68,
    LandmarkError,
    read_landmark_vertices,
    read_landmarks3d,
)
from n2f_jax.evaluation.phantoms import make_phantom, write_picked_points, write_scan
from n2f_jax.evaluation.predictions import (
    PredictionError,
    find_prediction,
    read_landmarks_2d,
    read_prediction,
)
from n2f_jax.evaluation.protocols import Settings
from n2f_jax.evaluation.records import make_tasks
from n2f_jax.evaluation.regions import RegionError, load_template, read_regions
from n2f_jax.evaluation.report import format_problems
from n2f_jax.evaluation.run import evaluate, work
from n2f_jax.evaluation.truths import read_camera, read_truth, truth_regions
from n2f_jax.evaluation.units import UnitError, resolve_unit
from n2f_jax.mesh.triangle_mesh import MeshError
from n2f_jax.mesh.writing import write_obj

SEVEN = list(SEVEN_OF_68)


@pytest.fixture(scope="module")
def phantom():
    return make_phantom(np.random.default_rng(3), 9000)


# Units


@pytest.mark.parametrize(
    ("distance", "unit", "metres"), [(91.0, "mm", 1e-3), (8.7, "cm", 1e-2), (0.09, "m", 1.0)]
)
def test_a_unit_is_told_by_the_eyes_or_checked_by_them(distance, unit, metres):
    assert resolve_unit("auto", distance, "scan") == (unit, metres)
    assert resolve_unit(unit, distance, "scan") == (unit, metres)
    for wrong in {"m", "cm", "mm"} - {unit}:
        with pytest.raises(UnitError, match=f"scan: .* in {unit} it would be"):
            resolve_unit(wrong, distance, "scan")


def test_what_is_no_face_in_any_unit_is_refused():
    for distance in (0.5, 30.0, 1200.0, 0.0):
        with pytest.raises(UnitError, match="name its unit"):
            resolve_unit("auto", distance, "scan")
    with pytest.raises(UnitError, match="'inch'"):
        resolve_unit("inch", 3.5, "scan")


# Landmarks


def test_landmark_files_of_every_kind_give_the_same_seven(tmp_path):
    points = np.random.default_rng(0).normal(0, 50, (68, 3)).round(4)
    np.save(tmp_path / "a.npy", points[SEVEN])
    np.save(tmp_path / "batch.npy", points[None])
    np.savetxt(tmp_path / "inner.txt", points[17:])
    (tmp_path / "a.json").write_text(json.dumps(points[SEVEN].tolist()))
    write_picked_points(tmp_path / "a.pp", points[SEVEN])
    for name in ("a.npy", "batch.npy", "inner.txt", "a.json", "a.pp"):
        np.testing.assert_allclose(read_landmarks3d(tmp_path / name), points[SEVEN], atol=1e-6)
    # The numbers that NoW's page gives, of the inner 51.
    assert SEVEN_OF_51 == (19, 22, 25, 28, 16, 31, 37)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.txt", "1 2 3\n4 5 6\n"),
        ("a.txt", "1 2 x\n"),
        ("a.json", "{"),
        ("a.pp", "<PickedPoints></PickedPoints>"),
        ("a.pp", '<point x="1" y="2" name="0"/>'),
        ("a.npy", "no array"),
        ("a.txt", "nan 0 0\n" * 7),
        ("a.lmk", ""),
    ],
)
def test_damaged_landmark_files_are_named(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(LandmarkError, match=name.replace(".", r"\.")):
        read_landmarks3d(tmp_path / name)


def test_points_that_were_switched_off_do_not_count(tmp_path):
    points = np.arange(21.0).reshape(7, 3)
    write_picked_points(tmp_path / "a.pp", points)
    text = (tmp_path / "a.pp").read_text()
    (tmp_path / "a.pp").write_text(text.replace("</Picked", '<point active="0" x="9" y="9" z="9"/></Picked'))
    np.testing.assert_array_equal(read_landmarks3d(tmp_path / "a.pp"), points)


def test_landmark_vertices(tmp_path):
    np.savetxt(tmp_path / "k.txt", np.arange(68) * 10)
    np.testing.assert_array_equal(read_landmark_vertices(tmp_path / "k.txt"), np.array(SEVEN) * 10)
    np.savetxt(tmp_path / "k.txt", np.arange(68) + 0.5)
    with pytest.raises(LandmarkError, match="whole"):
        read_landmark_vertices(tmp_path / "k.txt")


# Predictions


def test_flame_coefficients_are_decoded_under_every_name(tmp_path, open_head):
    rng = np.random.default_rng(0)
    shape, expression = rng.normal(0, 0.5, 100), rng.normal(0, 0.3, 50)
    params = dataclasses.replace(
        flame_jax.FlameParams.neutral(open_head),
        shape=jnp.asarray(shape, jnp.float32),
        expression=jnp.asarray(expression, jnp.float32),
    )
    expected = np.asarray(flame_jax.decode(open_head, params)[0])
    for names in (("shape", "expression"), ("betas", "expression_params"), ("shapecode", "expcode")):
        np.savez(tmp_path / "a.npz", **{names[0]: shape[None], names[1]: expression[None]})
        answer = read_prediction(tmp_path / "a.npz")
        np.testing.assert_allclose(answer.mesh.vertices, expected, atol=1e-7)
        assert answer.unit == "m" and answer.landmarks.shape == (7, 3)
    np.savez(tmp_path / "a.npz", shape=shape, jaw_pose=[0.2, 0, 0])
    opened = read_prediction(tmp_path / "a.npz").mesh.vertices
    np.savez(tmp_path / "a.npz", shape=shape, pose=[[0.5, 0.1, 0, 0.2, 0, 0]])  # DECA's: head and jaw
    np.testing.assert_array_equal(read_prediction(tmp_path / "a.npz").mesh.vertices, opened)
    chins = [
        np.asarray(flame_jax.landmarks68(open_head, np.asarray(v, np.float32)))[8, 1]
        for v in (opened, expected)
    ]
    assert chins[0] < chins[1] - 0.005


def test_meshes_get_landmarks_from_beside_from_topology_or_from_vertices(tmp_path, phantom):
    head = phantom.head
    write_obj(tmp_path / "a.obj", head.vertices, head.faces)
    by_topology = read_prediction(tmp_path / "a.obj").landmarks
    np.testing.assert_allclose(by_topology, phantom.landmarks[SEVEN], atol=1e-6)
    np.savetxt(tmp_path / "a.txt", phantom.landmarks[SEVEN] + 1)
    np.testing.assert_allclose(read_prediction(tmp_path / "a.obj").landmarks, phantom.landmarks[SEVEN] + 1)
    vertices = np.arange(7) * 3
    by_vertex = read_prediction(tmp_path / "a.obj", landmark_vertices=vertices).landmarks
    np.testing.assert_allclose(by_vertex, head.vertices[vertices], atol=1e-6)
    with pytest.raises(PredictionError, match="another topology"):
        read_prediction(tmp_path / "a.obj", landmark_vertices=vertices + 10_000)
    write_obj(tmp_path / "b.obj", head.vertices, head.faces[5:])
    assert read_prediction(tmp_path / "b.obj").landmarks is None


@pytest.mark.parametrize("damage", ["truncated", "empty", "no mesh", "too long", "nan"])
def test_damaged_predictions_are_named(tmp_path, phantom, damage):
    path = tmp_path / "bad.npz"
    arrays = {"vertices": phantom.head.vertices, "faces": phantom.head.faces}
    if damage == "no mesh":
        arrays = {"something": np.zeros(3)}
    elif damage == "too long":
        arrays = {"shape": np.zeros(5000)}
    elif damage == "nan":
        arrays["vertices"] = np.full_like(arrays["vertices"], np.nan)
    np.savez(path, **arrays)
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-2000])
    elif damage == "empty":
        path.write_bytes(b"")
    with pytest.raises(PredictionError, match=r"bad\.npz"):
        read_prediction(path)


@pytest.mark.parametrize(
    "place",
    ["a/b/c.obj", "a/b/c/c.obj", "a/b/c/mesh_coarse.obj", "a_b_c.obj", "a_b_c/a_b_c.obj", "a/b/c/mesh.ply"],
)
def test_predictions_are_found_where_methods_put_them(tmp_path, place):
    path = tmp_path / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    found = find_prediction(tmp_path, "a/b/c", (".npz", ".obj", ".ply"))
    assert found == path
    assert find_prediction(tmp_path, "a/b/d", (".npz", ".obj", ".ply")) is None


def test_two_dimensional_landmarks_keep_each_formats_pixels(tmp_path):
    points = np.random.default_rng(0).uniform(0, 100, (68, 2))
    np.savez(tmp_path / "a.npz", landmarks_2d=points)
    np.save(tmp_path / "a.npy", points - 0.5)
    np.savetxt(tmp_path / "a.txt", np.c_[points - 0.5, points[:, :1]])
    lines = "\n".join(f"{u + 0.5} {v + 0.5}" for u, v in points)
    (tmp_path / "a.pts").write_text("version: 1\nn_points: 68\n{\n" + lines + "\n}\n")
    for suffix in ("npz", "npy", "txt", "pts"):
        np.testing.assert_allclose(read_landmarks_2d(tmp_path / f"a.{suffix}"), points, atol=1e-9)
    np.save(tmp_path / "b.npy", points[:51])
    with pytest.raises(PredictionError, match=r"b\.npy"):
        read_landmarks_2d(tmp_path / "b.npy")


# Ground truth


def test_a_scan_in_any_unit_is_the_same_head(tmp_path, phantom):
    for unit, factor in (("mm", 1.0), ("cm", 0.1), ("m", 1e-3)):
        write_scan(tmp_path / f"{unit}.obj", phantom.scan.scaled(factor))
        write_picked_points(tmp_path / f"{unit}.pp", 1000 * factor * phantom.landmarks[SEVEN])
        truth = read_truth(tmp_path / f"{unit}.obj", tmp_path / f"{unit}.pp")
        assert truth.unit == unit and truth.unit_checked
        np.testing.assert_allclose(truth.mesh.vertices, phantom.scan.vertices / 1000, atol=6e-6)
    with pytest.raises(UnitError, match="without landmarks"):
        read_truth(tmp_path / "mm.obj")
    assert not read_truth(tmp_path / "mm.obj", unit="mm").unit_checked
    with pytest.raises(UnitError, match="in mm it would be"):
        read_truth(tmp_path / "mm.obj", tmp_path / "mm.pp", unit="cm")


def test_regions_of_a_scan_are_those_of_the_head_it_was_made_of(tmp_path, phantom):
    """Transferred to another topology by closeness; the truth comes from the head the scan was drawn from."""
    write_scan(tmp_path / "scan.obj", phantom.scan)
    write_picked_points(tmp_path / "scan.pp", 1000 * phantom.landmarks[SEVEN])
    truth = read_truth(tmp_path / "scan.obj", tmp_path / "scan.pp")
    regions, source = truth_regions(truth, None, None)
    assert source.startswith("nearest of")
    template = load_template()
    from scipy.spatial import cKDTree

    visible = template.visible
    owner = visible[cKDTree(phantom.head.vertices[visible]).query(truth.mesh.vertices)[1]]
    for name, least in (("face", 0.93), ("eyes", 0.75), ("nose", 0.8), ("mouth", 0.65), ("ears", 0.9)):
        found = np.zeros(len(owner), bool)
        found[regions[name]] = True
        true = np.isin(owner, template.regions[name])
        overlap = (found & true).sum() / (found | true).sum()
        assert overlap > least, (name, overlap)


def test_regions_of_the_head_models_own_topology_are_its_masks(tmp_path, phantom, open_head):
    write_obj(tmp_path / "own.obj", phantom.head.vertices, phantom.head.faces)
    truth = read_truth(tmp_path / "own.obj")
    regions, source = truth_regions(truth, None, None)
    assert source.startswith("masks of") and truth.unit == "m"
    hidden = np.union1d(open_head.masks["mouth_cavity"], open_head.masks["eye_sockets"])
    np.testing.assert_array_equal(regions["face"], np.setdiff1d(open_head.masks["face"], hidden))


def test_a_regions_file_counts_the_files_vertices(tmp_path, phantom):
    mesh = phantom.head
    write_obj(tmp_path / "a.obj", np.concatenate([[[0, 0, 0]], mesh.vertices]), mesh.faces + 1)
    (tmp_path / "r.json").write_text(json.dumps({"face": [0, 1, 2, 900], "nose": [5]}))
    truth = read_truth(tmp_path / "a.obj", unit="m")
    regions, source = truth_regions(truth, tmp_path / "r.json", None)
    assert source == "file r.json"
    np.testing.assert_allclose(truth.mesh.vertices[regions["face"]], mesh.vertices[[0, 1, 899]], atol=1e-6)
    for text in ("[]", "{", '{"nose": [1]}', '{"face": [99999]}'):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(RegionError, match=r"bad\.json"):
            read_regions(tmp_path / "bad.json", 5000)


def test_camera_files(tmp_path):
    path = tmp_path / "a.camera.json"
    path.write_text(
        json.dumps([[[1, 0, 0], [0, 1, 0], [0, 0, 1]], [[1, 0, 0, 5], [0, 1, 0, 6], [0, 0, 1, 7]]])
    )
    np.testing.assert_allclose(read_camera(path, 1e-3).translation, [5e-3, 6e-3, 7e-3])
    path.write_text(json.dumps({"head_centre": [1, 2, 3], "projection": "orthographic"}))
    camera = read_camera(path, 1e-3)
    np.testing.assert_allclose(camera.head_centre, [1e-3, 2e-3, 3e-3])
    assert not camera.perspective and read_camera(None, 1.0).perspective
    path.write_text('{"projection": "fisheye"}')
    with pytest.raises(MeshError, match="fisheye"):
        read_camera(path, 1.0)


# Folders


def touch(path, text=""):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_plain_folders(tmp_path):
    for name in (
        "s1/a.obj",
        "s1/a.pp",
        "s1/a.png",
        "b.ply",
        "b_landmarks.txt",
        "b.camera.json",
        ".hidden/c.obj",
    ):
        touch(tmp_path / name)
    layout, samples = layouts.list_samples(tmp_path)
    assert layout == "plain"
    assert [(s.name, s.group) for s in samples] == [("b", ""), ("s1/a", "s1")]
    assert [s.landmarks.name for s in samples] == ["b_landmarks.txt", "a.pp"]
    assert samples[0].camera.name == "b.camera.json" and samples[1].image.name == "a.png"
    touch(tmp_path / "b.obj")
    with pytest.raises(layouts.LayoutError, match="two formats"):
        layouts.list_samples(tmp_path)


def test_nows_folders(tmp_path):
    touch(
        tmp_path / "imagepathsvalidation.txt", "./a/S1/selfie/IMG_1.jpg\nS2/multiview_neutral/IMG_2.jpg\n\n"
    )
    for name in ("scans/S1/x.obj", "scans_lmks_onlypp/S1/x.pp"):
        touch(tmp_path / name)
    layout, samples = layouts.list_samples(tmp_path)
    assert layout == "now"
    assert [s.name for s in samples] == ["S1/selfie/IMG_1", "S2/multiview_neutral/IMG_2"]
    assert samples[0].truth.name == "x.obj" and samples[0].landmarks.name == "x.pp"
    assert samples[1].landmarks is None and samples[1].group == "multiview_neutral"
    touch(tmp_path / "imagepathsvalidation.txt", "IMG_1.jpg\n")
    with pytest.raises(layouts.LayoutError, match="line 1"):
        layouts.list_samples(tmp_path)


def multiface(root, phantom, entity, turn=0.0):
    """One subject with three cameras: at 40° to either side of the face and in front of it."""
    folder = root / entity
    angle = np.radians(turn)
    head = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    for segment, frames in (("E001_Neutral", range(3, 10)), ("SEN_a", [50])):
        for frame in frames:
            path = folder / "tracked_mesh" / segment / f"{frame:06d}.obj"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_scan(path, phantom.head.scaled(1000.0))
            np.savetxt(path.with_name(f"{frame:06d}_transform.txt"), np.c_[head, [10, 20, 1000]])
    blocks = []
    for name, degrees in (("400002", -40.0), ("400013", 0.0), ("400023", 40.0)):
        a = np.radians(degrees + turn)
        centre = np.array([0, 0, 1000]) + 900 * np.array([np.sin(a), 0, np.cos(a)])
        forward = -np.array([np.sin(a), 0, np.cos(a)])
        right = np.cross([0.0, -1.0, 0.0], forward)
        rotation = np.stack([right, np.cross(forward, right), forward])
        extrinsics = np.c_[rotation, -rotation @ centre]
        rows = [name, "1000 0 300", "0 1000 400", "0 0 1", "0 0 0 0 0"]
        rows += [" ".join(f"{x:.8f}" for x in row) for row in extrinsics]
        blocks.append("\n".join(rows))
    (folder / "KRT").write_text("\n\n".join(blocks) + "\n")


def test_multifaces_folders(tmp_path, phantom):
    names = layouts.MULTIFACE_SUBJECTS
    assert len(names) == 10
    multiface(tmp_path, phantom, names[0])
    multiface(tmp_path, phantom, names[1], turn=40.0)
    multiface(tmp_path, phantom, "m--20190529--1004--5067077--GHS")  # of the other stage
    with pytest.raises(layouts.LayoutError, match=r"landmark_vertices\.json"):
        layouts.list_samples(tmp_path)
    corners = load_template().landmark_corners[:, 0]
    (tmp_path / "landmark_vertices.json").write_text(json.dumps(corners.tolist()))
    layout, samples = layouts.list_samples(tmp_path)
    assert layout == "multiface"
    assert [s.name for s in samples] == [
        f"{subject}/{part}"
        for subject in names[:2]
        for part in ("E001_Neutral/400013/000006", "SEN_a/400013/000050")
    ]
    assert samples[0].image == tmp_path / names[0] / "images/E001_Neutral/400013/000006.png"
    truth = read_truth(samples[0].truth, samples[0].landmarks)
    assert truth.unit == "mm"
    for sample in samples[:3]:
        path = tmp_path / "heads" / f"{sample.name}.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, vertices=phantom.head.vertices, faces=phantom.head.faces)
    result = evaluate({"same": tmp_path / "heads"}, tmp_path, tmp_path / "out", worst=0, progress=False)
    assert result.summary["layout"] == "multiface" and result.exit_code == 1  # one prediction is missing
    figures = result.summary["methods"]["same"]["figures"]
    assert figures["samples"] == 3 and figures["face/cd_mm"] < 2e-3 and figures["ears/mne_rad"] < 1e-3
    assert set(result.summary["methods"]["same"]["groups"]) == set(names[:2])
    assert len(layouts.list_samples(tmp_path, multiface_frames=3)[1]) == 8


def test_frames_are_spread_evenly():
    assert layouts.evenly(list(range(9)), 1) == [4]
    assert layouts.evenly(list(range(9)), 3) == [1, 4, 7]
    assert layouts.evenly([1, 2], 5) == [1, 2]


def test_folders_with_nothing_in_them(tmp_path):
    with pytest.raises(layouts.LayoutError, match="no folder"):
        layouts.list_samples(tmp_path / "nowhere")
    for layout in ("plain", "multiface", "300w"):
        with pytest.raises(layouts.LayoutError, match="no "):
            layouts.list_samples(tmp_path, layout)
    with pytest.raises(layouts.LayoutError, match="neither"):
        layouts.list_samples(tmp_path, "now")
    (tmp_path / "KRT").write_text("400002\n1 2 3\n")
    with pytest.raises(layouts.LayoutError, match="KRT"):
        layouts.read_krt(tmp_path / "KRT")


# Trackers' files


def vhap(open_head, frames=1, teeth=120, seed=1):
    """Arrays of a VHAP file of the open head."""
    rng = np.random.default_rng(seed)
    vertices = open_head.num_vertices + teeth
    return {
        "shape": rng.normal(0, 0.5, 50),
        "expr": rng.normal(0, 0.5, (frames, 40)),
        "rotation": rng.normal(0, 0.1, (frames, 3)),
        "neck_pose": np.zeros((frames, 3)),
        "jaw_pose": rng.normal(0, 0.1, (frames, 3)) * np.array([1.0, 0, 0]),
        "eyes_pose": np.zeros((frames, 6)),
        "translation": rng.normal(0, 0.1, (frames, 3)),
        "static_offset": rng.normal(0, 1e-3, (1, vertices, 3)),
        "dynamic_offset": rng.normal(0, 1e-3, (frames, vertices, 3)),
    }


def test_offsets_of_a_tracker_are_part_of_the_mesh(tmp_path, open_head):
    """Added to the template, whatever their axes; teeth that were appended to FLAME fall away."""
    arrays = vhap(open_head)
    count = open_head.num_vertices
    both = (arrays["static_offset"] + arrays["dynamic_offset"])[0, :count].astype(np.float32)
    params = dataclasses.replace(
        flame_jax.FlameParams.neutral(open_head),
        shape=jnp.asarray(arrays["shape"], jnp.float32),
        expression=jnp.asarray(arrays["expr"][0], jnp.float32),
        jaw=matrix_to_rotation_6d(axis_angle_to_matrix(jnp.asarray(arrays["jaw_pose"][0], jnp.float32))),
    )

    def decoded(offset):
        model = dataclasses.replace(open_head, v_template=open_head.v_template + offset)
        return np.asarray(flame_jax.decode(model, params)[0])

    def read(**changes):
        np.savez(tmp_path / "a.npz", **{k: v for k, v in (arrays | changes).items() if v is not None})
        return read_prediction(tmp_path / "a.npz").mesh.vertices

    np.testing.assert_allclose(read(), decoded(both), atol=2e-7)
    assert np.abs(read() - decoded(0.0)).max() > 1e-3
    static = arrays["static_offset"][0, :count]
    np.testing.assert_allclose(
        read(static_offset=static, dynamic_offset=None), decoded(static.astype(np.float32)), atol=2e-7
    )
    np.testing.assert_allclose(read(static_offset=None, dynamic_offset=None), decoded(0.0), atol=2e-7)
    with pytest.raises(PredictionError, match=r"a\.npz: static_offset has shape \(5023, 3\)"):
        read(static_offset=np.zeros((5023, 3)))


def test_a_file_of_many_frames_is_a_mesh_a_frame(tmp_path, open_head):
    arrays = vhap(open_head, frames=3, teeth=0)
    np.savez(tmp_path / "clip.npz", **arrays)
    suffixes = (".npz", ".obj")
    for row in range(3):
        np.savez(
            tmp_path / "one.npz",
            **{k: v[row : row + 1] if len(v) == 3 and v.ndim > 1 else v for k, v in arrays.items()},
        )
        expected = read_prediction(tmp_path / "one.npz")
        for name in (f"clip/{row:03d}", f"clip/frame_{row}"):
            found = find_prediction(tmp_path, name, suffixes)
            answer = read_prediction(found)
            np.testing.assert_array_equal(answer.mesh.vertices, expected.mesh.vertices)
            assert answer.camera is None  # three rotations are no rotation matrix
    # Not one vector of 3 × 40 numbers, nor the first frame for all.
    with pytest.raises(PredictionError, match=r"clip\.npz holds 3 frames.*NAME/000"):
        read_prediction(find_prediction(tmp_path, "clip", suffixes))
    with pytest.raises(PredictionError, match=r"clip\.npz: no frame 003; it holds 3"):
        read_prediction(find_prediction(tmp_path, "clip/003", suffixes))
    assert find_prediction(tmp_path, "clip/middle", suffixes) is None
    assert find_prediction(tmp_path, "one/000", suffixes) is None  # of one frame: that is no clip
    # Numbers of their own, in the folder of the clip.
    (tmp_path / "own").mkdir()
    np.savez(tmp_path / "own/flame_param.npz", **arrays, frames=np.array([7, 3, 12]))
    answer = read_prediction(find_prediction(tmp_path, "own/00012", suffixes))
    np.testing.assert_array_equal(answer.mesh.vertices, expected.mesh.vertices)
    with pytest.raises(PredictionError, match="frame 0 is 0 times"):
        read_prediction(find_prediction(tmp_path, "own/0", suffixes))
    np.savez(tmp_path / "clip.npz", **(arrays | {"expr": np.zeros((2, 40))}))
    with pytest.raises(PredictionError, match=r"different numbers of frames.*expr 2"):
        read_prediction(find_prediction(tmp_path, "clip/000", suffixes))
    np.savez(tmp_path / "meshes.npz", vertices=np.zeros((2, 9, 3)), faces=np.zeros((1, 3)))
    with pytest.raises(PredictionError, match="holds 2 frames"):
        read_prediction(tmp_path / "meshes.npz")


def test_records_of_frames_follow_the_file(tmp_path, open_head):
    """Each frame is measured again where its file changes, and they are not one record."""
    np.savez(tmp_path / "clip.npz", **vhap(open_head, frames=2, teeth=0))
    samples = [layouts.Sample(f"clip/{i:03d}", tmp_path / "truth.obj") for i in range(2)]

    def prints():
        return [t.fingerprint for t in make_tasks(samples, {"m": tmp_path}, tmp_path, Settings("paper"))]

    first = prints()
    assert first[0] != first[1] and prints() == first
    np.savez(tmp_path / "clip.npz", **vhap(open_head, frames=2, teeth=0, seed=2), frames=np.arange(2))
    assert not set(prints()) & set(first)


# What is missing


@pytest.mark.parametrize(
    ("sample", "files", "said"),
    [
        ("heads/head000", ["head000.npz"], r"there is head000\.npz: put predictions under heads/"),
        (
            "heads/head000",
            ["head000/mesh_coarse.obj"],
            r"there is head000/mesh_coarse\.obj: put .* under heads/",
        ),
        ("head000", ["heads/head000.npz"], r"there is heads/head000\.npz: give \S+/heads as the folder"),
        ("a/b/x", ["b/x.obj"], r"there is b/x\.obj: put predictions under a/"),
        ("a/x", ["b/x.obj"], r"there is b/x\.obj: predictions are called as their samples"),
        ("heads/head000", ["other.obj"], r"its files are called other\.obj and the like"),
        ("heads/head000", ["notes.txt"], r"it holds no \.npz, \.obj.* at all"),
    ],
)
def test_what_lies_under_another_name_is_said(tmp_path, sample, files, said):
    for name in files:
        touch(tmp_path / "p" / name)
    (task,) = make_tasks(
        [layouts.Sample(sample, tmp_path / "t.obj")],
        {"m": tmp_path / "p"},
        tmp_path / "out",
        Settings("paper"),
    )
    assert task.prediction is None
    for folder in ("records", "errors"):
        (task.folder / folder).mkdir(parents=True)
    record = work(task)
    assert record["status"] == "missing" and record["message"].startswith(f"no prediction {sample} in ")
    assert re.search(said, format_problems([record])), record["message"]


def test_another_samples_prediction_is_not_offered(tmp_path):
    touch(tmp_path / "p/a/x.npz")
    samples = [layouts.Sample(f"{name}/x", tmp_path / "t.obj") for name in "ab"]
    found, missing = make_tasks(samples, {"m": tmp_path / "p"}, tmp_path / "out", Settings("paper"))
    assert found.missing == "" and missing.missing == f"no prediction b/x in {tmp_path / 'p'}"
