"""A track that is there as the start of another."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from n2f_jax.cli.main import main
from n2f_jax.face_mesh.embedding import face_mesh_embedding
from n2f_jax.face_mesh.error_model import load_point_errors
from n2f_jax.geometry.camera import FRONTAL
from n2f_jax.tracking import first_pass, offline, shards
from n2f_jax.tracking.clips import open_clip
from n2f_jax.tracking.frame_fit import PersonPoints, fit_frames
from n2f_jax.tracking.run import TrackOptions, track_clip
from n2f_jax.tracking.start import Start, StartError
from n2f_jax.tracking.track_file import LOST, load_track, save_track
from tests.n2f_jax.reconstruction.conftest import place_head

from .conftest import SIZE, write_frames

pytestmark = pytest.mark.medium
FRAMES = 6
OPTIONS = TrackOptions(overlay=False)


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    for module in (first_pass, offline, shards):
        monkeypatch.setattr(module, "SHARD", 8)


def seen(number):
    return [(0.02, 4.0)]


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return open_clip(write_frames(tmp_path_factory.mktemp("clip") / "frames", FRAMES))


@pytest.fixture(scope="module")
def first(tmp_path_factory, tracker, clip):
    """A track of the mean head, of an untrained network."""
    return track_clip(clip, tmp_path_factory.mktemp("first"), tracker(seen), OPTIONS).track


def changed(first, path, **values):
    save_track(path, first | values)
    return path


def test_what_is_begun_with_is_in_the_track(tmp_path, tracker, clip, first):
    """The made front end has no points that could move it: shape and expressions are the start's, as they were."""
    rng = np.random.default_rng(0)
    shape = rng.standard_normal(len(first["shape"])).astype(np.float32)
    expression = np.tile(0.3 * rng.standard_normal(first["expression"].shape[1]), (FRAMES, 1))
    jaw = np.tile([0.2, 0.0, 0.0], (FRAMES, 1))
    intrinsics = first["intrinsics"] * [[1.5, 1, 1], [1, 1.5, 1], [1, 1, 1]]
    status = np.where(np.arange(FRAMES) < 5, first["status"], LOST).astype(np.uint8)
    path = changed(
        first,
        tmp_path / "start.npz",
        shape=shape,
        expression=expression.astype(np.float32),
        jaw_pose=jaw.astype(np.float32),
        intrinsics=intrinsics,
        status=status,
    )
    options = dataclasses.replace(OPTIONS, start=path)
    result = track_clip(clip, tmp_path / "out", tracker(seen), options)
    track = result.track
    np.testing.assert_array_equal(track["shape"], shape)
    np.testing.assert_allclose(track["expression"][:3], expression[:3], atol=0.05)
    np.testing.assert_allclose(track["jaw_pose"][:3], jaw[:3], atol=0.02)
    assert track["focal_source"] == "start" and result.summary["start"] == str(path)
    np.testing.assert_array_equal(track["intrinsics"], intrinsics)
    # Where it is lost the network's answers hold.
    assert np.abs(track["expression"][5] - first["expression"][5]).max() < 0.5 * np.abs(expression[5]).max()
    given = track_clip(
        clip, tmp_path / "given", tracker(seen), dataclasses.replace(options, focal=200.0)
    ).track
    assert given["focal_source"] == "given" and given["intrinsics"][0, 0] == 200.0


def test_another_head_model_other_frames_and_another_person_are_refused(tmp_path, tracker, clip, first):
    out, start = tmp_path / "out", tmp_path / "start.npz"

    def refused(said, **values):
        changed(first, start, **values)
        with pytest.raises(StartError, match=said):
            track_clip(clip, out, tracker(seen), dataclasses.replace(OPTIONS, start=start))

    refused(
        "of head model 'FLAME', not of .* n2f convert track", head_model="FLAME", head_model_sha256="0" * 64
    )
    refused("frames are 200 × 120, the clip's 160 × 120", image_size=np.array([120, 200]))
    refused("focal length is not above 0", intrinsics=0 * first["intrinsics"])
    refused("intrinsics are none", intrinsics=first["intrinsics"] * [[1], [1], [0]])
    refused("expression is beyond 100", expression=1e30 + first["expression"])
    refused("rotation is none", rotation=2 * first["rotation"])
    refused("not those of|coefficients", shape=first["shape"][:3])
    fewer = {
        key: value[:4] if np.ndim(value) and np.shape(value)[0] == FRAMES else value
        for key, value in first.items()
    }
    save_track(start, fewer)
    with pytest.raises(StartError, match="it has 4 frames, the clip 6"):
        track_clip(clip, out, tracker(seen), dataclasses.replace(OPTIONS, start=start))
    with pytest.raises(StartError, match=r"a folder: .* n2f convert track"):
        track_clip(clip, out, tracker(seen), dataclasses.replace(OPTIONS, start=tmp_path))
    assert not out.exists()
    refused("is not where the person's face is", translation=first["translation"] + np.float32([0.4, 0, 0]))
    refused("knows no frame", status=np.full(FRAMES, LOST, np.uint8))


