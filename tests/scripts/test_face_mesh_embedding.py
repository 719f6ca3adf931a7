"""The face mesh's points and the 68 landmarks on the open head."""

import dataclasses
import functools
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from face_mesh_embedding import placing as embedding

import flame_jax
from flame_jax.rotations import axis_angle_to_matrix, matrix_to_rotation_6d
from n2f_jax.face_mesh.coarse_mesh import load_coarse_mesh
from n2f_jax.face_mesh.embedding import points_on_mean_head
from n2f_jax.frontends.face_landmarks import FaceLandmarker

pytestmark = pytest.mark.medium

LANDMARKS = Path(__file__).parents[2] / "scripts" / "build" / "open_head" / "landmarks.npz"


@functools.cache
def stored():
    with np.load(LANDMARKS, allow_pickle=False) as data:
        return {key: data[key] for key in data.files}


def on_head(model, faces, weights, vertices=None):
    vertices = np.asarray(model.v_template if vertices is None else vertices, np.float64)
    return np.einsum("...nk,...nkc->...nc", weights, vertices[np.asarray(model.faces)[faces]])


@pytest.fixture(scope="module")
def decode(open_head):
    return jax.jit(lambda params: flame_jax.decode(open_head, params)[0])


def test_open_head_carries_these_landmarks(open_head):
    landmarks = open_head.landmarks
    np.testing.assert_array_equal(landmarks.static_faces, stored()["full_lmk_faces_idx"])
    np.testing.assert_array_equal(landmarks.dynamic_faces, stored()["dynamic_lmk_faces_idx"])
    np.testing.assert_allclose(landmarks.static_barycentric, stored()["full_lmk_bary_coords"], atol=1e-6)


def test_static_landmarks_are_the_face_meshs(open_head):
    points = on_head(open_head, stored()["full_lmk_faces_idx"], stored()["full_lmk_bary_coords"])
    mesh = load_coarse_mesh()
    np.testing.assert_allclose(points, points_on_mean_head()[mesh.ibug68], atol=1e-5)


def test_mouth_opens_between_the_inner_lips(open_head, decode):
    """The jaw carries the lower lip's points and leaves the upper lip's: none sits on the wrong side."""
    jaw = matrix_to_rotation_6d(axis_angle_to_matrix(jnp.array([math.radians(15.0), 0.0, 0.0])))
    neutral = flame_jax.FlameParams.neutral(open_head)
    opened = decode(dataclasses.replace(neutral, jaw=jaw))
    mesh = load_coarse_mesh()
    closed_points = on_head(open_head, mesh.embedding_faces, mesh.embedding_barycentric)
    points = on_head(open_head, mesh.embedding_faces, mesh.embedding_barycentric, opened)
    sinks = (closed_points - points)[:, 1]
    upper, lower = [191, 80, 81, 82, 13, 312, 311, 310, 415], [95, 88, 178, 87, 14, 317, 402, 318, 324]
    assert np.abs(sinks[upper]).max() < 0.003 and sinks[lower].min() > 0.009
    assert np.abs(sinks[mesh.upper_face]).max() < 0.0025
    # Closed, the inner lips touch.
    assert np.linalg.norm(closed_points[upper] - closed_points[lower], axis=1).max() < 0.006


def test_lids_carry_their_landmarks(open_head, decode):
    neutral = flame_jax.FlameParams.neutral(open_head)
    shut = decode(dataclasses.replace(neutral, eyelids=jnp.ones(2)))
    faces, weights = stored()["full_lmk_faces_idx"], stored()["full_lmk_bary_coords"]
    before, after = on_head(open_head, faces, weights), on_head(open_head, faces, weights, shut)
    for upper, lower in ((37, 41), (38, 40), (43, 47), (44, 46)):
        opening = before[upper, 1] - before[lower, 1]
        assert opening > 0.005
        assert after[upper, 1] - after[lower, 1] < 0.4 * opening
    # Lid points lie on the rim, in front of the eyeball and not in the socket behind it.
    for side, points in (("right_eyeball", range(36, 42)), ("left_eyeball", range(42, 48))):
        ball = np.asarray(open_head.v_template)[np.asarray(open_head.masks[side])]
        radius = np.linalg.norm(ball - ball.mean(axis=0), axis=1).max()
        from_centre = before[list(points)] - ball.mean(axis=0)
        assert (np.linalg.norm(from_centre, axis=1) > radius - 5e-4).all()
        assert (from_centre[:, 2] > 0).all()


