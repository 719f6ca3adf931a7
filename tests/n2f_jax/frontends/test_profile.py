"""Points of heads that are turned far."""

import math

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from n2f_jax.face_mesh.coarse_mesh import load_coarse_mesh
from n2f_jax.frontends.profile import (
    on_axes,
    points_rotation,
    turned_fully,
    upright_axes,
)
from n2f_jax.geometry.camera import FRONTAL, pitch_yaw_roll


def points(yaw, pitch=0.0, scale=1500.0):
    """The mean face as a camera sees it; pixels."""
    rotation = Rotation.from_euler("XYZ", [pitch, yaw, 0.0], degrees=True).as_matrix() @ FRONTAL
    return scale * np.asarray(load_coarse_mesh().reference, np.float64) @ rotation.T + [400.0, 300.0, 0.0]


def yaw_of(found):
    return math.degrees(pitch_yaw_roll(points_rotation(found))[1])


def test_frontal_points_stay():
    front = points(12.0, 5.0)
    np.testing.assert_array_equal(turned_fully(front, front, "v1"), front)
    axes = upright_axes(front)
    np.testing.assert_allclose(on_axes(on_axes(front, axes), axes.T), front, atol=1e-9)


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_turned_head_is_turned_further_and_what_is_seen_stays_in_place(version, sign):
    found = points(sign * 57.0)
    more = turned_fully(found, found, version)
    assert 62.0 < sign * yaw_of(more) < 80.0
    # Seen: the cheek on the side of the camera. It moves less than the turn alone would move it.
    cheek = 50 if sign > 0 else 280
    away = np.linalg.norm((more - found)[[cheek, 4], :2], axis=1) / np.ptp(found[:, 1])
    assert away.max() < 0.1
    # Mirror images stay mirror images.
    mirror = load_coarse_mesh().mirror
    flipped = (found * [-1.0, 1.0, 1.0])[mirror]
    np.testing.assert_allclose(
        turned_fully(flipped, flipped, version), (more * [-1.0, 1.0, 1.0])[mirror], rtol=0, atol=2.0
    )


def test_a_turn_in_the_picture_turns_the_answer():
    found = points(-50.0, 8.0)
    around = Rotation.from_euler("z", 160, degrees=True).as_matrix()
    np.testing.assert_allclose(
        turned_fully(found @ around.T, found @ around.T, "v1"),
        turned_fully(found, found, "v1") @ around.T,
        atol=1e-6,
    )