def test_a_video_of_another_length_is_refused(tmp_path, tracker, clip, first):
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "clip.mp4"), "w") as video:
        stream = video.add_stream("libx264", rate=25)
        stream.height, stream.width = SIZE
        for frame in list(clip.frames())[:4]:
            video.mux(stream.encode(av.VideoFrame.from_ndarray(frame.image, format="rgb24")))
        video.mux(stream.encode())
    options = dataclasses.replace(OPTIONS, start=changed(first, tmp_path / "start.npz"))
    with pytest.raises(StartError, match="it has 6 frames, the clip 4"):
        track_clip(open_clip(tmp_path / "clip.mp4"), tmp_path / "out", tracker(seen), options)


def test_cameras_of_another_focal_length_show_the_head_in_its_place(first):
    start = Start.of("start", first)
    pivot, size, focal = np.array([0.0, 0.02, 0.05]), tuple(first["image_size"]), 2.0 * start.focal
    rotation, translation = start.cameras(np.arange(FRAMES), focal, size, pivot)
    np.testing.assert_array_equal(rotation, start.rotation)
    before = (rotation @ pivot + start.translation) @ start.intrinsics.T
    after = (rotation @ pivot + translation) @ np.array(
        [[focal, 0, size[1] / 2], [0, focal, size[0] / 2], [0, 0, 1]]
    ).T
    np.testing.assert_allclose(after[:, :2] / after[:, 2:], before[:, :2] / before[:, 2:], atol=1e-6)
    np.testing.assert_allclose(after[:, 2] / focal, before[:, 2] / start.focal)


def test_frames_begin_at_the_start(open_head):
    """Without a step they end there; a frame that it does not know begins on the points."""
    places, errors = face_mesh_embedding(open_head), load_point_errors("v2")
    count = open_head.num_expression
    pivot = jnp.asarray(open_head.v_template).mean(axis=0)
    person = PersonPoints.make(
        open_head, places, np.zeros(open_head.num_shape), pivot, errors, np.eye(count + 5)
    )
    _, camera = place_head(open_head, (128, 128))
    mean = jnp.zeros((2, count + 5)).at[:, 0].set(0.7)
    points = jnp.tile(
        jnp.concatenate([64 + 500 * person.points(mean[0])[:, :2], jnp.zeros((468, 1))], 1), (2, 1, 1)
    )
    turn = Rotation.from_euler("y", 20, degrees=True).as_matrix() @ np.asarray(FRONTAL)
    rotation = jnp.asarray(np.stack([turn, np.full((3, 3), np.nan)]), jnp.float32)
    translation = jnp.asarray([[0.1, 0.2, 0.9]] * 2, jnp.float32)
    focal, middle = jnp.full(2, camera.focal), jnp.tile(camera.principal_point, (2, 1))
    fit = jax.tree_util.Partial(fit_frames, person, points, mean, focal, middle, 128.0, 0)
    found, cameras, _ = fit(start=(rotation, translation))
    np.testing.assert_array_equal(found, mean)
    np.testing.assert_allclose(cameras.rotation[0], turn, atol=1e-6)
    np.testing.assert_allclose(cameras.translation[0], [0.1, 0.2, 0.9], atol=1e-6)
    np.testing.assert_allclose(cameras.translation[1], fit()[1].translation[1], atol=1e-6)


def test_the_command_says_what_is_wrong(tmp_path, clip, first, capsys):
    path = changed(first, tmp_path / "start.npz", image_size=np.array([120, 200]))
    command = ["track", str(clip.path), "--out", str(tmp_path / "o"), "--start", str(path)]
    assert load_track(path)["image_size"].tolist() == [120, 200]
    for more, said in ((["--online"], "--start is for whole clips"), ([], "the clip's 160 × 120")):
        assert main([*command, *more]) == 2
        error = capsys.readouterr().err.strip()
        assert said in error and len(error.splitlines()) == 1
