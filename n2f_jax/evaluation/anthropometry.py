"""Dimensions that surveys take of heads by caliper and tape, taken of a head model's heads.

Each dimension runs between points that are found once, on the mean head, and are then fixed in the mesh: a point is a
mixture of vertices, so that all heads are measured at corresponding places. Heads are at rest: no expression, jaw
closed, gaze straight ahead. The dimensions have the names of the surveys in ``surveys.py``, and the ends that are
customary in anthropometry (nose protrusion: subnasale to pronasale). ``docs/open_head.md`` shows the points.

All on the mean head in FLAME's frame (x to the subject's left, y up, z out of the face); the midplane is x = 0:

==================  ==================================================================================================
glabella            foremost point of the midplane above the nose's root (its hindmost point between landmark 28 and the
                    brows' inner ends), up to twice the height of the brows' inner ends
sellion             deepest point of the nose's root: of the midplane from glabella to pronasale, farthest inside their
                    line
pronasale           foremost point of the midplane between landmarks 28 and 33
subnasale           corner under the nose: of the midplane from pronasale to landmark 51, farthest from their line
menton              landmark 8, where the chin turns into its underside
opisthocranion      of the midplane's back, farthest from glabella
alare               outermost vertex of the nose's wing: of those that face the side (within 30°) and are as near to
                    landmark 31 (35) as landmark 33
cheilion            corner of the mouth: landmarks 48 and 54
gonion              corner of the outline: of landmarks 0 to 8 (16 to 8), the farthest from the line between their ends
zygion              landmarks 1 and 15, the face's outline at the cheek bones
euryon              outermost vertex of the head above the ears
pupil               middle of the eyeball: with the gaze straight ahead the pupils are as far apart
==================  ==================================================================================================

A head model needs 68 landmarks and the regions ``left_ear``, ``right_ear``, ``left_eyeball`` and ``right_eyeball``. The
open head has them, and FLAME with its landmarks and masks. No vertex is named by its number.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.spatial import ConvexHull

import flame_jax
from flame_jax import HeadModel
from n2f_jax.evaluation.surveys import SIZE_DIMENSIONS
from n2f_jax.mesh.normals import vertex_normals
from n2f_jax.metrics.skin import NOT_SKIN
from n2f_jax.render.topology import vertices_in

REGIONS = ("left_ear", "right_ear", "left_eyeball", "right_eyeball")
_ON_THE_PLANE = 1e-6  # metres
_SIDEWAYS = math.cos(math.radians(30.0))

# Dimension → the two points it lies between. The head's circumference is a closed line of its own.
BETWEEN = {
    "head length": ("glabella", "opisthocranion"),
    "head breadth": ("right euryon", "left euryon"),
    "bizygomatic breadth": ("right zygion", "left zygion"),
    "bigonial breadth": ("right gonion", "left gonion"),
    "menton–sellion length": ("menton", "sellion"),
    "subnasale–sellion length": ("subnasale", "sellion"),
    "nose breadth": ("right alare", "left alare"),
    "nose protrusion": ("subnasale", "pronasale"),
    "lip length": ("right cheilion", "left cheilion"),
    "interpupillary distance": ("right pupil", "left pupil"),
}
CIRCUMFERENCE = "head circumference"
DIMENSIONS = (*BETWEEN, CIRCUMFERENCE)


class AnthropometryError(ValueError):
    """A head model that lacks what the points are defined by; the message names it."""


@dataclasses.dataclass(frozen=True)
class SurfacePoints:
    """Points that are mixtures of vertices.

    Attributes:
        corners: ``(n, k)`` vertex indices.
        weights: ``(n, k)`` that sum to one for each point.
    """

    corners: Int[np.ndarray, "n k"]
    weights: Float[np.ndarray, "n k"]

    @classmethod
    def at_vertices(cls, indices: Int[np.ndarray, " n"]) -> SurfacePoints:
        indices = np.asarray(indices).reshape(-1)
        return cls(indices[:, None], np.ones((len(indices), 1)))

    @classmethod
    def joined(cls, parts: Sequence[SurfacePoints]) -> SurfacePoints:
        """All points in a row; those of fewer vertices are filled up with weights of zero."""
        most = max(part.corners.shape[1] for part in parts)

        def filled(values: np.ndarray) -> np.ndarray:
            return np.pad(values, ((0, 0), (0, most - values.shape[1])))

        return cls(
            np.concatenate([filled(part.corners) for part in parts]),
            np.concatenate([filled(part.weights) for part in parts]),
        )

    def __getitem__(self, rows: int | np.ndarray) -> SurfacePoints:
        rows = np.atleast_1d(rows)
        return SurfacePoints(self.corners[rows], self.weights[rows])

    def on(self, vertices: Float[np.ndarray, "V 3"]) -> Float[np.ndarray, "n 3"]:
        """Where they lie on one head."""
        return np.einsum("nkc,nk->nc", vertices[self.corners], self.weights)

    def on_heads(
        self, model: HeadModel, shape_coefficients: Float[np.ndarray, "N K"]
    ) -> Float[np.ndarray, "N n 3"]:
        """Where they lie on heads at rest; float64, without decoding the rest of them."""
        count = shape_coefficients.shape[-1]
        directions = np.asarray(model.shapedirs)[self.corners, :, :count].astype(np.float64)
        mixed = np.einsum("nkcs,nk->ncs", directions, self.weights)
        mean = self.on(np.asarray(model.v_template, np.float64))
        return mean + np.einsum("ncs,Ns->Nnc", mixed, np.asarray(shape_coefficients, np.float64))


@dataclasses.dataclass(frozen=True)
class CaliperPoints:
    """What ``measure_dimensions`` measures between.

    Attributes:
        named: name → one point.
        tape: the closed line of the head's circumference, in order.
    """

    named: dict[str, SurfacePoints]
    tape: SurfacePoints


def caliper_points(model: HeadModel) -> CaliperPoints:
    """The points on a head model, found on its mean head (see above).

    Raises:
        AnthropometryError: the model has no landmarks, lacks a region, or is no head in FLAME's frame.
    """
    if model.landmarks is None:
        raise AnthropometryError(f"head model {model.name!r} has no landmarks")
    if missing := [region for region in REGIONS if region not in model.masks]:
        raise AnthropometryError(f"head model {model.name!r} lacks the regions {', '.join(missing)}")
    finder = _Finder(model)
    try:
        named = finder.midline() | finder.sides()
        return CaliperPoints(named, finder.tape(named["glabella"], named["opisthocranion"]))
    except _NotFound as error:
        raise AnthropometryError(f"the mean head of {model.name!r} has no {error}") from error


def measure_dimensions(
    model: HeadModel,
    shape_coefficients: Float[np.ndarray, "N K"],
    points: CaliperPoints | None = None,
) -> dict[str, Float[np.ndarray, " N"]]:
    """Dimension → its length on each head at rest, metres: ``DIMENSIONS``.

    Args:
        model: the head model.
        shape_coefficients: of N heads; fewer than the model has drive the first directions.
        points: ``caliper_points(model)``, where they are at hand.

    Raises:
        AnthropometryError: see ``caliper_points``.
    """
    points = caliper_points(model) if points is None else points
    shape_coefficients = np.asarray(shape_coefficients)
    if shape_coefficients.ndim != 2 or shape_coefficients.shape[1] > model.num_shape:
        raise ValueError(f"shape coefficients {shape_coefficients.shape}; (heads, up to {model.num_shape})")
    names = list(points.named)
    every = SurfacePoints.joined([points.named[name] for name in names])
    places = dict(zip(names, np.moveaxis(every.on_heads(model, shape_coefficients), 1, 0), strict=True))
    lengths = {
        dimension: np.linalg.norm(places[start] - places[end], axis=-1)
        for dimension, (start, end) in BETWEEN.items()
    }
    tape = points.tape.on_heads(model, shape_coefficients)
    steps = np.linalg.norm(tape - np.roll(tape, 1, axis=1), axis=-1)
    return lengths | {CIRCUMFERENCE: steps.sum(axis=-1)}


def overall_size(dimensions: Mapping[str, Float[np.ndarray, " N"]]) -> Float[np.ndarray, " N"]:
    """A head's size: the geometric mean of ``SIZE_DIMENSIONS``, in their unit."""
    return np.exp(np.mean([np.log(dimensions[name]) for name in SIZE_DIMENSIONS], axis=0))


