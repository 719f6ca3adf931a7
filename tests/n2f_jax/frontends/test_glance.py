"""The quick look of live use against the whole one, on a photograph that moves. The networks must be in the cache."""

import cv2
import numpy as np
import pytest
import skimage.data

from n2f_jax.frontends.face_landmarks import FaceLandmarker

pytestmark = pytest.mark.medium


def moved(degrees, shift):
    image = skimage.data.astronaut()
    turn = cv2.getRotationMatrix2D((225.0, 120.0), degrees, 1.0) + np.array([[0, 0, shift], [0, 0, 0]])
    return cv2.warpAffine(image, turn, image.shape[1::-1], borderMode=cv2.BORDER_REPLICATE)


def test_a_glance_sees_what_a_look_sees():
    landmarker = FaceLandmarker(turns=False)
    (face,) = landmarker(moved(0, 0))
    for step in range(1, 7):
        image = moved(3.0 * step, 4.0 * step)
        whole = landmarker.follow(image, face.points_478, face.detection_score)
        face = landmarker.glance(image, face, check=step == 6)
        size = np.ptp(whole.points[:, 1])
        gap = np.linalg.norm(face.points[:, :2] - whole.points[:, :2], axis=1)
        assert gap.mean() < 0.01 * size and gap.max() < 0.04 * size
        assert np.abs(face.blendshapes - whole.blendshapes).mean() < 0.03
        assert np.degrees(np.arccos(face.eyes.gaze @ whole.eyes.gaze)) < 6.0
    assert face.confidence == pytest.approx(whole.confidence, abs=0.15)


def test_nobody_is_seen_where_nobody_is():
    landmarker = FaceLandmarker(turns=False)
    (face,) = landmarker(moved(0, 0))
    assert landmarker.glance(np.full((512, 512, 3), 90, np.uint8), face) is None
