"""Maps of one rectangle cut to another square: against the renderer, and against coordinates written into the maps."""

import cv2
import jax.numpy as jnp
import numpy as np
import pytest

from n2f_jax.frontends.face_classes import CLASS_IDS, CLASS_NAMES, face_mask
from n2f_jax.frontends.resample import Window, crop_maps
from n2f_jax.geometry.crop import crop_image, landmark_crop

from .rendered_head import RenderedHead, degrees_between, overlap, square

pytestmark = pytest.mark.medium

SIZE = 64
UP = np.array([0, 0, 1], np.float32)


def test_the_rendered_head_comes_back(open_head):
    """Drawn in a window and cut to the landmark box, it is the head drawn in the landmark box."""
    head = RenderedHead(open_head)
    drawn = head.draw(square(210, 70, 300), 160)
    crop = landmark_crop(head.landmarks, 1.4)
    expected = head.draw(crop, 160)
    classes = np.where(np.asarray(drawn.mask) > 0, CLASS_IDS["nose"], CLASS_IDS["hair"]).astype(np.uint8)
    uv = np.asarray(drawn.uv) * 2 - 1
    found = crop_maps(Window(210, 70, 510, 370), crop, 160, drawn.normals, classes, uv)

    assert overlap(found.mask, expected.mask) > 0.97
    # Outside the mask nothing was drawn: not at its rim, where the interpolation mixes.
    both = cv2.erode(np.asarray(found.mask) * np.asarray(expected.mask), np.ones((7, 7)))
    angle = degrees_between(found.normals, expected.normals, both)
    assert np.median(angle) < 0.5 and np.percentile(angle, 95) < 6, np.percentile(angle, (50, 95, 99))
    error = np.abs(np.asarray(found.uv) - (np.asarray(expected.uv) * 2 - 1))[both > 0]
    assert np.median(error) < 0.001 and np.percentile(error, 95) < 0.01, np.percentile(error, (50, 95, 99))
    length = np.linalg.norm(found.normals, axis=-1)
    assert np.allclose(length, np.asarray(found.mask), atol=1e-5)
    assert (np.asarray(found.classes) == CLASS_IDS["nose"]).sum() >= np.asarray(found.mask).sum()


@pytest.mark.parametrize(("x0", "y0", "side"), [(100, 50, 340), (37, 13, 100), (90, 40, 50)])
def test_no_half_pixel_is_lost(x0, y0, side):
    """A map that holds each pixel's own place in the photograph still does after it is cut, shrunk or enlarged."""
    window = Window(20, 10, 660, 410)  # and stretched: 640 × 400 in 320 × 200 pixels
    v, u = np.mgrid[:200, :320] + 0.5
    places = np.stack([20 + 2 * u, 10 + 2 * v], axis=-1) / 700
    normals = np.broadcast_to(UP, (200, 320, 3))
    classes = np.full((200, 320), 2, np.uint8)
    found = crop_maps(window, square(x0, y0, side), SIZE, normals, classes, places.astype(np.float32))
    centres = (np.arange(SIZE) + 0.5) * side / SIZE
    inside = (slice(2, -2), slice(2, -2))
    assert np.allclose(found.uv[inside][..., 0] * 700, (x0 + centres)[None, 2:-2], atol=0.1)
    assert np.allclose(found.uv[inside][..., 1] * 700, (y0 + centres)[2:-2, None], atol=0.1)


def test_the_same_as_the_crop_of_an_image():
    """``geometry.crop_image`` shows the same pixels, where neither has to smooth much."""
    rng = np.random.default_rng(0)
    image = rng.uniform(0.2, 1, (60, 80, 3)).astype(np.float32)
    crop = square(15.3, 8.6, 40)
    image /= np.linalg.norm(image, axis=-1, keepdims=True)
    found = crop_maps(Window(0, 0, 80, 60), crop, SIZE, image, np.full((60, 80), 2, np.uint8))
    expected = crop_image(image, crop, SIZE)
    expected /= np.linalg.norm(expected, axis=-1, keepdims=True)
    # crop_image averages two samples a side, each within half a pixel of the other.
    assert np.abs(np.asarray(found.normals) - expected)[4:-4, 4:-4].max() < 0.05


def test_beyond_the_window_is_background():
    normals, classes = np.broadcast_to(UP, (10, 10, 3)), np.full((10, 10), 2, np.uint8)
    found = crop_maps(Window(40, 40, 50, 50), square(32, 32, 32), 32, normals, classes)
    expected = np.zeros((32, 32))
    expected[8:18, 8:18] = 1
    assert np.array_equal(found.mask, expected) and np.array_equal(found.classes, 2 * expected)
    assert np.array_equal(found.normals, expected[..., None] * UP)
    far = crop_maps(Window(400, 400, 410, 410), square(32, 32, 32), 32, normals, classes)
    assert not np.asarray(far.mask).any() and np.isfinite(far.normals).all()


def test_which_classes_are_the_face():
    assert len(CLASS_NAMES) == 19
    ids = np.arange(19, dtype=np.uint8)
    face = {2, 6, 7, 8, 9, 10, 11, 12, 13}
    assert {int(i) for i in ids[face_mask(ids) > 0]} == face
    assert np.array_equal(face_mask(jnp.asarray(ids)), face_mask(ids))
    assert face_mask(np.array([20, 255], np.uint8)).sum() == 0
