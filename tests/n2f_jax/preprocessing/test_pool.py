import functools
import os
from pathlib import Path

import pytest

from n2f_jax.preprocessing.pool import WorkerError, process_all
from n2f_jax.preprocessing.task import Task
from tests.n2f_jax.preprocessing.mortal import MortalWorker, Stillborn


def test_a_file_that_kills_its_process_costs_that_file():
    keys = ["0", "1", "2", "killer", "3", "4", "killer too", "5", "6", "7", "8"]
    groups = iter([[Task(key, Path(key), (0, 0)) for key in keys[i : i + 2]] for i in range(0, len(keys), 2)])
    records = list(process_all(groups, MortalWorker, workers=2))
    assert sorted(record.key for record in records) == sorted(keys)
    dead = [record for record in records if record.status == "error"]
    assert {record.key for record in dead} == {"killer", "killer too"}
    assert all("killed its process" in record.reason for record in dead)
    assert str(os.getpid()) not in {record.reason for record in records}


def test_workers_that_cannot_start_end_the_run():
    make = functools.partial(Stillborn, os.getpid())
    with pytest.raises(WorkerError, match="cannot start"):
        list(process_all(iter([[Task("a", Path("a"), (0, 0))]]), make, workers=1))
