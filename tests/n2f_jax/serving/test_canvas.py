"""Photographs on a canvas, and their heads back."""

import dataclasses

import numpy as np
import pytest

from n2f_jax.geometry.camera import project_points
from n2f_jax.geometry.focal import FocalHints
from n2f_jax.serving.canvas import on_canvas
from tests.n2f_jax.reconstruction.fakes import mean_head


@pytest.mark.parametrize("size", [(300, 200), (41, 97), (64, 64), (1, 500)])
def test_a_photograph_lies_in_the_middle(size):
    image = np.full((*size, 3), 200, np.uint8)
    canvas, placement = on_canvas(image, 64)
    seen = np.argwhere(canvas[..., 0] > 0)
    low, high = seen.min(axis=0), seen.max(axis=0) + 1
    np.testing.assert_array_equal(low, 64 - high)
    assert (high - low).max() == 64
    height, width = size
    corners = np.array([[low[1], low[0]], [high[1], high[0]]], np.float64)
    np.testing.assert_allclose(placement.to_photograph(corners), [[0, 0], [width, height]], atol=1e-9)
    np.testing.assert_allclose(placement.to_photograph(np.array([32.0, 32.0])), [width / 2, height / 2])


def test_a_head_projects_to_where_it_was(open_head):
    size = (301, 200)
    _, placement = on_canvas(np.zeros((*size, 3), np.uint8), 64)
    intrinsics = np.array([[80.0, 0, 32], [0, 80, 32], [0, 0, 1]])
    head = dataclasses.replace(
        mean_head(open_head, (64, 64)),
        intrinsics=intrinsics,
        frontend_points=np.full((468, 3), 5.0, np.float32),
        irises=np.full((10, 2), np.nan, np.float32),
    )
    back = placement.of_photograph(head)
    assert back.image_size == size
    np.testing.assert_allclose(back.intrinsics[:2, 2], [100, 150.5])
    seen = project_points(head.vertices_camera, intrinsics)
    np.testing.assert_allclose(back.vertices_2d, placement.to_photograph(seen), rtol=1e-6)
    assert back.frontend_points.dtype == np.float32 and back.landmarks_2d.dtype == np.float32
    np.testing.assert_allclose(back.frontend_points[0, 2], 5 / placement.scale.mean(), rtol=1e-6)
    np.testing.assert_allclose(back.crop[2], 9 / placement.scale.mean(), rtol=1e-6)
    np.testing.assert_array_equal(back.vertices, head.vertices)
    focal = placement.focal_on_canvas(FocalHints(301.0, None))
    assert focal.exif is None and focal.given == pytest.approx(64.0)
