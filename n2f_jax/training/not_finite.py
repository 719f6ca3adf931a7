"""What happens when a loss or a gradient is not finite: the run stops, says why, and keeps the evidence."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from n2f_jax.data.assets import Assets
from n2f_jax.data.sampler import Batch
from n2f_jax.models.parameters import flatten
from n2f_jax.runtime.atomic_files import atomic_path
from n2f_jax.training.parallel import is_main_process
from n2f_jax.training.step import Objective, step_key
from n2f_jax.training.stored import StoredFaces, stored_batch


class NotFiniteError(FloatingPointError):
    """A loss or gradient was not finite; the message names the step, the samples and the terms."""


def stop_if_not_finite(
    state: dict[str, Any],
    objective: Objective,
    assets: Assets,
    seed: int,
    workdir: Path,
    stored: StoredFaces | None = None,
) -> None:
    """Raises if a step since the last look was not finite; nothing has been updated since that step.

    The batch of that step is drawn (or, of stored faces, this process's part is read) again, its samples are looked at
    one by one, and all of it is written to ``<workdir>/not_finite_step_<N>.npz`` (the network's inputs, what was asked
    for, and each sample's terms).

    Raises:
        NotFiniteError: see above.
    """
    stopped_at = int(state["stopped_at"])
    if stopped_at < 0:
        return
    # Parameters are still those that met that step: compute it again, to say what went wrong.
    key = step_key(seed, jnp.asarray(stopped_at, jnp.int32))

    @jax.jit
    def step_again(params: Any, assets: Assets, data: Any) -> tuple[Batch, dict[str, Any]]:
        batch = objective.batch(key, assets) if data is None else stored_batch(data)
        output = objective.predict(params, batch, assets)

        def terms_of(output: Any, batch: Any) -> dict[str, Any]:
            one = lambda tree: jax.tree.map(lambda leaf: leaf[None], tree)  # noqa: E731
            loss, terms = objective.loss(one(output), one(batch), assets)
            return {"loss": loss, **terms}

        return batch, jax.lax.map(lambda pair: terms_of(*pair), (output, batch))

    data = stored.pipeline.batch_at(stopped_at) if stored else None
    batch, terms = jax.device_get(step_again(state["params"], assets, data))
    bad_terms = [name for name, values in terms.items() if not np.isfinite(values).all()]
    bad_samples = sorted({int(i) for name in bad_terms for i in np.flatnonzero(~np.isfinite(terms[name]))})
    if bad_terms:
        what = f"not finite: {', '.join(bad_terms)} of sample {', '.join(map(str, bad_samples))}"
    else:
        what = "the loss of every sample is finite, its gradient is not"
    shown = ", ".join(f"{name} {np.mean(values):.4g}" for name, values in terms.items())
    path = workdir / f"not_finite_step_{stopped_at + 1}.npz"
    if is_main_process():
        leaves = {f"terms/{name}": values for name, values in terms.items()}
        for name, value in batch.items():
            for inner, leaf in flatten(_named(value, name)).items():
                leaves[f"batch/{inner}"] = np.asarray(leaf)
        with atomic_path(path) as temporary:
            np.savez_compressed(temporary, **leaves)
    raise NotFiniteError(f"step {stopped_at + 1}: {what} ({shown}); the batch is in {path}")


def _named(value: Any, name: str) -> dict[str, Any]:
    """A batch entry (an array, or a dataclass of arrays) as a nested dict of arrays."""
    if dataclasses.is_dataclass(value):
        return {name: {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}}
    return {name: value}
