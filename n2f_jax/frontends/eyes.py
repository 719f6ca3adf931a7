"""How far each eye is closed, and where both look, from the points and scores of the face networks.

The networks' irises are read twice: from the 478 points, and from MediaPipe's iris network, which sees each eye alone.
Gaze is linear in what both say of both eyes, seen in the head's frame; the weights were fitted to renders of heads that
are not ours (``scripts/build/measure_front_end.py``). Eyes are taken to look the same way: one face hardly tells a
squint from the networks' error.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from importlib import resources

import numpy as np
from jaxtyping import Float, UInt8

from n2f_jax.frontends.blendshapes import BLENDSHAPES
from n2f_jax.frontends.profile import on_axes, points_rotation, upright_axes
from n2f_jax.frontends.tflite import Runtime, open_network
from n2f_jax.geometry.camera import pitch_yaw_roll
from n2f_jax.geometry.squares import Square, cut_square
from n2f_jax.runtime.assets_cache import MEDIAPIPE, asset_path

ASSET = "gaze.npz"
# Of the left eye, then the right: outer and inner corner, upper and lower lid from outside to inside, iris.
CORNERS = ((263, 362), (33, 133))
UPPER, LOWER = ((387, 386, 385), (160, 159, 158)), ((373, 374, 380), (144, 145, 153))
IRIS = (473, 468)
SCORES = ("eyeLookUp", "eyeLookDown", "eyeLookIn", "eyeLookOut", "eyeBlink", "eyeWide", "eyeSquint")
# Side of the square that the iris network sees, in widths of the eye; of its 71 other points the first 16 are the lids.
IRIS_SQUARE, NUM_LIDS = 2.3, 16
# Lids' distance over the eye's width: open, closed; wide open from here on. Score of a blink: none, a closed eye.
OPEN, SHUT, WIDE = 0.28, 0.12, 0.36
NO_BLINK, BLINK = 0.25, 0.55
WIDEST = -0.3
# Both eyes closed so far show no gaze.
BLIND = 0.8


@dataclasses.dataclass(frozen=True)
class Eyes:
    """Eyes of one face.

    Attributes:
        closure: ``(2,)`` left, right: 0 as at rest, 1 closed, below 0 wide open.
        gaze: ``(3,)`` unit vector along which both eyes look, in a frame whose z axis is the ray to the face, x
            right, y down; NaN where both are closed.
        irises: ``(10, 2)`` float32 pixels: centre and rim at 0°, 90°, 180°, 270° of the right iris, then the left.
    """

    closure: Float[np.ndarray, "2"]
    gaze: Float[np.ndarray, "3"]
    irises: Float[np.ndarray, "10 2"]


class EyeReader:
    """Reads eyes.

    Args:
        num_threads: threads of the interpreter.
        runtime: what runs the network (``frontends.tflite``).

    Raises:
        AssetError: the iris network is not in the cache.
        ImportError: as ``FaceNetwork``.
    """

    def __init__(self, num_threads: int = 1, runtime: Runtime | None = None):
        self._network = open_network(asset_path(MEDIAPIPE, "iris_landmark.tflite"), num_threads, runtime)
        self._gaze = gaze_weights()  # not by the first faces, which may be those of several threads

    def __call__(
        self,
        image: UInt8[np.ndarray, "H W 3"],
        points: Float[np.ndarray, "478 3"],
        scores: Float[np.ndarray, "52"],
    ) -> Eyes:
        """The eyes of a face.

        Args:
            image: RGB.
            points: of ``MeshedFace.points_478``, pixels of the image.
            scores: of ``BLENDSHAPES``.
        """
        points = points.astype(np.float64)
        closure = np.array([eye_closure(points, scores, side) for side in (0, 1)])
        gaze = np.full(3, np.nan)
        if closure.min() < BLIND:
            mean, std, weights = self._gaze
            yaw, pitch = gaze_angles((self.features(image, points, scores) - mean) / std, weights)
            in_head = np.array(
                [math.sin(yaw) * math.cos(pitch), math.sin(pitch), math.cos(yaw) * math.cos(pitch)]
            )
            gaze = points_rotation(points) @ in_head
        return Eyes(closure, gaze, points[468:, :2].astype(np.float32))

    def features(
        self,
        image: UInt8[np.ndarray, "H W 3"],
        points: Float[np.ndarray, "478 3"],
        scores: Float[np.ndarray, "52"],
    ) -> Float[np.ndarray, "2 F"]:
        """What gaze is told by, for the left and the right eye.

        Lengths are over the eye's width and along the head's axes, the right eye's x mirrored.
        """
        axes = upright_axes(points)
        rotation = points_rotation(on_axes(points, axes))
        of_eyes = [self._features_of(image, points, scores, side, axes, rotation) for side in (0, 1)]
        return np.stack([np.concatenate(of_eyes), np.concatenate(of_eyes[::-1])])

    def _features_of(self, image, points, scores, side, axes, rotation):
        outer, inner = points[list(CORNERS[side])]
        middle, width = (outer + inner) / 2, max(float(np.linalg.norm(outer - inner)), 1e-6)
        out = np.array([1.0 if side == 0 else -1.0, 1.0])

        def in_head(place, depth=True):
            offset = (place - middle)[None] / width * [1, 1, depth]
            return (on_axes(offset, axes)[0] @ rotation)[:2] * out

        upper, lower = (points[list(lids[side])].mean(axis=0) for lids in (UPPER, LOWER))
        iris = in_head(points[IRIS[side]], depth=False)
        name = ("Left", "Right")[side]
        pitch, yaw, _ = pitch_yaw_roll(rotation)
        yaw *= out[0]
        found = [
            *in_head(points[IRIS[side]]),
            *iris,
            in_head(upper)[1],
            in_head(lower)[1],
            in_head(upper)[0],
            *(float(scores[BLENDSHAPES.index(score + name)]) for score in SCORES),
            yaw,
            pitch,
            yaw * abs(yaw),
            iris[1] * pitch,
            iris[0] * abs(yaw),
        ]
        for looks in self._iris_network(image, outer[:2], inner[:2], width, side):
            seen = np.array([in_head(np.array([*place, 0.0]), depth=False) for place in looks])
            lids = seen[1:]
            found += [*seen[0], *lids.mean(axis=0), lids[:, 1].max(), lids[:, 1].min()]
        return np.array(found)

    def _iris_network(self, image, outer, inner, width, side):
        """Iris centre and lids as the network sees the eye, which it knows as a right one, and as a mirrored one."""
        right, left = (inner, outer) if side == 0 else (outer, inner)
        angle = math.atan2(left[1] - right[1], left[0] - right[0])
        square = Square((outer + inner) / 2, max(1.0, IRIS_SQUARE * width), angle)
        size = self._network.input_size
        crop = cut_square(image, square, size).astype(np.float32) / 255
        looks = []
        for mirrored in (side == 0, side == 1):
            outputs = self._network.named(crop[:, ::-1] if mirrored else crop)
            iris = outputs["output_iris"].reshape(-1, 3)[:1]
            lids = outputs["output_eyes_contours_and_brows"].reshape(-1, 3)[:NUM_LIDS]
            found = np.concatenate([iris, lids]).astype(np.float64) / size
            if mirrored:
                found[:, 0] = 1.0 - found[:, 0]
            looks.append(square.to_image(found)[:, :2])
        # What the weights were fitted to: the one that the network knows, and the mean of both.
        return looks[0], (looks[0] + looks[1]) / 2


def eye_closure(points: Float[np.ndarray, "478 3"], scores: Float[np.ndarray, "52"], side: int) -> float:
    """How far an eye is closed (``Eyes.closure``): the mean of what its lids' distance and its blink score say.

    The thresholds are chosen on photographs (docs/front_ends.md); narrow eyes that are open come out below 0.5.

    Args:
        points: of ``MeshedFace.points_478``.
        scores: of ``BLENDSHAPES``.
        side: 0 left, 1 right.
    """
    outer, inner = points[list(CORNERS[side])]
    gaps = [np.linalg.norm(points[a] - points[b]) for a, b in zip(UPPER[side], LOWER[side], strict=True)]
    aspect = float(np.mean(gaps) / max(np.linalg.norm(outer - inner), 1e-6))
    by_lids = float(np.clip((OPEN - aspect) / (OPEN - SHUT), 0.0, 1.0))
    blink = float(scores[BLENDSHAPES.index("eyeBlink" + ("Left", "Right")[side])])
    by_score = float(np.clip((blink - NO_BLINK) / (BLINK - NO_BLINK), 0.0, 1.0))
    wide = float(np.clip((WIDE - aspect) / (OPEN - SHUT), WIDEST, 0.0))
    return 0.5 * (by_lids + by_score) + wide


def gaze_angles(
    standardised: Float[np.ndarray, "2 F"], weights: Float[np.ndarray, "F1 2"]
) -> tuple[float, float]:
    """Yaw to the subject's left and pitch upwards of the common gaze, radians.

    Args:
        standardised: features of ``EyeReader.features``, in units of their spread from their mean.
        weights: offset and weights; yaw is outward.
    """
    outward, up = (weights[0] + standardised @ weights[1:]).T
    return float(outward[0] - outward[1]) / 2, float(up.mean())


@functools.cache
def gaze_weights() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    path = resources.files("n2f_jax.frontends") / "assets" / ASSET
    with path.open("rb") as stream, np.load(stream, allow_pickle=False) as data:
        return data["mean"], data["std"], data["weights"]
