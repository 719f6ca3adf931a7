"""Held-out synthetic heads, drawn as in training, in the benchmark's degradations of maps."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from scipy.spatial import cKDTree

import flame_jax
from flame_jax import HeadModel
from n2f_jax.benchmark.files import CONDITIONS as OF_THE_BENCHMARK
from n2f_jax.benchmark.methods import Crops, Prediction
from n2f_jax.data.sampler import SyntheticConfig, held_out_key, make_batch
from n2f_jax.geometry.alignment import procrustes
from n2f_jax.geometry.camera import frontal_rotation, project
from n2f_jax.metrics.head_errors import vertex_errors
from n2f_jax.metrics.map_errors import mean_normal_angle
from n2f_jax.models.pretrained import InputSpec
from n2f_jax.render import HeadTopology, render_head

CONDITIONS = ("clean", "noisy", "occluded")
COLUMNS = {
    "CD, mm": "cd_mm",
    "face, mm": "face_mm",
    "normals, °": "normals_deg",
    "landmarks, %": "landmarks_percent",
}


class HeldOutHeads:
    """Heads of one condition.

    Args:
        model: head model.
        inputs: of the network; the maps have its size and crop.
        condition: of ``CONDITIONS``.
        count: how many.
        seed: of the held-out set.
    """

    def __init__(self, model: HeadModel, inputs: InputSpec, condition: str, count: int, seed: int = 0):
        self._model, self._topology = model, HeadTopology.from_model(model)
        self._count, self._size = count, inputs.size
        condition = OF_THE_BENCHMARK[condition]
        sampler = SyntheticConfig(
            image_size=inputs.size, crop_scale=inputs.crop_scale, normal_frame="head", **condition.maps
        )
        self._draw = functools.partial(_draw, sampler=sampler, noise=condition.landmark_noise, seed=seed)
        self._scene = functools.lru_cache(maxsize=16)(self._make_scene)

    def __len__(self) -> int:
        return self._count

    def _make_scene(self, index: int) -> tuple[dict, jax.Array]:
        return self._draw(self._model, self._topology, jnp.asarray(index))

    def crops(self, index: int) -> Crops:
        batch, points = self._scene(index)
        camera = batch["camera"]
        return Crops(batch["normals"], batch["mask"], points, camera.focal, camera.principal_point)

    def figures(self, index: int, prediction: Prediction) -> dict[str, float]:
        """``COLUMNS``, normals and landmarks against the true ones; and the head's ``yaw_deg``."""
        batch, _ = self._scene(index)
        figures, aligned, truth = jax.device_get(
            _errors(self._model, self._topology, batch, *prediction, size=self._size)
        )
        face = np.asarray(self._model.masks["face"])
        rotation = np.asarray(frontal_rotation(batch["camera"].rotation))[0]
        return {
            "cd_mm": 1000.0 * float(cKDTree(aligned[0]).query(truth[0, face])[0].mean()),
            **{name: float(value[0]) for name, value in figures.items()},
            "yaw_deg": float(np.degrees(np.arcsin(np.clip(rotation[0, 2], -1, 1)))),
        }


@functools.partial(jax.jit, static_argnames=("sampler", "noise", "seed"))
def _draw(model, topology, index, *, sampler, noise, seed):
    """Head number ``index``: the batch of one, and its landmarks as found."""
    key = held_out_key(seed, 0)
    batch = make_batch(key, model, topology, sampler, 1, targets=True, indices=index[None])
    # Far from the samples' own keys, which are folded in by number.
    noise_key = jax.random.fold_in(jax.random.fold_in(key, 0x6C6D6B), index)
    shift = jax.random.normal(noise_key, (1, 68, 2))
    return batch, batch["landmarks_2d"] + noise * sampler.image_size * shift


@functools.partial(jax.jit, static_argnames="size")
def _errors(model, topology, batch, params, camera, *, size):
    """Figures of each head, the predicted vertices aligned rigidly on the face, and the true ones."""
    predicted, _ = flame_jax.decode(model, params)
    truth, _ = flame_jax.decode(model, batch["params"])
    face = model.masks["face"]
    aligned = procrustes(predicted[:, face], truth[:, face]).apply(predicted)
    landmarks = project(flame_jax.landmarks68(model, predicted), camera)
    off = jnp.linalg.norm(landmarks - batch["landmarks_2d"], axis=-1)
    maps = render_head(topology, predicted, camera, size)
    target = batch["target_normals"], batch["target_mask"]
    figures = {
        "face_mm": vertex_errors(model, predicted, truth)["face"],
        "normals_deg": mean_normal_angle(maps.normals, maps.mask, *target, if_apart=0.0),
        "landmarks_percent": 100.0 / size * off.mean(axis=-1),
    }
    return figures, aligned, truth
