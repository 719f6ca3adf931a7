"""Pixel3DMM's crop: the numbers of its rule, worked out by hand."""

import numpy as np
import pytest

from n2f_jax.frontends.pixel3dmm.crop import cut, face_window
from n2f_jax.frontends.resample import Window


@pytest.mark.parametrize(
    ("box", "image_size", "window"),
    [
        # 100 × 120 → 120², from 90, 100 to 209, 219; int(120 · 0.21) = 25 on each side; the last pixel is left out.
        ((100, 100, 200, 220), (400, 500), Window(65, 75, 234, 244)),
        # Wider than high, and fractions are taken to whole pixels outwards.
        ((100.4, 120.6, 219.2, 219.3), (400, 500), Window(75, 85, 244, 254)),
        # 20 pixels over the upper edge: smaller by as much from the upper left corner.
        ((100, 5, 200, 125), (400, 500), Window(85, 0, 234, 149)),
        # 6 pixels over the right edge: 4 are taken off both sides and the image ends, and it is a pixel too narrow.
        ((135, 100, 235, 220), (400, 264), Window(100, 75, 264, 240)),
    ],
)
def test_the_rule(box, image_size, window):
    assert face_window(np.array(box, float), image_size) == window


def test_a_face_elsewhere():
    with pytest.raises(ValueError, match="outside an image of 100 × 80"):
        face_window(np.array([300.0, 300, 400, 400]), (80, 100))


def test_cut_shows_the_window():
    """Each pixel of the image holds its place; the crop's pixel u' shows u = x0 + u'·width/512."""
    v, u = np.mgrid[:200, :250].astype(np.float32) + 0.5
    image = np.stack([u, v, 0 * u], axis=-1).astype(np.uint8)
    window = Window(30, 20, 158, 147)
    found = cut(image, window).astype(float)
    centres = np.arange(512) + 0.5
    assert found.shape == (512, 512, 3)
    # 8 bits: floors of places.
    assert np.abs(found[100, 4:-4, 0] + 0.5 - (30 + centres[4:-4] * 128 / 512)).max() < 0.8
    assert np.abs(found[4:-4, 100, 1] + 0.5 - (20 + centres[4:-4] * 127 / 512)).max() < 0.8