def test_contour_bins_mirror_each_other(open_head):
    contours = on_head(open_head, stored()["dynamic_lmk_faces_idx"], stored()["dynamic_lmk_bary_coords"])
    assert contours.shape == (79, 17, 3)
    for degrees in (1, 20, 39):
        mirrored = contours[39 + degrees, ::-1] * [-1, 1, 1]
        np.testing.assert_allclose(contours[degrees], mirrored, atol=3e-4)
    # The side that is nearer to the camera keeps its points.
    np.testing.assert_allclose(contours[1:40, 8:], np.tile(contours[0, 8:], (39, 1, 1)), atol=1e-6)
    # Neighbouring bins look alike: along the line of sight a landmark may jump from temple to cheek, but in
    # the picture it moves on smoothly.
    for degrees in range(39):
        yaw = math.radians(-degrees - 1)
        across = np.array([[math.cos(yaw), 0, math.sin(yaw)], [0, 1, 0]])
        steps = (contours[degrees + 1] - contours[degrees]) @ across.T
        assert np.linalg.norm(steps, axis=1).max() < 0.003


@pytest.mark.parametrize("degrees", [-39, -20, 20, 39])
def test_far_contour_is_the_outline(open_head, degrees):
    """On the far side no skin shows farther out at a landmark's height (ears and neck aside)."""
    vertices = np.asarray(open_head.v_template, np.float64)
    faces = np.asarray(open_head.faces)
    view = embedding.render_view(vertices, faces, degrees, size=500)
    number = -degrees if degrees < 0 else 39 + degrees
    contour = on_head(
        open_head, stored()["dynamic_lmk_faces_idx"][number], stored()["dynamic_lmk_bary_coords"][number]
    )
    face_mask = np.isin(faces, np.asarray(open_head.masks["face"])).all(axis=1)
    visible = face_mask[view.face] & (view.face >= 0)
    far = range(8) if degrees < 0 else range(9, 17)
    for u, v in view.project(contour)[list(far)]:
        columns = np.flatnonzero(visible[int(v)])
        outermost = columns[0] if degrees < 0 else columns[-1] + 1
        # 0.8 mm a pixel.
        assert (outermost - u) * np.sign(degrees) < 2.0
    # The static contour would lie well inside.
    static = on_head(open_head, stored()["full_lmk_faces_idx"], stored()["full_lmk_bary_coords"])[:17]
    if abs(degrees) == 39:
        shift = np.abs(view.project(static) - view.project(contour))[list(far), 0]
        assert shift.max() > 10


def test_cast_finds_what_was_projected(open_head):
    vertices = np.asarray(open_head.v_template, np.float64)
    faces = np.asarray(open_head.faces)
    view = embedding.render_view(vertices, faces, 20, -10, size=400)
    v, u = np.nonzero(view.face >= 0)
    pixels = np.stack([u, v], axis=1)[::97] + 0.5
    face, weights = view.cast(pixels)
    points = np.einsum("nk,nkc->nc", weights, vertices[faces[face]])
    np.testing.assert_allclose(view.project(points), pixels, atol=0.05)
    outside, _ = view.cast(np.array([[1.0, 1.0], [-5.0, 50.0], [1e5, 0.0]]))
    np.testing.assert_array_equal(outside, -1)


def test_triangulation_is_exact_and_shrugs_off_an_outlier(open_head):
    vertices = np.asarray(open_head.v_template, np.float64)
    faces = np.asarray(open_head.faces)
    views = [embedding.render_view(vertices, faces, yaw, size=64) for yaw in (-30, -15, 0, 15, 30)]
    points = vertices[::500]
    pixels = np.stack([view.project(points) for view in views])
    found, spread = embedding.triangulate(views, pixels)
    np.testing.assert_allclose(found, points, atol=1e-6)
    assert spread.max() < 1e-6
    pixels[1] += 3.0
    found, _ = embedding.triangulate(views, pixels)
    # A plain mean would be off by about a fifth of 3 pixels of 6 mm.
    assert np.linalg.norm(found - points, axis=1).max() < 0.002


@pytest.mark.slow
def test_the_shipped_embedding_can_be_made_again(open_head):
    placer = embedding.SurfacePlacer(
        open_head,
        FaceLandmarker(average_mirrored=False, landmarks="v1", newer=False, eyes=False, check=False),
    )
    mesh = load_coarse_mesh()
    np.testing.assert_array_equal(placer.mirror, mesh.mirror)
    distance = np.linalg.norm(placer.points - mesh.reference, axis=1)
    assert distance.max() < 0.001
    arrays = placer.landmark_arrays()
    again = on_head(open_head, arrays["dynamic_lmk_faces_idx"], arrays["dynamic_lmk_bary_coords"])
    contours = on_head(open_head, stored()["dynamic_lmk_faces_idx"], stored()["dynamic_lmk_bary_coords"])
    assert np.linalg.norm(again - contours, axis=-1).max() < 0.002
