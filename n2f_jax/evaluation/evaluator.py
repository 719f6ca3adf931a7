"""From folders to figures: the one call of ``scripts/evaluate.py``."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from n2f_jax.evaluation import report
from n2f_jax.evaluation.landmarks3d import read_landmark_vertices
from n2f_jax.evaluation.layouts import list_samples
from n2f_jax.evaluation.protocols import Settings
from n2f_jax.evaluation.run import MEASURED, make_tasks, run
from n2f_jax.evaluation.units import AUTO


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
    )
    layout, samples = list_samples(ground_truth, layout, multiface_frames)
    out.mkdir(parents=True, exist_ok=True)
    tasks = make_tasks(samples, predictions, out, settings)
    records = run(tasks, jobs, progress)
    summary = report.summarize(tasks, records) | {"layout": layout, "ground_truth": str(ground_truth)}
    files = report.write_files(out, tasks, records, summary)
    lines = [report.format_table(summary)]
    notes = [record["notes"] for record in records if record["status"] == MEASURED]
    units, answers = (
        sorted({note[key] for note in notes if key in note}) for key in ("truth_unit", "prediction_unit")
    )
    if units:
        lines.append(f"units: ground truth {', '.join(units)}; predictions {', '.join(answers)}")
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
