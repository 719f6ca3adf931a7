"""Views of stored faces against the same head drawn straight in the view's own camera."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flame_jax
from flame_jax import FlameParams
from n2f_jax.data.face_views import face_view, landmark_square
from n2f_jax.data.preprocessed import read_face, write_face
from n2f_jax.geometry import Camera, Crop, project
from n2f_jax.geometry.crop import crop_camera, landmark_crop
from n2f_jax.render import HeadTopology, render_head
from tests.n2f_jax.data.stored import random_face

pytestmark = pytest.mark.medium

STORED, SIZE = 160, 96


@pytest.fixture(scope="module")
def scene(open_head):
    """A head drawn at the stored crop, stored and read again, and a function that draws it in any other crop."""
    topology = HeadTopology.from_model(open_head)
    turn = flame_jax.rotations.euler_to_matrix(jnp.array([0.1, 0.35, -0.2]))
    camera = Camera(
        rotation=turn * jnp.array([[1.0, -1, -1]]),
        translation=jnp.array([0.01, -0.02, 0.9]),
        focal=jnp.float32(700),
        principal_point=jnp.array([330.0, 240.0]),
    )
    vertices, _ = flame_jax.decode(open_head, FlameParams.neutral(open_head))
    landmarks = project(flame_jax.landmarks68(open_head, vertices), camera)
    crop = landmark_crop(landmarks, 1.75)

    def draw(crop, size):
        seen = crop_camera(camera, crop, size)
        maps = jax.jit(render_head, static_argnames="size")(topology, vertices, seen, size=size)
        return jax.device_get((maps, seen, project(flame_jax.landmarks68(open_head, vertices), seen)))

    return crop, draw


def stored(scene, tmp_path):
    crop, draw = scene
    maps, seen, landmarks = draw(crop, STORED)
    k = np.array(
        [[seen.focal, 0, seen.principal_point[0]], [0, seen.focal, seen.principal_point[1]], [0, 0, 1]]
    )
    face = random_face(
        size=STORED,
        normals=maps.normals,
        mask=maps.mask,
        crop=np.array([*crop.x0y0, crop.side], np.float64),
        landmarks_68=landmarks,
        intrinsics=k,
        uv=np.clip(maps.uv * 2 - 1, -1, 1) * maps.mask[..., None],
        classes=None,
    )
    write_face(tmp_path / "x.face.zip", face)
    return read_face(tmp_path / "x.face.zip")


def crop_of(square, crop):
    """A square of the stored crop in pixels of the original image."""
    scale = crop.side / STORED
    corner = crop.x0y0 + scale * jnp.asarray(square[:2], jnp.float32)
    return Crop(corner, scale * jnp.float32(square[2]))


def interior(mask):
    """Pixels whose neighbours are all in the mask: elsewhere the edge itself is what is interpolated."""
    inside = np.pad(mask > 0, 1)
    shifts = [inside[1 + dy : inside.shape[0] - 1 + dy, 1 + dx : inside.shape[1] - 1 + dx]
              for dy in (-1, 0, 1) for dx in (-1, 0, 1)]  # fmt: skip
    return np.logical_and.reduce(shifts)


@pytest.mark.parametrize("change", [(0, 0, 1), (3.3, -2.6, 1), (-4.4, 7.7, 1.21), (6.0, -1.5, 0.83)])
def test_maps_landmarks_and_camera_follow_the_crop(scene, tmp_path, change):
    """The view of the stored maps is what the renderer draws in the view's camera."""
    face = stored(scene, tmp_path)
    square = landmark_square(face.landmarks_68, 1.05)
    side = square[2] * change[2]
    square = np.array([*(square[:2] + np.array(change[:2]) + 0.5 * (square[2] - side)), side])
    view = face_view(face, square, SIZE)
    maps, seen, landmarks = scene[1](crop_of(square, scene[0]), SIZE)

    np.testing.assert_allclose(view["landmarks_2d"], landmarks, atol=1e-3)
    np.testing.assert_allclose(view["focal"], seen.focal, rtol=1e-4)
    np.testing.assert_allclose(view["principal_point"], seen.principal_point, atol=1e-3)
    both = interior(view["mask"] * maps.mask)
    assert both.sum() > 0.3 * SIZE**2
    # The outlines differ by what a stored pixel can hide, and not by a shift.
    differ = view["mask"] != maps.mask
    assert differ.sum() < 0.015 * maps.mask.sum()
    centre = lambda mask: np.array([np.average(grid, weights=mask) for grid in np.mgrid[:SIZE, :SIZE]])  # noqa: E731
    assert np.abs(centre(view["mask"]) - centre(maps.mask)).max() < 0.1
    chord = np.linalg.norm(view["normals"] - maps.normals, axis=-1)[both]
    assert np.degrees(np.median(chord)) < 0.3 and np.degrees(np.mean(chord)) < 1.8
    length = np.linalg.norm(view["normals"], axis=-1)
    np.testing.assert_allclose(length, view["mask"], atol=1e-5)
    uv_error = np.abs(view["uv"] - np.clip(maps.uv * 2 - 1, -1, 1))[both]
    assert np.median(uv_error) < 0.006
    assert (view["uv"][view["mask"] == 0] == 0).all()


