"""Figures over all samples: table, JSON, CSV, curves, worst cases."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import n2f_jax
from n2f_jax.evaluation.now import cumulative_curve, pooled
from n2f_jax.evaluation.protocols import measure_sample
from n2f_jax.evaluation.records import FAILED, MEASURED, MISSING, Task, read_errors
from n2f_jax.evaluation.regions import REGIONS
from n2f_jax.runtime.atomic_files import atomic_path, write_text
from n2f_jax.runtime.json_values import jsonable

# By what samples are ranked, best first; all are better when small.
RANKED_BY = {
    "surface": "face/metric_mm",
    "paper": "face/cd_mm",
    "now": "median_mm",
    "now-metric": "median_mm",
    "facescape": "cd_mm",
    "300w": "nme_percent",
}
POOLED = ("now", "now-metric")
# The range of NoW's plots, and the paper's colours.
CURVE_LIMIT = {"surface": 7.0, "now": 7.0, "now-metric": 7.0, "paper": 7.0, "300w": 20.0}
HEAT_LIMIT_MM = 4.0


def summarize(tasks: Sequence[Task], records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Figures of every method: means over samples, NoW's pooled over all distances, and by group.

    Returns:
        ``protocol``, ``settings``, and for each method ``counts``, ``figures`` (means over samples; NoW: pooled),
        ``per_sample`` (mean, median and standard deviation over samples of every figure) and ``groups``.
    """
    settings = tasks[0].settings
    methods: dict[str, Any] = {}
    for method in dict.fromkeys(task.method for task in tasks):
        mine = [(t, r) for t, r in zip(tasks, records, strict=True) if t.method == method]
        counts = {
            status: sum(r["status"] == status for _, r in mine) for status in (MEASURED, MISSING, FAILED)
        }
        done = [(t, r) for t, r in mine if r["status"] == MEASURED]
        groups = sorted({t.sample.group for t, _ in done if t.sample.group})
        methods[method] = {
            "counts": counts,
            "figures": _figures(done, settings.protocol),
            "per_sample": _spread(done),
            "groups": {
                group: _figures([(t, r) for t, r in done if t.sample.group == group], settings.protocol)
                for group in groups
            },
        }
    return {
        "version": n2f_jax.__version__,
        "protocol": settings.protocol,
        "settings": {
            "truth_unit": settings.truth_unit,
            "prediction_unit": settings.prediction_unit,
            "head_model": settings.head_model or "open head",
            "regions": settings.regions,
        },
        "methods": methods,
    }


def _figures(done, protocol: str) -> dict[str, float]:
    if not done:
        return {}
    if protocol in POOLED:
        return pooled(np.concatenate([read_errors(task) for task, _ in done])) | {"samples": len(done)}
    means = {key: values["mean"] for key, values in _spread(done).items() if not key.endswith("/vertices")}
    # The mean angle in degrees is that of the mean in radians; both are linear, so means of either agree.
    return means | {"samples": len(done)}


def _spread(done) -> dict[str, dict[str, float]]:
    names = dict.fromkeys(key for _, record in done for key in record["figures"])
    result = {}
    for name in names:
        values = np.array([record["figures"].get(name, np.nan) for _, record in done], np.float64)
        values = values[np.isfinite(values)]
        if len(values):
            result[name] = {
                "mean": float(values.mean()),
                "median": float(np.median(values)),
                "std": float(values.std()),
            }
    return result


