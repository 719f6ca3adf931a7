"""What other programs' files say of a clip, whichever they are: arrays over the frames that were tracked."""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Float, Int

SAME = 1e-4  # relative: what cameras and shapes of one track may differ by
MOST = 1e6  # beyond, no metre, pixel or coefficient is meant


class OtherTrackError(ValueError):
    """A folder or file of another program that cannot be read as a track; the message names it and says why."""


@dataclasses.dataclass(frozen=True)
class OtherFrames:
    """n tracked frames; float64, metres, radians, rotations as axis times angle unless they are matrices.

    Vertices are ``x_cam = R·y + t``, where y is the mesh with its neck, turned about its root joint J where there is a
    ``root``: ``y = R_g(v − J) + J + root_translation``.

    Attributes:
        program: which wrote it.
        number: ``(n,)`` of each frame in the clip, rising.
        count: frames of the clip, as far as they are known.
        seconds: ``(n,)`` moments, rising; None where it does not say.
        rate: frames a second; None where it does not say.
        shape: ``(S,)``.
        expression: ``(n, E)``.
        posed_expression: ``(n, E)`` that the mesh was posed with, where it is another (lids taken over); None else.
        jaw, neck: ``(n, 3)``.
        eyes: ``(n, 2, 3)`` left, right.
        eyelids: ``(n, 2)``.
        rotation: ``(n, 3, 3)`` R.
        translation: ``(n, 3)`` t.
        root, root_translation: ``(n, 3)``; None where the root rests.
        intrinsics: ``(3, 3)`` K, pixels from the image's edge.
        size: height and width of the images.
        offset: the largest offset of a vertex that is not FLAME's, metres.
    """

    program: str
    number: Int[np.ndarray, " n"]
    count: int
    seconds: Float[np.ndarray, " n"] | None
    rate: float | None
    shape: Float[np.ndarray, " S"]
    expression: Float[np.ndarray, "n E"]
    posed_expression: Float[np.ndarray, "n E"] | None
    jaw: Float[np.ndarray, "n 3"]
    neck: Float[np.ndarray, "n 3"]
    eyes: Float[np.ndarray, "n 2 3"]
    eyelids: Float[np.ndarray, "n 2"]
    rotation: Float[np.ndarray, "n 3 3"]
    translation: Float[np.ndarray, "n 3"]
    root: Float[np.ndarray, "n 3"] | None
    root_translation: Float[np.ndarray, "n 3"] | None
    intrinsics: Float[np.ndarray, "3 3"]
    size: tuple[int, int]
    offset: float = 0.0