def test_a_shift_of_a_pixel_would_be_seen(scene, tmp_path):
    """The figures of the test above, of a view that is one pixel off: it tells them apart."""
    face = stored(scene, tmp_path)
    square = landmark_square(face.landmarks_68, 1.05)
    view = face_view(face, square + np.array([square[2] / SIZE, 0, 0]), SIZE)
    maps, _, landmarks = scene[1](crop_of(square, scene[0]), SIZE)
    both = interior(view["mask"] * maps.mask)
    chord = np.linalg.norm(view["normals"] - maps.normals, axis=-1)[both]
    assert np.degrees(np.median(chord)) > 2.0
    assert np.abs(view["landmarks_2d"] - landmarks).max() > 0.9


@pytest.mark.parametrize("square", [[8.0, 8.0, 24.0], [7.3, 8.1, 22.0]])
def test_normals_are_turned_by_where_they_come_from(square):
    turn = np.array([[0, 0, 1], [1, 0, 0], [0, 1, 0]], np.float32)
    plain = face_view(random_face(), np.array(square), 24)["normals"]
    for said, wanted in (
        ("made up", plain @ turn.T),
        ("made up, otherwise", plain @ turn.T),
        ("other", plain),
    ):
        face = random_face(provenance={"frontend": said})
        found = face_view(face, np.array(square), 24, {"made up": turn})["normals"]
        np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_whole_pixels_are_taken_as_they_are():
    face = random_face(size=40)
    view = face_view(face, np.array([8.004, 7.997, 24.01]), 24)
    np.testing.assert_array_equal(view["mask"], face.mask[8:32, 8:32])
    np.testing.assert_allclose(view["normals"], face.normals[8:32, 8:32], atol=1e-6)
    np.testing.assert_array_equal(view["uv"], face.uv[8:32, 8:32])
    np.testing.assert_allclose(view["landmarks_2d"], face.landmarks_68 - 8, atol=1e-5)
    np.testing.assert_allclose(view["principal_point"], [0.4 * 40 - 8, 0.6 * 40 - 8], atol=1e-5)
    assert set(view) == {"normals", "mask", "landmarks_2d", "focal", "principal_point", "uv"}
    assert {values.dtype for values in view.values()} == {np.dtype("float32")}


def test_shrinking_by_two_averages_four_pixels():
    face = random_face(size=40, uv=None)
    view = face_view(face, np.array([0, 0, 40.0]), 20)
    sums = (face.normals * face.mask[..., None]).reshape(20, 2, 20, 2, 3).sum(axis=(1, 3))
    count = face.mask.reshape(20, 2, 20, 2).sum(axis=(1, 3))
    expected = sums / np.maximum(np.linalg.norm(sums, axis=-1, keepdims=True), 1e-6)
    np.testing.assert_array_equal(view["mask"], count >= 2)
    np.testing.assert_allclose(view["normals"], expected * (count >= 2)[..., None], atol=1e-5)
    np.testing.assert_allclose(view["landmarks_2d"], face.landmarks_68 / 2, atol=1e-5)
    np.testing.assert_allclose(view["focal"], 0.6 * 40, rtol=1e-6)
    assert "uv" not in view


@pytest.mark.parametrize("square", [(-12, -7, 24), (-12.4, -7.3, 24.7), (31.0, 30.0, 24.0), (100, 100, 24.0)])
def test_beyond_the_stored_crop_all_is_empty(square):
    face = random_face(size=40, mask=np.ones((40, 40), np.float32))
    face = dataclasses.replace(face, normals=np.tile(np.array([0, 0.6, 0.8], np.float32), (40, 40, 1)))
    view = face_view(face, np.array(square, float), 24)
    step = square[2] / 24
    grid = [corner + (np.arange(24) + 0.5) * step for corner in square[:2]]
    within = [(x > 0) & (x < 40) for x in grid]
    expected = within[1][:, None] & within[0][None, :]
    # Half of a pixel more or less where the edge of the stored crop runs through it.
    differ = (view["mask"] > 0) != expected
    assert differ.sum() <= 48 * (square[0] != int(square[0]))
    assert (view["normals"][view["mask"] == 0] == 0).all() and (view["uv"][view["mask"] == 0] == 0).all()


def test_a_square_that_is_none():
    for square in ([0, 0, 0], [0, np.nan, 5]):
        with pytest.raises(ValueError, match="finite corner"):
            face_view(random_face(), np.array(square, float), 8)


def test_landmark_square_is_the_papers_crop():
    landmarks = np.random.default_rng(0).uniform(0, 3000, (68, 2)).astype(np.float32)
    crop = landmark_crop(landmarks, 1.4)
    np.testing.assert_allclose(landmark_square(landmarks, 1.4), [*crop.x0y0, crop.side], rtol=1e-6)
