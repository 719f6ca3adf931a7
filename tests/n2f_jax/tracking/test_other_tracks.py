"""Tracks of other programs: theirs back from what was written, and Pixel3DMM's from its tracker's frames."""

import json

import numpy as np
import pytest

import flame_jax
from flame_jax.files.archive import write_archive
from n2f_jax.cli.main import main
from n2f_jax.tracking.clips import open_clip
from n2f_jax.tracking.exports import write_pictures
from n2f_jax.tracking.flame_track import FlameError
from n2f_jax.tracking.other_frames import OtherTrackError
from n2f_jax.tracking.other_tracks import read_other_track
from n2f_jax.tracking.track_file import KEYS, LOST, SEEN, frame_params, load_track, save_track
from tests.n2f_jax.frontends.pixel3dmm.test_tracking import SIZE as TRACKED
from tests.n2f_jax.frontends.pixel3dmm.test_tracking import (
    drawn_at,
    frame_dict,
    gram_schmidt,
    write_frame,
)

from .made_flame import flame
from .test_exports import Matte, frames

WRITTEN = [0, 2, 4, 5]


@pytest.fixture(scope="module")
def written(tmp_path_factory, track, model):
    root = tmp_path_factory.mktemp("others")
    clip = open_clip(frames(root / "frames"), 30.0)
    write_pictures(clip, track, model, root, ["gaussian-avatars", "metrical-tracker"], network=Matte())
    return root


@pytest.mark.parametrize("name", ["gaussian-avatars", "metrical-tracker"])
def test_there_and_back_is_exact(tmp_path, written, track, model, name):
    back = read_other_track(written / name, model)
    save_track(tmp_path / "track.npz", back)
    back = load_track(tmp_path / "track.npz")
    assert back.keys() == KEYS.keys() and back["frame_rate"] == 30.0
    assert back["status"].tolist() == [SEEN if row in WRITTEN else LOST for row in range(6)]
    np.testing.assert_array_equal(back["seconds"][WRITTEN], track["seconds"][WRITTEN])
    for key in ("expression", "jaw_pose", "eyelids", "eyes_pose", "rotation", "translation"):
        # Rotations go through other forms; a float32 has 6·10⁻⁸ of its size.
        np.testing.assert_allclose(back[key][WRITTEN], track[key][WRITTEN], atol=2.5e-7, err_msg=key)
        assert np.isnan(back[key][1]).all()
    for key in ("expression", "eyelids"):
        np.testing.assert_array_equal(back[key][WRITTEN], track[key][WRITTEN])
    np.testing.assert_array_equal(back["shape"], track["shape"])
    np.testing.assert_array_equal(back["intrinsics"], track["intrinsics"])
    assert np.isfinite(back["landmarks_2d"][WRITTEN]).all()


def test_vhaps_own_folder(tmp_path, written, track, model, arrays):
    """Without what we add, with a neck that turns, offsets, two cameras and no original moments."""
    source, folder = written / "gaussian-avatars", tmp_path / "vhap"
    (folder / "flame_param").mkdir(parents=True)
    whole = json.loads((source / "transforms.json").read_text())
    for key in ("frame_rate", "frame_count"):
        del whole[key]
    for frame in whole["frames"]:
        del frame["seconds"], frame["timestep_index_original"]
        params = dict(np.load(source / frame["flame_param_path"]))
        params = {key: value for key, value in params.items() if not key.startswith("n2f_")}
        if frame["timestep_index"] == 2:
            params["neck_pose"] = np.array([[0.0, 0.02, 0.0]])
        params["shape"], params["static_offset"] = params["shape"][None], params["static_offset"] + 0.002
        np.savez(folder / frame["flame_param_path"], **params)
    whole["frames"] += [frame | {"camera_index": 1} for frame in whole["frames"]]
    (folder / "transforms.json").write_text(json.dumps(whole))
    said = []
    back = read_other_track(folder, model, 50.0, said.append)
    assert len(back["status"]) == 4 and (back["status"] == SEEN).all()
    np.testing.assert_allclose(back["seconds"], np.arange(4) / 50)
    # Lids are where the expressions took them.
    assert not back["eyelids"].any()
    np.testing.assert_allclose(
        back["expression"][:, :2], track["expression"][WRITTEN][:, :2] + track["eyelids"][WRITTEN], atol=2e-3
    )
    np.testing.assert_allclose(back["rotation"][[0, 1, 3]], track["rotation"][[0, 2, 5]], atol=1e-6)
    np.testing.assert_allclose(back["translation"][[0, 1, 3]], track["translation"][[0, 2, 5]], atol=2e-5)
    assert any("2.0 mm" in line for line in said) and any("1.1°" in line for line in said)
    assert 1e-3 < np.abs(back["rotation"][2] - track["rotation"][4]).max() < 0.03