def format_table(summary: dict[str, Any]) -> str:
    """The table on screen."""
    protocol = summary["protocol"]
    columns = {
        "surface": [(f"{region}/metric_mm", region, 3) for region in REGIONS]
        + [(f"{region}/scaled_mm", f"{region}, scaled", 3) for region in REGIONS]
        + [("face/metric_deg", "normals deg", 2), ("size_ratio", "size", 4)],
        "paper": [(f"{region}/cd_mm", f"CD {region}", 3) for region in REGIONS]
        + [
            ("face/now_mm", "NoW face", 3),
            ("face/mne_rad", "MNE rad", 3),
            ("face/mne_deg", "MNE deg", 2),
            ("face/cr", "CR", 3),
        ],
        "now": [("median_mm", "median", 3), ("mean_mm", "mean", 3), ("std_mm", "std", 3)],
        "facescape": [
            ("cd_mm", "CD mm", 3),
            ("mne_rad", "MNE rad", 3),
            ("mne_published_rad", "as published", 3),
            ("cr", "CR", 3),
        ],
        "300w": [("nme_percent", "NME % 68", 2), ("nme_inner_percent", "inner 51", 2)],
    }["now" if protocol in POOLED else protocol]
    title = {
        "surface": "mm from visible truth to the reconstruction's surface, aligned on the face rigidly, and with scale",
        "paper": "mm; CD: vertex to vertex, ground truth to reconstruction; NoW: vertex to surface",
        "now": "mm; scan vertex to surface, aligned with scale",
        "now-metric": "mm; scan vertex to surface, aligned without scale",
        "facescape": "FaceScape's cylindrical maps; aligned in depth only",
        "300w": "% of the outer-eye distance",
    }[protocol]
    rows = [("method", "samples", *(name for _, name, _ in columns))]

    def row(name: str, figures: dict[str, float]) -> tuple[str, ...]:
        cells = [f"{figures[key]:.{digits}f}" if key in figures else "—" for key, _, digits in columns]
        return (name, str(figures.get("samples", 0)), *cells)

    for method, content in summary["methods"].items():
        rows.append(row(method, content["figures"]))
        if protocol in POOLED and len(content["groups"]) > 1:
            rows += [row(f"  {group}", figures) for group, figures in content["groups"].items()]
    widths = [max(len(cells[i]) for cells in rows) for i in range(len(rows[0]))]
    lines = [title]
    for cells in rows:
        first = cells[0].ljust(widths[0])
        lines.append("  ".join([first, *(c.rjust(w) for c, w in zip(cells[1:], widths[1:], strict=True))]))
    lines.insert(2, "-" * len(lines[1]))
    return "\n".join(lines)


def format_problems(records: Sequence[dict[str, Any]], most: int = 20) -> str:
    """What was not measured and why, each on a line; "" if all was."""
    bad = [record for record in records if record["status"] != MEASURED]
    lines = [f"{r['status']}: {r['method']}, {r['sample']}: {r['message']}" for r in bad[:most]]
    if len(bad) > most:
        lines.append(f"and {len(bad) - most} more (samples.csv)")
    counted = {record["method"]: 0 for record in records}
    for record in records:
        counted[record["method"]] += record["status"] == MEASURED
    if len(set(counted.values())) > 1:
        lines.append("methods were measured on different numbers of samples: their figures do not compare")
    return "\n".join(lines)


def write_files(
    out: Path, tasks: Sequence[Task], records: Sequence[dict[str, Any]], summary: dict[str, Any]
) -> list[Path]:
    """``summary.json``, ``summary.csv`` (a row a method) and ``samples.csv`` (a row a sample)."""
    paths = [out / "summary.json", out / "summary.csv", out / "samples.csv"]
    write_text(paths[0], json.dumps(jsonable(summary), indent=1, allow_nan=False) + "\n")
    names = list(dict.fromkeys(key for c in summary["methods"].values() for key in c["figures"]))
    rows = [["method", *names]]
    for method, content in summary["methods"].items():
        rows.append([method, *(content["figures"].get(name, "") for name in names)])
    _write_csv(paths[1], rows)
    names = list(dict.fromkeys(key for r in records for key in r.get("figures", {})))
    rows = [["method", "sample", "group", "status", "message", *names]]
    for record in records:
        figures = record.get("figures", {})
        rows.append(
            [record["method"], record["sample"], record["group"], record["status"], record.get("message", "")]
            + [figures.get(name, "") for name in names]
        )
    _write_csv(paths[2], rows)
    return paths


