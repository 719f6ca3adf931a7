"""The person matte: of a photograph, and what is done around the network."""

import numpy as np
import pytest
import skimage.data

from n2f_jax.frontends import person_matte


@pytest.fixture(scope="module")
def matte():
    pytest.importorskip("ai_edge_litert")
    return person_matte.PersonMatte()


def test_a_person_stands_out(matte):
    photo = skimage.data.astronaut()
    whole, near = matte(photo), matte(photo, np.array([60.0, -40.0, 350.0]))
    for found in (whole, near):
        assert found.shape == photo.shape[:2] and found.dtype == np.uint8
        assert found[60:160, 190:250].min() > 250  # face and hair
        assert found[:120, :60].max() == 0 and found[10:80, 330:380].max() == 0
    # Few pixels are neither: the edges.
    assert ((near[:200] > 25) & (near[:200] < 230)).mean() < 0.03


def test_a_matte_is_refined_where_the_head_is():
    """A network that finds a disc from what it is shown: coarse of a large frame, fine of the square."""
    image = np.full((600, 900, 3), (60, 131, 100), np.uint8)  # as light as the disc: the filter finds no edge
    rows, columns = np.mgrid[:600, :900] + 0.5
    disc = (rows - 300) ** 2 + (columns - 450) ** 2 < 40**2
    image[disc] = (200, 60, 100)

    def network(small):
        return [(small[..., :1] > 0.5).astype(np.float32)]

    network.input_size = 64
    matte = person_matte.PersonMatte.__new__(person_matte.PersonMatte)
    matte._network = network
    coarse, fine = matte(image), matte(image, np.array([350.0, 200.0, 200.0]))
    wrong = [np.abs(found / 255.0 - disc).sum() for found in (coarse, fine)]
    assert fine.dtype == np.uint8 and wrong[1] < 0.4 * wrong[0] and wrong[1] < 0.25 * disc.sum()
    # A square may reach beyond the frame on every side, or lie outside it.
    for square in ([100, -50, 700], [-500, -900, 2500], [2000, 0, 300], [449, 299, 2]):
        assert np.abs(matte(image, np.array(square, float)) / 255.0 - disc).sum() < 1.01 * wrong[0]
