"""Trials of ``pose_descent``: random heads whose pose is known, started some way off."""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

import flame_jax
from n2f_jax.data.sampler import SyntheticConfig, sample_camera, sample_params
from n2f_jax.fitting.pose_descent import PoseDescentConfig, descend, move
from n2f_jax.geometry.camera import Camera, project
from n2f_jax.geometry.crop import crop_camera, landmark_crop
from n2f_jax.render import HeadTopology, render_head

DEGREES_RIGHT, MILLIMETRES_RIGHT = 1.0, 5.0


def recovered(degrees: np.ndarray, millimetres: np.ndarray) -> Bool[np.ndarray, "..."]:
    """Whether a pose counts as found again: rotation within 1°, translation within 5 mm."""
    return (degrees < DEGREES_RIGHT) & (millimetres < MILLIMETRES_RIGHT)


def _unit(key: Array) -> Float[Array, "3"]:
    x = jax.random.normal(key, (3,))
    return x / jnp.linalg.norm(x)


class PoseTrials:
    """Heads and cameras from the paper's sampler, and starts a fixed way off.

    Args:
        size: side of the images, pixels.
        degrees: how far the start is turned, about a random axis through the head's origin.
        metres: how far it is shifted, in a random direction.
        seed: of heads, cameras and starts.
    """

    def __init__(self, size: int, degrees: float, metres: float, seed: int):
        self.model = flame_jax.load_open_head()
        self.topology = HeadTopology.from_model(self.model)
        self._size, self._degrees, self._metres, self._seed = size, degrees, metres, seed
        # The model and its topology are arguments: no constants of the program.
        self._scene = jax.jit(self._make_scene)
        self._trial = jax.jit(self._make_trial, static_argnames="config")

    def _make_scene(
        self, key: Array, model: flame_jax.HeadModel
    ) -> tuple[Float[Array, "V 3"], Camera, Camera]:
        keys = jax.random.split(key, 4)
        config = SyntheticConfig()
        params = sample_params(keys[0], model, config)
        vertices, _ = flame_jax.decode(model, params)
        camera = sample_camera(keys[1], config)
        crop = landmark_crop(project(flame_jax.landmarks68(model, vertices), camera), config.crop_scale)
        camera = crop_camera(camera, crop, self._size)
        angle = math.radians(self._degrees)
        return vertices, camera, move(camera, angle * _unit(keys[2]), self._metres * _unit(keys[3]))

    def _make_trial(self, vertices, camera, start, topology, config):
        seen = render_head(topology, vertices, camera, self._size, config.normal_frame, antialias=True)
        found, _ = descend(topology, vertices, start, seen.normals, seen.mask, config)
        chord = jnp.linalg.norm(found.rotation - camera.rotation)
        degrees = jnp.rad2deg(2.0 * jnp.arcsin(jnp.clip(chord / math.sqrt(8.0), 0.0, 1.0)))
        return degrees, 1000.0 * jnp.linalg.norm(found.translation - camera.translation)

    @functools.cached_property
    def _key(self) -> Array:
        return jax.random.key(self._seed)

    def scene(self, index: int) -> tuple[Float[Array, "V 3"], Camera, Camera]:
        """Vertices of a head, its camera, and the start."""
        return self._scene(jax.random.fold_in(self._key, index), self.model)

    def run(self, index: int, config: PoseDescentConfig) -> tuple[float, float]:
        """Errors of the pose found for head ``index``: degrees, millimetres."""
        degrees, millimetres = self._trial(*self.scene(index), self.topology, config=config)
        return float(degrees), float(millimetres)
