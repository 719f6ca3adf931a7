"""A picture that explains a head model: its axes, its landmarks' order, and what each parameter moves."""

from __future__ import annotations

import dataclasses
import math

import cv2
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8
from scipy.spatial.transform import Rotation

import flame_jax
from flame_jax import FlameParams, HeadModel
from flame_jax.rotations import axis_angle_to_rotation_6d
from n2f_jax.geometry import FRONTAL, Camera, intrinsics_matrix, project, to_camera
from n2f_jax.mesh.colors import region_colors
from n2f_jax.visualization.overlay import View, draw_mesh

_decoder = jax.jit(flame_jax.decode)

CELL = 300
# x red, y green, z blue, as every 3D tool draws them.
AXES = ((214, 69, 65), (38, 140, 70), (52, 101, 200))


_DISTANCE = 3.0  # metres, so far that the nose looks hardly larger than the ears


def _looking_at(centre: tuple[float, float, float], width: float, yaw: float = 0.0) -> Camera:
    """A camera that sees ``width`` metres about ``centre``; positive yaw (radians): the head's left side."""
    rotation = FRONTAL @ Rotation.from_euler("y", -yaw).as_matrix()
    return Camera(
        rotation=rotation.astype(np.float32),
        translation=np.array([0.0, 0.0, _DISTANCE] - rotation @ centre, np.float32),
        focal=np.asarray(CELL * _DISTANCE / width, np.float32),
        principal_point=np.full(2, CELL / 2, np.float32),
    )


FRONT = _looking_at((0.0, -0.02, 0.0), 0.34)
SIDE = _looking_at((0.0, -0.02, 0.0), 0.34, yaw=math.pi / 2)
CLOSE = _looking_at((0.0, -0.035, 0.0), 0.19)


def head_model_sheet(model: HeadModel) -> UInt8[np.ndarray, "H W 3"]:
    """Axes and landmarks from the front and the side, then one pose a cell. RGB.

    Args:
        model: with landmarks, or the second picture shows none.
    """
    neutral = FlameParams.neutral(model)
    vertices = _decode(model, neutral)
    cells = [
        (_axes(draw_head(model, vertices, FRONT, CELL), FRONT), "front: x to the subject's left, y up"),
        (_axes(draw_head(model, vertices, SIDE, CELL), SIDE), "its left side: z out of the face"),
        (_landmarks(model, vertices), "68 landmarks, iBUG order"),
    ]

    def turned(*axis_angle: float) -> jax.Array:
        return axis_angle_to_rotation_6d(jnp.asarray(axis_angle, jnp.float32))

    rest = turned(0.0, 0.0, 0.0)
    poses = [
        ({"jaw": turned(0.3, 0.0, 0.0)}, FRONT, "jaw +0.3 rad about x"),
        ({"jaw": turned(0.0, 0.12, 0.0)}, FRONT, "jaw +0.12 rad about y"),
        ({"neck": turned(0.4, 0.0, 0.0)}, SIDE, "neck +0.4 rad about x"),
        ({"neck": turned(0.0, 0.4, 0.0)}, FRONT, "neck +0.4 rad about y"),
        ({"neck": turned(0.0, 0.0, 0.4)}, FRONT, "neck +0.4 rad about z"),
        ({"eyes": jnp.stack([turned(0.0, 0.5, 0.0), rest])}, FRONT, "left eye +0.5 rad about y"),
        ({"eyelids": jnp.asarray([1.0, 0.0])}, FRONT, "eyelids (1, 0): the left one"),
        ({"shape": neutral.shape.at[0].set(2.0)}, FRONT, "shape[0] = 2"),
        ({"expression": neutral.expression.at[0].set(2.0)}, FRONT, "expression[0] = 2"),
    ]
    for change, view, label in poses:
        changed = _decode(model, dataclasses.replace(neutral, **change))
        cells.append((draw_head(model, changed, view, CELL), label))
    drawn = [_labelled(picture, label) for picture, label in cells]
    return np.concatenate([np.concatenate(drawn[i : i + 4], axis=1) for i in range(0, len(drawn), 4)])


def _decode(model: HeadModel, params: FlameParams) -> Float[np.ndarray, "V 3"]:
    return np.asarray(_decoder(model, params)[0])


def draw_head(
    model: HeadModel, vertices: Float[np.ndarray, "V 3"], camera: Camera, size: int
) -> UInt8[np.ndarray, "S S 3"]:
    """A head as clay in its regions' colours, on white.

    Args:
        model: whose mesh it is.
        vertices: head frame, metres.
        camera: that sees it; of the picture's pixels.
        size: side of the picture, pixels.
    """
    drawn = draw_mesh(
        np.asarray(to_camera(vertices, camera)),
        np.asarray(model.faces),
        np.asarray(intrinsics_matrix(camera)),
        View((0.0, 0.0), 1.0, (size, size)),
        region_colors(model),
    )
    white = np.full((size, size, 3), 255, np.uint8)
    return white if drawn is None else drawn.clay().over(white)


def _axes(picture: UInt8[np.ndarray, "S S 3"], camera: Camera) -> UInt8[np.ndarray, "S S 3"]:
    ends = np.asarray(
        project(np.concatenate([np.zeros((1, 3)), 0.12 * np.eye(3)]).astype(np.float32), camera)
    )
    for name, colour, end in zip("xyz", AXES, ends[1:], strict=True):
        if np.linalg.norm(end - ends[0]) > 8:  # not the one that points at the viewer
            start, tip = (tuple(round(float(c)) for c in point) for point in (ends[0], end))
            cv2.arrowedLine(picture, start, tip, colour, 3, cv2.LINE_AA, tipLength=0.12)
            cv2.putText(
                picture, name, (tip[0] + 6, tip[1] - 6), cv2.FONT_HERSHEY_SIMPLEX, 0.7, colour, 2, cv2.LINE_AA
            )
    return picture


def _landmarks(model: HeadModel, vertices: Float[np.ndarray, "V 3"]) -> UInt8[np.ndarray, "S S 3"]:
    picture = draw_head(model, vertices, CLOSE, CELL)
    if model.landmarks is not None:
        pixels = project(flame_jax.landmarks68(model, jnp.asarray(vertices)), CLOSE)
        for index, (u, v) in enumerate(np.asarray(pixels).round().astype(int)):
            cv2.circle(picture, (u, v), 2, AXES[0], -1, cv2.LINE_AA)
            if index % 3 == 0:
                place = (u + 2, v - 2)
                cv2.putText(
                    picture, str(index), place, cv2.FONT_HERSHEY_SIMPLEX, 0.3, AXES[2], 1, cv2.LINE_AA
                )
    return picture


def _labelled(picture: UInt8[np.ndarray, "S S 3"], label: str) -> UInt8[np.ndarray, "H S 3"]:
    strip = np.full((26, picture.shape[1], 3), 255, np.uint8)
    cv2.putText(strip, label, (6, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (40, 40, 40), 1, cv2.LINE_AA)
    return np.concatenate([strip, picture])
