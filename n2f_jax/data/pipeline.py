"""Batches of stored faces: shuffled, endless, the same whatever the number of processes, resumable by step.

Built on ``grain`` (extra ``finetune``). The order is a function of the seed and the step alone, so the only state of
an input pipeline is the number of the next step.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from n2f_jax.data.face_views import View

Batch = dict[str, np.ndarray]


class Pipeline:
    """One process's part of every batch. Made by ``make_pipeline``.

    Attributes:
        batch_size: of the whole batch.
        steps_per_epoch: batches until every face was seen once, rounded up. Epochs follow each other without a gap: a
            batch may hold the end of one and the beginning of the next.
    """

    def __init__(self, dataset: Sequence[View], batch_size: int, seed: int, rows: slice):
        try:
            import grain
        except ImportError as error:
            raise ImportError(
                "fine-tuning reads its faces through grain: pip install 'n2f-jax[finetune]'"
            ) from error
        self._grain = grain
        self.batch_size = batch_size
        self.steps_per_epoch = -(-len(dataset) // batch_size)

        def load(indices: np.ndarray) -> Batch:
            return stack([dataset[int(index)] for index in indices[rows]])

        order = grain.MapDataset.source(range(len(dataset))).seed(seed).shuffle().repeat()
        self._batches = order.batch(batch_size).map(load)

    def batch_at(self, step: int) -> Batch:
        """The batch of one step, from 0; leading axis ``batch_size / shard_count``."""
        if step < 0:
            raise ValueError(f"step {step} is before the first")
        return self._batches[step]

    def iterate(self, start: int = 0, threads: int = 2, prefetch: int = 4) -> Iterator[Batch]:
        """The batches from a step on, without end, read ahead in threads.

        Args:
            start: the first step; of a resumed run the one that it saved.
            threads: that read batches at the same time.
            prefetch: most batches to hold ready.
        """
        options = self._grain.ReadOptions(num_threads=threads, prefetch_buffer_size=max(prefetch, threads))
        return iter(self._batches[start:].to_iter_dataset(options))


def make_pipeline(
    dataset: Sequence[View], batch_size: int, seed: int, shard_index: int = 0, shard_count: int = 1
) -> Pipeline:
    """Batches of a dataset, for one of several processes that train one network together.

    Rows ``shard_index · n … (shard_index + 1) · n − 1`` of each batch, ``n = batch_size / shard_count``: put side by
    side, the processes' parts are the batch that one process alone would get.

    Args:
        dataset: a sequence of dicts of arrays; each index may be read from any thread.
        batch_size: of all processes together.
        seed: of the order; each epoch has another.
        shard_index: this process.
        shard_count: how many there are.

    Raises:
        ValueError: an empty dataset, or a batch that does not divide among the processes.
        ImportError: grain is not installed.
    """
    if not len(dataset):
        raise ValueError("a pipeline needs at least one face")
    if batch_size < 1 or shard_count < 1 or batch_size % shard_count or not 0 <= shard_index < shard_count:
        raise ValueError(
            f"a batch of {batch_size} does not divide among {shard_count} processes, or there is none "
            f"with index {shard_index}"
        )
    share = batch_size // shard_count
    return Pipeline(dataset, batch_size, seed, slice(shard_index * share, (shard_index + 1) * share))


def stack(faces: Sequence[View]) -> Batch:
    """Faces' arrays, a batch axis in front.

    Raises:
        ValueError: they do not hold the same arrays, of the same shapes.
    """
    names = set(faces[0])
    if any(set(face) != names for face in faces):
        raise ValueError("some faces of a batch have arrays that others lack")
    return {name: np.stack([face[name] for face in faces]) for name in faces[0]}
