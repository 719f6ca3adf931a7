"""Lids and eyeballs set to what was seen."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flame_jax
from flame_jax import FlameParams
from flame_jax.rotations import euler_to_matrix, rotation_6d_to_matrix
from n2f_jax.fitting.eyes import lid_gaps, with_eyes
from n2f_jax.geometry.camera import Camera, frontal_rotation
from n2f_jax.geometry.pose import rotation_to_z

pytestmark = pytest.mark.medium


def heads(model, count=2, seed=0):
    keys = jax.random.split(jax.random.key(seed), 2)
    neutral = FlameParams.neutral(model, (count,))
    return dataclasses.replace(
        neutral,
        shape=0.5 * jax.random.normal(keys[0], neutral.shape.shape),
        expression=0.7 * jax.random.normal(keys[1], neutral.expression.shape),
    )


def cameras(count=2):
    angles = jnp.array([[0.1, -0.4, 0.05], [-0.2, 0.3, 0.4]])[:count]
    shift = jnp.array([[0.3, -0.1, 0.9], [-0.2, 0.25, 1.4]])[:count]
    full = jnp.full((count,), 1000.0)
    return Camera(frontal_rotation(euler_to_matrix(angles)), shift, full, jnp.zeros((count, 2)))


NOWHERE = jnp.full((2, 3), jnp.nan)


def test_gaps_are_those_of_the_decoded_heads(open_head):
    params = dataclasses.replace(heads(open_head), eyelids=jnp.array([[0.3, 0.9], [0.0, 0.5]]))
    landmarks = np.asarray(flame_jax.landmarks68(open_head, flame_jax.decode(open_head, params)[0]))
    resting = np.asarray(flame_jax.landmarks68(open_head, open_head.v_template))
    for side, pairs in enumerate((((43, 47), (44, 46)), ((37, 41), (38, 40)))):
        along = [(resting[a] - resting[b]) / np.linalg.norm(resting[a] - resting[b]) for a, b in pairs]
        gaps = [(landmarks[:, a] - landmarks[:, b]) @ way for (a, b), way in zip(pairs, along, strict=True)]
        found = lid_gaps(open_head, params.expression, params.shape, params.eyelids)[:, side]
        np.testing.assert_allclose(found, np.mean(gaps, axis=0), atol=2e-6)


def test_each_eye_closes_as_far_as_seen_whatever_the_expression_does(open_head):
    params = heads(open_head)
    closure = jnp.array([[1.0, 0.9], [0.7, 0.8]])
    found = with_eyes(open_head, params, cameras(), closure, NOWHERE)
    at_rest = jnp.zeros_like(params.expression)
    expected = lid_gaps(open_head, at_rest, params.shape, closure)
    gaps = lid_gaps(open_head, params.expression, params.shape, found.eyelids)
    inside = (found.eyelids > -0.49) & (found.eyelids < 1.14)
    assert inside.all()
    np.testing.assert_allclose(gaps, expected, atol=1e-6)
    # Closed is closed: the landmarks of lids that meet stand half as far apart as an open eye's.
    open_gap = lid_gaps(open_head, at_rest, params.shape, jnp.zeros((2, 2)))
    assert gaps[0, 0] < 0.51 * open_gap[0, 0]


def test_an_open_eye_keeps_the_lids_of_the_fit(open_head):
    params = dataclasses.replace(heads(open_head), eyelids=jnp.array([[0.1, -0.2], [0.25, 0.0]]))
    found = with_eyes(open_head, params, cameras(), jnp.array([[0.0, 0.3], [-0.3, 1.0]]), NOWHERE).eyelids
    np.testing.assert_allclose(found[0], params.eyelids[0], atol=1e-6)
    np.testing.assert_allclose(found[1, 0], 0.25, atol=1e-6)
    assert found[1, 1] > 0.5


def test_eyes_look_where_they_were_seen_to_look(open_head):
    camera = cameras()
    in_head = np.array([[0.3, -0.2, 0.9], [-0.5, 0.1, 0.8]])
    in_head /= np.linalg.norm(in_head, axis=1, keepdims=True)
    middle = flame_jax.landmarks68(open_head, open_head.v_template)[17:].mean(axis=0)
    seen = [
        np.asarray(rotation_to_z(r @ middle + t)) @ np.asarray(r) @ g
        for t, r, g in zip(camera.translation, camera.rotation, in_head, strict=True)
    ]
    unknown = jnp.full((2, 2), jnp.nan)
    params = heads(open_head)
    found = with_eyes(open_head, params, camera, unknown, jnp.asarray(np.array(seen), jnp.float32))
    for side in (0, 1):
        looks = np.asarray(rotation_6d_to_matrix(found.eyes[:, side]))[:, :, 2]
        np.testing.assert_allclose(looks, in_head, atol=1e-5)
    np.testing.assert_array_equal(found.eyelids, params.eyelids)  # unknown lids stay
    still = with_eyes(open_head, params, camera, unknown, NOWHERE)
    np.testing.assert_allclose(rotation_6d_to_matrix(still.eyes), np.broadcast_to(np.eye(3), (2, 2, 3, 3)))


def test_a_gaze_out_of_the_back_of_the_head_is_none(open_head):
    camera = cameras()
    away = jnp.asarray([[0.0, 0.0, 1.0]] * 2)
    found = with_eyes(open_head, heads(open_head), camera, jnp.zeros((2, 2)), away)
    np.testing.assert_allclose(rotation_6d_to_matrix(found.eyes), np.broadcast_to(np.eye(3), (2, 2, 3, 3)))


def test_lids_of_a_model_that_cannot_move_them_stay(open_head):
    stiff = dataclasses.replace(open_head, eyelids=jnp.zeros_like(open_head.eyelids))
    params = heads(stiff)
    found = with_eyes(stiff, params, cameras(), jnp.ones((2, 2)), NOWHERE)
    np.testing.assert_array_equal(found.eyelids, params.eyelids)
    assert np.isfinite(np.asarray(found.eyelids)).all()


@pytest.mark.parametrize("count", [5, 20])
def test_fewer_coefficients_than_directions(open_head, count):
    params = heads(open_head)
    short = dataclasses.replace(
        params, shape=params.shape[:, :count], expression=params.expression[:, :count]
    )
    whole = dataclasses.replace(
        params,
        shape=params.shape.at[:, count:].set(0.0),
        expression=params.expression.at[:, count:].set(0.0),
    )
    found, expected = (
        with_eyes(open_head, x, cameras(), jnp.full((2, 2), 0.8), NOWHERE).eyelids for x in (short, whole)
    )
    np.testing.assert_allclose(found, expected, atol=1e-5)
