"""Many samples, several methods, all cores: what ``scripts/evaluate.py`` does.

One bad file never stops the others; every sample's record is written as soon as it is measured, whole or not at all;
the same command again measures only what is not there with the same settings and files.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

import n2f_jax
from n2f_jax.evaluation.layouts import Sample
from n2f_jax.evaluation.predictions import (
    LANDMARK_2D_SUFFIXES,
    PREDICTION_SUFFIXES,
    all_faces,
    find_prediction,
    landmark_file,
)
from n2f_jax.evaluation.protocols import Measurement, Settings, measure_sample
from n2f_jax.runtime.atomic_files import atomic_path
from n2f_jax.runtime.worker_pool import process_all

# Raised when the same files give other figures than before: records of before are then measured again.
MEASUREMENT = 1
THREAD_VARIABLES = ("IGL_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
MEASURED, MISSING, FAILED = "measured", "missing", "failed"


@dataclasses.dataclass(frozen=True)
class Task:
    """One sample of one method.

    Attributes:
        method: its name.
        sample: what to measure.
        prediction: its file, or None.
        folder: where the record goes.
        settings: how.
        fingerprint: of the settings and files.
    """

    method: str
    sample: Sample
    prediction: Path | None
    folder: Path
    settings: Settings
    fingerprint: str

    @property
    def stem(self) -> str:
        """A file name for the sample: readable, and unique however odd the sample's name is."""
        plain = "".join(c if c.isalnum() or c in "-_." else "_" for c in self.sample.name)
        digest = hashlib.sha256(self.sample.name.encode()).hexdigest()[:8]
        return f"{plain[-120:]}-{digest}"

    @property
    def record_path(self) -> Path:
        return self.folder / "records" / f"{self.stem}.json"

    @property
    def errors_path(self) -> Path:
        return self.folder / "errors" / f"{self.stem}.npy"


def make_tasks(
    samples: Sequence[Sample], predictions: dict[str, Path], out: Path, settings: Settings
) -> list[Task]:
    """Every sample of every method, predictions looked up."""
    suffixes = LANDMARK_2D_SUFFIXES if settings.protocol == "300w" else PREDICTION_SUFFIXES
    tasks = []
    for method, folder in predictions.items():
        for sample in samples:
            found = find_prediction(folder, sample.name, suffixes)
            files = [sample.truth, sample.landmarks, sample.camera, found]
            if found is not None:
                files += all_faces(found)[1:] if settings.protocol == "300w" else [landmark_file(found)]
            extra = [settings.regions, settings.head_model]
            stamps = [_stamp(path) for path in (*files, *(Path(path) for path in extra if path))]
            content = json.dumps([MEASUREMENT, dataclasses.asdict(settings), stamps], sort_keys=True)
            fingerprint = hashlib.sha256(content.encode()).hexdigest()
            tasks.append(Task(method, sample, found, out / method, settings, fingerprint))
    return tasks


def _stamp(path: Path | None) -> list | None:
    if path is None:
        return None
    try:
        status = path.stat()
    except OSError:
        return [str(path), None, None]
    return [str(path), status.st_size, status.st_mtime_ns]


def run(tasks: Sequence[Task], jobs: int = 1, progress: bool = True) -> list[dict[str, Any]]:
    """Measures what is not yet measured; all records, in the tasks' order.

    Args:
        tasks: of ``make_tasks``.
        jobs: processes side by side; 1 measures here.
        progress: show a bar.

    Raises:
        KeyboardInterrupt: interrupted; the records made so far are on disk.
        OSError: the output folder cannot be written.
    """
    for folder in {task.folder for task in tasks}:
        (folder / "records").mkdir(parents=True, exist_ok=True)
        (folder / "errors").mkdir(parents=True, exist_ok=True)
    records: dict[int, dict[str, Any]] = {}
    to_do = []
    for index, task in enumerate(tasks):
        old = read_record(task)
        if old is not None:
            records[index] = old | {"resumed": True}
        else:
            to_do.append(index)
    if to_do:
        with tqdm(
            total=len(tasks), initial=len(records), desc="measuring", unit="sample", disable=not progress
        ) as bar:
            for index, record in _measure_all(tasks, to_do, jobs):
                records[index] = record
                bar.update()
    return [records[index] for index in range(len(tasks))]


