"""A picture that explains a head model: its axes, its landmarks' order, and what each parameter moves."""

from __future__ import annotations

import dataclasses
import math

import cv2
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8

import flame_jax
from flame_jax import FlameParams, HeadModel
from flame_jax.rotations import axis_angle_to_matrix, matrix_to_rotation_6d
from n2f_jax.visualization.orthographic import View, shade_grey

_decoder = jax.jit(flame_jax.decode)

CELL = 300
FRONT = View((0.0, -0.02, 0.0), 0.34, CELL)
SIDE = dataclasses.replace(FRONT, yaw=math.pi / 2)
# x red, y green, z blue, as every 3D tool draws them.
AXES = ((214, 69, 65), (38, 140, 70), (52, 101, 200))


def head_model_sheet(model: HeadModel) -> UInt8[np.ndarray, "H W 3"]:
    """Axes and landmarks from the front and the side, then one pose a cell. RGB.

    Args:
        model: with landmarks, or the second picture shows none.
    """
    neutral = FlameParams.neutral(model)
    vertices = _decode(model, neutral)
    cells = [
        (_axes(_shade(model, vertices, FRONT), FRONT), "front: x to the subject's left, y up"),
        (_axes(_shade(model, vertices, SIDE), SIDE), "its left side: z out of the face"),
        (_landmarks(model, vertices), "68 landmarks, iBUG order"),
    ]

    def turned(*axis_angle: float) -> jax.Array:
        return matrix_to_rotation_6d(axis_angle_to_matrix(jnp.asarray(axis_angle, jnp.float32)))

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
        cells.append((_shade(model, changed, view), label))
    drawn = [_labelled(picture, label) for picture, label in cells]
    return np.concatenate([np.concatenate(drawn[i : i + 4], axis=1) for i in range(0, len(drawn), 4)])


def _decode(model: HeadModel, params: FlameParams) -> Float[np.ndarray, "V 3"]:
    return np.asarray(_decoder(model, params)[0], np.float64)


def _shade(model: HeadModel, vertices: Float[np.ndarray, "V 3"], view: View) -> UInt8[np.ndarray, "S S 3"]:
    albedo = np.ones(len(vertices))
    for eye in ("left_eyeball", "right_eyeball"):
        if eye in model.masks:
            # The iris is what looks along z at rest.
            ball = np.asarray(model.masks[eye])
            rest = np.asarray(model.v_template)[ball]
            towards = (rest - rest.mean(axis=0)) / np.linalg.norm(rest - rest.mean(axis=0), axis=1).mean()
            albedo[ball[towards[:, 2] > 0.88]] = 0.25
    grey = shade_grey(vertices, np.asarray(model.faces), view, albedo)
    return np.repeat((255 * grey).round().astype(np.uint8)[..., None], 3, axis=2)


def _project(points: Float[np.ndarray, "n 3"], view: View) -> Float[np.ndarray, "n 2"]:
    in_view = (points - np.asarray(view.centre)) @ view.rotation.T
    return in_view[:, :2] * [1, -1] * (view.size / view.width) + view.size / 2


def _axes(picture: UInt8[np.ndarray, "S S 3"], view: View) -> UInt8[np.ndarray, "S S 3"]:
    ends = _project(np.concatenate([np.zeros((1, 3)), 0.12 * np.eye(3)]), view)
    for name, colour, end in zip("xyz", AXES, ends[1:], strict=True):
        if np.linalg.norm(end - ends[0]) > 5:
            start, tip = (tuple(round(c) for c in point) for point in (ends[0], end))
            cv2.arrowedLine(picture, start, tip, colour, 3, cv2.LINE_AA, tipLength=0.12)
            cv2.putText(
                picture, name, (tip[0] + 6, tip[1] - 6), cv2.FONT_HERSHEY_SIMPLEX, 0.7, colour, 2, cv2.LINE_AA
            )
    return picture


def _landmarks(model: HeadModel, vertices: Float[np.ndarray, "V 3"]) -> UInt8[np.ndarray, "S S 3"]:
    view = View((0.0, -0.035, 0.0), 0.19, CELL)
    picture = _shade(model, vertices, view)
    if model.landmarks is not None:
        points = np.asarray(flame_jax.landmarks68(model, jnp.asarray(vertices, jnp.float32)))
        for index, (u, v) in enumerate(_project(points, view).round().astype(int)):
            cv2.circle(picture, (u, v), 2, AXES[0], -1, cv2.LINE_AA)
            if index % 3 == 0:
                cv2.putText(
                    picture,
                    str(index),
                    (u + 2, v - 2),
                    cv2.FONT_HERSHEY_SIMPLEX,
                    0.3,
                    AXES[2],
                    1,
                    cv2.LINE_AA,
                )
    return picture


def _labelled(picture: UInt8[np.ndarray, "S S 3"], label: str) -> UInt8[np.ndarray, "H S 3"]:
    strip = np.full((26, picture.shape[1], 3), 255, np.uint8)
    cv2.putText(strip, label, (6, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (40, 40, 40), 1, cv2.LINE_AA)
    return np.concatenate([strip, picture])
