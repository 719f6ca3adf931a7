"""Which vertices of a head model are skin, and which a scanner or a camera can reach."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Int

from flame_jax import HeadModel
from n2f_jax.render.topology import vertices_in

# Not skin; all but the eyeballs' fronts is hidden.
EYEBALLS = ("eyeballs", "left_eyeball", "right_eyeball")
NOT_SKIN = ("eye_sockets", "mouth_cavity", "teeth", "tongue", *EYEBALLS)


def skin_vertices(model: HeadModel) -> Int[np.ndarray, " n"]:
    """Indices of the vertices that are in none of the masks of ``NOT_SKIN``; all, where the model has none of these."""
    return np.flatnonzero(~vertices_in(model, NOT_SKIN))


def skin_faces(model: HeadModel) -> Bool[np.ndarray, " F"]:
    """Which triangles have skin at all corners."""
    return np.isin(np.asarray(model.faces), skin_vertices(model)).all(axis=1)


def face_skin(model: HeadModel) -> Int[np.ndarray, " n"]:
    """Indices of the skin's vertices in the mask ``face``; all of the skin's, where the model has no such mask."""
    skin = skin_vertices(model)
    return np.intersect1d(skin, np.asarray(model.masks["face"])) if "face" in model.masks else skin


# Lids and corners of the eyes cover the rest: degrees from the direction in which an eye looks at rest.
_FRONT_DEG = 45.0


def visible_vertices(model: HeadModel) -> Int[np.ndarray, " n"]:
    """Indices of the skin's vertices and of those at the fronts of the eyeballs, which lie between the lids."""
    seen = ~vertices_in(model, NOT_SKIN)
    vertices = np.asarray(model.v_template, np.float64)
    for name in EYEBALLS[1:]:
        if name not in model.masks or not len(model.masks[name]):
            continue
        ball = np.asarray(model.masks[name])
        away = vertices[ball] - vertices[ball].mean(axis=0)
        seen[ball[away[:, 2] > np.cos(np.radians(_FRONT_DEG)) * np.linalg.norm(away, axis=1)]] = True
    return np.flatnonzero(seen)
