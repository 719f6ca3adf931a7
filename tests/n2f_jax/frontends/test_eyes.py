"""Lids and gaze as the face networks see them. The networks must be in the cache (``make setup``)."""

import dataclasses

import numpy as np
import pytest
import skimage.data

from n2f_jax.frontends.blendshapes import BLENDSHAPES
from n2f_jax.frontends.eyes import eye_closure
from n2f_jax.frontends.face_landmarks import FaceLandmarker
from n2f_jax.frontends.face_networks import LEFT_IRIS, RIGHT_IRIS, FaceNetwork
from n2f_jax.geometry.camera import FRONTAL, Camera
from n2f_jax.mesh.triangle_mesh import TriangleMesh
from n2f_jax.visualization.face_paint import FacePaint, frame_about
from n2f_jax.visualization.portrait import portrait, random_look

pytestmark = pytest.mark.medium


@pytest.fixture(scope="module")
def landmarker():
    return FaceLandmarker(check=False)


@pytest.fixture(scope="module")
def astronaut(landmarker):
    return landmarker(skimage.data.astronaut())[0]


@pytest.fixture(scope="module")
def older():
    """The astronaut by the older network."""
    return FaceLandmarker(landmarks="v1", check=False)(skimage.data.astronaut())[0]


@pytest.fixture(scope="module")
def picture(open_head):
    """The mean open head as a photograph that looks somewhere; degrees to the subject's left."""
    mesh = TriangleMesh(np.asarray(open_head.v_template, np.float64), np.asarray(open_head.faces, np.int64))
    paint = FacePaint.of(mesh, mesh.vertices, open_head)
    look = random_look(np.random.default_rng(3), "skin")
    camera = Camera(
        FRONTAL.astype(np.float64), np.array([0.0, 0.0, 1.0]), np.float64(1100.0), np.full(2, 192.0)
    )

    def draw(yaw):
        angle = np.radians(yaw)
        direction = np.array([np.sin(angle), 0.0, np.cos(angle)])
        eyes = tuple(dataclasses.replace(eye, rotation=frame_about(direction)) for eye in paint.eyes)
        return portrait(mesh, camera, 384, look, dataclasses.replace(paint, eyes=eyes))

    return draw


def test_irises_lie_between_the_lids(astronaut):
    points = astronaut.points_478[:, :2]
    for iris, corners, lids in ((RIGHT_IRIS, (33, 133), (159, 145)), (LEFT_IRIS, (362, 263), (386, 374))):
        centre = points[iris][0]
        assert points[corners[0], 0] < centre[0] < points[corners[1], 0]
        assert points[lids[0], 1] < centre[1] < points[lids[1], 1]
        rim = np.linalg.norm(points[iris][1:] - centre, axis=1)
        assert np.ptp(rim) < 0.25 * rim.mean()


def test_an_open_eye_is_open(astronaut):
    assert np.abs(astronaut.eyes.closure).max() < 0.35
    assert (
        astronaut.blendshapes.shape == (52,)
        and 0 <= astronaut.blendshapes.min() <= astronaut.blendshapes.max() <= 1
    )
    assert astronaut.blendshapes[BLENDSHAPES.index("mouthSmileLeft")] > 0.3  # she smiles


def test_lids_that_meet_close_each_eye_for_itself(astronaut):
    points, scores = astronaut.points_478.astype(np.float64), np.zeros(52)
    shut = points.copy()
    for upper, lower in ((387, 373), (386, 374), (385, 380)):
        shut[upper] = shut[lower]
    scores[BLENDSHAPES.index("eyeBlinkLeft")] = 0.6
    assert eye_closure(shut, scores, 0) == pytest.approx(1.0)
    assert eye_closure(shut, scores, 1) < 0.3
    # One of the two alone makes half of it.
    assert eye_closure(shut, np.zeros(52), 0) == pytest.approx(0.5)


def test_gaze_follows_the_irises(landmarker, picture):
    looks = {}
    for yaw in (-25, 0, 25):
        (face,) = landmarker(picture(yaw))
        gaze = face.eyes.gaze
        assert np.linalg.norm(gaze) == pytest.approx(1.0) and gaze[2] < 0  # towards the camera
        looks[yaw] = np.degrees(np.arctan2(gaze[0], -gaze[2]))
    # The subject's left is the picture's right.
    assert looks[-25] < looks[0] - 12 < looks[25] - 24
    assert max(abs(found - yaw) for yaw, found in looks.items()) < 10


def test_the_newer_points_agree_with_the_older(older, astronaut):
    newer = astronaut
    away = np.linalg.norm(newer.points[:, :2] - older.points[:, :2], axis=1) / 65.0  # of the eyes' distance
    assert 0.001 < away.mean() < 0.06
    assert newer.points.shape == (468, 3)
    with pytest.raises(ValueError, match="v1, v2"):
        FaceLandmarker(landmarks="v3")
    with pytest.raises(ValueError, match="v1 and v2"):
        FaceNetwork("v3")


def test_without_the_newer_network_nothing_of_it(older):
    (face,) = FaceLandmarker(landmarks="v1", newer=False, eyes=False, check=False)(skimage.data.astronaut())
    assert face.points_478 is None and face.eyes is None and face.blendshapes is None
    np.testing.assert_array_equal(face.points, older.points)


def test_mirrored_pictures_see_mirrored_eyes(landmarker, picture):
    image = picture(20)
    (face,), (other,) = landmarker(image), landmarker(np.ascontiguousarray(image[:, ::-1]))
    np.testing.assert_allclose(other.eyes.gaze * [-1, 1, 1], face.eyes.gaze, atol=0.06)
    np.testing.assert_allclose(other.eyes.closure[::-1], face.eyes.closure, atol=0.1)


def test_scores_are_in_googles_order():
    """As the model card lists them."""
    assert len(BLENDSHAPES) == 52
    places = {0: "_neutral", 1: "browDownLeft", 9: "eyeBlinkLeft", 25: "jawOpen", 44: "mouthSmileLeft"}
    assert {number: BLENDSHAPES[number] for number in places} == places
    assert BLENDSHAPES[-1] == "noseSneerRight"
