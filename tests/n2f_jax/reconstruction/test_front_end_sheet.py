"""The page of front ends shows what it says: axes of normals and UV by their colours."""

from types import SimpleNamespace

import numpy as np
import pytest

from n2f_jax.frontends.base import FrontendFace
from n2f_jax.geometry.crop import landmark_crop
from n2f_jax.reconstruction import front_end_sheet as module

from ..frontends.rendered_head import IMAGE_SIZE, RenderedHead

pytestmark = pytest.mark.medium


@pytest.fixture
def tiles(open_head, monkeypatch):
    """Caption → picture of the page of a rendered head."""
    head = RenderedHead(open_head)
    camera = head.camera
    seen = SimpleNamespace(
        rotation=np.asarray(camera.rotation),
        translation=np.asarray(camera.translation),
        intrinsics=np.array([[700.0, 0, 320], [0, 700.0, 240], [0, 0, 1]]),
        vertices=np.asarray(open_head.v_template),
    )
    face = FrontendFace(
        normals=np.zeros((8, 8, 3), np.float32),
        mask=np.ones((8, 8), np.float32),
        crop=landmark_crop(head.landmarks, 1.4),
        landmarks_68=head.landmarks,
        score=1.0,
        points_468=head.face_mesh_points(),
    )
    found = {}

    def keep(pictures, captions, **_):
        found.update(zip(captions, pictures, strict=True))
        return grid(pictures, captions)

    grid = module.grid
    monkeypatch.setattr(module, "grid", keep)
    page = module.front_end_sheet(np.zeros((*IMAGE_SIZE, 3), np.uint8), face, seen, open_head)
    assert page.dtype == np.uint8 and page.ndim == 3
    return found


def test_colours_show_the_axes(tiles):
    normals = tiles["our head as p3dmm/normals: x, y, z"].astype(float)
    raw = tiles["in the network's order: x, -z, -y"].astype(float)
    uv = tiles["our head as p3dmm/uv_map: u, 1 - v"].astype(float)
    drawn = (uv[..., :2] != 128).all(axis=-1)
    rows, columns = np.nonzero(drawn)

    def slope(image, channel, places):
        return np.corrcoef(image[..., channel][drawn], places)[0, 1]

    # x to the subject's left, at the picture's right; y up; z out of the face.
    assert slope(normals, 0, columns) > 0.5 and slope(normals, 1, rows) < -0.2
    assert normals[..., 2][drawn].mean() > 200
    # −z, −y.
    assert raw[..., 1][drawn].mean() < 55 and slope(raw, 2, rows) > 0.2
    assert np.abs(raw[..., 0] - normals[..., 0]).max() <= 1
    # u to the subject's left, v from the top.
    assert slope(uv, 0, columns) > 0.5 and slope(uv, 1, rows) > 0.3


def test_boxes_are_drawn(tiles):
    picture = tiles["face, Pixel3DMM's crop (blue), paper's box"]
    for colour in (module._BOX, module._WINDOW, module._CROP):
        assert (picture == colour).all(axis=-1).any()
