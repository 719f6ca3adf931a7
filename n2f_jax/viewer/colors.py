"""Colours of a head's vertices by what is known of them."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8

from flame_jax import HeadModel, landmarks68
from n2f_jax.frontends.face_confidence import REGIONS

CONFIDENCE_MAP = "RdYlGn"  # red is 0, green is 1
UNKNOWN = (150, 150, 150)
# Metres: how a region's confidence fades into its neighbour's, and where the face ends.
_BLEND, _REACH = 0.008, 0.035


def region_weights(model: HeadModel) -> Float[np.ndarray, "V R"]:
    """How much of each of ``face_confidence.REGIONS`` a vertex belongs to, by its distance from their landmarks.

    Rows sum to 1 on the face and to 0 far from it.

    Raises:
        ValueError: the model has no landmarks.
    """
    if model.landmarks is None:
        raise ValueError(f"head model {model.name!r} has no landmarks, so its regions are not known")
    vertices = np.asarray(model.v_template, np.float64)
    points = np.asarray(landmarks68(model, jnp.asarray(model.v_template)), np.float64)
    distance = np.stack(
        [
            np.linalg.norm(vertices[:, None] - points[list(indices)], axis=-1).min(axis=1)
            for indices in REGIONS.values()
        ],
        axis=1,
    )
    nearest = distance.min(axis=1, keepdims=True)
    weights = np.exp(-((distance**2 - nearest**2) / (2.0 * _BLEND**2)))
    weights /= weights.sum(axis=1, keepdims=True)
    return weights * np.clip(2.0 - nearest / _REACH, 0.0, 1.0)


def confidence_colors(
    weights: Float[np.ndarray, "V R"], confidence: Float[np.ndarray, " R"]
) -> UInt8[np.ndarray, "V 3"]:
    """Red where a region's points are hardly to be believed, green where they are, grey where nothing is known."""
    import matplotlib

    known = np.isfinite(confidence)
    share = weights * known
    total = share.sum(axis=1)
    value = (share * np.where(known, confidence, 0.0)).sum(axis=1) / np.maximum(total, 1e-9)
    # Its ends are too dark to show a shape.
    colors = 255.0 * matplotlib.colormaps[CONFIDENCE_MAP](0.1 + 0.75 * np.clip(value, 0.0, 1.0))[:, :3]
    mixed = total[:, None] * colors + (1.0 - total[:, None]) * np.array(UNKNOWN)
    return mixed.round().astype(np.uint8)