def _measure_all(tasks, to_do, jobs) -> Iterator[tuple[int, dict[str, Any]]]:
    with _one_thread_each():
        if jobs <= 1 or len(to_do) == 1:
            for index in to_do:
                yield index, work(tasks[index])
            return
        # Images of one scan go to one worker together: it is read, cropped and split into regions once.
        batches: dict[tuple, list[int]] = {}
        for index in to_do:
            batches.setdefault((tasks[index].method, tasks[index].sample.truth), []).append(index)
        pieces = [piece[i : i + 16] for piece in batches.values() for i in range(0, len(piece), 16)]
        groups = ([(index, tasks[index]) for index in piece] for piece in pieces)
        yield from process_all(groups, _Worker, min(jobs, len(pieces)), _killed)


class _Worker:
    """Measures in a process of its own."""

    def process(self, items: Sequence[tuple[int, Task]]) -> list[tuple[int, dict[str, Any]]]:
        # Of a group that is tried again, because its process died, some may be there.
        return [(index, read_record(task) or work(task)) for index, task in items]


def _killed(item: tuple[int, Task]) -> tuple[int, dict[str, Any]]:
    index, task = item
    return index, _failed(task, "the process died (out of memory, or a crash)")


@contextlib.contextmanager
def _one_thread_each() -> Iterator[None]:
    """Libraries in workers started meanwhile use one thread."""
    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    os.environ.update({name: "1" for name in THREAD_VARIABLES})
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def work(task: Task, measure: Callable[..., Measurement] = measure_sample) -> dict[str, Any]:
    """Measures one sample, writes its errors and then its record, and returns the record."""
    if task.prediction is None:
        return _write_record(task, {"status": MISSING, "message": "no prediction"})
    start = time.perf_counter()
    try:
        result = measure(task.sample, task.prediction, task.settings)
    except ImportError:
        raise  # the installation lacks something: that is no sample's fault
    except Exception as error:
        message = " ".join(str(error).split())[:500] or type(error).__name__
        if not isinstance(error, (ValueError, OSError)):
            message = f"{type(error).__name__}: {message}"
        return _failed(task, message)
    with atomic_path(task.errors_path) as temporary:
        np.save(temporary, result.errors_mm)
    return _write_record(
        task,
        {
            "status": MEASURED,
            "figures": result.figures,
            "notes": result.notes,
            "seconds": time.perf_counter() - start,
        },
    )


def _failed(task: Task, message: str) -> dict[str, Any]:
    return _write_record(task, {"status": FAILED, "message": message})


def _write_record(task: Task, content: dict[str, Any]) -> dict[str, Any]:
    record = {
        "method": task.method,
        "sample": task.sample.name,
        "group": task.sample.group,
        "truth": str(task.sample.truth),
        "prediction": None if task.prediction is None else str(task.prediction),
        "errors": task.errors_path.name,
        "fingerprint": task.fingerprint,
        "version": n2f_jax.__version__,
        **content,
    }
    with atomic_path(task.record_path) as temporary:
        temporary.write_text(json.dumps(jsonable(record), indent=1, allow_nan=False) + "\n", encoding="utf-8")
    return record


def read_record(task: Task) -> dict[str, Any] | None:
    """The record of an earlier run if it was measured with the same settings and files; else None."""
    try:
        record = json.loads(task.record_path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(record, dict) or record.get("fingerprint") != task.fingerprint:
        return None
    if record.get("status") != MEASURED or not task.errors_path.is_file():
        return None
    # JSON has no NaN: a figure of nothing came back as null.
    record["figures"] = {
        key: float("nan") if value is None else value for key, value in record["figures"].items()
    }
    return record


def read_errors(task: Task) -> np.ndarray:
    """The sample's errors, as ``work`` wrote them."""
    return np.load(task.errors_path, allow_pickle=False)


def jsonable(value: Any) -> Any:
    """Plain numbers, lists and dicts; what is not finite becomes null."""
    if isinstance(value, dict):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
