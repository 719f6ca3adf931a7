"""The classes of a face parser, and the one place that says which of them are the face.

Ids and their order are those of FaRL's CelebAMask-HQ model (``farl/celebm/448``; facer's ``label_names``), which
Pixel3DMM's preprocessing writes too. The mesh regions that match: ``n2f_jax.render.topology.FACE_REGIONS``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np

# Name here → facer's label.
_FACER_LABELS = {
    "background": "background",
    "neck": "neck",
    "face": "face",
    "cloth": "cloth",
    "right_ear": "rr",
    "left_ear": "lr",
    "right_brow": "rb",
    "left_brow": "lb",
    "right_eye": "re",
    "left_eye": "le",
    "nose": "nose",
    "inner_mouth": "imouth",
    "lower_lip": "llip",
    "upper_lip": "ulip",
    "hair": "hair",
    "glasses": "eyeg",
    "hat": "hat",
    "earring": "earr",
    "necklace": "neck_l",
}
CLASS_NAMES = tuple(_FACER_LABELS)  # id → name
CLASS_IDS = {name: index for index, name in enumerate(CLASS_NAMES)}
FACER_LABELS = tuple(_FACER_LABELS.values())  # facer's label_names of celebm/448

# S_face. The paper names no classes; these are skin and what lies in it (docs/conventions.md).
FACE_CLASSES = (
    *("face", "right_brow", "left_brow", "right_eye", "left_eye", "nose"),
    *("inner_mouth", "lower_lip", "upper_lip"),
)
# Pixel3DMM's preprocessing writes number of classes + 1 where its parser saw nothing.
PIXEL3DMM_UNSEEN = len(CLASS_NAMES) + 1

_IS_FACE = np.zeros(256, np.float32)
_IS_FACE[[CLASS_IDS[name] for name in FACE_CLASSES]] = 1

MapT = TypeVar("MapT", np.ndarray, jax.Array)


def face_mask(classes: MapT) -> MapT:
    """``S_face`` of a map of class ids, ``(...)`` uint8 → ``(...)`` float32: 1 on the face, else 0."""
    if isinstance(classes, np.ndarray):
        return _IS_FACE[classes]
    return jnp.asarray(_IS_FACE)[classes.astype(jnp.int32)]


def class_table(labels: Sequence[str]) -> np.ndarray:
    """``(len(labels),)`` uint8: a parser's class index → our id, by the names that facer gives its classes.

    Raises:
        ValueError: a label that no class here has; the message lists the known ones.
    """
    unknown = sorted(set(labels) - set(FACER_LABELS))
    if unknown:
        raise ValueError(
            f"the parser has classes named {', '.join(unknown)}; known are those of farl/celebm/448: "
            f"{', '.join(FACER_LABELS)}"
        )
    return np.array([FACER_LABELS.index(label) for label in labels], np.uint8)
