"""Faces that lie on their side or upside down, and what is not believed. The networks must be in the cache."""

import dataclasses

import numpy as np
import pytest
import skimage.data

from n2f_jax.frontends import face_landmarks
from n2f_jax.frontends.face_confidence import DOUBTFUL
from n2f_jax.frontends.face_landmarks import FaceLandmarker, MeshedFace
from n2f_jax.geometry.squares import Square, cut_square


@pytest.fixture(scope="module")
def portrait():
    return np.ascontiguousarray(skimage.data.astronaut()[20:260, 110:340])


@pytest.fixture(scope="module")
def landmarker():
    return FaceLandmarker()


def eye_distance(face):
    return float(np.linalg.norm(face.landmarks_68[36] - face.landmarks_68[45]))


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_points_of_a_turned_picture_return_to_the_same_pixels(turns):
    """A picture of noise: each pixel under a point is the same one, and so is what the square shows."""
    rng = np.random.default_rng(turns)
    image = rng.integers(0, 256, (60, 90, 3)).astype(np.uint8)
    turned = np.ascontiguousarray(np.rot90(image, turns))
    height, width = turned.shape[:2]
    points = rng.uniform(0, [width, height, 5], (468, 3)).astype(np.float32)
    of_second = rng.uniform(0, [width, height, 5], (478, 3)).astype(np.float32)
    square = Square(np.array([0.4 * width, 0.6 * height]), 30.0, 0.3)
    face = MeshedFace(points, 1.0, 1.0, points_478=of_second, square=square)
    back = face_landmarks._turned_back(face, image.shape[:2], turns)
    assert back.turned == turns and back.points.dtype == np.float32
    for before, after in ((points, back.points), (of_second, back.points_478)):
        (u, v), (u0, v0) = (np.floor(x[:, :2]).astype(int).T for x in (before, after))
        np.testing.assert_array_equal(image[v0, u0], turned[v, u])
        np.testing.assert_array_equal(before[:, 2], after[:, 2])
    difference = cut_square(turned, square, 32).astype(int) - cut_square(image, back.square, 32)
    assert np.abs(difference).max() <= 1


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_turned_face_is_found_where_it_is(landmarker, portrait, turns):
    (upright,) = landmarker(portrait)
    (face,) = landmarker(np.ascontiguousarray(np.rot90(portrait, 4 - turns)))
    assert not face.doubtful and face.confidence > DOUBTFUL
    # Back into the upright picture, by the function under the test above.
    back = face_landmarks._turned_back(face, portrait.shape[:2], 4 - turns)
    error = np.linalg.norm(back.landmarks_68 - upright.landmarks_68, axis=1).mean()
    assert error < 0.04 * eye_distance(upright), error


def test_turns_can_be_left_out(portrait):
    for face in FaceLandmarker(turns=False)(np.ascontiguousarray(portrait[::-1, ::-1])):
        assert face.doubtful and face.turned == 0


def test_without_the_check_nothing_is_said(portrait):
    (face,) = FaceLandmarker(check=False)(portrait)
    assert np.isnan(face.confidence) and face.region_confidence == {} and not face.doubtful


def test_the_check_changes_no_point(landmarker, portrait):
    (face,), (plain,) = landmarker(portrait), FaceLandmarker(check=False)(portrait)
    np.testing.assert_array_equal(face.points, plain.points)
    np.testing.assert_array_equal(face.points_478, plain.points_478)


def test_a_turned_answer_must_be_surer(landmarker, portrait, monkeypatch):
    """A doubtful face stays where the other turns only give what is doubtful too, or hardly better."""
    (good,) = landmarker(portrait)
    answers: dict[str, list[MeshedFace]] = {}

    def upright(image, detections):
        return answers["first"] if image is portrait else answers["turned"]

    monkeypatch.setattr(landmarker, "_upright", upright)
    first = dataclasses.replace(good, confidence=DOUBTFUL - 0.05)
    for confidence, replaced in ((DOUBTFUL - 0.01, False), (DOUBTFUL + 0.05, False), (1.0, True)):
        answers["first"] = [first]
        answers["turned"] = [dataclasses.replace(good, confidence=confidence)]
        faces = landmarker(portrait)
        assert any(face.turned for face in faces) == replaced, confidence
    # Nothing is turned where what was found is believed.
    answers["first"], answers["turned"] = [good], [dataclasses.replace(good, confidence=1.0)]
    assert [(face.confidence, face.turned) for face in landmarker(portrait)] == [(good.confidence, 0)]


def test_believed_face_wins_over_a_larger_doubtful_one(landmarker, portrait):
    (good,) = landmarker(portrait)
    larger = dataclasses.replace(good, points=good.points * np.float32(1.05), confidence=DOUBTFUL / 2)
    assert face_landmarks._distinct([larger, good]) == [good]


def test_other_landmarks_are_an_error():
    with pytest.raises(ValueError, match="v1, v2"):
        FaceLandmarker(landmarks="v3")