class _NotFound(ValueError):
    """The message names the point."""


class _Finder:
    """The mean head's skin, its midplane section and its landmarks, and the points on them."""

    def __init__(self, model: HeadModel) -> None:
        self.vertices = np.asarray(model.v_template, np.float64)
        self.faces = np.asarray(model.faces)
        self.masks = {name: np.asarray(index) for name, index in model.masks.items()}
        self.model = model
        self.landmarks = np.asarray(flame_jax.landmarks68(model, jnp.asarray(model.v_template)), np.float64)
        embedding = model.landmarks
        assert embedding is not None
        self.landmark_points = SurfacePoints(
            self.faces[np.asarray(embedding.static_faces)],
            np.asarray(embedding.static_barycentric, np.float64),
        )
        self.skin = ~self._in(*NOT_SKIN)

    def _in(self, *regions: str) -> Bool[np.ndarray, " V"]:
        return vertices_in(self.model, regions)

    def midline(self) -> dict[str, SurfacePoints]:
        section, places = self._section(self.skin, np.array([1.0, 0.0, 0.0]), 0.0)
        y, z = places[:, 1], places[:, 2]
        mark = self.landmarks
        front = z > self.vertices[self.masks["left_ear"], 2].max()

        def pick(name: str, where: np.ndarray, value: np.ndarray) -> int:
            if not where.any():
                raise _NotFound(name)
            return int(np.flatnonzero(where)[np.argmax(value[where])])

        brows = mark[[21, 22], 1].mean()
        root = pick("sellion", front & (y > mark[28, 1]) & (y < brows), -z)
        above = y[root] + 2.0 * (brows - y[root])
        glabella = pick("glabella", front & (y > y[root]) & (y < above), z)
        pronasale = pick("pronasale", front & (y > mark[33, 1]) & (y < mark[28, 1]), z)

        def depth_inside(upper: np.ndarray, lower: np.ndarray) -> np.ndarray:
            """How far inside the line from one point of the profile down to another; (y, z) each."""
            inwards = np.array([upper[1] - lower[1], lower[0] - upper[0]]) / np.linalg.norm(lower - upper)
            return (places[:, 1:] - upper) @ inwards

        # Not the hindmost point, which wanders as the head nods.
        brow, tip, lip = places[glabella, 1:], places[pronasale, 1:], mark[51, 1:]
        sellion = pick("sellion", front & (y > mark[28, 1]) & (y < brow[0]), depth_inside(brow, tip))
        depth = depth_inside(tip, lip)
        outside = z > mark[[31, 35], 2].mean()  # and not in the mouth or the nose
        subnasale = pick("subnasale", outside & (y > lip[0]) & (y < tip[0]), depth)
        distance = np.linalg.norm(places - places[glabella], axis=-1)
        opisthocranion = pick("opisthocranion", ~front & (y > mark[33, 1]), distance)
        found = {
            "sellion": sellion,
            "glabella": glabella,
            "pronasale": pronasale,
            "subnasale": subnasale,
            "opisthocranion": opisthocranion,
        }
        return {name: section[index] for name, index in found.items()} | {"menton": self.landmark_points[8]}

    def sides(self) -> dict[str, SurfacePoints]:
        mark, y = self.landmarks, self.vertices[:, 1]
        normals = vertex_normals(self.vertices, self.faces)
        ears = self._in("left_ear", "right_ear")
        above_ears = self.skin & ~ears & (y > y[ears].max())
        found = {}
        for side, sign, contour, cheilion, wing in (
            ("left", 1.0, np.arange(16, 7, -1), 54, 35),
            ("right", -1.0, np.arange(9), 48, 31),
        ):
            jaw = mark[contour] - mark[contour[0]]
            axis = jaw[-1] / np.linalg.norm(jaw[-1])
            corner = contour[np.argmax(np.linalg.norm(jaw - (jaw @ axis)[:, None] * axis, axis=-1))]
            near = np.linalg.norm(self.vertices - mark[wing], axis=-1) < np.linalg.norm(mark[33] - mark[wing])
            wings = self.skin & near & (sign * normals[:, 0] > _SIDEWAYS)
            eyeball = self.masks[f"{side}_eyeball"]
            found |= {
                f"{side} euryon": self._outermost("euryon", above_ears, sign),
                f"{side} zygion": self.landmark_points[contour[1]],
                f"{side} gonion": self.landmark_points[corner],
                f"{side} alare": self._outermost("alare", wings, sign),
                f"{side} cheilion": self.landmark_points[cheilion],
                f"{side} pupil": SurfacePoints(eyeball[None], np.full((1, len(eyeball)), 1.0 / len(eyeball))),
            }
        return found

    def tape(self, glabella: SurfacePoints, opisthocranion: SurfacePoints) -> SurfacePoints:
        """Around the head through glabella and opisthocranion, level from side to side, over hollows, without ears."""
        front, back = glabella.on(self.vertices)[0], opisthocranion.on(self.vertices)[0]
        along = (front - back) / np.linalg.norm(front - back)
        side = np.array([1.0, 0.0, 0.0])
        normal = np.cross(along, side)
        normal /= np.linalg.norm(normal)
        scalp = self.skin & ~self._in("left_ear", "right_ear")
        section, places = self._section(scalp, normal, float(front @ normal))
        flat = np.stack([places @ side, places @ along], axis=-1)
        return section[ConvexHull(flat).vertices]

    def _outermost(self, name: str, where: Bool[np.ndarray, " V"], sign: float) -> SurfacePoints:
        if not where.any():
            raise _NotFound(name)
        return SurfacePoints.at_vertices(np.flatnonzero(where)[[np.argmax(sign * self.vertices[where, 0])]])

    def _section(
        self, region: Bool[np.ndarray, " V"], normal: Float[np.ndarray, "3"], offset: float
    ) -> tuple[SurfacePoints, Float[np.ndarray, "n 3"]]:
        """Where the edges of triangles of a region cross a plane, and where these points lie on the mean head."""
        faces = self.faces[region[self.faces].all(axis=1)]
        edges = np.unique(np.sort(faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1), axis=0)
        height = self.vertices @ normal - offset
        height[np.abs(height) < _ON_THE_PLANE] = 0.0
        on = np.unique(edges[height[edges] == 0.0])
        start, end = edges[height[edges].prod(axis=1) < 0.0].T
        share = height[start] / (height[start] - height[end])
        crossing = SurfacePoints(np.stack([start, end], axis=-1), np.stack([1.0 - share, share], axis=-1))
        points = SurfacePoints.joined([SurfacePoints.at_vertices(on), crossing])
        return points, points.on(self.vertices)
