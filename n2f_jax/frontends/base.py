"""What every front end gives: for each face of a photograph, the network's input and where it was cut."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from jaxtyping import Float, UInt8

from n2f_jax.geometry.crop import Crop


@dataclasses.dataclass(frozen=True)
class FrontendFace:
    """One face. S is the network's input size.

    Attributes:
        normals: ``(S, S, 3)`` float32 unit normals in the head frame, zero outside the mask.
        mask: ``(S, S)`` float32, 1 on the face.
        crop: the square of the original image that the maps show: the landmark box of the paper.
        landmarks_68: ``(68, 2)`` float32 iBUG landmarks, pixels of the original image (centres at +0.5).
        score: the front end's probability that this is a face.
        points_468: ``(468, 3)`` float32 face mesh points, original pixels and depth in the same scale
            growing away from the camera; None for a front end without them.
    """

    normals: Float[np.ndarray, "S S 3"]
    mask: Float[np.ndarray, "S S"]
    crop: Crop
    landmarks_68: Float[np.ndarray, "68 2"]
    score: float
    points_468: Float[np.ndarray, "468 3"] | None = None


class Frontend(Protocol):
    """RGB image → faces, the largest first; an empty list where there is none.

    Attributes:
        name: recorded in what is written.
    """

    name: str

    def __call__(self, image: UInt8[np.ndarray, "H W 3"]) -> Sequence[FrontendFace]: ...
