"""Measures predictions by the paper's protocol and makes tables with intervals: bootstrap over heads."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from n2f_jax.benchmark.files import head_names, read_settings
from n2f_jax.benchmark.methods import MEAN, NEAREST
from n2f_jax.evaluation.layouts import list_samples
from n2f_jax.evaluation.protocols import Settings
from n2f_jax.evaluation.records import MEASURED, make_tasks
from n2f_jax.evaluation.run import measure_all
from n2f_jax.runtime.atomic_files import write_text
from n2f_jax.runtime.outside_values import read_arrays

# Column → figure of the protocol; the last two are of the prediction's own file.
COLUMNS = {
    "CD face": "face/cd_mm",
    "eyes": "eyes/cd_mm",
    "nose": "nose/cd_mm",
    "mouth": "mouth/cd_mm",
    "ears": "ears/cd_mm",
    "NoW face": "face/now_mm",
    "MNE": "face/mne_rad",
    "CR": "face/cr",
    "NME, %": "nme_percent",
}
_DIGITS = {"NME, %": 2}
BOOTSTRAP = 2000

# condition → method → figure → value of every head, NaN where there is none.
Figures = dict[str, dict[str, dict[str, np.ndarray]]]


def measure(
    benchmark: str | Path,
    predictions: str | Path,
    conditions: Sequence[str],
    methods: Sequence[str],
    *,
    names: Sequence[str] | None = None,
    jobs: int = 1,
    progress: bool = True,
) -> Figures:
    """Every prediction against its ground truth; what has been measured before is read.

    Args:
        benchmark, predictions: folders.
        conditions, methods: the folders' names; those without predictions are left out.
        names: of the heads; all if None.
        jobs: processes.
        progress: show a bar.

    Raises:
        RuntimeError: a prediction cannot be measured; the message says why.
    """
    benchmark, predictions = Path(benchmark), Path(predictions)
    described = read_settings(benchmark)
    names = head_names(described) if names is None else names
    count = len(names)
    _, samples = list_samples(benchmark, "plain")
    wanted = {f"heads/{name}": index for index, name in enumerate(names)}
    samples = [sample for sample in samples if sample.name in wanted]
    folders = {
        f"{method}, {condition}": predictions / method / condition
        for condition in conditions
        for method in methods
        if (predictions / method / condition).is_dir()
    }
    # Meshes of any topology have their regions beside them.
    settings = (
        Settings("surface", truth_unit="m")
        if described["of_meshes"]
        else Settings("paper", truth_unit="m", regions=str(benchmark / "regions.json"))
    )
    tasks = [
        task
        for task in make_tasks(samples, folders, predictions / "measured", settings)
        if task.prediction is not None
    ]
    records = measure_all(tasks, jobs, progress)
    result: Figures = {condition: {} for condition in conditions}
    for task, record in zip(tasks, records, strict=True):
        if record["status"] != MEASURED:
            raise RuntimeError(f"{task.method}, {task.sample.name}: {record.get('message')}")
        method, _, condition = task.method.rpartition(", ")
        figures = result[condition].setdefault(method, {})
        names = ("nme_percent", "distance_ratio", "seconds")
        stored = read_arrays(task.prediction, names)
        own = {key: float(stored[key]) for key in names}
        for name, value in (record["figures"] | own).items():
            figures.setdefault(name, np.full(count, np.nan))[wanted[task.sample.name]] = value
    return {
        condition: {m: result[condition][m] for m in methods if m in result[condition]}
        for condition in conditions
    }


def interval(values: np.ndarray, seed: int = 0) -> tuple[float, float, float]:
    """Mean and its 95 % interval by the bootstrap (percentiles of 2,000 means over heads drawn with replacement)."""
    values = np.asarray(values, np.float64)
    values = values[np.isfinite(values)]
    if not len(values):
        return (float("nan"),) * 3
    picks = np.random.default_rng(seed).integers(len(values), size=(BOOTSTRAP, len(values)))
    low, high = np.percentile(values[picks].mean(axis=1), [2.5, 97.5])
    return float(values.mean()), float(low), float(high)


def format_tables(figures: Figures, reference: str = "", paired_only: bool = False) -> str:
    """A table for each condition, as Markdown.

    Args:
        figures: of ``measure``.
        reference: the method that others are compared with, head by head; "": the first.
        paired_only: only heads that every method did.
    """
    lines: list[str] = []
    for condition, methods in figures.items():
        if not methods:
            continue
        cd = {name: one["face/cd_mm"] for name, one in methods.items()}
        common = np.all([np.isfinite(values) for values in cd.values()], axis=0)
        base = cd.get(reference, next(iter(cd.values())))
        keep = common if paired_only else np.ones(len(common), bool)
        heads = max(int(np.isfinite(values[keep]).sum()) for values in cd.values())
        lines += [
            "",
            f"**{condition}**, {heads} heads" + (" that every method did" if paired_only else ""),
            "",
            f"| | {' | '.join(COLUMNS)} | CD face, less {reference or next(iter(cd))} |",
            "|---" * (len(COLUMNS) + 2) + "|",
        ]
        for name, one in methods.items():
            cells = []
            for column, figure in COLUMNS.items():
                mean, low, high = interval(one.get(figure, np.full(len(common), np.nan))[keep])
                digits = _DIGITS.get(column, 3)
                cells.append("—" if np.isnan(mean) else f"{mean:.{digits}f}")
                if column == "CD face":
                    cells[-1] += f" [{low:.{digits}f}, {high:.{digits}f}]"
            mean, low, high = interval((cd[name] - base)[keep])
            same = cd[name] is base
            cells.append("" if same else f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]")
            did = int(np.isfinite(cd[name][keep]).sum())
            label = name if did == heads else f"{name} ({did} heads)"
            lines.append(f"| {label} | {' | '.join(cells)} |")
    return "\n".join(lines[1:])


def format_speed(figures: Figures) -> str:
    """Seconds a head, one at a time, of all conditions together."""
    times: dict[str, list[float]] = {}
    for methods in figures.values():
        for name, one in methods.items():
            seconds = one["seconds"]
            times.setdefault(name, []).extend(seconds[np.isfinite(seconds) & (seconds > 0)])
    lines = [
        "| seconds a head, one at a time | median | quartiles | a second | heads |",
        "|---|---|---|---|---|",
    ]
    for name, values in times.items():
        if values and name not in (MEAN, NEAREST):
            low, middle, high = np.percentile(values, [25, 50, 75])
            lines.append(
                f"| {name} | {middle:.4f} | {low:.4f} … {high:.4f} | {1 / middle:.2f} | {len(values)} |"
            )
    return "\n".join(lines)


def format_by_setting(figures: Figures, controlled: Sequence[Mapping[str, float]], method: str) -> str:
    """Mean CD of the face by each setting that is controlled, for one method."""
    lines = []
    for condition, methods in figures.items():
        if method not in methods:
            continue
        cd = methods[method]["face/cd_mm"]
        lines += [
            "",
            f"**{condition}**, {method}: CD of the face, mm",
            "",
            "| setting | value: mean [95 %] |",
            "|---|---|",
        ]
        for name in ("yaw", "pitch", "strength", "crop_error"):
            setting = np.array([row[name] for row in controlled][: len(cd)])
            cells = []
            for value in np.unique(setting):
                mean, low, high = interval(cd[setting == value])
                cells.append(f"{value:g}: {mean:.2f} [{low:.2f}, {high:.2f}]")
            lines.append(f"| {name.replace('_', ' ')} | {'; '.join(cells)} |")
    return "\n".join(lines[1:])


def write_figures(figures: Figures, path: str | Path) -> None:
    """All values of all heads, as JSON (null where there is none)."""
    plain = {
        condition: {
            method: {
                name: [None if np.isnan(x) else round(float(x), 6) for x in values]
                for name, values in one.items()
            }
            for method, one in methods.items()
        }
        for condition, methods in figures.items()
    }
    write_text(path, json.dumps(plain))
