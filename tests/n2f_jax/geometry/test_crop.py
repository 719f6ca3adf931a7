"""The crop as a similarity of the image plane."""

import jax.numpy as jnp
import numpy as np
import pytest

from n2f_jax.geometry import Camera, Crop, crop_camera, crop_image, from_crop, landmark_crop, project, to_crop
from tests.n2f_jax.geometry.test_camera import random_camera


def test_landmark_crop_is_a_square_about_the_box():
    landmarks = jnp.asarray([[10.0, 50.0], [110.0, 90.0], [60.0, 60.0]])
    crop = landmark_crop(landmarks, 1.5)
    assert float(crop.side) == 150
    np.testing.assert_allclose(crop.x0y0, [60 - 75, 70 - 75])
    batch = landmark_crop(jnp.stack([landmarks, landmarks * 2]), jnp.asarray([1.5, 1.0]))
    np.testing.assert_allclose(batch.side, [150, 200])
    assert batch.x0y0.shape == (2, 2)


@pytest.mark.parametrize("batch", [(), (4,), (2, 3)])
def test_the_moved_camera_projects_into_the_crop(batch):
    rng = np.random.default_rng(0)
    camera = random_camera(rng, batch)
    points = jnp.asarray(rng.normal(0, 0.1, (*batch, 68, 3)), jnp.float32)
    pixels = project(points, camera)
    crop = landmark_crop(pixels, 1.3)
    moved = crop_camera(camera, crop, 128)
    inside = to_crop(pixels, crop, 128)
    np.testing.assert_allclose(project(points, moved), inside, rtol=1e-5, atol=128e-5)
    np.testing.assert_allclose(from_crop(inside, crop, 128), pixels, rtol=1e-5, atol=1e-3)
    np.testing.assert_array_equal(moved.rotation, camera.rotation)
    np.testing.assert_array_equal(moved.translation, camera.translation)
    # The box fills 1 / scale of the crop, centred.
    np.testing.assert_allclose((inside.max(-2) - inside.min(-2)).max(-1), 128 / 1.3, rtol=1e-4)
    np.testing.assert_allclose((inside.max(-2) + inside.min(-2)) / 2, 64, rtol=1e-4)


def pattern(u, v):
    """A smooth image, in our pixels (the first centre is at 0.5)."""
    return 0.5 + 0.25 * np.sin(0.11 * u + 0.4) + 0.2 * np.cos(0.07 * v - 0.05 * u)


def centers(height, width):
    v, u = np.mgrid[:height, :width]
    return u + 0.5, v + 0.5


@pytest.mark.parametrize(
    ("x0y0", "side", "size"),
    [
        ((20.0, 30.0), 64.0, 64),
        ((20.3, 30.8), 50.0, 128),
        ((10.25, 5.5), 150.0, 64),
        ((11.7, 7.1), 140.3, 41),
    ],
    ids=["copy", "enlarge", "shrink", "shrink-odd"],
)
def test_the_cropped_image_lies_where_to_crop_says(x0y0, side, size):
    """The crop of an analytic pattern is the pattern at the centres of the crop's pixels."""
    image = pattern(*centers(180, 200)).astype(np.float32)
    crop = Crop(jnp.asarray(x0y0), jnp.asarray(side))
    result = crop_image(image, crop, size)
    points = np.stack(centers(size, size), -1).reshape(-1, 2).astype(np.float32)
    original = np.asarray(from_crop(jnp.asarray(points), crop, size)).reshape(size, size, 2)
    expected = pattern(original[..., 0], original[..., 1])
    error = np.abs(result - expected)
    assert error.max() < 0.006
    assert error.mean() < 0.0015
    # The test can fail: a pattern displaced by half a pixel of the crop is told apart.
    off = 0.5 * side / size
    assert np.abs(result - pattern(original[..., 0] + off, original[..., 1] + off)).mean() > 3 * error.mean()


def test_a_copy_is_exact_and_beyond_the_image_is_zero():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (40, 50, 3), np.uint8)
    crop = Crop(jnp.asarray([-4.0, 30.0]), jnp.asarray(16.0))
    result = crop_image(image, crop, 16)
    assert result.dtype == np.uint8
    np.testing.assert_array_equal(result[:10, 4:], image[30:40, :12])
    assert not result[10:].any() and not result[:, :4].any()


def test_shrinking_averages():
    """A checkerboard of single pixels becomes grey, where plain sampling would alias."""
    image = (np.indices((200, 200)).sum(0) % 2 * 255).astype(np.uint8)
    for side in (200.0, 190.0):
        result = crop_image(image, Crop(jnp.asarray([0.0, 0.0]), jnp.asarray(side)), 20)
        assert result.shape == (20, 20)
        assert np.abs(result.astype(float) - 127.5).max() < 8


def test_shapes_and_types():
    crop = Crop(jnp.asarray([3.0, 4.0]), jnp.asarray(20.0))
    for dtype in (np.uint8, np.uint16, np.float32):
        for shape in ((40, 40), (40, 40, 1), (40, 40, 3)):
            result = crop_image(np.ones(shape, dtype), crop, 8)
            assert result.shape == (8, 8, *shape[2:])
            assert result.dtype == dtype
            np.testing.assert_allclose(result, 1)


@pytest.mark.parametrize("side", [0.0, -3.0, np.nan, np.inf])
def test_impossible_crops_are_refused(side):
    with pytest.raises(ValueError, match="side"):
        crop_image(np.zeros((8, 8), np.uint8), Crop(jnp.zeros(2), jnp.asarray(side)), 4)


def test_crop_camera_keeps_what_is_seen_at_the_corner():
    camera = Camera(jnp.eye(3), jnp.zeros(3), jnp.asarray(100.0), jnp.asarray([50.0, 40.0]))
    moved = crop_camera(camera, Crop(jnp.asarray([10.0, 20.0]), jnp.asarray(60.0)), 120)
    assert float(moved.focal) == 200
    np.testing.assert_allclose(moved.principal_point, [80, 40])
