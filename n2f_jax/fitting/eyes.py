"""Lids and eyeballs of a head set to what was seen of a face's eyes (``frontends.eyes``), in closed form. Pure JAX.

Fits to points and normals hardly move lids: a lid is a few pixels high and its prior narrow.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from flame_jax import FlameParams, HeadModel, landmarks68
from flame_jax.landmarks import NUM_CONTOUR
from flame_jax.rotations import matrix_to_rotation_6d
from n2f_jax.geometry.camera import Camera
from n2f_jax.geometry.pose import rotation_to_z

# Landmarks of lids over each other, upper and lower: the left eye's, then the right eye's.
_UPPER, _LOWER = ((43, 44), (37, 38)), ((47, 46), (41, 40))
_LID_RANGE = (-0.5, 1.15)
# Up to which closure lids are the fit's alone, and from which on they are as seen.
_FITTED, _SEEN = 0.3, 0.7
_LEAST_TRAVEL = 1e-4  # metres that a lid must move between open and closed; a model without lids moves none


def with_eyes(
    model: HeadModel,
    params: FlameParams,
    camera: Camera,
    closure: Float[Array, "B 2"],
    gaze: Float[Array, "B 3"],
) -> FlameParams:
    """Parameters whose lids are closed where that was seen and whose eyes look where seen.

    An open eye keeps the lids of the fit, whose points tell how narrow it is better than ``closure`` does: on annotated
    photographs their distance is wrong by 0.07 of the eye's width, not by 0.10.

    Args:
        model: the head model. Without moving lids, lids stay.
        params: B heads.
        camera: of the crops; (B, …).
        closure: left, right (``frontends.eyes.Eyes``); NaN where unknown, and the lids stay.
        gaze: unit vectors in the frame of the ray to the middle of the face; NaN where unknown, and the eyes rest.
    """
    travel = _lid_travel(model, params)
    known = jnp.isfinite(closure) & jnp.isfinite(travel)
    share = jnp.clip((closure - _FITTED) / (_SEEN - _FITTED), 0.0, 1.0)
    lids = (1.0 - share) * params.eyelids + share * _lids(model, params, closure)
    lids = jnp.where(known, lids, params.eyelids)
    return dataclasses.replace(params, eyelids=lids, eyes=_eye_rotations(model, camera, gaze, params))


def lid_gaps(
    model: HeadModel,
    expression: Float[Array, "B E"],
    shape: Float[Array, "B S"],
    eyelids: Float[Array, "B 2"],
) -> Float[Array, "B 2"]:
    """How far the lids' landmarks stand apart, left and right, metres: along the direction in which they do at rest.

    Below 0 they have passed each other. The jaw does not move them.
    """
    rest, by_shape, by_expression, by_lids = _lid_tables(model)
    apart = (
        rest[None]
        + jnp.einsum("scdk,bk->bscd", by_shape[..., : shape.shape[-1]], shape)
        + jnp.einsum("scdk,bk->bscd", by_expression[..., : expression.shape[-1]], expression)
        + jnp.einsum("scde,be->bscd", by_lids, eyelids)
    )
    along = rest / jnp.linalg.norm(rest, axis=-1, keepdims=True)
    return jnp.einsum("bscd,scd->bsc", apart, along).mean(axis=-1)


def _lid_travel(model, params):
    """From open to closed at rest, metres; NaN where lids do not move."""
    zero = jnp.zeros_like(params.expression)
    open_, shut = (lid_gaps(model, zero, params.shape, jnp.full_like(params.eyelids, x)) for x in (0.0, 1.0))
    return jnp.where(open_ - shut > _LEAST_TRAVEL, open_ - shut, jnp.nan)


def _lids(model, params, closure):
    """Lids that leave the gap that the same person would have at rest, closed so far, whatever the expression does."""
    zero = jnp.zeros_like(params.expression)
    resting = lid_gaps(model, zero, params.shape, jnp.zeros_like(params.eyelids))
    moved = lid_gaps(model, params.expression, params.shape, jnp.zeros_like(params.eyelids))
    return jnp.clip(closure + (moved - resting) / _lid_travel(model, params), *_LID_RANGE)


def _lid_tables(model: HeadModel):
    """Upper less lower points ``(2, 2, 3)`` of the mean head, and what moves them along a last axis."""
    faces, weights = model.landmarks.static_faces, model.landmarks.static_barycentric
    upper, lower = np.array(_UPPER), np.array(_LOWER)

    def apart(values):
        points = jnp.einsum("nk,nk...->n...", weights, values[model.faces[faces]])
        return points[upper] - points[lower]

    return (
        apart(model.v_template),
        apart(model.shapedirs),
        apart(model.exprdirs),
        apart(jnp.moveaxis(model.eyelids, 0, -1)),
    )


def _eye_rotations(model, camera, gaze, params) -> Float[Array, "B 2 6"]:
    """The smallest rotation from the head's z axis, along which eyes look at rest, to the gaze in the head frame."""
    landmarks = landmarks68(model, model.v_template)
    middle = (
        jnp.einsum("bij,j->bi", camera.rotation, landmarks[NUM_CONTOUR:].mean(axis=0)) + camera.translation
    )
    to_ray = jax.vmap(rotation_to_z)(middle)
    known = jnp.isfinite(gaze).all(axis=-1)
    safe = jnp.where(known[:, None], gaze, jnp.array([[0.0, 0.0, -1.0]]))
    in_head = jnp.einsum("bji,bkj,bk->bi", camera.rotation, to_ray, safe)
    # Eyes turn less than 60°; what points further back is no gaze.
    usable = known & (in_head[:, 2] > 0.5)
    in_head = jnp.where(usable[:, None], in_head, jnp.array([[0.0, 0.0, 1.0]]))
    rotation = jax.vmap(lambda x: rotation_to_z(x).T)(in_head)
    both = matrix_to_rotation_6d(rotation)
    return jnp.broadcast_to(both[:, None], params.eyes.shape)
