import numpy as np
import pytest

from n2f_jax.geometry.boxes import bounding_box, box_overlap


def test_the_box_of_points():
    np.testing.assert_array_equal(bounding_box(np.array([[3.0, 9], [1, 12], [2, 10]])), [1, 9, 3, 12])


@pytest.mark.parametrize(
    ("box", "overlap"),
    [
        ([0, 0, 2, 2], 1.0),
        ([1, 0, 3, 2], 2 / 6),
        ([1, 1, 3, 3], 1 / 7),
        ([0.5, 0.5, 1.5, 1.5], 1 / 4),
        ([2, 0, 4, 2], 0.0),
        ([5, 5, 6, 6], 0.0),
        ([1, 1, 1, 1], 0.0),
    ],
)
def test_overlap_is_intersection_over_union(box, overlap):
    square, box = np.array([0.0, 0, 2, 2]), np.array(box, float)
    assert box_overlap(square, box) == pytest.approx(overlap)
    assert box_overlap(box, square) == pytest.approx(overlap)


def test_two_empty_boxes_do_not_overlap():
    assert box_overlap(np.ones(4), np.ones(4)) == 0.0
