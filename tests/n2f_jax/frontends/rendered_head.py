"""A head drawn where a front end would look at it, to compare a front end's maps with."""

import jax.numpy as jnp
import numpy as np

import flame_jax
from flame_jax.rotations import euler_to_matrix
from n2f_jax.face_mesh.coarse_mesh import load_coarse_mesh
from n2f_jax.geometry import Camera, crop_camera, frontal_rotation, project
from n2f_jax.geometry.crop import Crop
from n2f_jax.render import HeadTopology, render_head

IMAGE_SIZE = (480, 640)


class RenderedHead:
    """The mean open head, turned and off the middle of a photograph of ``IMAGE_SIZE``."""

    def __init__(self, model):
        self.model, self.topology = model, HeadTopology.from_model(model)
        self.camera = Camera(
            rotation=frontal_rotation(euler_to_matrix(jnp.radians(jnp.asarray([5.0, -18.0, 8.0])))),
            translation=jnp.asarray([0.07, -0.02, 0.8]),
            focal=jnp.float32(700.0),
            principal_point=jnp.asarray([320.0, 240.0]),
        )
        self.landmarks = np.asarray(self.project(flame_jax.landmarks68(model, model.v_template)))

    def project(self, points):
        return project(points, self.camera)

    def face_mesh_points(self):
        """``(468, 3)`` what a perfect face mesh network would say: pixels, and depth in the same scale."""
        mesh = load_coarse_mesh()
        points = flame_jax.points_on_mesh(
            self.model.v_template, self.model.faces, mesh.embedding_faces, mesh.embedding_barycentric
        )
        pixels = np.asarray(self.project(points))
        depth = np.asarray(points @ self.camera.rotation.T)[:, 2:] * (700.0 / 0.8)
        return np.concatenate([pixels, depth], axis=1).astype(np.float32)

    def draw(self, crop: Crop | None, size: int):
        """Maps of a square of the photograph."""
        return render_head(self.topology, self.model.v_template, crop_camera(self.camera, crop, size), size)

    def draw_photograph(self):
        """Maps of all of it."""
        return render_head(self.topology, self.model.v_template, self.camera, IMAGE_SIZE)


def square(x0, y0, side) -> Crop:
    return Crop(x0y0=jnp.asarray([x0, y0], jnp.float32), side=jnp.float32(side))


def degrees_between(a, b, where):
    """Angles between unit vectors at the pixels of a mask."""
    return np.degrees(np.arccos(np.clip((np.asarray(a) * np.asarray(b)).sum(-1), -1, 1)))[
        np.asarray(where) > 0
    ]


def overlap(a, b):
    """Intersection over union of two masks."""
    a, b = np.asarray(a) > 0.5, np.asarray(b) > 0.5
    return (a & b).sum() / (a | b).sum()
