"""The mirror image of heads of a model, by its coefficients."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy.spatial import cKDTree

from flame_jax import HeadModel

_SAME = 1e-5  # metres


def mirrored_shapes(model: HeadModel) -> Float[np.ndarray, "S S"]:
    """Coefficients of shape to those of the head mirrored in x.

    Raises:
        ValueError: the template's vertices are not each other's mirror images.
    """
    template = np.asarray(model.v_template, np.float64)
    apart, mirror = cKDTree(template).query(template * [-1, 1, 1])
    if apart.max() > _SAME:
        raise ValueError(
            f"{model.name}: vertices are up to {1000 * apart.max():.3g} mm from any mirrored one"
        )
    basis = np.asarray(model.shapedirs, np.float64)
    mirrored = basis[mirror] * np.array([-1.0, 1.0, 1.0])[None, :, None]
    size = basis.shape[-1]
    return np.linalg.lstsq(basis.reshape(-1, size), mirrored.reshape(-1, size), rcond=None)[0]
