import collections
import time
from collections.abc import Sequence

import numpy as np
import pytest

from n2f_jax.data.pipeline import make_pipeline, stack
from tests.runtime_types import unchecked

pytest.importorskip("grain")


class Numbered(Sequence):
    """A data set whose faces are their own numbers; reading takes as long as they like."""

    def __init__(self, count, delay=lambda index: 0.0):
        self.count, self.delay, self.read = count, delay, []

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        time.sleep(self.delay(index))
        self.read.append(index)
        return {"index": np.array(index, np.int32), "map": np.full((2, 3), index, np.float32)}


def indices(pipeline, steps):
    return [pipeline.batch_at(step)["index"].tolist() for step in steps]


def test_a_run_that_goes_on_sees_what_an_unbroken_one_sees():
    whole = iter(make_pipeline(Numbered(50), 8, seed=3).iterate())
    unbroken = [next(whole)["index"].tolist() for _ in range(30)]
    resumed = make_pipeline(Numbered(50), 8, seed=3)
    assert indices(resumed, range(17, 30)) == unbroken[17:]
    ahead = resumed.iterate(17)
    assert [next(ahead)["index"].tolist() for _ in range(13)] == unbroken[17:]
    assert indices(make_pipeline(Numbered(50), 8, seed=4), range(3)) != unbroken[:3]


def test_every_face_once_an_epoch_each_in_another_order():
    pipeline = make_pipeline(Numbered(12), 4, seed=0)
    assert pipeline.steps_per_epoch == 3
    epochs = [np.concatenate(indices(pipeline, range(3 * e, 3 * e + 3))).tolist() for e in range(4)]
    assert all(sorted(epoch) == list(range(12)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4
    # Epochs follow each other without a gap where a batch does not divide them.
    odd = make_pipeline(Numbered(10), 4, seed=0)
    counts = collections.Counter(np.concatenate(indices(odd, range(25))).tolist())
    assert set(counts.values()) == {10} and odd.steps_per_epoch == 3


@pytest.mark.parametrize("processes", [2, 4, 8])
def test_the_processes_parts_make_the_batch_of_one(processes):
    one = make_pipeline(Numbered(50), 8, seed=1)
    parts = [make_pipeline(Numbered(50), 8, 1, index, processes) for index in range(processes)]
    for step in (0, 5, 6, 111):
        together = np.concatenate([part.batch_at(step)["map"] for part in parts])
        np.testing.assert_array_equal(together, one.batch_at(step)["map"])


def test_slow_files_do_not_change_the_order():
    slow = Numbered(20, delay=lambda index: 0.02 if index % 3 == 0 else 0.0)
    batches = make_pipeline(slow, 4, seed=0).iterate(threads=4, prefetch=8)
    assert [next(batches)["index"].tolist() for _ in range(6)] == indices(
        make_pipeline(Numbered(20), 4, seed=0), range(6)
    )


def test_it_reads_no_further_ahead_than_asked():
    dataset = Numbered(10_000)
    batches = make_pipeline(dataset, 4, seed=0).iterate(threads=2, prefetch=3)
    next(batches)
    time.sleep(0.3)
    assert len(dataset.read) <= 4 * 6


def test_an_error_in_a_face_reaches_the_training_loop():
    class Broken(Numbered):
        def __getitem__(self, index):
            if index == 7:
                raise ValueError("x.face.zip is damaged")
            return super().__getitem__(index)

    with unchecked():  # the check of types looks into a sequence at random
        batches = make_pipeline(Broken(10), 5, seed=0).iterate()
    with pytest.raises(ValueError, match=r"x\.face\.zip is damaged"):
        [next(batches) for _ in range(2)]


@pytest.mark.parametrize(("batch", "index", "count"), [(8, 0, 3), (8, 2, 2), (0, 0, 1), (8, -1, 2)])
def test_what_does_not_divide_is_refused(batch, index, count):
    with pytest.raises(ValueError, match="does not divide"):
        make_pipeline(Numbered(8), batch, 0, index, count)


def test_nothing_to_read():
    with pytest.raises(ValueError, match="at least one face"):
        make_pipeline(Numbered(0), 8, 0)


def test_faces_of_a_batch_hold_the_same():
    with pytest.raises(ValueError, match="others lack"):
        stack([{"uv": np.zeros(2), "mask": np.zeros(2)}, {"mask": np.zeros(2)}])
    with pytest.raises(ValueError, match="before the first"):
        make_pipeline(Numbered(5), 2, 0).batch_at(-1)
