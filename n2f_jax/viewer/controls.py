"""What can be moved by hand on a head: coefficients, jaw, lids, gaze and pose, each as one number."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from scipy.spatial.transform import Rotation

from flame_jax import HeadModel
from n2f_jax.geometry.camera import FRONTAL, pitch_yaw_roll
from n2f_jax.viewer.sources import SeenHead

NUM_DIRECTIONS = 10  # of shape, and of expression: the first ones, which move most
_ANGLES = ("pitch", "yaw", "roll")


@dataclasses.dataclass(frozen=True)
class Control:
    """One number of a head.

    Attributes:
        name: its own, of all controls.
        group: under which it stands.
        low, high: between which a slider moves it; a head may lie outside.
        step: of the slider.
    """

    name: str
    group: str
    low: float
    high: float
    step: float


def controls_of(model: HeadModel) -> tuple[Control, ...]:
    """All controls of heads of a model; angles in degrees, lengths in metres, coefficients as the model has them."""
    found = [
        Control(f"{group} {number + 1}", group, -3.0, 3.0, 0.05)
        for group, count in (("shape", model.num_shape), ("expression", model.num_expression))
        for number in range(min(NUM_DIRECTIONS, count))
    ]
    found += [Control("jaw opens", "jaw", -5.0, 35.0, 0.5), Control("jaw sideways", "jaw", -15.0, 15.0, 0.5)]
    found += [Control(f"{side} lid", "lids", -0.5, 1.2, 0.01) for side in ("left", "right")]
    found += [Control("gaze down", "gaze", -30.0, 30.0, 0.5), Control("gaze left", "gaze", -40.0, 40.0, 0.5)]
    found += [Control(name, "head pose", -90.0, 90.0, 0.5) for name in _ANGLES]
    return (*found, Control("distance", "head pose", 0.2, 3.0, 0.01))


def read(head: SeenHead, name: str) -> float:
    """The number of a control.

    Raises:
        KeyError: there is no such control.
    """
    if name in _ANGLES:
        return math.degrees(pitch_yaw_roll(head.rotation)[_ANGLES.index(name)])
    if name == "distance":
        return float(head.translation[2])
    field, index, unit = _place(name)
    return unit * float(np.asarray(getattr(head, field)[index]).mean())


def write(head: SeenHead, name: str, value: float) -> SeenHead:
    """The head with one number another.

    Raises:
        KeyError: there is no such control.
    """
    if name in _ANGLES:
        angles = list(pitch_yaw_roll(head.rotation))
        angles[_ANGLES.index(name)] = math.radians(value)
        turned = Rotation.from_euler("XYZ", angles).as_matrix()
        return dataclasses.replace(head, rotation=turned @ FRONTAL.astype(np.float64))
    if name == "distance":
        # Along the ray that it is seen on, so that it stays where it is in the picture.
        factor = value / float(head.translation[2])
        return dataclasses.replace(head, translation=head.translation * factor)
    field, index, unit = _place(name)
    changed = np.array(getattr(head, field))
    # Both eyes move alike: what they differ by stays.
    changed[index] += value / unit - np.asarray(changed[index]).mean()
    return dataclasses.replace(head, **{field: changed})


def at_rest(head: SeenHead) -> SeenHead:
    """The same person in the same place, without expression, mouth and eyes as modelled."""
    fields = ("expression", "jaw_pose", "eyelids", "eyes_pose")
    return dataclasses.replace(head, **{name: np.zeros_like(getattr(head, name)) for name in fields})


def _place(name: str):
    """Field of the head, index in it, and the control's units in one of the field's."""
    degrees = 180.0 / math.pi
    fixed = {
        "jaw opens": ("jaw_pose", (0,), degrees),
        "jaw sideways": ("jaw_pose", (1,), degrees),
        "left lid": ("eyelids", (0,), 1.0),
        "right lid": ("eyelids", (1,), 1.0),
        "gaze down": ("eyes_pose", (slice(None), 0), degrees),
        "gaze left": ("eyes_pose", (slice(None), 1), degrees),
    }
    if name in fixed:
        return fixed[name]
    group, _, number = name.partition(" ")
    if group not in ("shape", "expression") or not number.isdigit():
        raise KeyError(name)
    return group, (int(number) - 1,), 1.0
