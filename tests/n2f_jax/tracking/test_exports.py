"""What is written for other programs, read with code written from their formats' descriptions."""

import json
import math
import pickle
import zipfile

import numpy as np
import pytest
from PIL import Image
from scipy.spatial.transform import Rotation

from n2f_jax.cli.main import main
from n2f_jax.tracking import exports
from n2f_jax.tracking.clips import ClipError, open_clip
from n2f_jax.tracking.exports import ExportError, write_pictures
from n2f_jax.tracking.flame_track import FlameError, neck_rim, require_flame
from n2f_jax.tracking.track_file import save_track

from .conftest import write_frames  # noqa: F401
from .made_flame import FOCAL, SIZE, flame, made_model, made_track, seen_pixels

WRITTEN = [0, 2, 4, 5]  # frames that were seen
FORMATS = ("gaussian-avatars", "vhap", "insta", "metrical-tracker")


class Matte:
    """A person in the middle third of every frame, at once."""

    def __init__(self, fails_at=None):
        self.calls, self.fails_at = [], fails_at

    def __call__(self, image, square=None):
        if len(self.calls) == self.fails_at:
            raise KeyboardInterrupt
        self.calls.append(square)
        matte = np.zeros(image.shape[:2], np.uint8)
        matte[:, image.shape[1] // 3 : -image.shape[1] // 3] = 255
        return matte


def frames(folder, count=6):
    folder.mkdir(parents=True)
    for number in range(count):
        image = np.full((*SIZE, 3), 40 + 30 * number, np.uint8)
        Image.fromarray(image).save(folder / f"{number:03d}.png")
    return folder


@pytest.fixture(scope="module")
def written(tmp_path_factory, track, model):
    root = tmp_path_factory.mktemp("exports")
    matte, said = Matte(), []
    clip = open_clip(frames(root / "frames"), 30.0)
    (root / "out").mkdir()
    made = write_pictures(clip, track, model, root / "out", FORMATS, network=matte, say=said.append)
    return root / "out", made, matte, said


def opengl_pixels(world, frame, focal=None):
    """Pixels, from the image's edge, of points in the world, by a NeRF data set's camera: along −z, y up."""
    to_camera = np.linalg.inv(np.array(frame["transform_matrix"]))
    x, y, z = (world @ to_camera[:3, :3].T + to_camera[:3, 3]).T
    fl_x, fl_y = (frame["fl_x"], frame["fl_y"]) if focal is None else focal
    return np.stack([frame["cx"] + fl_x * x / -z, frame["cy"] - fl_y * y / -z], axis=1)


@pytest.mark.parametrize("name", ["gaussian-avatars", "vhap"])
def test_vhaps_flame_lies_where_ours_does(written, arrays, track, name):
    folder = written[0] / name
    whole = json.loads((folder / "transforms.json").read_text())
    assert whole["timestep_indices"] == [0, 1, 2, 3] and whole["camera_indices"] == [0]
    assert [frame["timestep_index_original"] for frame in whole["frames"]] == WRITTEN
    for frame, row in zip(whole["frames"], WRITTEN, strict=True):
        params = np.load(folder / frame["flame_param_path"])
        shapes = {"translation": (1, 3), "rotation": (1, 3), "neck_pose": (1, 3), "jaw_pose": (1, 3)}
        shapes |= {"eyes_pose": (1, 6), "shape": (300,), "expr": (1, 100), "static_offset": (1, 5143, 3)}
        assert {key: params[key].shape for key in shapes} == shapes and not params["static_offset"].any()
        vectors = [
            params["rotation"],
            params["neck_pose"],
            params["jaw_pose"],
            *params["eyes_pose"].reshape(2, 1, 3),
        ]
        turns = [Rotation.from_rotvec(vector[0]).as_matrix() for vector in vectors]
        # There are no lids in this FLAME; the made model's first two expressions do what they do.
        world = flame(arrays, params["shape"], params["expr"][0], turns) + params["translation"]
        ours = seen_pixels(arrays, track, row)
        assert np.abs(opengl_pixels(world, frame) - ours).max() < 0.02
        # GaussianAvatars knows the horizontal angle alone, and the frame's middle.
        focal = frame["w"] / (2 * math.tan(frame["camera_angle_x"] / 2))
        frame = frame | {"cx": frame["w"] / 2, "cy": frame["h"] / 2}
        assert np.abs(opengl_pixels(world, frame, (focal, focal)) - ours).max() < 0.02
        with (
            Image.open(folder / frame["file_path"]) as image,
            Image.open(folder / frame["fg_mask_path"]) as mask,
        ):
            assert image.mode == "RGB" and mask.mode == "L" and image.size == mask.size == SIZE[::-1]
            image, mask = np.asarray(image), np.asarray(mask)
        assert (image[mask == 0] == 255).all() and (image[mask == 255] == 40 + 30 * row).all()
        assert (mask == 255).any() and (mask[:, : SIZE[1] // 3] == 0).all()


def test_vhaps_parts_and_rest(written):
    folder = written[0] / "gaussian-avatars"
    parts = {
        part: json.loads((folder / f"transforms_{part}.json").read_text())
        for part in ("train", "val", "test")
    }
    indices = {part: [frame["timestep_index"] for frame in parts[part]["frames"]] for part in parts}
    assert indices == {"train": [0, 1, 2], "val": [], "test": [3]}
    assert parts["val"]["camera_indices"] == [] and parts["val"]["timestep_indices"] == [0, 1, 2]
    rest = np.load(folder / "canonical_flame_param.npz")
    assert rest["jaw_pose"].tolist() == [[np.float32(0.3), 0, 0]] and not rest["rotation"].any()


def test_vhaps_own_result_is_seen_by_its_own_camera(written, arrays, track):
    tracked = np.load(written[0] / "vhap/tracked_flame_params_0.npz")
    assert tracked["n_processed_frames"] == 4 and tracked["timestep_id"].tolist()[1] == "00001"
    height, width = tracked["image_size"]
    focal = float(tracked["focal_length"][0]) * max(height, width)
    placed = np.eye(4)
    placed[2, 3] = 1.0
    camera = {"transform_matrix": placed, "fl_x": focal, "fl_y": focal, "cx": width / 2, "cy": height / 2}
    for index, row in enumerate(WRITTEN):
        vectors = [tracked[key][index] for key in ("rotation", "neck_pose", "jaw_pose")]
        vectors += list(tracked["eyes_pose"][index].reshape(2, 3))
        turns = [Rotation.from_rotvec(vector).as_matrix() for vector in vectors]
        world = flame(arrays, tracked["shape"], tracked["expr"][index], turns) + tracked["translation"][index]
        assert np.abs(opengl_pixels(world, camera) - seen_pixels(arrays, track, row)).max() < 0.02


def test_what_lids_lose_is_said(written, track, model, arrays):
    _, made, _, said = written
    assert made["lids_left_mm"] < 0.01 and not any("lids" in line for line in said)
    poorer = made_model(arrays | {"l_eyelid": np.roll(arrays["l_eyelid"], 400, axis=0)})
    left = exports.FlameTrack(made_track(poorer), poorer).lids_left(np.array(WRITTEN))
    assert left > 0.5


def unpickled(path):
    """As ``torch.load`` reads it: the one pickle in a zip archive that is stored, not compressed."""
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        assert sorted(name.split("/")[1] for name in names) == ["data.pkl", "version"]
        assert archive.read(names[1]) == b"3\n"
        assert all(info.compress_type == zipfile.ZIP_STORED for info in archive.infolist())
        data = archive.read(names[0])
    assert b"numpy._core" not in data  # which older NumPy does not know
    return pickle.loads(data)


def rows_6d(values):
    """PyTorch3D's rotations: the first two rows, made orthonormal."""
    first, second = np.asarray(values, np.float64).reshape(2, 3)
    first = first / np.linalg.norm(first)
    second = second - (first @ second) * first
    second /= np.linalg.norm(second)
    return np.stack([first, second, np.cross(first, second)])


@pytest.mark.filterwarnings("ignore:numpy.core:DeprecationWarning")
def test_metrical_trackers_flame_lies_where_ours_does(written, arrays, track):
    folder = written[0] / "metrical-tracker"
    files = sorted(path.name for path in (folder / "checkpoint").iterdir())
    assert files == [f"{index:05d}.frame" for index in range(4)]
    for index, row in enumerate(WRITTEN):
        frame = unpickled(folder / "checkpoint" / files[index])
        assert frame["frame_id"] == f"{index:05d}" and frame["img_size"].tolist() == list(SIZE)
        values, camera, opencv = frame["flame"], frame["camera"], frame["opencv"]
        sizes = {"exp": (1, 100), "shape": (1, 300), "tex": (1, 140), "sh": (1, 9, 3), "eyes": (1, 12)}
        sizes |= {"eyelids": (1, 2), "jaw": (1, 6)}
        assert {key: value.shape for key, value in values.items()} == sizes
        assert all(value.dtype == np.float32 for value in values.values())
        eyes = values["eyes"].reshape(2, 6)
        turns = [np.eye(3), np.eye(3), rows_6d(values["jaw"]), rows_6d(eyes[0]), rows_6d(eyes[1])]
        head = flame(arrays, values["shape"][0], values["exp"][0], turns, values["eyelids"][0])
        ours = seen_pixels(arrays, track, row)
        # PyTorch3D: rows times R, x to the left and y up; one unit is half the shorter side.
        x, y, z = (head @ rows_6d(camera["R"]) + camera["t"]).T
        units = np.stack([x, y], axis=1) / z[:, None] * camera["fl"][0, 0] + camera["pp"]
        pixels = np.array(SIZE[::-1]) / 2 - units * min(SIZE) / 2
        assert np.abs(pixels - ours).max() < 0.01
        in_camera = head @ opencv["R"][0].T + opencv["t"]
        pixels = in_camera @ opencv["K"][0].T
        assert np.abs(pixels[:, :2] / pixels[:, 2:] - ours).max() < 0.01
        # The depth of a vertex in front of all others is its own.
        with Image.open(folder / f"depth/{index:05d}.png") as image:
            depth = np.asarray(image)
        assert (
            depth.max() < 1000 * in_camera[:, 2].max()
            and (depth[depth > 0] > 999 * in_camera[:, 2].min()).all()
        )
        inside = ((ours > 1) & (ours < np.array(SIZE[::-1]) - 1)).all(axis=1)
        nearest = np.flatnonzero(inside)[in_camera[inside, 2].argmin()]
        u, v = ours[nearest].astype(int)
        assert depth[v, u] == pytest.approx(1000 * in_camera[nearest, 2], abs=4)
        with Image.open(folder / f"input/{index:05d}.png") as image:
            assert (np.asarray(image) == 40 + 30 * row).all()


def obj_vertices(path):
    return np.array(
        [line.split()[1:4] for line in path.read_text().splitlines() if line.startswith("v ")], float
    )


def test_instas_meshes_lie_where_ours_do(written, arrays, track):
    folder = written[0] / "insta"
    whole = json.loads((folder / "transforms.json").read_text())
    assert whole["fl_x"] == FOCAL and whole["integer_depth_scale"] == 0.001
    assert math.tan(math.radians(whole["x_fov"]) / 2) == pytest.approx(SIZE[1] / 2 / FOCAL)
    for frame, row in zip(whole["frames"], WRITTEN, strict=True):
        mesh = obj_vertices(folder / frame["mesh_path"])
        to_camera = np.linalg.inv(np.array(frame["transform_matrix"]))  # OpenCV's axes
        x, y, z = (mesh @ to_camera[:3, :3].T + to_camera[:3, 3]).T
        pixels = np.stack([whole["cx"] + whole["fl_x"] * x / z, whole["cy"] + whole["fl_y"] * y / z], axis=1)
        assert np.abs(pixels - seen_pixels(arrays, track, row)).max() < 0.01
        expression = np.array((folder / frame["exp_path"]).read_text().split(), float)
        np.testing.assert_allclose(expression[:7], track["expression"][row], atol=1e-7)
        assert len(expression) == 100 and (folder / frame["depth_path"]).exists()
        with Image.open(folder / frame["file_path"]) as image:
            assert image.mode == "RGBA"
            image = np.asarray(image)
        assert set(np.unique(image[..., 3])) == {0, 255} and (image[..., 0] == 40 + 30 * row).all()
    jaw = Rotation.from_rotvec([np.radians(12), 0, 0]).as_matrix()
    rest = flame(arrays, track["shape"], np.zeros(7), [np.eye(3), np.eye(3), jaw, np.eye(3), np.eye(3)])
    np.testing.assert_allclose(obj_vertices(folder / "canonical.obj"), rest, atol=1e-6)
    parts = {
        part: json.loads((folder / f"transforms_{part}.json").read_text())
        for part in ("train", "test", "val")
    }
    assert {part: len(parts[part]["frames"]) for part in parts} == {"train": 3, "test": 1, "val": 4}


def test_mattes_are_of_every_frame_and_fine_about_the_head(written, track):
    folder, _, matte, _ = written
    assert len(list((folder / "matte").glob("*.png"))) == 6
    assert [square is None for square in matte.calls] == [False, True, False, False, False, False]
    marks = track["landmarks_2d"][0]
    x0, y0, side = matte.calls[0]
    assert x0 < marks[:, 0].min() and x0 + side > marks[:, 0].max() and y0 + side > marks[:, 1].max()
    assert side == pytest.approx(3.2 * np.ptp(marks, axis=0).max(), rel=1e-5)


def test_below_the_neck_there_is_nothing(arrays, model):
    rim = neck_rim(model)
    template = arrays["v_template"]
    assert template[rim, 1] == pytest.approx(template[:, 1].min()) and len(rim) == 3
    assert template[rim[0], 0] < -0.04 and template[rim[1], 0] > 0.04 and template[rim[2], 2] > 0.04


def test_an_interrupted_export_goes_on(tmp_path, track, model):
    clip = open_clip(frames(tmp_path / "frames"), 30.0)
    (tmp_path / "out").mkdir()
    with pytest.raises(KeyboardInterrupt):
        write_pictures(clip, track, model, tmp_path / "out", ["vhap"], network=Matte(fails_at=4))
    made = sorted((tmp_path / "out").rglob("*.*"))
    stamps = {path: path.stat().st_mtime_ns for path in made}
    assert not (tmp_path / "out/vhap/transforms.json").exists()
    second = Matte()
    write_pictures(clip, track, model, tmp_path / "out", ["vhap"], network=second)
    assert len(second.calls) == 2  # of six frames
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in stamps.items())
    assert len(json.loads((tmp_path / "out/vhap/transforms.json").read_text())["frames"]) == 4
    third = Matte()
    write_pictures(clip, track, model, tmp_path / "out", ["vhap"], network=third)
    assert not third.calls
    # Another track makes its folder anew; what is no export of ours is left alone.
    other = track | {"translation": track["translation"] + np.float32(0.01)}
    write_pictures(clip, other, model, tmp_path / "out", ["vhap"], network=third)
    assert len(third.calls) == 6
    (tmp_path / "out/insta").mkdir()
    (tmp_path / "out/insta/mine.txt").write_text("x")
    with pytest.raises(ExportError, match="no export of ours"):
        write_pictures(clip, track, model, tmp_path / "out", ["insta"], network=third)
    assert (tmp_path / "out/insta/mine.txt").exists()


def test_what_cannot_be_exported_is_said(tmp_path, track, model, open_head, capsys):
    clip = open_clip(frames(tmp_path / "frames", 3), 30.0)
    with pytest.raises(ClipError, match="fewer frames than the track"):
        write_pictures(clip, track, model, tmp_path, ["metrical-tracker"])
    with pytest.raises(
        FlameError, match=r"5023 vertices.*open-head.*n2f track --head-model.*n2f convert"
    ) as error:
        require_flame(open_head, "insta")
    assert "\n" not in str(error.value)
    with pytest.raises(FlameError, match="which 'made' is not"):
        write_pictures(clip, track | {"head_model_sha256": "x"}, model, tmp_path, ["insta"])
    with pytest.raises(ExportError, match="nothing to export"):
        write_pictures(clip, track | {"status": np.zeros(6, np.uint8)}, model, tmp_path, ["insta"])
    with pytest.raises(ClipError, match="are not those of the track"):
        write_pictures(clip, track | {"image_size": np.array([9, 9])}, model, tmp_path, ["metrical-tracker"])
    (tmp_path / "t").mkdir()
    save_track(tmp_path / "t/track.npz", track)
    for arguments, message in (
        (["export", "track", str(tmp_path / "t"), "--format", "obj"], "no format is called 'obj'"),
        (["export", "track", str(tmp_path / "t"), "--format", "vhap"], "takes FLAME"),
        (
            ["track", str(tmp_path / "frames"), "--out", str(tmp_path / "o"), "--export", "x"],
            "no format is called",
        ),
    ):
        assert main(arguments) == 2
        said = capsys.readouterr().err.strip()
        assert message in said and len(said.splitlines()) == 1
    with pytest.raises(ClipError, match="name it by --clip"):
        exports.clip_of_track(tmp_path / "t", track)
