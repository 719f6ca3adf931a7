"""From folders to figures: what ``n2f evaluate`` does.

Every sample's record is written as soon as it is measured, atomically; one bad file never stops the others;
the same command again measures only what is not there with the same settings and files.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from n2f_jax.evaluation import report
from n2f_jax.evaluation.landmarks3d import read_landmark_vertices
from n2f_jax.evaluation.layouts import list_samples
from n2f_jax.evaluation.protocols import Measurement, Settings, measure_sample
from n2f_jax.evaluation.records import FAILED, MEASURED, MISSING, Task, make_tasks, read_record, write_record
from n2f_jax.evaluation.units import AUTO
from n2f_jax.runtime.atomic_files import atomic_path
from n2f_jax.runtime.threads import one_thread_each
from n2f_jax.runtime.worker_pool import process_all


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """A finished run.

    Attributes:
        summary: ``report.summarize``.
        records: of every sample of every method.
        text: table, problems and files, for the screen.
        exit_code: 0 all measured, 1 some not, 2 none.
    """

    summary: dict[str, Any]
    records: list[dict[str, Any]]
    text: str
    exit_code: int


def named_folders(arguments: list[str]) -> dict[str, Path]:
    """``NAME=DIR`` or ``DIR`` (named after its last part) → folder by method.

    Raises:
        ValueError: a folder does not exist, or two methods have one name.
    """
    folders: dict[str, Path] = {}
    for argument in arguments:
        name, equals, rest = argument.partition("=")
        folder = Path(rest if equals and not Path(argument).is_dir() else argument)
        name = name if equals and not Path(argument).is_dir() else folder.resolve().name
        if not folder.is_dir():
            raise ValueError(f"no folder of predictions {folder}")
        if not name or "/" in name or name.startswith("."):
            raise ValueError(f"{name!r} is no name for a method")
        if name in folders:
            raise ValueError(f"two methods are called {name!r}: name them, NAME=DIR")
        folders[name] = folder
    return folders


def evaluate(
    predictions: dict[str, Path],
    ground_truth: str | Path,
    out: str | Path,
    *,
    protocol: str = "paper",
    layout: str = "auto",
    truth_unit: str = AUTO,
    prediction_unit: str = AUTO,
    head_model: str | None = None,
    regions: str | Path | None = None,
    landmark_vertices: str | Path | None = None,
    multiface_frames: int = 1,
    whole_mesh: bool = False,
    jobs: int = 1,
    worst: int = 6,
    progress: bool = True,
) -> Evaluation:
    """Measures every prediction of every sample and writes the report.

    Args:
        predictions: folder by method.
        ground_truth: folder.
        out: folder for the results; made if needed.
        protocol: of ``protocols.PROTOCOLS``.
        layout: of ``layouts.LAYOUTS``.
        truth_unit, prediction_unit, head_model, regions: as in ``protocols.Settings``.
        landmark_vertices: file of vertex indices, for predictions of a fixed topology.
        multiface_frames: of each segment.
        whole_mesh: as in ``protocols.Settings``.
        jobs: processes.
        worst: heat maps of each method.
        progress: show a bar.

    Raises:
        ValueError, OSError: nothing can be measured; the message says why.
    """
    out = Path(out)
    if protocol == "300w" and layout == "auto":
        layout = "300w"
    indices = None
    if landmark_vertices is not None:
        indices = tuple(int(i) for i in read_landmark_vertices(landmark_vertices))
    settings = Settings(
        protocol,
        truth_unit,
        prediction_unit,
        head_model and str(head_model),
        regions and str(regions),
        indices,
        whole_mesh,
    )
    layout, samples = list_samples(ground_truth, layout, multiface_frames)
    out.mkdir(parents=True, exist_ok=True)
    tasks = make_tasks(samples, predictions, out, settings)
    records = measure_all(tasks, jobs, progress)
    summary = report.summarize(tasks, records) | {"layout": layout, "ground_truth": str(ground_truth)}
    files = report.write_files(out, tasks, records, summary)
    lines = [report.format_table(summary)]
    notes = [record["notes"] for record in records if record["status"] == MEASURED]
    units, predicted_units = (
        sorted({note[key] for note in notes if key in note}) for key in ("truth_unit", "prediction_unit")
    )
    if units:
        lines.append(f"units: ground truth {', '.join(units)}; predictions {', '.join(predicted_units)}")
    if any(record["status"] == MEASURED for record in records):
        try:
            files += filter(None, [report.write_curves(out, tasks, records)])
            files += report.write_heat_maps(out, tasks, records, worst)[-1:]
        except ImportError as error:  # figures are there; only the pictures need more
            lines.append(f"no pictures: {error}")
    if problems := report.format_problems(records):
        lines.append(problems)
    resumed = sum(bool(record.get("resumed")) for record in records)
    if resumed:
        lines.append(f"{resumed} of {len(records)} had been measured before")
    lines.append(f"files: {', '.join(str(path) for path in files)}")
    measured = sum(record["status"] == MEASURED for record in records)
    code = 0 if measured == len(records) else 1 if measured else 2
    return Evaluation(summary, records, "\n".join(lines), code)


def format_samples(ground_truth: Path, layout: str, protocol: str, multiface_frames: int = 1) -> str:
    """A line a sample: its name (what a prediction is to be called) and its photograph."""
    if protocol == "300w" and layout == "auto":
        layout = "300w"
    _, samples = list_samples(ground_truth, layout, multiface_frames)
    return "\n".join(f"{sample.name}\t{sample.image or ''}".rstrip() for sample in samples)


def measure_all(tasks: Sequence[Task], jobs: int = 1, progress: bool = True) -> list[dict[str, Any]]:
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
            for index, record in _in_turn(tasks, to_do, jobs):
                records[index] = record
                bar.update()
    return [records[index] for index in range(len(tasks))]


def _in_turn(tasks, to_do, jobs) -> Iterator[tuple[int, dict[str, Any]]]:
    with one_thread_each():
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


def work(task: Task, measure: Callable[..., Measurement] = measure_sample) -> dict[str, Any]:
    """Measures one sample, writes its errors and then its record, and returns the record."""
    if task.prediction is None:
        return write_record(task, {"status": MISSING, "message": task.missing or "no prediction"})
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
    return write_record(
        task,
        {
            "status": MEASURED,
            "figures": result.figures,
            "notes": result.notes,
            "seconds": time.perf_counter() - start,
        },
    )


def _failed(task: Task, message: str) -> dict[str, Any]:
    return write_record(task, {"status": FAILED, "message": message})