def _write_csv(path: Path, rows: list[list[Any]]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    write_text(path, text.getvalue())


def write_curves(out: Path, tasks: Sequence[Task], records: Sequence[dict[str, Any]]) -> Path | None:
    """``curves.png`` and ``curves.csv``: share of errors below each threshold, a line a method; None for FaceScape."""
    protocol = tasks[0].settings.protocol
    if protocol not in CURVE_LIMIT or not any(record["status"] == MEASURED for record in records):
        return None
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    limit = CURVE_LIMIT[protocol]
    thresholds = np.linspace(0.0, limit, 281)
    curves = {}
    for method in dict.fromkeys(task.method for task in tasks):
        errors = [
            read_errors(task)
            for task, record in zip(tasks, records, strict=True)
            if task.method == method and record["status"] == MEASURED
        ]
        if errors:
            curves[method] = cumulative_curve(np.concatenate(errors), thresholds)
    rows = [["threshold", *curves]]
    rows += [[f"{t:.4g}", *(f"{c[i]:.4f}" for c in curves.values())] for i, t in enumerate(thresholds)]
    _write_csv(out / "curves.csv", rows)
    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for method, curve in curves.items():
        axes.plot(thresholds, curve, label=method)
    label = {"300w": "error, % of the outer-eye distance", "paper": "vertex to vertex, face, mm"}
    axes.set(
        xlim=(0, limit),
        ylim=(0, 100),
        xlabel=label.get(protocol, "scan to mesh, mm"),
        ylabel="% of landmarks" if protocol == "300w" else "% of vertices",
    )
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    path = out / "curves.png"
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=130)
    return path


def write_heat_maps(
    out: Path, tasks: Sequence[Task], records: Sequence[dict[str, Any]], count: int
) -> list[Path]:
    """Heat maps of each method's ``count`` worst samples, and ``worst.png`` with all of them, worst first.

    A heat map is ``METHOD/heat_maps/NAME.png``, and ``NAME.ply`` with the colours at its vertices (metres, the ground
    truth's frame). Those samples are measured again. None for protocols without an aligned mesh.
    """
    protocol = tasks[0].settings.protocol
    if protocol not in ("paper", *POOLED) or count < 1:
        return []
    from PIL import Image

    from n2f_jax.evaluation.heat_maps import colour_bar, draw, vertex_colours
    from n2f_jax.mesh.writing import write_ply
    from n2f_jax.visualization.layout import grid

    key, paths, tiles, captions = RANKED_BY[protocol], [], [], []
    for method in dict.fromkeys(task.method for task in tasks):
        ranked = [
            (record["figures"][key], task)
            for task, record in zip(tasks, records, strict=True)
            if task.method == method and record["status"] == MEASURED and np.isfinite(record["figures"][key])
        ]
        ranked.sort(key=lambda pair: -pair[0])
        for value, task in ranked[:count]:
            result = measure_sample(task.sample, task.prediction, task.settings)
            if len(result.mesh.faces) == 0:
                continue  # a scan that is a point cloud has no surface to draw
            colours = vertex_colours(result.mesh_errors_mm, HEAT_LIMIT_MM)
            picture = draw(result.mesh, colours, result.front, result.up)
            bar = colour_bar(HEAT_LIMIT_MM, picture.shape[1])
            folder = task.folder / "heat_maps"
            folder.mkdir(exist_ok=True)
            paths.append(folder / f"{task.stem}.png")
            with atomic_path(paths[-1]) as temporary:
                Image.fromarray(np.concatenate([picture, bar])).save(temporary)
            write_ply(folder / f"{task.stem}.ply", result.mesh.vertices, result.mesh.faces, colours)
            tiles.append(np.concatenate([picture, bar]))
            captions.append(f"{value:.2f} mm  {method}: {task.sample.name}")
    if tiles:
        paths.append(out / "worst.png")
        with atomic_path(paths[-1]) as temporary:
            Image.fromarray(grid(tiles, captions, columns=min(count, 6))).save(temporary)
    return paths
