"""The Adam baseline: its losses fall, landmarks alone find the camera, UV correspondences are the true ones."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flame_jax
from flame_jax import FlameParams
from n2f_jax.data.sampler import SyntheticConfig, make_batch
from n2f_jax.fitting import adam
from n2f_jax.fitting.adam import AdamConfig, AdamTables, fit_adam
from n2f_jax.fitting.observations import Observation
from n2f_jax.geometry.camera import project
from n2f_jax.geometry.pose import move_camera
from n2f_jax.render import render_head

pytestmark = pytest.mark.medium

SIZE = 48

_decode = jax.jit(flame_jax.decode)


@pytest.fixture(scope="module")
def tables(open_head):
    return AdamTables.from_model(open_head)


@pytest.fixture(scope="module")
def scene(open_head, tables):
    """Two heads, their UV maps, and cameras that are some degrees off."""
    make = jax.jit(make_batch, static_argnums=(3, 4))
    config = SyntheticConfig(image_size=SIZE, crop_scale=1.4)
    # Of four, as the Gauss–Newton tests make them: the same program.
    batch = jax.tree.map(lambda x: x[:2], make(jax.random.key(3), open_head, tables.topology, config, 4))
    steps = 0.1 * jax.random.normal(jax.random.key(4), (2, 6))
    camera = jax.jit(jax.vmap(move_camera, in_axes=(0, None, 0)))(batch["camera"], jnp.zeros(3), steps)
    seen = Observation(batch["normals"], batch["mask"], batch["landmarks_2d"])
    vertices, _ = _decode(open_head, batch["params"])
    uv = jax.jit(render_head, static_argnums=3)(tables.topology, vertices, batch["camera"], SIZE).uv
    return batch, seen, camera, uv


def test_tables_know_the_other_side(open_head, tables):
    mirrored = np.asarray(tables.mirrored)
    np.testing.assert_array_equal(mirrored[mirrored], np.arange(open_head.num_vertices))
    left, right = (np.asarray(open_head.masks[f"{side}_ear"]) for side in ("left", "right"))
    assert set(mirrored[left]) == set(right)
    assert np.asarray(tables.eyes).sum() > 50


def test_losses_fall_and_broken_images_stay_by_themselves(open_head, tables, scene):
    batch, seen, camera, _ = scene
    start = FlameParams.neutral(open_head, (2,))
    normals = seen.normals.at[1, :20].set(jnp.nan)  # rows that are not finite are left out
    seen = dataclasses.replace(seen, normals=normals, points=seen.points.at[1, 40:].set(jnp.nan))
    config = AdamConfig(camera_steps=150, steps=60)
    params, found, losses = jax.jit(fit_adam, static_argnames="config")(
        open_head, tables, seen, start, camera, config=config
    )
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((params, found, losses)))
    losses = np.asarray(losses)
    assert losses.shape == (60, 2)
    assert (losses[-1] < 0.9 * losses[0]).all(), losses[[0, -1]]

    @jax.jit
    def error(params, camera):
        vertices, _ = flame_jax.decode(open_head, params)
        off = project(flame_jax.landmarks68(open_head, vertices), camera) - batch["landmarks_2d"]
        return jnp.linalg.norm(off, axis=-1).mean(axis=-1)

    assert (np.asarray(error(params, found)) < 0.5 * np.asarray(error(start, camera))).all()
    np.testing.assert_array_equal(found.focal, camera.focal)


def test_correspondences_are_where_the_vertices_are(open_head, tables, scene):
    batch, seen, _, uv = scene
    config = AdamConfig()
    pixels, trusted = jax.jit(adam._correspondences, static_argnums=3)(tables, seen.mask, uv, config)
    vertices, _ = _decode(open_head, batch["params"])
    there = project(vertices[:, tables.uv_vertices], batch["camera"])
    off = np.linalg.norm(np.asarray(pixels - there), axis=-1)[np.asarray(trusted) > 0]
    assert (np.asarray(trusted) > 0).mean() > 0.2
    assert np.median(off) < 1.0  # pixels
    assert np.percentile(off, 90) < 2.0


@pytest.mark.slow
def test_a_head_that_is_right_stays_with_uv_too(open_head, tables, scene):
    batch, seen, _, uv = scene
    fit = jax.jit(fit_adam, static_argnames="config")
    config = AdamConfig(camera_steps=20, steps=40)
    params, found, _ = fit(open_head, tables, seen, batch["params"], batch["camera"], config=config, uv=uv)
    vertices, _ = flame_jax.decode(open_head, params)
    off = project(flame_jax.landmarks68(open_head, vertices), found) - batch["landmarks_2d"]
    assert (np.linalg.norm(np.asarray(off), axis=-1).mean(axis=-1) < 0.02 * SIZE).all()
