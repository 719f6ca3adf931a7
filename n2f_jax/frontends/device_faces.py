"""From images to meshed faces in one traceable function: what ``FaceLandmarker`` does, for many images of one size."""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, UInt8

from n2f_jax.frontends import Landmarks
from n2f_jax.frontends.device_detector import MAX_FACES, DeviceDetector, overlap
from n2f_jax.frontends.device_images import ImageLevels
from n2f_jax.frontends.device_landmarks import DeviceLandmarker, MeshedFaces, is_doubtful, is_ghost
from n2f_jax.frontends.tflite_graph import Weights
from n2f_jax.frontends.work_queue import for_each

# Numbers of pixels are 31 bits wide.
_MAX_PIXELS = 1 << 30
# Two detections that lead to one face share so much (``face_landmarks._distinct``).
_ONE_FACE = 0.5


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class FoundFaces:
    """Room for ``MAX_FACES`` faces of each of B images, the largest first.

    Attributes:
        faces: ``(B, MAX_FACES, ...)``.
        valid: ``(B, MAX_FACES)``.
        settled: ``(B,)`` False where ``FaceLandmarker`` would look further (in a wide border, in smaller parts, at the
            image turned) or there are too many faces; then nothing here is to be used.
    """

    faces: MeshedFaces
    valid: Bool[Array, "B F"]
    settled: Bool[Array, "B"]


class DeviceFaces:
    """Finds and meshes faces on the device, with the defaults of ``FaceLandmarker``.

    Args:
        landmarks, min_score, every_face: as there.

    Attributes:
        weights: arguments of ``find``, a plain nested dict of NumPy arrays.

    Raises:
        AssetError: the networks are not in the cache.
    """

    def __init__(self, landmarks: Landmarks, min_score: float = 0.5, every_face: bool = False):
        self.min_score = min_score
        self._detector = DeviceDetector(every_face=every_face)
        self._landmarker = DeviceLandmarker(landmarks)
        self.weights: dict[str, dict[str, Weights]] = {
            "detector": self._detector.weights,
            "landmarker": self._landmarker.weights,
        }

    def find(
        self, weights: dict[str, dict[str, Weights]], images: UInt8[Array, "B H W 3"], at_once: int = 8
    ) -> FoundFaces:
        """Faces of each image. To be traced: nothing depends on values.

        Args:
            weights: as ``weights``.
            images: RGB.
            at_once: squares or faces that a network sees in one call, at most.

        Raises:
            ValueError: more pixels in all than can be counted.
        """
        count, height, width, _ = images.shape
        if count * height * width > _MAX_PIXELS:
            raise ValueError(f"{count} images of {width} × {height} are more than one program can take")
        at_once = min(at_once, count)
        # As coarse as a second look at a face that is larger than the picture asks for.
        coarsest = max(0, round(math.log2(4.0 * max(height, width) / 128)))
        levels = ImageLevels.of(images, coarsest + 1)
        detections, unsettled = self._detector(weights["detector"], levels, at_once)
        image = jnp.repeat(jnp.arange(count, dtype=jnp.int32), MAX_FACES)
        flat = detections.flat(2)
        faces = for_each(
            lambda item: self._landmarker(weights["landmarker"], levels, *item),
            (image, flat),
            flat.valid,
            at_once,
        )
        valid = flat.valid & (faces.score >= self.min_score) & ~is_ghost(faces)
        doubtful = is_doubtful(faces)
        faces, valid, doubtful = jax.tree.map(
            lambda x: x.reshape(count, MAX_FACES, *x.shape[1:]), (faces, valid, doubtful)
        )
        valid = jax.vmap(_distinct)(faces, valid, doubtful)
        unsettled |= ~valid.any(axis=1) | (valid & doubtful).any(axis=1)
        size = jax.vmap(MeshedFaces.size)(faces)
        order = jnp.argsort(jnp.where(valid, -size, jnp.inf), axis=1, stable=True)
        faces, valid = jax.tree.map(lambda x: jax.vmap(lambda x, order: x[order])(x, order), (faces, valid))
        return FoundFaces(faces, valid, ~unsettled)


def _distinct(faces: MeshedFaces, valid: Bool[Array, "F"], doubtful: Bool[Array, "F"]) -> Bool[Array, "F"]:
    """Two detections may lead to one face: the better is kept, or the larger."""
    order = jnp.lexsort((-faces.found_size, doubtful, ~valid))
    same = overlap(faces.found[:, None], faces.found[None]) >= _ONE_FACE

    def keep(i, kept):
        one = order[i]
        return kept.at[one].set(valid[one] & ~(same[one] & kept).any())

    return lax.fori_loop(0, len(order), keep, jnp.zeros(len(order), bool))
