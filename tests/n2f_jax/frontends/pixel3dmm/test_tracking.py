"""A frame of Pixel3DMM's tracker: read without running it, and seen by our camera where its renderer draws it."""

import io
import os
import pickle
import zipfile

import jax.numpy as jnp
import numpy as np
import pytest

import flame_jax
from flame_jax import FlameParams
from flame_jax.loading import head_model_from_arrays
from n2f_jax.frontends.pixel3dmm.tracking import TrackingError, read_frame, to_head
from n2f_jax.geometry.camera import project

from ....flame_jax.random_model import random_arrays

SIZE = 256


def rotation(rng, degrees):
    """A random rotation by about so much, by Rodrigues' formula."""
    axis = rng.normal(size=3)
    axis /= np.linalg.norm(axis)
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    angle = np.radians(degrees)
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def frame_dict(seed=0, num_shape=7, num_expression=5, neck=20.0):
    """What ``save_checkpoint`` of the tracker puts into a frame; 6D rotations are not quite orthonormal there."""
    rng = np.random.default_rng(seed)

    def rotation_6d(degrees):
        return (rotation(rng, degrees)[:2] * rng.uniform(0.9, 1.1, (2, 1))).reshape(1, 6).astype(np.float32)

    turn = rotation_6d(25)
    return {
        "flame": {
            "exp": rng.normal(size=(1, num_expression)).astype(np.float32),
            "shape": rng.normal(size=(1, num_shape)).astype(np.float32),
            "eyes": np.concatenate([rotation_6d(8), rotation_6d(8)], axis=1),
            "eyelids": np.zeros((1, 2), np.float32),
            "jaw": rotation_6d(10),
            "neck": rotation_6d(neck),
            "R": turn,
            "R_rotation_matrix": np.zeros((1, 3, 3), np.float32),  # said twice in the file; unused
            "t": rng.normal(0, 0.05, (1, 3)).astype(np.float32),
        },
        "img_size": np.array([SIZE, SIZE]),
        "frame_id": 3,
        "global_step": 800,
        "camera": {
            # The tracker's is (nearly) the identity and (0, 0, −1); any other must work too.
            "R_base_0": rotation(rng, 5)[None],
            "t_base_0": np.array([[0.02, -0.01, -1.0]]),
            "fl": np.array([[3.7]], np.float32),
            "pp": np.array([[0.03, -0.02]], np.float32),
        },
        "joint_transforms": rng.normal(size=(1, 5, 4, 4)).astype(np.float32),
    }


def write_frame(path, contents):
    """The archive that ``torch.save`` writes where there are no tensors."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("00003/data.pkl", pickle.dumps(contents, protocol=2))
        archive.writestr("00003/version", "3\n")
    return path


def gram_schmidt(rotation_6d):
    a, b = np.split(np.asarray(rotation_6d, np.float64).reshape(6), 2)
    a = a / np.linalg.norm(a)
    b = b - (a @ b) * a
    b = b / np.linalg.norm(b)
    return np.stack([a, b, np.cross(a, b)])


def drawn_at(contents, vertices):
    """Pixels where the tracker's renderer draws the posed mesh: OpenGL's clip space and viewport, row 0 at the top."""
    flame, camera = contents["flame"], contents["camera"]
    world = vertices @ gram_schmidt(flame["R"]).T + flame["t"][0]
    eye = world @ camera["R_base_0"][0].T + camera["t_base_0"][0]
    focal = float(camera["fl"][0, 0]) * SIZE
    centre = (SIZE / 2 + 0.5) * (1 + camera["pp"][0])
    clip = np.zeros((4, 4))
    clip[0, 0], clip[0, 2] = 2 * focal / SIZE, (SIZE - 2 * centre[0]) / SIZE
    clip[1, 1], clip[1, 2] = -2 * focal / SIZE, (SIZE - 2 * centre[1]) / SIZE
    clip[3, 2] = -1
    homogeneous = np.concatenate([eye, np.ones((len(eye), 1))], axis=1) @ clip.T
    return (homogeneous[:, :2] / homogeneous[:, 3:] + 1) / 2 * SIZE


@pytest.fixture(scope="module")
def model():
    """Random arrays of FLAME's size whose every vertex follows the neck, so that folding it away is exact."""
    arrays = random_arrays(0, 5023, 60)
    arrays["weights"] = np.zeros((5023, 5))
    arrays["weights"][:, 1] = 1
    arrays["posedirs"] = np.zeros((5023, 3, 36))
    arrays["mask_face"] = np.arange(500)
    return head_model_from_arrays(arrays, "random")


def test_our_camera_sees_the_head_where_the_tracker_draws_it(tmp_path, model):
    contents = frame_dict()
    frame = read_frame(write_frame(tmp_path / "00003.frame", contents))
    params, camera = to_head(frame, model)
    assert np.allclose(params.neck, [1, 0, 0, 0, 1, 0])
    ours = project(flame_jax.decode(model, params)[0], camera)

    flame = contents["flame"]
    posed = FlameParams(
        shape=jnp.asarray(flame["shape"][0]),
        expression=jnp.asarray(flame["exp"][0]),
        jaw=jnp.asarray(flame["jaw"][0]),
        eyelids=jnp.asarray(flame["eyelids"][0]),
        neck=jnp.asarray(flame["neck"][0]),
        eyes=jnp.asarray(flame["eyes"][0].reshape(2, 6)),
    )
    theirs = drawn_at(contents, np.asarray(flame_jax.decode(model, posed)[0], np.float64))
    error = np.abs(np.asarray(ours) - theirs).max()
    assert error < 0.01, error
    # An upright head in front of the camera, its left side at the right of the picture.
    assert np.asarray(camera.translation)[2] > 0.5 and np.linalg.det(camera.rotation) == pytest.approx(
        1, abs=1e-5
    )
    assert camera.rotation[0, 0] > 0 > camera.rotation[1, 1]


