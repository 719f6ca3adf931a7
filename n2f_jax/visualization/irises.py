"""Irises and pupils on the eyeballs of a head mesh, so that one sees where it looks."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float, Int

IRIS_COLOR, PUPIL_COLOR = (92, 84, 76), (24, 22, 22)  # sRGB
# An iris is 11.7 mm across, whatever the size of the ball that models make of an eye.
_IRIS, _PUPIL = 0.00585, 0.0022
_SECTORS, _RINGS = 32, 3
_LIFT = (0.00035, 0.0005)  # above the eyeball, whose triangles are flat


def iris_caps(
    eyeballs: tuple[Float[np.ndarray, "n 3"], Float[np.ndarray, "m 3"]],
    gaze: Float[np.ndarray, "2 3"],
) -> tuple[Float[np.ndarray, "V 3"], Int[np.ndarray, "F 3"], Float[np.ndarray, "V 3"]]:
    """Caps of spheres just above both eyeballs.

    Args:
        eyeballs: vertices of each, in any frame with x, y, z right-handed; metres.
        gaze: unit vectors along which they look, in the same frame.

    Returns:
        Vertices, triangles (counter-clockwise from outside) and sRGB colours of the vertices.
    """
    vertices, faces, colors = [], [], []
    for ball, direction in zip(eyeballs, gaze, strict=True):
        centre = ball.mean(axis=0)
        radius = float(np.linalg.norm(ball - centre, axis=1).max())
        for size, color, lift in ((_IRIS, IRIS_COLOR, _LIFT[0]), (_PUPIL, PUPIL_COLOR, _LIFT[1])):
            points, triangles = _cap(direction, math.asin(min(size / radius, 0.9)))
            faces.append(triangles + sum(map(len, vertices)))
            vertices.append(centre + (radius + lift) * points)
            colors.append(np.tile(np.array(color, np.float32), (len(points), 1)))
    return np.concatenate(vertices), np.concatenate(faces), np.concatenate(colors)


def _cap(direction, angle):
    """Points of the unit sphere within an angle of a direction, in rings around it."""
    helper = np.eye(3)[np.argmin(np.abs(direction))]
    x = np.cross(helper, direction)
    x /= np.linalg.norm(x)
    y = np.cross(direction, x)
    around = 2.0 * np.pi * np.arange(_SECTORS) / _SECTORS
    points = [direction[None]]
    for ring in range(1, _RINGS + 1):
        a = angle * ring / _RINGS
        points.append(
            math.cos(a) * direction
            + math.sin(a) * (np.outer(np.cos(around), x) + np.outer(np.sin(around), y))
        )
    here, after = np.arange(_SECTORS), (np.arange(_SECTORS) + 1) % _SECTORS
    faces = [np.stack([np.zeros_like(here), 1 + here, 1 + after], axis=1)]
    for ring in range(1, _RINGS):
        inner, outer = 1 + (ring - 1) * _SECTORS, 1 + ring * _SECTORS
        faces.append(np.stack([inner + here, outer + here, outer + after], axis=1))
        faces.append(np.stack([inner + here, outer + after, inner + after], axis=1))
    return np.concatenate(points), np.concatenate(faces)
