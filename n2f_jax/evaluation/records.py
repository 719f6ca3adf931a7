"""One sample of one method as a task, and the record of its measurement on disk."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import n2f_jax
from n2f_jax.evaluation.frames import split_frame
from n2f_jax.evaluation.layouts import Sample
from n2f_jax.evaluation.missing import MissingPredictions
from n2f_jax.evaluation.predictions import (
    LANDMARK_2D_SUFFIXES,
    MESH_IN_FOLDER,
    PREDICTION_SUFFIXES,
    all_faces,
    find_prediction,
    landmark_file,
)
from n2f_jax.evaluation.protocols import Settings
from n2f_jax.runtime.atomic_files import write_text
from n2f_jax.runtime.fingerprints import fingerprint
from n2f_jax.runtime.json_values import jsonable
from n2f_jax.runtime.outside_values import read_array, read_json

# Raised when the same files give other figures than before: records of before are then measured again.
MEASUREMENT = 2
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
        missing: why there is no prediction; "" where there is one.
    """

    method: str
    sample: Sample
    prediction: Path | None
    folder: Path
    settings: Settings
    fingerprint: str
    missing: str = ""

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
        all_found = [find_prediction(folder, sample.name, suffixes) for sample in samples]
        used = [split_frame(found)[0] for found in all_found if found is not None]
        missing = MissingPredictions(folder, suffixes, MESH_IN_FOLDER, used)
        for sample, found in zip(samples, all_found, strict=True):
            files = [sample.truth, sample.landmarks, sample.camera, sample.regions, found]
            if found is not None:
                files += all_faces(found)[1:] if settings.protocol == "300w" else [landmark_file(found)]
            extra = [settings.regions, settings.head_model]
            files += [Path(path) for path in extra if path]
            names = [str(path) for path in files]
            on_disk = [None if path is None else split_frame(path)[0] for path in files]
            digits = fingerprint([MEASUREMENT, dataclasses.asdict(settings), names], on_disk)
            reason = missing.reason(sample.name) if found is None else ""
            tasks.append(Task(method, sample, found, out / method, settings, digits, reason))
    return tasks


def write_record(task: Task, content: dict[str, Any]) -> dict[str, Any]:
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
    write_text(task.record_path, json.dumps(jsonable(record), indent=1, allow_nan=False) + "\n")
    return record


def read_record(task: Task) -> dict[str, Any] | None:
    """The record of an earlier run if it was measured with the same settings and files; else None."""
    try:
        record = read_json(task.record_path)
    except (OSError, ValueError):
        return None
    if not isinstance(record, dict) or record.get("fingerprint") != task.fingerprint:
        return None
    if record.get("status") != MEASURED or not task.errors_path.is_file():
        return None
    if not isinstance(record.get("figures"), dict):
        return None
    # JSON has no NaN: a figure of nothing came back as null.
    record["figures"] = {
        key: float("nan") if value is None else value for key, value in record["figures"].items()
    }
    return record


def read_errors(task: Task) -> np.ndarray:
    """The sample's errors, as ``work`` wrote them.

    Raises:
        OutsideValueError: the file is damaged.
    """
    return read_array(task.errors_path)
