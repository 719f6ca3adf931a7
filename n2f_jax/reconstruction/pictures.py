"""What to look at after a reconstruction: the photo, the input, the mesh over the photo, its normals."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from flame_jax import HeadModel
from n2f_jax.geometry.boxes import bounding_box
from n2f_jax.mesh.normals import vertex_normals
from n2f_jax.reconstruction.head import Head
from n2f_jax.visualization.irises import iris_caps
from n2f_jax.visualization.layout import row
from n2f_jax.visualization.overlay import CLAY, DrawnMesh, Layer, View, draw_mesh, normals_to_rgb

PANEL_HEIGHT = 512
MAX_OVERLAY = 1600  # longer side of the overlay picture, pixels
ALPHA = 0.86
_DIMMED = 0.22
_EYE_WHITE = (238, 238, 236)


@dataclasses.dataclass(frozen=True)
class HeadPaint:
    """How heads of one head model are drawn: clay with white eyeballs, on which irises show the gaze.

    Attributes:
        colors: ``(V, 3)`` sRGB.
        eyeballs: vertices of the left and the right eyeball; None where the model does not tell them.
    """

    colors: np.ndarray
    eyeballs: tuple[np.ndarray, np.ndarray] | None

    @classmethod
    def of(cls, model: HeadModel) -> HeadPaint:
        """The paint of a head model. Its right eyeball is what is not its left one where it has no mask of its own."""
        colors = np.tile(np.array(CLAY, np.float32), (model.num_vertices, 1))
        if "eyeballs" not in model.masks:
            return cls(colors, None)
        both = np.asarray(model.masks["eyeballs"])
        colors[both] = _EYE_WHITE
        left = both[np.asarray(model.v_template)[both, 0] > 0]
        return cls(colors, (left, np.setdiff1d(both, left)))

    def draw(self, head: Head, view: View, normal_frame: str | None = None) -> DrawnMesh | None:
        """A head in a view of its photograph, with normals in the ``'head'`` or ``'camera'`` frame, or none."""
        vertices, faces, colors = head.vertices, head.faces, self.colors
        if self.eyeballs is not None:
            gaze = Rotation.from_rotvec(head.eyes_pose).as_matrix()[:, :, 2]
            balls = (vertices[self.eyeballs[0]], vertices[self.eyeballs[1]])
            caps, cap_faces, cap_colors = iris_caps(balls, gaze)
            faces = np.concatenate([faces, cap_faces + len(vertices)])
            vertices, colors = np.concatenate([vertices, caps]), np.concatenate([colors, cap_colors])
        normals = None
        if normal_frame is not None:
            normals = vertex_normals(vertices, faces)
            normals = normals @ head.rotation.T if normal_frame == "camera" else normals
        in_camera = vertices @ head.rotation.T + head.translation
        return draw_mesh(in_camera, faces, head.intrinsics, view, colors, normals)


def photo_overlay(
    image: np.ndarray, heads: Sequence[Head], paint: HeadPaint, max_side: int = MAX_OVERLAY
) -> np.ndarray:
    """The whole photograph with every head's mesh on it, far heads first.

    Args:
        image: ``(H, W, 3)`` uint8 RGB, the original.
        heads: reconstructed from it.
        paint: of their head model.
        max_side: larger photographs are shrunk to this.
    """
    view = View.whole(image.shape[:2], max_side)
    shown = view.cut(image)
    for head in sorted(heads, key=lambda head: -float(head.translation[2])):
        drawn = paint.draw(head, view)
        shown = shown if drawn is None else drawn.clay().over(shown, ALPHA)
    return shown


def head_picture(
    image: np.ndarray,
    head: Head,
    paint: HeadPaint,
    title: str = "",
    normal_frame: str = "head",
    height: int = PANEL_HEIGHT,
) -> np.ndarray:
    """Photo, input normals, mesh over the photo, rendered normals: the same part of the image four times.

    Args:
        image: ``(H, W, 3)`` uint8 RGB, the original.
        head: reconstructed from it.
        paint: of its head model.
        title: a line above.
        normal_frame: ``'head'`` or ``'camera'``: of the input, hence of what is drawn beside it.
        height: of the panels, pixels.
    """
    box = bounding_box(head.vertices_2d)
    view = View.around(box, image.shape[:2], margin=1.25, height=height)
    photo = view.cut(image)
    dark = (photo * _DIMMED).astype(np.uint8)
    drawn = paint.draw(head, view, normal_frame)
    panels = [
        photo,
        input_layer(head, view).over(dark),
        photo if drawn is None else drawn.clay().over(photo, ALPHA),
        dark if drawn is None else drawn.normal_colors().over(dark),
    ]
    return row(panels, ["photo", "input normals", "mesh over the photo", "rendered normals"], title)


def input_layer(head: Head, view: View) -> Layer:
    """The network's input where it lies in the photograph, as colours."""
    size = head.input_mask.shape[0]
    k = view.scale * float(head.crop[2]) / size
    corner = view.scale * (head.crop[:2].astype(np.float64) - view.corner)
    # cv2 counts pixel centres from 0, this project from 0.5.
    matrix = np.array([[k, 0, corner[0] + 0.5 * k - 0.5], [0, k, corner[1] + 0.5 * k - 0.5]])
    height, width = view.size

    def place(x: np.ndarray) -> np.ndarray:
        return cv2.warpAffine(x.astype(np.float32), matrix, (width, height), flags=cv2.INTER_LINEAR)

    masked = head.input_normals * head.input_mask[..., None]
    # Enlarged, the mask's edge would be a staircase. Just outside it, normals come from their neighbours.
    normals = place(masked) + 0.02 * place(cv2.GaussianBlur(masked, (0, 0), 1.0))
    mask = place(cv2.GaussianBlur(head.input_mask, (0, 0), 0.8))
    mask = np.clip((mask - 0.5) * max(1.0, k) + 0.5, 0, 1)
    return Layer(normals_to_rgb(normals) * mask[..., None], mask, (0, 0))
