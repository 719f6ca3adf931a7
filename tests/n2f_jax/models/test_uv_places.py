"""UV maps inverted."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from n2f_jax.models.uv_places import places_in_uv_map, texture_places

SIZE = 24
find = jax.jit(places_in_uv_map)


@pytest.fixture(scope="module")
def bent_map():
    """Texture coordinates of a smooth, turned map, and the function that they are of."""

    def shown(pixels):
        u, v = np.moveaxis(pixels / SIZE, -1, 0)
        return np.stack([0.2 + 0.5 * u - 0.2 * v + 0.05 * u * v, 0.1 + 0.1 * u + 0.6 * v + 0.04 * u * u], -1)

    v, u = np.mgrid[:SIZE, :SIZE] + 0.5
    mask = np.hypot(u - SIZE / 2, v - SIZE / 2) < 9
    return shown, shown(np.stack([u, v], -1)).astype(np.float32), mask.astype(np.float32)


def test_places_are_found_between_pixels(bent_map):
    shown, uv, mask = bent_map
    rng = np.random.default_rng(0)
    turn, radius = rng.uniform(0, 2 * np.pi, 200), 8.4 * np.sqrt(rng.uniform(size=200))
    pixels = SIZE / 2 + np.stack([radius * np.cos(turn), radius * np.sin(turn)], -1)
    found = find(uv, mask, jnp.asarray(shown(pixels), jnp.float32))
    np.testing.assert_allclose(found, pixels, atol=0.02)


def test_what_is_not_seen_is_nowhere(bent_map):
    shown, uv, mask = bent_map
    outside = shown(SIZE / 2 + 11.0 * np.array([[1.0, 0.0], [0.0, 1.0], [-0.7, -0.7]]))
    assert np.isnan(find(uv, mask, jnp.asarray(outside, jnp.float32))).all()
    inside = jnp.asarray(shown(np.full((1, 2), SIZE / 2)), jnp.float32)
    assert np.isnan(find(uv, 0 * mask, inside)).all()
    assert np.isnan(
        find(np.broadcast_to(inside[0], uv.shape), mask, inside)
    ).all()  # all pixels show one place


def test_texture_coordinates_of_points(open_head):
    triangles = jnp.asarray([0, 5])
    corners = open_head.uv[open_head.uv_faces[triangles]]
    found = texture_places(open_head, triangles, jnp.asarray([[1.0, 0.0, 0.0], [0.25, 0.25, 0.5]]))
    np.testing.assert_allclose(found[0], corners[0, 0], atol=1e-6)
    np.testing.assert_allclose(found[1], np.average(corners[1], axis=0, weights=[1, 1, 2]), atol=1e-6)
    bare = dataclasses.replace(open_head, uv=jnp.zeros((0, 2)), uv_faces=jnp.zeros((0, 3), jnp.int32))
    with pytest.raises(ValueError, match="no texture coordinates"):
        texture_places(bare, triangles, jnp.ones((2, 3)))
