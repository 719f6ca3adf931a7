"""The two networks that find a face's points in a square crop: MediaPipe's face mesh, and its successor.

``v1``: 468 points from 192², ``face_landmark.tflite`` (2020). ``v2``: 478 from 256², of which the first 468 are the
same places and the others the irises, ``face_landmarks_detector.tflite`` (2022, "MediaPipe Face Mesh V2").
"""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from n2f_jax.face_mesh.coarse_mesh import NUM_POINTS, load_coarse_mesh
from n2f_jax.frontends.tflite import Runtime, open_network
from n2f_jax.frontends.tflite_graph import tensor_name
from n2f_jax.runtime.assets_cache import FACE_LANDMARKER, MEDIAPIPE, asset_path

NUM_WITH_IRISES = NUM_POINTS + 10
# Iris points: centre, then the rim at 0°, 90°, 180°, 270° of the picture; subject's right, then left.
RIGHT_IRIS, LEFT_IRIS = slice(468, 473), slice(473, 478)
# Outer corners of the eyes: the subject's right, left.
OUTER_EYE_CORNERS = (33, 263)
# Of the newer network: the last tensor in which places of the picture are apart, 4 × 4 of them with 128 numbers each.
ACTIVATIONS = 439
_MIRRORED_IRISES = (473, 476, 475, 474, 477, 468, 471, 470, 469, 472)


@dataclasses.dataclass(frozen=True)
class CropPoints:
    """What a network says of one crop.

    Attributes:
        points: ``(N, 3)`` u, v in units of the crop's side from its upper left corner, depth in the same unit, growing
            away from the camera.
        score: probability that the crop holds a face.
        disagreement: mean distance of the points of the crop from those of the mirrored crop, units of the crop's side;
            0 where there was no mirrored pass.
        activations: ``(2, D)`` what the newer network has made of the crop and of the mirrored one before it says where
            points are (``ACTIVATIONS``); NaN where there was no mirrored pass. None of the older network.
    """

    points: Float[np.ndarray, "N 3"]
    score: float
    disagreement: float
    activations: Float[np.ndarray, "2 D"] | None = None


@dataclasses.dataclass(frozen=True)
class NetworkFile:
    """Where one of the two networks lies, and what its outputs mean.

    Attributes:
        path: the file.
        count: N, of points.
        outputs: names of the outputs that hold the points and the score.
        mirror: ``(N,)`` each point's mirror image.
    """

    path: Path
    count: int
    outputs: tuple[str, str]
    mirror: Int[np.ndarray, "N"]

    @classmethod
    def of(cls, version: str) -> NetworkFile:
        """``'v1'`` or ``'v2'``.

        Raises:
            AssetError: the network is not in the cache.
            ValueError: another version.
        """
        mirror = load_coarse_mesh().mirror
        if version == "v1":
            path = asset_path(MEDIAPIPE, "face_landmark.tflite")
            return cls(path, NUM_POINTS, ("conv2d_21", "conv2d_31"), mirror)
        if version == "v2":
            path = asset_path(FACE_LANDMARKER, "face_landmarks_detector.tflite")
            mirror = np.concatenate([mirror, _MIRRORED_IRISES])
            return cls(path, NUM_WITH_IRISES, ("Identity", "Identity_1"), mirror)
        raise ValueError(f"the face networks are v1 and v2, not {version!r}")


class FaceNetwork:
    """One of the two networks.

    Args:
        version: ``'v1'`` or ``'v2'``.
        num_threads: threads of the interpreter.
        runtime: what runs the network (``frontends.tflite``).

    Raises:
        AssetError: the network is not in the cache.
        ImportError: neither ``ai-edge-litert`` nor ``tflite`` is there, or not the one asked for.
    """

    def __init__(self, version: str, num_threads: int = 1, runtime: Runtime | None = None):
        self._file = NetworkFile.of(version)
        tensors = (ACTIVATIONS,) if version == "v2" else ()
        self._tensors = tuple(map(tensor_name, tensors))
        self._network = open_network(self._file.path, num_threads, runtime, tensors)

    @property
    def input_size(self) -> int:
        """Side of the crops in pixels."""
        return self._network.input_size

    def __call__(self, crop: Float[np.ndarray, "S S 3"], mirrored: bool = True) -> CropPoints:
        """Points in one crop.

        Args:
            crop: RGB in [0, 1].
            mirrored: also look at the mirrored crop and take the mean, which steadies the points and takes twice as
                long.
        """
        points, score, activations = self._run(crop)
        if not mirrored:
            return CropPoints(points, score, 0.0, self._both(activations, np.full_like(activations, np.nan)))
        other, other_score, other_activations = self._run(crop[:, ::-1])
        other = other[self._file.mirror]
        other[:, 0] = 1.0 - other[:, 0]
        gap = float(np.linalg.norm(points[:, :2] - other[:, :2], axis=1).mean())
        both = self._both(activations, other_activations)
        return CropPoints((points + other) / 2, (score + other_score) / 2, gap, both)

    def _both(self, activations, mirrored):
        return np.stack([activations, mirrored]) if self._tensors else None

    def _run(self, crop):
        outputs = self._network.named(crop)
        points, logit = (outputs[name] for name in self._file.outputs)
        score = 1 / (1 + math.exp(-float(np.clip(logit.item(), -50, 50))))
        activations = [outputs[name].ravel() for name in self._tensors]
        points = points.reshape(self._file.count, 3).astype(np.float64) / self.input_size
        return points, score, np.concatenate([np.zeros(0, np.float32), *activations])
