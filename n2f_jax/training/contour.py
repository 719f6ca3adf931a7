"""The 68 landmarks as a loss compares them: fixed mesh points for sampled heads, the outline seen for photographs.

An annotator marks the jaw line where a photograph shows it, which on a turned head is another line of the mesh than on
a frontal one. Against fixed points the 17 of the true head are off by 8 % of the distance of the outer eye corners at
30° yaw, by 16 % at 45° (``tests/n2f_jax/training/test_contour.py``).
"""

from __future__ import annotations

from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Float

import flame_jax
from flame_jax import HeadModel
from n2f_jax.geometry.camera import Camera, project, yaw_seen

Contour = Literal["static", "dynamic"]


def projected_landmarks(
    model: HeadModel, vertices: Float[Array, "... V 3"], camera: Camera, contour: Contour
) -> Float[Array, "... 68 2"]:
    """The 68 landmarks of heads in pixels.

    Args:
        model: the head model.
        vertices: decoded.
        camera: that sees them.
        contour: ``'static'``, fixed mesh points, as sampled heads are annotated; ``'dynamic'``, the jaw line that the
            camera sees, as photographs are. Which mesh points those are is a constant to every derivative.
    """
    yaw = yaw_seen(camera) if contour == "dynamic" else None
    return project(flame_jax.landmarks68(model, vertices, yaw), camera)


def landmarks_percent(
    found: Float[Array, "B 68 2"], annotated: Float[Array, "B 68 2"], size: int
) -> Float[Array, "B"]:
    """Mean distance of each head's landmarks in per cent of the crop's side.

    Args:
        found, annotated: pixels of the crop.
        size: its side in pixels.
    """
    distance = jnp.sqrt(jnp.sum((found - annotated) ** 2, axis=-1))
    return jnp.mean(distance, axis=-1) * (100.0 / size)
