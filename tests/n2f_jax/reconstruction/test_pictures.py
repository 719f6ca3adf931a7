"""Pictures: the mesh is drawn where the photograph shows its points, at any scale."""

import jax.numpy as jnp
import numpy as np
import pytest

from n2f_jax.geometry import FRONTAL
from n2f_jax.geometry.camera import project_points
from n2f_jax.visualization.layout import fit, grid, row
from n2f_jax.visualization.overlay import View, draw_mesh, lit

pytestmark = pytest.mark.medium

HEIGHT, WIDTH = 600, 800
INTRINSICS = np.array([[900.0, 0, WIDTH / 2], [0, 900.0, HEIGHT / 2], [0, 0, 1]])


@pytest.fixture(scope="module")
def scene(open_head):
    """The mean head off the image's centre, and a photograph of it: white where its silhouette is."""
    vertices = np.asarray(open_head.v_template) @ FRONTAL.T + np.array([0.1, -0.05, 0.8], np.float32)
    return vertices, np.asarray(open_head.faces)


def ramp() -> np.ndarray:
    """An image that knows where it is: red is u / 4, green v / 4 at the pixel centres."""
    v, u = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    return np.stack([u / 4, v / 4, np.zeros_like(u)], axis=-1).round().astype(np.uint8)


VIEWS = {
    "whole": View.whole((HEIGHT, WIDTH), 4000),
    "shrunk": View.whole((HEIGHT, WIDTH), 333),
    "close": View.around(np.array([350.0, 100, 600, 400]), (HEIGHT, WIDTH), 1.2, 512),
    "beyond": View.around(np.array([500.0, 100, 900, 700]), (HEIGHT, WIDTH), 1.5, 300),
}


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_photo_and_camera_go_through_the_same_mapping(view):
    shown = view.cut(ramp()).astype(float)
    assert shown.shape[:2] == view.size
    rows, columns = np.mgrid[10 : view.size[0] - 10, 10 : view.size[1] - 10]
    u = 4 * shown[rows, columns, 0]
    v = 4 * shown[rows, columns, 1]
    # The camera ray of the original pixel (u, v) must land at (column, row) + ½ of the view.
    x = np.stack([(u - WIDTH / 2) / 900, (v - HEIGHT / 2) / 900, np.ones_like(u)], axis=-1).reshape(-1, 3)
    landed = project_points(x, view.intrinsics(INTRINSICS))
    expected = np.stack([columns, rows], axis=-1).reshape(-1, 2) + 0.5
    assert np.abs(landed - expected).max() < 2.5 * view.scale + 0.5  # 8-bit ramps step every 4 pixels
    assert np.abs((landed - expected).mean(axis=0)).max() < 0.15 * view.scale + 0.05


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_the_mesh_covers_its_own_projection(scene, view):
    vertices, faces = scene
    drawn = draw_mesh(vertices, faces, INTRINSICS, view)
    layer = drawn.clay()
    covered = np.zeros(view.size)
    left, top = layer.origin
    h, w = layer.coverage.shape
    covered[top : top + h, left : left + w] = layer.coverage[: view.size[0] - top, : view.size[1] - left]
    points = project_points(vertices, view.intrinsics(INTRINSICS))
    rows, columns = np.nonzero(covered > 0.5)
    low, high = points.min(axis=0), points.max(axis=0)
    limit = np.array(view.size[::-1])
    expected = [*np.clip(low, 0, limit), *np.clip(high, 0, limit)]
    found = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    np.testing.assert_allclose(found, expected, atol=1.0)


def test_edges_are_soft_and_values_premultiplied(scene):
    vertices, faces = scene
    layer = draw_mesh(vertices, faces, INTRINSICS, VIEWS["whole"]).clay()
    assert set(np.unique(layer.coverage)) == {0.0, 0.25, 0.5, 0.75, 1.0}
    assert (layer.values[layer.coverage == 0] == 0).all()
    background = np.full((HEIGHT, WIDTH, 3), 37, np.uint8)
    over = layer.over(background)
    assert (over[0, 0] == 37).all()
    half = layer.over(background, alpha=0.5).astype(int)
    full = layer.coverage == 1
    left, top = layer.origin
    region = (slice(top, top + full.shape[0]), slice(left, left + full.shape[1]))
    mixed = 0.5 * over[region][full] + 0.5 * 37
    assert np.abs(half[region][full] - mixed).max() <= 1


def test_normal_colours_are_those_of_the_frame_given(scene):
    vertices, faces = scene
    normals = np.tile(np.array([0.0, 0.0, 2.0], np.float32), (len(vertices), 1))  # any length
    layer = draw_mesh(vertices, faces, INTRINSICS, VIEWS["whole"], normals=normals).normal_colors()
    inside = layer.values[layer.coverage == 1]
    np.testing.assert_allclose(inside, np.broadcast_to([127.5, 127.5, 255.0], inside.shape), atol=0.01)


def test_a_head_outside_or_behind_is_not_drawn(scene):
    vertices, faces = scene
    view = VIEWS["whole"]
    assert draw_mesh(vertices - np.float32([0, 0, 5]), faces, INTRINSICS, view) is None
    assert draw_mesh(vertices + np.float32([3, 0, 0]), faces, INTRINSICS, view) is None


def test_light_comes_from_the_viewer():
    towards, away, up = np.array([[0.0, 0, -1], [0, 0, 1], [0, -1, 0]], np.float32)[:, None]
    white = np.ones((1, 3), np.float32)
    assert lit(towards, white).min() > lit(up, white).max() > lit(away, white).max()


def test_layouts_keep_their_sizes():
    panel = np.zeros((100, 80, 3), np.uint8)
    plain = row([panel, panel], ["a", "b"])
    titled = row([panel, panel], ["a", "b" * 200], title="title")
    assert titled.shape[1] == plain.shape[1]
    assert titled.shape[0] > plain.shape[0]
    assert fit(np.zeros((300, 30, 3), np.uint8), (64, 64)).shape == (64, 64, 3)
    for count in (1, 5, 13):
        sheet = grid([panel] * count, ["x"] * count, tile=50)
        assert sheet.dtype == np.uint8
        assert sheet.ndim == 3
    with pytest.raises(ValueError, match="at least one"):
        grid([], [])


def test_camera_arrays_may_come_from_jax(scene, open_head):
    vertices, _ = scene
    assert (
        draw_mesh(np.asarray(jnp.asarray(vertices)), open_head.faces, INTRINSICS, VIEWS["whole"]) is not None
    )
