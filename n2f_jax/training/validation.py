"""Validation on a fixed held-out set: means for the log, and single heads for pictures and the report."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec
from jaxtyping import Array

import flame_jax
from n2f_jax.data.assets import Assets
from n2f_jax.data.sampler import Batch, held_out_key, network_inputs
from n2f_jax.metrics.batch_errors import batch_errors, draw_prediction
from n2f_jax.models.n2fnet import camera_from_output
from n2f_jax.models.parameters import Tree, flatten, unflatten
from n2f_jax.training.contour import landmarks_percent, projected_landmarks
from n2f_jax.training.parallel import AXIS, Layout, Parts, gather, on_host
from n2f_jax.training.step import Objective
from n2f_jax.training.stored import stored_batch

HeldOut = Callable[[int], Mapping[str, np.ndarray]]


class Validation:
    """A stage's loss and errors on heads that it is not trained on.

    A batch is split over the devices where it divides evenly; else each of them computes all of it. All processes of
    a run call its methods together.

    Args:
        objective: of the stage.
        num_heads: size of the set, whole batches of which are looked at, at least one.
        batch_size: heads at once.
        seed: of the set, drawn anew each time from the same keys.
        layout: over which devices; one if None.
        held_out: batch index → stored faces, for a stage that learns from those.
    """

    def __init__(
        self,
        objective: Objective,
        num_heads: int,
        batch_size: int,
        seed: int,
        layout: Layout | None = None,
        held_out: HeldOut | None = None,
    ):
        self.objective = objective
        self.num_batches = max(1, num_heads // batch_size)
        self.batch_size = batch_size
        self._seed, self._held_out = seed, held_out
        self._layout = layout or Layout.of_devices(1)
        first = objective.sampler.num_front_end(batch_size) if held_out is None else 0
        parts = Parts(self._layout.count)
        self._parts = parts if parts.fits(batch_size, first) else Parts(1)
        self._evaluate = jax.jit(self._on_all_devices)

    def _on_one_device(
        self, params: Any, axes: dict[str, int | None], assets: Assets, index: Array, data: Any
    ) -> Any:
        part = (
            jax.lax.axis_index(AXIS).astype(jnp.int32) if self._parts.count > 1 else jnp.zeros((), jnp.int32)
        )
        numbers = self._parts.indices(part, self.batch_size)
        objective = self.objective
        if data is None:
            key = held_out_key(self._seed, index)
            batch = objective.batch(key, assets, indices=numbers, targets=True)
        else:
            numbers = data["numbers"]
            batch = stored_batch(data)
        output = objective.predict(unflatten(gather(params, axes)), batch, assets)
        loss, terms = objective.loss(output, batch, assets)
        heads = self._heads(output, batch, assets)
        return jax.lax.pmean({"loss": loss, **terms}, AXIS), heads | {"numbers": numbers}

    def _heads(self, output: Any, batch: Batch, assets: Assets) -> dict[str, Any]:
        """What can be shown of every head of a batch."""
        sampler, truth = self.objective.sampler, batch["camera"]
        camera = camera_from_output(output, truth.focal, truth.principal_point, sampler.image_size)
        predicted, _ = flame_jax.decode(assets.model, output.flame_params())
        landmarks = projected_landmarks(assets.model, predicted, camera, self.objective.contour)
        # Where no camera is trained, the predicted head is drawn with the true one.
        if self.objective.render_loss is None:
            camera = truth
        drawn_normals, drawn_mask = draw_prediction(predicted, camera, assets, sampler)
        inputs, mask = network_inputs(batch, sampler)
        errors = batch_errors(output, batch, assets, sampler, (drawn_normals, drawn_mask))
        # Of the contour that the loss has; sampled heads have the static one of ``batch_errors``.
        errors["landmarks_percent"] = landmarks_percent(landmarks, batch["landmarks_2d"], sampler.image_size)
        return {
            "inputs": inputs,
            "mask": mask,
            "target_normals": batch["target_normals"],
            "target_mask": batch["target_mask"],
            "drawn_normals": drawn_normals,
            "drawn_mask": drawn_mask,
            "errors": errors,
        }

    def _on_all_devices(self, params: Tree, assets: Assets, index: Array, data: Any) -> Any:
        layout, flat = self._layout, flatten(params)
        axes, specs = layout.split(flat)
        rows = PartitionSpec(AXIS) if self._parts.count > 1 else PartitionSpec()
        return layout.map(
            lambda params, assets, index, data: self._on_one_device(params, axes, assets, index, data),
            (specs, PartitionSpec(), PartitionSpec(), rows),
            (PartitionSpec(), rows),
        )(flat, assets, index, data)

    def _run(self, params: Tree, assets: Assets, index: int) -> tuple[dict[str, Array], dict[str, Any]]:
        data = None
        if self._held_out is not None:
            data = {**self._held_out(index), "numbers": np.arange(self.batch_size, dtype=np.int32)}
        return self._evaluate(params, assets, np.asarray(index, np.int32), data)

    def heads(self, params: Tree, assets: Assets, index: int) -> dict[str, Any]:
        """One batch of the set, head by head, NumPy arrays.

        Its entries: ``inputs`` (B, S, S, C) and ``mask`` (B, S, S), what the network was shown; ``target_normals``,
        ``target_mask``, ``drawn_normals``, ``drawn_mask``: the true and the predicted head (with the true camera where
        the camera module is untrained); ``errors``: name → (B,).
        """
        return _in_order(on_host(self._run(params, assets, index)[1]))

    def __call__(self, params: Tree, assets: Assets) -> tuple[dict[str, float], dict[str, Any]]:
        """Means over the set, and the heads of its first batch."""
        means, errors = [], []
        first: dict[str, Any] = {}
        for index in range(self.num_batches):
            values, heads = self._run(params, assets, index)
            means.append(jax.device_get(values))
            errors.append(on_host(heads["errors"]))
            if index == 0:
                first = _in_order(on_host(heads))
        result = {name: float(np.mean([float(part[name]) for part in means])) for name in means[0]}
        for name in errors[0]:
            result[name] = float(np.mean(np.concatenate([part[name] for part in errors]), dtype=np.float64))
        if "face_mm" in result:
            result["face_ratio"] = result["face_mm"] / result["mean_head_face_mm"]
        return result, first


def _in_order(heads: dict[str, Any]) -> dict[str, Any]:
    """Devices hold every n-th head; by their numbers they stand as in the set."""
    order = np.argsort(heads["numbers"])
    return jax.tree.map(lambda leaf: leaf[order], {k: v for k, v in heads.items() if k != "numbers"})
