"""What finds faces on the device, part by part against its NumPy and OpenCV counterpart."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import skimage.data

from n2f_jax.frontends import device_detector, device_landmarks, eyes, face_confidence, face_detector, profile
from n2f_jax.frontends.device_detector import Detections
from n2f_jax.frontends.device_images import ImageLevels, Squares, cut_squares, cut_upright
from n2f_jax.frontends.face_landmarks import MeshedFace
from n2f_jax.frontends.work_queue import for_each
from n2f_jax.geometry.squares import Square, cut_square

FIRST = jnp.zeros(1, jnp.int32)


@pytest.fixture(scope="module")
def image():
    return np.ascontiguousarray(skimage.data.astronaut()[:301, :400])


@pytest.fixture(scope="module")
def levels(image):
    """The image is the second of two."""
    return ImageLevels.of(jnp.asarray(np.stack([image[::-1], image])), 5)


SQUARES = [
    (0.0, 0.0, 400.0),
    (-30.3, 50.2, 300.7),
    (100.0, 20.0, 60.0),
    (-100.0, -200.0, 1024.0),
    (20.0, 10.0, 256.0),
]


def test_upright_squares_are_cut_as_the_detector_cuts(image, levels):
    picture = face_detector._Picture(image)
    cut = jax.jit(functools.partial(cut_upright, size=64))
    found = cut(levels, jnp.ones(len(SQUARES), jnp.int32), jnp.asarray(SQUARES, jnp.float32))
    for pixels, square in zip(np.asarray(found), SQUARES, strict=True):
        expected = picture.cut(face_detector._Square(*square), 64)
        assert np.abs(pixels - expected).max() <= 1 and (pixels != expected).mean() < 1e-3


@pytest.mark.parametrize(
    ("centre", "side", "angle"),
    [
        ((220.0, 130.0), 50.0, 0.2),
        ((200.3, 130.1), 130.0, -0.7),
        ((30.0, 290.0), 200.0, 2.5),
        ((380.0, 5.0), 600.0, 0.0),
    ],
)
def test_turned_squares_are_cut_as_opencv_cuts(image, levels, centre, side, angle):
    squares = Squares(jnp.asarray([centre]), jnp.asarray([side]), jnp.asarray([angle]))
    found = np.asarray(jax.jit(functools.partial(cut_squares, size=64))(levels, FIRST + 1, squares))[0]
    expected = cut_square(image, Square(np.array(centre), side, angle), 64)
    assert np.abs(found - expected).max() <= 8 and np.abs(found - expected).mean() < 0.01


def test_squares_lead_there_and_back():
    rng = np.random.default_rng(0)
    points = rng.uniform(0, 100, (3, 7, 3)).astype(np.float32)
    centres, sides, angles = rng.uniform(0, 50, (3, 2)), rng.uniform(20, 60, 3), rng.uniform(-3, 3, 3)
    squares = Squares(*(jnp.asarray(x, jnp.float32) for x in (centres, sides, angles)))
    inside, around = squares.from_image(points), Squares.around(points[..., :2], squares.angle, 1.5)
    for i in range(3):
        square = Square(centres[i], sides[i], angles[i])
        np.testing.assert_allclose(inside[i], square.from_image(points[i]), atol=1e-5)
        one = Square.around(points[i, :, :2], angles[i], 1.5)
        np.testing.assert_allclose(around.centre[i], one.centre, atol=1e-4)
        np.testing.assert_allclose(around.side[i], one.side, rtol=1e-5)
    np.testing.assert_allclose(squares.to_image(inside), points, atol=1e-4)


def random_boxes(rng, count):
    corner, size = rng.uniform(0, 100, (count, 2)), rng.uniform(10, 50, (count, 2))
    box = np.concatenate([corner, corner + size], axis=1).astype(np.float32)
    return (
        box,
        rng.uniform(0, 100, (count, 6, 2)).astype(np.float32),
        np.sort(rng.uniform(0.3, 1, count))[::-1],
    )


def as_list(found):
    return [
        face_detector.Detection(
            *(np.asarray(x[i], np.float64) for x in (found.box, found.keypoints)), float(found.score[i])
        )
        for i in np.flatnonzero(found.valid)
    ]


def same_detections(found, expected):
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a.box, b.box, rtol=1e-4)
        np.testing.assert_allclose(a.keypoints, b.keypoints, rtol=1e-4)
        assert abs(a.score - b.score) < 1e-6


@pytest.mark.parametrize("seed", range(4))
def test_suppression_and_repetitions(seed):
    rng = np.random.default_rng(seed)
    box, keypoints, score = random_boxes(rng, 10)
    valid = rng.uniform(size=10) < 0.7
    found = Detections(*(jnp.asarray(x, jnp.float32) for x in (box, keypoints, score)), jnp.asarray(valid))
    merged, overflow = jax.jit(device_detector._merged)(found)
    same_detections(as_list(merged), face_detector._merge(as_list(found)))
    distinct, _ = jax.jit(device_detector._distinct)(found)
    same_detections(as_list(distinct), face_detector._without_repetitions(as_list(found)))
    assert not overflow


def test_more_groups_than_there_is_room_for():
    far = np.arange(12, dtype=np.float32)[:, None] * 100
    box = np.concatenate([far, far, far + 10, far + 10], axis=1)
    found = Detections(box, np.zeros((12, 6, 2), np.float32), jnp.linspace(1, 0.5, 12), jnp.ones(12, bool))
    assert jax.jit(device_detector._merged)(found)[1] and jax.jit(device_detector._distinct)(found)[1]


@pytest.mark.parametrize("wanted", [[], [3], [0, 2, 4, 6], list(range(7))])
def test_only_what_is_wanted_is_done(wanted):
    calls = []

    def double(items):
        jax.debug.callback(lambda: calls.append(1))
        return {"twice": items * 2}

    mask = np.isin(np.arange(7), wanted)
    found = for_each(double, jnp.arange(7), jnp.asarray(mask), 3)["twice"]
    jax.effects_barrier()
    np.testing.assert_array_equal(np.asarray(found)[mask], 2 * np.arange(7)[mask])
    assert len(calls) == -(-len(wanted) // 3)


@pytest.fixture(scope="module")
def turned_face():
    """The mean face seen from the side, a bit noisy, in an image of 400²; and what else is known of it."""
    rng = np.random.default_rng(0)
    mesh = face_confidence.load_coarse_mesh()
    yaw, pitch = np.radians(40), np.radians(8)
    about_y = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]])
    points = mesh.reference @ (about_x @ about_y).T * [1, -1, -1] * 1200 + [200, 190, 0]
    points = points + rng.normal(size=points.shape) * 0.5
    irises = points[[33] * 5 + [263] * 5] * 0.5 + points[[133] * 5 + [362] * 5] * 0.5
    return points, np.concatenate([points + rng.normal(size=points.shape) * 0.5, irises])


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_profiles_are_turned(turned_face, version):
    points, newer = turned_face[0], turned_face[1][:468]
    expected = profile.turned_fully(points, newer, version)
    found = jax.jit(device_landmarks.turned_fully, static_argnums=2)(
        *(jnp.asarray(x[None], jnp.float32) for x in (points, newer)), version
    )
    assert np.abs(expected - points).max() > 5  # pixels: there is something to turn
    np.testing.assert_allclose(found[0], expected, atol=5e-3)


def test_the_check_sees_the_same(image, turned_face):
    points, newer = turned_face
    scores = np.random.default_rng(1).uniform(size=52).astype(np.float32)
    square = Square(np.array([200.0, 180.0]), 330.0, 0.1)
    face = MeshedFace(
        points.astype(np.float32),
        0.9,
        0.8,
        newer.astype(np.float32),
        scores,
        square,
        mirror_gap=0.02,
        version_gap=0.03,
    )
    size = image.shape[:2]
    crop = cut_square(image, square, face_confidence.CROP)
    flat = face_confidence.unfold(crop, square.from_image(face.points)[:, :2], square, size)
    measured = face_confidence.measures(face, crop, size)
    check = face_confidence.FaceConfidence()

    def one(x):
        return jnp.asarray(np.asarray(x)[None], jnp.float32)

    squares = Squares(one(square.centre), one(square.side), one(square.angle))
    found_flat = jax.jit(device_landmarks.unfold, static_argnums=3)(
        one(crop), squares.from_image(one(points)), squares, size
    )
    told = tuple(one(x) for x in (0.9, 0.8, 0.02, 0.03))
    found = jax.jit(device_landmarks.measures, static_argnums=6)(
        one(points), one(newer), one(scores), told, squares, one(crop), size
    )
    np.testing.assert_allclose(found[0], measured, rtol=2e-3, atol=2e-3)
    assert np.abs(np.asarray(found_flat[0]) - flat).mean() < 2e-3
    probabilities = jax.jit(device_landmarks.probabilities)(check.weights, one(flat), one(measured))
    np.testing.assert_allclose(probabilities[0], check.probabilities(flat, measured), atol=1e-5)


@pytest.mark.parametrize("side", [0, 1])
def test_eyes_are_as_closed(turned_face, side):
    scores = np.linspace(0, 1, 52).astype(np.float32)
    expected = eyes.eye_closure(turned_face[1], scores, side)
    newer = jnp.asarray(turned_face[1][None], jnp.float32)
    assert abs(float(device_landmarks._closure(newer, scores[None], side)[0]) - expected) < 1e-4
