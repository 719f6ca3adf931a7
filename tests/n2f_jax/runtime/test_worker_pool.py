import functools
import multiprocessing
import os
import random
from pathlib import Path

import pytest

from n2f_jax.preprocessing.run import _killed
from n2f_jax.preprocessing.worker import Task
from n2f_jax.runtime.output_folder import OutputError
from n2f_jax.runtime.worker_pool import WorkerError, process_all
from tests.n2f_jax.runtime.mortal import Buggy, FullDisk, MortalWorker, Stillborn

pytestmark = pytest.mark.medium


def _groups(keys, size):
    return iter(
        [[Task(key, Path(key), (0, 0)) for key in keys[i : i + size]] for i in range(0, len(keys), size)]
    )


def test_a_file_that_kills_its_process_costs_that_file():
    keys = ["0", "1", "2", "killer", "3", "4", "killer too", "5", "6", "7", "8"]
    records = list(process_all(_groups(keys, 2), MortalWorker, workers=2, killed=_killed))
    assert sorted(record.key for record in records) == sorted(keys)
    dead = [record for record in records if record.status == "error"]
    assert {record.key for record in dead} == {"killer", "killer too"}
    assert all("killed its process" in record.reason for record in dead)
    assert str(os.getpid()) not in {record.reason for record in records}
    assert not multiprocessing.active_children()


def test_many_that_kill_at_once_hold_nothing_up():
    keys = [f"killer {n}" if n % 3 == 0 else str(n) for n in range(15)]
    random.Random(0).shuffle(keys)
    records = {
        record.key: record
        for record in process_all(_groups(keys, 3), MortalWorker, workers=3, killed=_killed)
    }
    assert sorted(records) == sorted(keys)
    assert all((record.status == "error") == key.startswith("killer") for key, record in records.items())


def test_workers_that_cannot_start_end_the_run():
    make = functools.partial(Stillborn, os.getpid())
    with pytest.raises(WorkerError, match="cannot start"):
        list(process_all(_groups(["a"], 1), make, workers=1, killed=_killed))
    assert not multiprocessing.active_children()


@pytest.mark.parametrize(
    ("make", "error", "text"), [(FullDisk, OutputError, "No space"), (Buggy, WorkerError, "Zero")]
)
def test_what_no_image_is_to_blame_for_ends_the_run(make, error, text):
    with pytest.raises(error, match=text):
        list(process_all(_groups(["a", "b"], 1), make, workers=2, killed=_killed))
    assert not multiprocessing.active_children()


def test_a_run_that_is_left_early_leaves_no_process():
    records = process_all(_groups([str(n) for n in range(100)], 1), MortalWorker, workers=2, killed=_killed)
    next(records)
    records.close()
    assert not multiprocessing.active_children()
