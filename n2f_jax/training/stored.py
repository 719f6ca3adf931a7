"""Fine-tuning's batches: stored faces that a front end has seen, in place of sampled heads."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array

from flame_jax import FlameParams
from n2f_jax.data.face_views import View
from n2f_jax.data.pipeline import Pipeline, stack
from n2f_jax.data.sampler import Batch
from n2f_jax.geometry.camera import Camera
from n2f_jax.training.parallel import AXIS, Layout


@dataclasses.dataclass(frozen=True)
class StoredConfig:
    """Which faces a fine-tuning run reads; a config's section ``stored``.

    Attributes:
        kind: ``'pseudo_truth'`` (``data.celeba_hq``) or ``'annotated'`` (``data.w300``).
        folder: preprocessed; of the first kind with pseudo ground truth beside the faces.
        annotations: of the second kind, what was preprocessed, ``NAME.pts`` beside ``NAME.jpg``.
        celeba: of the first kind, the folder of CelebA's partition files; empty: parts by the faces' hashes.
        part, validation_part: what is trained on, and what the best network is chosen by, no face of the first and no
            test part (``data.celeba_hq``, ``data.w300``).
        validation_folder, validation_annotations: where the latter is; empty: in the same.
    """

    kind: str
    folder: str = ""
    annotations: str = ""
    celeba: str = ""
    part: str = "train"
    validation_part: str = "validation"
    validation_folder: str = ""
    validation_annotations: str = ""


def stored_batch(data: Mapping[str, Array]) -> Batch:
    """Arrays of stored faces (``data.face_views``) as a batch like ``make_batch``'s.

    The maps are input and target at once. ``params`` are there where the faces have pseudo ground truth; without, the
    pose in ``camera`` is a frontal head at 1 m, which nothing may be compared with.
    """
    count = data["mask"].shape[0]
    posed = "rotation" in data
    frontal = jnp.diag(jnp.asarray([1.0, -1.0, -1.0]))
    ahead = jnp.asarray([0.0, 0.0, 1.0])
    batch: dict[str, Any] = {
        "normals": data["normals"],
        "mask": data["mask"],
        "target_normals": data["normals"],
        "target_mask": data["mask"],
        "landmarks_2d": data["landmarks_2d"],
        "camera": Camera(
            rotation=data["rotation"] if posed else jnp.broadcast_to(frontal, (count, 3, 3)),
            translation=data["translation"] if posed else jnp.broadcast_to(ahead, (count, 3)),
            focal=data["focal"],
            principal_point=data["principal_point"],
        ),
    }
    if "uv" in data:
        batch["uv"] = data["uv"]
    if "shape" in data:
        batch["params"] = FlameParams.resting(data["shape"], data["expression"], data["jaw"], data["eyelids"])
    return batch


@dataclasses.dataclass(frozen=True)
class StoredFaces:
    """What a fine-tuning run reads.

    Attributes:
        pipeline: this process's part of the training batches, by step.
        validation: faces that are not trained on.
    """

    pipeline: Pipeline
    validation: Sequence[View]

    def held_out(self, batch_size: int, index: int) -> dict[str, np.ndarray]:
        """One batch of the validation faces, in their order."""
        return stack([self.validation[i] for i in range(index * batch_size, (index + 1) * batch_size)])

    def feed(self, start: int, layout: Layout) -> Iterator[dict[str, Array]]:
        """Training batches from step ``start`` on, read ahead, laid out over the devices."""
        sharding = NamedSharding(layout.mesh, PartitionSpec(AXIS))
        for part in self.pipeline.iterate(start):
            yield {
                name: jax.make_array_from_process_local_data(sharding, value) for name, value in part.items()
            }
