"""The network's input and the head's own normals as pictures of one crop."""

from __future__ import annotations

import functools

import jax
import numpy as np
from jaxtyping import Float, UInt8

from n2f_jax.face_mesh.coarse_mesh import coarse_maps
from n2f_jax.frontends.face_mesh import points_in_crop
from n2f_jax.geometry.crop import Crop
from n2f_jax.mesh.normals import vertex_normals
from n2f_jax.viewer.sources import SeenHead
from n2f_jax.visualization.overlay import View, draw_mesh, normals_to_rgb

SIDE = 256  # of the pictures, pixels


def input_normals(head: SeenHead) -> UInt8[np.ndarray, "S S 3"] | None:
    """Normals of the face mesh, drawn again from its points; None where another front end saw the face.

    The network saw the same at its own resolution.
    """
    if not len(head.points):
        return None
    crop = Crop(head.crop[:2], head.crop[2])
    normals, mask = _coarse(points_in_crop(head.points, crop, SIDE))
    return _picture(np.asarray(normals), np.asarray(mask))


def rendered_normals(
    head: SeenHead, vertices: Float[np.ndarray, "V 3"], faces: np.ndarray
) -> UInt8[np.ndarray, "S S 3"]:
    """Head-frame normals of a head's mesh where the photograph shows it.

    Args:
        head: pose, camera and crop.
        vertices: head frame, metres.
        faces: ``(F, 3)``.
    """
    view = View((float(head.crop[0]), float(head.crop[1])), SIDE / float(head.crop[2]), (SIDE, SIDE))
    posed = vertices @ head.rotation.T + head.translation
    normals = vertex_normals(vertices, faces)
    drawn = draw_mesh(posed, faces, head.intrinsics, view, normals=normals, samples=1, windows=(SIDE,))
    picture = np.zeros((SIDE, SIDE, 3), np.uint8)
    return picture if drawn is None else drawn.normal_colors().over(picture)


@functools.partial(jax.jit)
def _coarse(points):
    return coarse_maps(points, SIDE)


def _picture(normals: np.ndarray, mask: np.ndarray) -> np.ndarray:
    return (normals_to_rgb(normals) * mask[..., None]).round().astype(np.uint8)
