"""Units of length: named, checked against the face, never guessed in silence."""

from __future__ import annotations

METRES_PER = {"m": 1.0, "cm": 1e-2, "mm": 1e-3}
AUTO = "auto"
# No face is outside (outer eye corners of children and adults: about 75 to 105 mm). The bounds are less than a
# factor of 10 apart, so at most one of the units fits.
EYE_RANGE = (0.05, 0.16)


class UnitError(ValueError):
    """A unit that is unknown or cannot be right; the message says what was measured."""


def resolve_unit(unit: str, eye_distance: float, name: str) -> tuple[str, float]:
    """A unit's name and its length in metres.

    Args:
        unit: ``m``, ``cm``, ``mm``, or ``auto``: the one under which the outer eye corners are as far apart as
            those of a face.
        eye_distance: distance of the outer eye corners in the mesh's own unit.
        name: what is measured, for messages.

    Raises:
        UnitError: the unit is unknown, ``auto`` finds none, or under the named one this is no face.
    """
    low, high = EYE_RANGE
    fitting = [known for known, metres in METRES_PER.items() if low <= eye_distance * metres <= high]
    if unit == AUTO:
        if len(fitting) != 1:
            raise UnitError(
                f"{name}: outer eye corners are {eye_distance:.4g} apart, which is a face in none of "
                f"{', '.join(METRES_PER)}: name its unit, or use a protocol that estimates the scale"
            )
        return fitting[0], METRES_PER[fitting[0]]
    if unit not in METRES_PER:
        raise UnitError(f"{name}: unit {unit!r}; there are {', '.join(METRES_PER)} and {AUTO}")
    if unit not in fitting:
        hint = f"; in {fitting[0]} it would be" if fitting else ""
        raise UnitError(
            f"{name}: outer eye corners are {eye_distance:.4g} {unit} apart, which is no face{hint}"
        )
    return unit, METRES_PER[unit]
