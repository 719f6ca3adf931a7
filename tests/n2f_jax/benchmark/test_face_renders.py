"""What is known of a rendered face, on the disk and in the picture. Drawing itself needs the ICT model."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from n2f_jax.benchmark.face_renders import FaceRender, read_face_renders, visible_points, write_face_renders
from n2f_jax.face_mesh.coarse_mesh import load_coarse_mesh
from n2f_jax.geometry.camera import FRONTAL


def render(shift=(0.1, -0.05, 0.8)):
    points = np.asarray(load_coarse_mesh().reference, np.float64) @ FRONTAL.T.astype(np.float64) + shift
    return FaceRender(
        points=points,
        landmarks=points[:68],
        rotation=FRONTAL.astype(np.float64),
        translation=np.array(shift),
        focal=500.0,
        gaze=np.tile([0.0, 0.0, 1.0], (2, 1)),
        eyes=points[:2],
        closure=np.array([0.2, 1.0]),
        angles=np.zeros(3),
        face_size=90.0,
        person=7,
    )


class Renderer:
    def draw(self, person, seed):
        return np.full((40, 60, 3), seed, np.uint8), dataclasses.replace(render(), person=person)


def test_renders_come_back_and_are_not_drawn_twice(tmp_path):
    write_face_renders(Renderer(), tmp_path, [3, 4], [0, 1])
    found = read_face_renders(tmp_path)
    assert [(path.name, known.person) for path, known in found] == [
        ("person003_view0.png", 3),
        ("person003_view1.png", 3),
        ("person004_view0.png", 4),
        ("person004_view1.png", 4),
    ]
    np.testing.assert_array_equal(np.asarray(Image.open(found[1][0])), np.full((40, 60, 3), 1))
    for field in dataclasses.fields(FaceRender):
        if field.name != "person":
            np.testing.assert_array_equal(getattr(found[0][1], field.name), getattr(render(), field.name))
    write_face_renders(None, tmp_path, [3, 4], [0, 1])  # nothing is left to draw
    with pytest.raises(FileNotFoundError, match="make_face_renders"):
        read_face_renders(tmp_path / "none")


def test_places_in_the_picture_and_what_is_seen():
    known = render((0.0, 0.0, 1.0))
    pixels = known.pixels(np.array([[0.0, 0.0, 2.0], [0.1, -0.2, 1.0]]), (40, 60))
    np.testing.assert_allclose(pixels, [[30.0, 20.0], [80.0, -80.0]])
    seen = visible_points(known, load_coarse_mesh().faces)
    assert seen[[1, 4, 152]].all() and seen.mean() > 0.8
