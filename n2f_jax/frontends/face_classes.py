"""The classes of a face parser, and the one place that says which of them are the face.

Ids and their order are those of FaRL's CelebAMask-HQ model (facer's ``farl/celebm/448``, with shorter names), and what
Pixel3DMM's preprocessing writes. The mesh regions that match S_face:
``n2f_jax.render.topology.FACE_REGIONS``.
"""

from __future__ import annotations

from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np

CLASS_NAMES = (
    *("background", "neck", "face", "cloth", "right_ear", "left_ear", "right_brow", "left_brow"),
    *("right_eye", "left_eye", "nose", "inner_mouth", "lower_lip", "upper_lip"),
    *("hair", "glasses", "hat", "earring", "necklace"),
)
CLASS_IDS = {name: index for index, name in enumerate(CLASS_NAMES)}

# S_face. The paper names no classes; these are skin and what lies in it (docs/conventions.md).
FACE_CLASSES = (
    *("face", "right_brow", "left_brow", "right_eye", "left_eye", "nose"),
    *("inner_mouth", "lower_lip", "upper_lip"),
)

_IS_FACE = np.zeros(256, np.float32)
_IS_FACE[[CLASS_IDS[name] for name in FACE_CLASSES]] = 1

MapT = TypeVar("MapT", np.ndarray, jax.Array)


def face_mask(classes: MapT) -> MapT:
    """``S_face`` of a map of class ids, ``(...)`` uint8 → ``(...)`` float32: 1 on the face, else 0."""
    if isinstance(classes, np.ndarray):
        return _IS_FACE[classes]
    return jnp.asarray(_IS_FACE)[classes.astype(jnp.int32)]
