"""A finished run as one page: curves, errors over the held-out set, the worst heads, the config."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from n2f_jax.runtime.atomic_files import atomic_path, write_text
from n2f_jax.training.metric_log import JSON_LINES, read_json_lines
from n2f_jax.training.setup import RESOLVED_CONFIG
from n2f_jax.visualization.prediction_sheet import prediction_page

REPORT, CURVES, WORST = "report.html", "curves.png", "worst.png"
# What is plotted and listed, in this order, where a run has it.
TITLES = {
    "loss": "loss",
    "face_mm": "face, mm",
    "eyes_mm": "eyes, mm",
    "nose_mm": "nose, mm",
    "mouth_mm": "mouth, mm",
    "landmarks_percent": "landmarks, % of the crop",
    "rotation_degrees": "rotation, degrees",
    "normals_degrees": "normals, degrees",
    "mask_iou": "mask, IoU",
    "shape_rms": "shape, RMS in σ",
    "expression_rms": "expression, RMS in σ",
    "jaw_degrees": "jaw, degrees",
    "eyelids_error": "eyelids, closure",
}
_PLOTTED = ("loss", "face_mm", "landmarks_percent", "rotation_degrees", "normals_degrees", "mask_iou")
_MAPS = ("inputs", "mask", "target_normals", "target_mask", "drawn_normals", "drawn_mask")


def measure_heads(
    inspect: Callable[[int], Mapping[str, Any]], num_batches: int, rank_by: str, worst: int
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], list[int]]:
    """Every held-out head's errors, and the maps of the worst; no more than one batch more is held.

    Args:
        inspect: batch index → ``training.inspection``'s entries.
        num_batches: batches of the held-out set.
        rank_by: the error that ranks them, larger is worse.
        worst: how many to keep.

    Returns:
        Name → errors of all heads; name → maps of the worst, the worst first; their numbers in the held-out set.
    """
    errors: list[Mapping[str, np.ndarray]] = []
    kept: list[tuple[float, int, dict[str, np.ndarray]]] = []
    for index in range(num_batches):
        batch = inspect(index)
        errors.append(batch["errors"])
        values = batch["errors"][rank_by]
        for i in np.argsort(-values)[:worst]:
            number = index * len(values) + int(i)
            kept.append((float(values[i]), number, {name: batch[name][i] for name in _MAPS}))
        kept = sorted(kept, key=lambda entry: -entry[0])[:worst]
    maps = {name: np.stack([entry[2][name] for entry in kept]) for name in _MAPS}
    joined = {name: np.concatenate([part[name] for part in errors]) for name in errors[0]}
    return joined, maps, [entry[1] for entry in kept]


def head_caption(number: int, errors: Mapping[str, np.ndarray], i: int) -> str:
    """Of head ``number``, whose errors stand at ``i``."""
    shown = {
        "face_mm": "face {:.2f} mm",
        "landmarks_percent": "landmarks {:.1f} %",
        "normals_degrees": "normals {:.1f}°",
        "mask_iou": "IoU {:.2f}",
    }
    texts = [text.format(float(errors[name][i])) for name, text in shown.items() if name in errors]
    return f"{number}: {', '.join(texts)}"


def heads_page(batch: Mapping[str, Any], count: int = 8) -> UInt8[np.ndarray, "H W 3"]:
    """Some heads of one batch, evenly spaced: both of the front end's, which come first, and of full renders."""
    total = len(batch["mask"])
    chosen = np.linspace(0, total - 1, min(count, total)).round().astype(int)
    captions = [head_caption(int(i), batch["errors"], int(i)) for i in chosen]
    return prediction_page(batch, chosen.tolist(), captions)


def draw_curves(lines: Sequence[Mapping[str, Any]]) -> bytes:
    """The run's curves as a PNG: the loss in training and validation, and validation's errors, against the step."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    splits = {split: [line for line in lines if line["split"] == split] for split in ("train", "validation")}
    names = [name for name in _PLOTTED if any(name in line for line in lines)]
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(4.4 * columns, 2.9 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    for place, name in enumerate(names, 1):
        axes = figure.add_subplot(rows, columns, place)
        for split, found in splits.items():
            points = [(line["step"], line[name]) for line in found if name in line]
            if points:
                axes.plot(*zip(*points, strict=True), label=split, marker="." if len(points) == 1 else None)
        if name == "loss":
            axes.set_yscale("log")
            axes.legend()
        axes.set(title=TITLES[name], xlabel="step")
        axes.grid(alpha=0.3)
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=110)
    return data.getvalue()


def write_report(
    workdir: Path,
    title: str,
    errors: Mapping[str, np.ndarray],
    worst: Mapping[str, np.ndarray],
    numbers: Sequence[int],
) -> Path:
    """Writes ``report.html`` (which holds its pictures), ``curves.png`` and ``worst.png`` into the run's folder.

    Args:
        workdir: the run's folder, with ``metrics.jsonl`` and ``config.json``.
        title: what it is a report of.
        errors: name → errors of all held-out heads, of the network that is written.
        worst: maps of the worst heads (``measure_heads``).
        numbers: their numbers in the held-out set.
    """
    at_worst = {name: values[np.asarray(numbers)] for name, values in errors.items()}
    captions = [head_caption(number, at_worst, i) for i, number in enumerate(numbers)]
    picture = io.BytesIO()
    Image.fromarray(prediction_page(worst, range(len(numbers)), captions)).save(picture, format="PNG")
    pictures = {CURVES: draw_curves(read_json_lines(workdir / JSON_LINES)), WORST: picture.getvalue()}
    for name, data in pictures.items():
        with atomic_path(workdir / name) as temporary:
            temporary.write_bytes(data)
    config = (workdir / RESOLVED_CONFIG).read_text(encoding="utf-8")
    page = _PAGE.format(
        title=html.escape(title),
        count=len(next(iter(errors.values()))),
        rows=_rows(errors),
        config=html.escape(config),
        **{name.split(".")[0]: base64.b64encode(data).decode("ascii") for name, data in pictures.items()},
    )
    path = workdir / REPORT
    write_text(path, page)
    return path


def _rows(errors: Mapping[str, np.ndarray]) -> str:
    lines = []
    for name, title in TITLES.items():
        if name in errors:
            values = errors[name].astype(np.float64)
            figures = (values.mean(), *np.quantile(values, (0.5, 0.05, 0.95)), values.min(), values.max())
            mean_head = errors.get(f"mean_head_{name}")
            last = "" if mean_head is None else f"{float(mean_head.mean()):.3f}"
            cells = "".join(f"<td>{value:.3f}</td>" for value in figures)
            lines.append(f"<tr><th>{html.escape(title)}</th>{cells}<td>{last}</td></tr>")
    return "\n".join(lines)


_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{title}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; color: #222; }}
img {{ max-width: 100%; }}
table {{ border-collapse: collapse; }}
td, th {{ padding: .2rem .8rem; text-align: right; border-bottom: 1px solid #ddd; }}
th:first-child {{ text-align: left; }}
pre {{ background: #f4f4f4; padding: 1rem; overflow-x: auto; }}
</style>
<h1>{title}</h1>
<h2>Held-out heads: {count}</h2>
<table>
<tr><th></th><th>mean</th><th>median</th><th>5 %</th><th>95 %</th><th>least</th><th>most</th><th>mean head</th></tr>
{rows}
</table>
<h2>Curves</h2>
<img alt="loss and errors against the step" src="data:image/png;base64,{curves}">
<h2>The worst</h2>
<img alt="input, true head, predicted head, error" src="data:image/png;base64,{worst}">
<h2>Config</h2>
<pre>{config}</pre>
</html>
"""
