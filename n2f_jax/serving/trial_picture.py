"""A picture of a head by which a server is tried before it says that it is ready."""

from __future__ import annotations

import numpy as np

import flame_jax
from n2f_jax.geometry.camera import FRONTAL, Camera
from n2f_jax.mesh.triangle_mesh import TriangleMesh
from n2f_jax.visualization.face_paint import FacePaint
from n2f_jax.visualization.portrait import portrait, random_look

SIZE = 384


def trial_picture() -> np.ndarray:
    """``(SIZE, SIZE, 3)`` uint8: the mean of the open head, a metre away."""
    model = flame_jax.load_open_head()
    mesh = TriangleMesh(np.asarray(model.v_template, np.float64), np.asarray(model.faces, np.int64))
    camera = Camera(
        FRONTAL.astype(np.float64),
        np.array([0.0, 0.0, 1.0]),
        np.float64(1100.0 / 384 * SIZE),
        np.full(2, SIZE / 2),
    )
    look = random_look(np.random.default_rng(3), "skin")
    return portrait(mesh, camera, SIZE, look, FacePaint.of(mesh, mesh.vertices, model))
