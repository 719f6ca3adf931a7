"""The colours of a face as smooth functions of the place on the open head at rest: skin, lips, brows, eyes.

Lips, brows and lids are told by the 68 landmarks of the head model, seen from the front: between landmarks run monotone
cubics y(x). Everything here is NumPy, a row for each point, and gives linear albedo.
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
from jaxtyping import Float
from scipy.interpolate import PchipInterpolator
from scipy.ndimage import map_coordinates

import flame_jax
from flame_jax import HeadModel

# The subject's right and left, as landmarks count (iBUG).
_BROWS = ((17, 18, 19, 20, 21), (26, 25, 24, 23, 22))  # from the temple to the nose
_LIDS = (((36, 37, 38, 39), (36, 41, 40, 39)), ((45, 44, 43, 42), (45, 46, 47, 42)))  # upper, lower
_UPPER_LIP, _LOWER_LIP = (48, 49, 50, 51, 52, 53, 54), (48, 59, 58, 57, 56, 55, 54)
_LIP_LINE = (60, 61, 62, 63, 64)
_CHEEKS, _NOSE_TIP, _NOSTRILS = ((2, 31, 41), (14, 35, 46)), 30, (32, 34)

# Metres.
_EDGE = 0.0005
_BROW_HALF = 0.0042
_BROW_DROP = 1.15  # of the half: landmarks follow a brow's upper edge
_RIM = 0.0009
# An iris is 11.7 mm across, whatever the size of the ball that models make of an eye.
_IRIS, _PUPIL = 0.00585, 0.0021
_UP = 0.0008  # the upper lid covers more of it than the lower

SCLERA = (0.42, 0.385, 0.365)
TEETH = (0.58, 0.50, 0.42)
TONGUE = (0.38, 0.13, 0.12)
CAVITY = (0.055, 0.015, 0.014)


@dataclasses.dataclass(frozen=True)
class Pigments:
    """Linear albedo of what a face is made of.

    Attributes:
        skin: of cheeks and forehead on average.
        hair: of brows and lashes.
        iris: halfway between pupil and rim.
        scalp: whether hair covers the scalp.
    """

    skin: tuple[float, float, float]
    hair: tuple[float, float, float]
    iris: tuple[float, float, float]
    scalp: bool


@dataclasses.dataclass(frozen=True)
class FaceFeatures:
    """Where on the open head at rest the features of a face lie.

    Attributes:
        landmarks: ``(68, 3)`` head frame, metres.
        scalp: ``(V,)`` share of scalp around each vertex of the head model, 0 … 1.
    """

    landmarks: Float[np.ndarray, "68 3"]
    scalp: Float[np.ndarray, " V"]

    @classmethod
    def of(cls, model: HeadModel) -> FaceFeatures:
        """The features of a head model with landmarks.

        Raises:
            ValueError: the model has no landmark embedding.
        """
        landmarks = np.asarray(flame_jax.landmarks68(model, model.v_template), np.float64)
        scalp = np.zeros(model.num_vertices)
        if "scalp" in model.masks:
            scalp[np.asarray(model.masks["scalp"])] = 1.0
        return cls(landmarks, _blurred(scalp, np.asarray(model.faces), steps=3))

    def between_lids(self, side: int) -> Float[np.ndarray, "3"]:
        """The point between the lids where an eye that looks ahead has its pupil; side 0 is the left; metres."""
        lids = slice(42, 48) if side == 0 else slice(36, 42)
        return self.landmarks[lids].mean(axis=0) + np.array([0.0, _UP, 0.0])

    @property
    def detailed(self) -> tuple[Float[np.ndarray, "3"], Float[np.ndarray, "3"]]:
        """Lowest and highest corner of the box in which colours change within millimetres; metres."""
        margin = 0.012
        inner = self.landmarks[17:]
        low, high = inner.min(axis=0) - margin, inner.max(axis=0) + margin
        return low, high

    def skin(
        self, points: Float[np.ndarray, "N 3"], scalp: Float[np.ndarray, " N"], pigments: Pigments
    ) -> Float[np.ndarray, "N 3"]:
        """Albedo of points of the skin.

        Args:
            points: on the open head at rest, head frame, metres.
            scalp: ``FaceFeatures.scalp`` there.
            pigments: the person's.
        """
        base = np.asarray(pigments.skin)
        albedo = np.tile(base, (len(points), 1))
        blood = self._blood(points)
        albedo *= (1.0 + 0.05 * noise(points, 0.015) + 0.04 * noise(points, 0.003))[:, None]
        albedo *= 1.0 - blood[:, None] * np.array([0.02, 0.15, 0.14])

        low, high = self.detailed
        inside = np.flatnonzero(((points > low) & (points < high)).all(axis=1))
        p, colors = points[inside], albedo[inside]
        lips, line = self._lips(p)
        colors = _mix(colors, lips, _lip_color(base) * (1.0 + 0.08 * noise(p, 0.002)[:, None]))
        colors *= 1.0 - 0.75 * line[:, None]
        colors *= 1.0 - 0.80 * self._nostrils(p)[:, None]
        colors = _mix(colors, self._lashes(p), 0.4 * np.asarray(pigments.hair))
        colors = _mix(colors, self._brows(p), pigments.hair)
        albedo[inside] = colors
        if pigments.scalp:
            ragged = scalp + 0.10 * noise(points, 0.004)
            strands = 1.0 + 0.35 * noise(points * np.array([1.0, 0.15, 0.15]), 0.0012)
            albedo = _mix(albedo, smooth(0.40, 0.62, ragged), np.asarray(pigments.hair) * strands[:, None])
        return np.clip(albedo, 0.0, 1.0)

    def _blood(self, points):
        """Redder cheeks, nose and chin: 0 … 1."""
        marks = self.landmarks
        centres = [marks[list(three)].mean(axis=0) for three in _CHEEKS] + [marks[_NOSE_TIP], marks[8]]
        blood = np.zeros(len(points))
        for centre, width, strength in zip(
            centres, (0.022, 0.022, 0.011, 0.012), (1.0, 1.0, 0.9, 0.5), strict=True
        ):
            blood += strength * np.exp(-0.5 * ((points - centre) ** 2).sum(axis=1) / width**2)
        return np.minimum(blood, 1.0)

    def _lips(self, points):
        """Share of lip, and of the line between the lips."""
        x, y = points[:, 0], points[:, 1]
        upper, lower = self._curve(_UPPER_LIP)(x), self._curve(_LOWER_LIP)(x)
        # The rim of the lips softens from a sharp bow to the lower lip's shadow.
        depth = np.minimum(upper - y, y - lower)
        lips = smooth(-_EDGE, _EDGE, np.nan_to_num(depth, nan=-1.0))
        line = np.nan_to_num(np.abs(y - self._curve(_LIP_LINE)(x)), nan=1.0)
        return lips, lips * (1.0 - smooth(0.2 * _EDGE, 1.6 * _EDGE, line))

    def _nostrils(self, points):
        dark = np.zeros(len(points))
        tip = self.landmarks[_NOSE_TIP]
        for index in _NOSTRILS:
            centre = self.landmarks[index] * [1.35, 1.0, 1.0] + 0.3 * (tip - self.landmarks[33]) * [0, 1, 1]
            away = (points - centre) / np.array([0.0030, 0.0024, 0.0040])
            dark += np.exp(-0.5 * ((away**2).sum(axis=1)) ** 2)
        return np.minimum(dark, 1.0)

    def _lashes(self, points):
        """Dark rims of the lids, the upper one broader: 0 … 1."""
        x, y = points[:, 0], points[:, 1]
        dark = np.zeros(len(points))
        for upper, lower in _LIDS:
            for curve, breadth, strength in ((upper, 1.4 * _RIM, 1.0), (lower, 0.8 * _RIM, 0.45)):
                away = np.nan_to_num(np.abs(y - self._curve(curve)(x)), nan=1.0)
                dark = np.maximum(dark, strength * np.exp(-0.5 * (away / breadth) ** 2))
        return dark

    def _brows(self, points):
        x, y = points[:, 0], points[:, 1]
        cover = np.zeros(len(points))
        for marks in _BROWS:
            ends = self.landmarks[[marks[0], marks[-1]], 0]
            along = (x - ends[0]) / (ends[1] - ends[0])  # 0 at the temple, 1 at the nose
            centre = self._curve(marks, extrapolate=True)(np.clip(x, min(ends), max(ends)))
            half = _BROW_HALF * (0.30 + 0.70 * smooth(0.0, 0.65, along))
            height = (y - centre) / half + _BROW_DROP
            # Hairs lean towards the temple.
            lean = np.stack([x + np.sign(ends[0]) * 0.7 * y, 0.15 * y, 0.15 * points[:, 2]], axis=1)
            hairs = noise(lean, 0.0009)
            edge = 1.0 - smooth(0.55, 1.15, np.abs(height) + 0.30 * hairs)
            taper = smooth(-0.06, 0.10, along + 0.03 * hairs) * (
                1.0 - smooth(0.94, 1.06, along + 0.04 * hairs)
            )
            cover = np.maximum(cover, edge * taper * np.clip(0.80 + 0.25 * hairs, 0.0, 1.0))
        return cover

    def _curve(self, indices, extrapolate=False):
        """y(x) through landmarks; NaN beyond them."""
        points = self.landmarks[list(indices)]
        points = points[np.argsort(points[:, 0])]
        return PchipInterpolator(points[:, 0], points[:, 1], extrapolate=extrapolate)


def eye_albedo(offset: Float[np.ndarray, "N 3"], pigments: Pigments) -> Float[np.ndarray, "N 3"]:
    """Albedo of points of an eyeball.

    Args:
        offset: from the eyeball's centre, metres, in a frame whose z axis points where the eye looks.
        pigments: the person's.
    """
    away = np.hypot(offset[:, 0], offset[:, 1])  # the back of an eyeball is never seen
    angle = np.arctan2(offset[:, 1], offset[:, 0])
    fibres = noise(np.stack([np.cos(angle), np.sin(angle), 10.0 * away], axis=1), 0.06)
    iris = np.asarray(pigments.iris) * (1.0 + 0.35 * fibres + 0.5 * (0.7 - away / _IRIS))[:, None]
    iris *= 1.0 - 0.65 * smooth(0.84 * _IRIS, _IRIS, away)[:, None]  # the dark ring
    iris *= 1.0 - 0.97 * (1.0 - smooth(0.9 * _PUPIL, 1.1 * _PUPIL, away))[:, None]
    white = np.asarray(SCLERA) * (1.0 + 0.03 * noise(offset, 0.003)[:, None])
    return np.clip(_mix(white, 1.0 - smooth(0.96 * _IRIS, 1.04 * _IRIS, away), iris), 0.0, 1.0)


def smooth(low: float, high: float, x: np.ndarray) -> np.ndarray:
    """0 below ``low``, 1 above ``high``, a cubic between."""
    share = np.clip((x - low) / (high - low), 0.0, 1.0)
    return share * share * (3.0 - 2.0 * share)


def noise(points: Float[np.ndarray, "N 3"], length: float) -> Float[np.ndarray, " N"]:
    """Value noise in −1 … 1 whose cells are ``length`` wide; the same at the same place, always."""
    cells = np.asarray(points, np.float64).T / length
    return map_coordinates(_lattice(), cells, order=1, mode="grid-wrap", prefilter=False)


@functools.cache
def _lattice():
    return np.random.default_rng(5).uniform(-1.0, 1.0, (32, 32, 32))


def _lip_color(skin):
    # Less melanin and more blood than the skin around; on dark skin the difference is small.
    return np.minimum(skin * np.array([0.80, 0.48, 0.51]) + np.array([0.012, 0.0, 0.002]), 1.0)


def _mix(colors, share, other):
    share = np.asarray(share)[:, None]
    return colors * (1.0 - share) + np.asarray(other) * share


def _blurred(values, faces, steps):
    """Means over the triangles around, a few times."""
    for _ in range(steps):
        total, count = np.zeros(len(values)), np.zeros(len(values))
        for corner in range(3):
            np.add.at(total, faces[:, corner], values[faces].mean(axis=1))
            np.add.at(count, faces[:, corner], 1.0)
        values = total / np.maximum(count, 1.0)
    return values
