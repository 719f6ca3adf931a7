"""The mean head with the points that ``anthropometry.py`` measures between, to see that they lie where they should."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Float, UInt8
from scipy.spatial.transform import Rotation

from flame_jax import HeadModel
from n2f_jax.evaluation.anthropometry import CaliperPoints, caliper_points
from n2f_jax.geometry import FRONTAL, Camera, project
from n2f_jax.visualization.head_model_sheet import draw_head

CELL = 440  # pixels
_DISTANCE = 3.0  # metres
_CENTRE = (0.0, -0.015, -0.01)
_WIDTH = 0.30  # metres across a cell
# Yaw and pitch of the viewer in degrees, and whether the near side's points alone are drawn.
_VIEWS = (("front", 0.0, 0.0), ("right side", -90.0, 0.0), ("from above", 0.0, 90.0))
_POINT, _TAPE, _INK = (200, 30, 30), (30, 90, 190), (40, 40, 40)


def anthropometry_sheet(model: HeadModel) -> UInt8[np.ndarray, "H W 3"]:
    """The mean head from the front, its right side and above, with points and tape. RGB.

    Raises:
        AnthropometryError: see ``caliper_points``.
    """
    points = caliper_points(model)
    vertices = np.asarray(model.v_template)
    cells = [_cell(model, vertices, points, *view) for view in _VIEWS]
    return np.concatenate(cells, axis=1)


def _camera(yaw: float, pitch: float) -> Camera:
    rotation = FRONTAL @ Rotation.from_euler("XY", (pitch, -yaw), degrees=True).as_matrix()
    return Camera(
        rotation=rotation.astype(np.float32),
        translation=np.array([0.0, 0.0, _DISTANCE] - rotation @ _CENTRE, np.float32),
        focal=np.asarray(CELL * _DISTANCE / _WIDTH, np.float32),
        principal_point=np.full(2, CELL / 2, np.float32),
    )


def _cell(
    model: HeadModel,
    vertices: Float[np.ndarray, "V 3"],
    points: CaliperPoints,
    label: str,
    yaw: float,
    pitch: float,
) -> UInt8[np.ndarray, "S S 3"]:
    camera = _camera(yaw, pitch)
    picture = draw_head(model, vertices, camera, CELL)

    def pixels(places: Float[np.ndarray, "n 3"]) -> np.ndarray:
        return np.asarray(project(places.astype(np.float32), camera)).round().astype(np.int32)

    tape = pixels(points.tape.on(vertices))
    cv2.polylines(picture, [tape.reshape(-1, 1, 2)], True, _TAPE, 1, cv2.LINE_AA)
    for name, point in points.named.items():
        if label == "right side" and "left" in name:
            continue
        (u, v), *_ = pixels(point.on(vertices))
        cv2.circle(picture, (int(u), int(v)), 3, _POINT, -1, cv2.LINE_AA)
        if label == "right side":
            text = name.removeprefix("right ")
            cv2.putText(
                picture, text, (int(u) + 5, int(v) - 4), cv2.FONT_HERSHEY_SIMPLEX, 0.36, _INK, 1, cv2.LINE_AA
            )
    cv2.putText(picture, label, (8, CELL - 10), cv2.FONT_HERSHEY_SIMPLEX, 0.5, _INK, 1, cv2.LINE_AA)
    return picture