def test_fields(tmp_path):
    contents = frame_dict()
    frame = read_frame(write_frame(tmp_path / "00003.frame", contents))
    assert (frame.size, frame.frame_id) == (SIZE, 3)
    assert frame.focal == pytest.approx(3.7 * SIZE)
    assert frame.principal_point == pytest.approx([128.5 * 1.03, 128.5 * 0.98], rel=1e-6)
    assert np.array_equal(frame.shape, contents["flame"]["shape"][0])
    assert np.array_equal(frame.eyes[1], contents["flame"]["eyes"][0, 6:])


def test_other_files_are_refused(tmp_path, model, open_head):
    def refused(contents, message):
        with pytest.raises(TrackingError, match=message):
            read_frame(write_frame(tmp_path / "bad.frame", contents))

    refused({"model": 1}, "no frame of Pixel3DMM")
    refused(frame_dict() | {"camera": {"fl": np.ones((1, 1))}}, "no 'R_base_0'")
    refused(frame_dict() | {"img_size": np.array([256, 128])}, "square")
    broken = frame_dict()
    broken["flame"]["jaw"][0, 2] = np.nan
    refused(broken, "'jaw' is not finite")
    two = frame_dict()
    two["flame"]["exp"] = np.zeros((2, 5), np.float32)
    refused(two, "one head a file")
    with pytest.raises(TrackingError, match="written by torch"):
        (tmp_path / "text.frame").write_text("hello")
        read_frame(tmp_path / "text.frame")
    with pytest.raises(TrackingError, match="does not exist"):
        read_frame(tmp_path / "missing.frame")

    frame = read_frame(write_frame(tmp_path / "00003.frame", frame_dict()))
    with pytest.raises(ValueError, match="5023"):
        to_head(frame, open_head)
    large = read_frame(write_frame(tmp_path / "00003.frame", frame_dict(num_shape=300)))
    with pytest.raises(ValueError, match="300 shape"):
        to_head(large, model)


def test_nothing_in_the_file_is_run(tmp_path):
    class Attack:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "attacked"),)

    with pytest.raises(TrackingError, match="mkdir"):
        read_frame(write_frame(tmp_path / "bad.frame", frame_dict() | {"extra": Attack()}))
    assert not (tmp_path / "attacked").exists()


@pytest.mark.slow
def test_torch_save_writes_the_same(tmp_path):
    torch = pytest.importorskip("torch")
    stream = io.BytesIO()
    torch.save(frame_dict(), stream)
    (tmp_path / "torch.frame").write_bytes(stream.getvalue())
    a = read_frame(tmp_path / "torch.frame")
    b = read_frame(write_frame(tmp_path / "zip.frame", frame_dict()))
    for name, value in vars(b).items():
        assert np.array_equal(getattr(a, name), value), name


def _cyclic(depth=60):
    value = []
    for _ in range(depth):
        value = [value, value]
    return value


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    ("group", "key", "value"),
    [
        ("flame", "R", np.zeros((1, 6))),  # came back as NaN, and valid
        ("flame", "jaw", np.zeros((1, 6))),
        ("flame", "eyes", np.array([[1, 0, 0, 2, 0, 0, 1, 0, 0, 0, 1, 0.0]])),
        ("flame", "shape", [[1.0], [1.0, 2.0]]),
        ("flame", "shape", _cyclic()),
        ("flame", "exp", np.full((1, 5), np.inf)),
        ("flame", "t", np.full((1, 3), 1e300)),
        ("flame", "t", "x"),
        ("camera", "R_base_0", np.zeros((1, 3, 3))),
        ("camera", "fl", np.array([[0.0]])),
        (None, "img_size", np.array([np.nan, np.nan])),
        (None, "img_size", [[1], [1, 2]]),
        (None, "img_size", np.array([], int)),
        (None, "frame_id", 10**40),
        (None, "flame", []),
    ],
)
def test_values_that_are_none(tmp_path, group, key, value):
    contents = frame_dict()
    (contents if group is None else contents[group])[key] = value
    with pytest.raises(TrackingError, match=r"a\.frame") as caught:
        read_frame(write_frame(tmp_path / "a.frame", contents))
    assert "\n" not in str(caught.value)


@pytest.mark.timeout(30)
def test_frames_that_are_far_too_large_or_no_files(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.frame", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", bytes((1 << 24) + 1))
    with pytest.raises(TrackingError, match="far larger"):
        read_frame(tmp_path / "a.frame")
    os.mkfifo(tmp_path / "pipe.frame")
    with pytest.raises(TrackingError, match="not a regular file"):
        read_frame(tmp_path / "pipe.frame")