def test_vhaps_result_before_its_export(tmp_path, written, track, model):
    source = np.load(written / "gaussian-avatars/tracked_flame_params_0.npz")
    np.savez(tmp_path / "tracked_flame_params_30.npz", **source)
    (tmp_path / "tracked_flame_params_9.npz").write_bytes(b"an earlier one")
    back = read_other_track(tmp_path, model)
    assert (
        back["status"].tolist() == [SEEN] * 4 and back["image_size"].tolist() == track["image_size"].tolist()
    )
    np.testing.assert_allclose(back["intrinsics"], track["intrinsics"], rtol=1e-7)
    np.testing.assert_allclose(back["rotation"], track["rotation"][WRITTEN], atol=2.5e-7)
    np.testing.assert_allclose(back["translation"], track["translation"][WRITTEN], atol=2.5e-7)
    np.testing.assert_array_equal(back["jaw_pose"], track["jaw_pose"][WRITTEN])
    calibrated = {key: value for key, value in source.items() if key != "focal_length"}
    np.savez(tmp_path / "tracked_flame_params_31.npz", **calibrated)
    with pytest.raises(OtherTrackError, match=r"_31\.npz: .*calibrated"):
        read_other_track(tmp_path, model)


def test_pixel3dmms_frames(tmp_path, arrays, model):
    """Its renderer draws the mesh where the track's camera sees it."""
    (tmp_path / "checkpoint").mkdir()
    contents = []
    for number in (0, 2):
        one = frame_dict(number, 7, 5, neck=0.0) | {"frame_id": number}
        one["flame"]["shape"], one["camera"] = frame_dict(0, 7, 5)["flame"]["shape"], frame_dict(0)["camera"]
        one["camera"]["t_base_0"] = np.array([[0.02, -0.01, -1.0]])
        contents.append(one)
        write_frame(tmp_path / f"checkpoint/{number:05d}.frame", one)
    track = read_other_track(tmp_path, model)
    assert track["status"].tolist() == [SEEN, LOST, SEEN] and track["frontend"] == "pixel3dmm"
    rows = np.array([0, 2])
    heads = np.asarray(flame_jax.decode(model, frame_params(track, rows))[0], np.float64)
    for one, row, head in zip(contents, rows, heads, strict=True):
        values = one["flame"]
        eyes = values["eyes"].reshape(2, 6)
        turns = [np.eye(3), gram_schmidt(values["neck"]), *(gram_schmidt(v) for v in (values["jaw"], *eyes))]
        theirs = drawn_at(
            one, flame(arrays, values["shape"][0], values["exp"][0], turns, values["eyelids"][0])
        )
        in_camera = head @ track["rotation"][row].astype(float).T + track["translation"][row]
        pixels = in_camera @ track["intrinsics"].T
        assert np.abs(pixels[:, :2] / pixels[:, 2:] - theirs).max() < 0.01
    assert track["image_size"].tolist() == [TRACKED, TRACKED]
    two = frame_dict(5, 7, 5) | {"frame_id": 4}
    write_frame(tmp_path / "checkpoint/00004.frame", two)
    with pytest.raises(OtherTrackError, match=r"00004\.frame: its shape is not the first frame's"):
        read_other_track(tmp_path, model)


def test_a_model_that_lacks_coefficients(tmp_path, model):
    wide = frame_dict(0, 9, 5, neck=0.0)
    write_frame(tmp_path / "0.frame", wide)
    with pytest.raises(FlameError, match="shape has 9 coefficients, head model 'made' has 7"):
        read_other_track(tmp_path, model)


def test_the_commands(tmp_path, written, track, arrays, capsys):
    """A finished track to metrical-tracker's frames, and these to a track."""
    write_archive(tmp_path / "made.npz", arrays, "made")
    out, model = tmp_path / "track.npz", ["--head-model", str(tmp_path / "made.npz")]
    (tmp_path / "done").mkdir()
    save_track(tmp_path / "done/track.npz", track)
    export = ["export", "track", str(tmp_path / "done"), "--format", "metrical-tracker", *model]
    assert main(export) == 2
    assert "name it by --clip" in capsys.readouterr().err
    (tmp_path / "done/summary.json").write_text(json.dumps({"clip": str(written / "frames")}))
    assert main(export) == 0
    assert "4 frames" in capsys.readouterr().out and not (tmp_path / "done/matte").exists()
    frame_folder = tmp_path / "done/metrical-tracker"
    assert main(["convert", "track", str(frame_folder), "--out", str(out), *model]) == 0
    assert "4 of 6 frames of metrical-tracker" in capsys.readouterr().out
    np.testing.assert_array_equal(load_track(out)["rotation"][4], track["rotation"][4])
    out.unlink()
    for more, message in (([], "takes FLAME"), ([*model, "--fps", "0"], "frames a second")):
        assert main(["convert", "track", str(frame_folder), "--out", str(out), *more]) == 2
        said = capsys.readouterr().err.strip()
        assert message in said and len(said.splitlines()) == 1 and not out.exists()


def test_a_folder_of_nothing(tmp_path, model):
    with pytest.raises(OtherTrackError, match="neither transforms"):
        read_other_track(tmp_path, model)
    with pytest.raises(OtherTrackError, match="no such folder"):
        read_other_track(tmp_path / "none", model)
