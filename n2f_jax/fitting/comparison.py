"""Fitting methods side by side on held-out heads and on photographs: error against time, in one run on one machine."""

from __future__ import annotations

import dataclasses
import functools
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.spatial import cKDTree
from tqdm import tqdm

import flame_jax
from flame_jax import HeadModel
from n2f_jax.data.sampler import SyntheticConfig, held_out_key, make_batch
from n2f_jax.fitting.adam import AdamConfig
from n2f_jax.fitting.fitters import Answer, Fitters, compiled_network
from n2f_jax.fitting.gauss_newton import GaussNewtonConfig
from n2f_jax.fitting.observations import Anchors, Observation
from n2f_jax.fitting.starts import mean_start
from n2f_jax.geometry.alignment import procrustes
from n2f_jax.geometry.camera import frontal_rotation, project
from n2f_jax.metrics.head_errors import vertex_errors
from n2f_jax.metrics.map_errors import mean_normal_angle
from n2f_jax.models.pretrained import Pretrained
from n2f_jax.render import render_head
from n2f_jax.runtime.atomic_files import atomic_path

METHODS = ("network", "GN from network", "GN from mean", "Adam from network", "Adam from mean")
# Degradations of what is fitted to; the landmarks' is Gaussian, σ in units of the crop's side.
CONDITIONS: dict[str, tuple[dict[str, Any], float]] = {
    "clean": ({}, 0.0),
    "blurred, noisy": (
        {
            "normal_blur": 0.02,
            "normal_noise_deg": 5.0,
            "mirror_shift": 0.004,
            "eight_bit": True,
            "mask_erosion": 0.02,
            "mask_dilation": 0.02,
        },
        0.01,
    ),
    "occluded": (
        {
            "normal_blur": 0.008,
            "normal_noise_deg": 3.0,
            "eight_bit": True,
            "occluder_share": 0.5,
            "bar_share": 0.3,
            "hair_share": 0.5,
            "lower_face_share": 0.2,
        },
        0.01,
    ),
}
FIGURES = ("cd_mm", "face_mm", "normals_deg", "landmarks_percent")
# A fit from the mean counts as converged when it comes this near to the best answer that any method gave.
_CONVERGED = {"normals_deg": 1.0, "landmarks_percent": 1.0}
_MAX_YAW = 30.0
_BATCH = 8


@dataclasses.dataclass(frozen=True)
class ComparisonConfig:
    """How much to measure.

    Attributes:
        heads: held-out heads of each condition.
        adam_heads: the first so many are also fitted by Adam.
        timed_adam: so many are timed one by one; every other method is always run one by one.
        seed: of the held-out set.
        gauss_newton, adam: how to fit.
    """

    heads: int = 200
    adam_heads: int = 24
    timed_adam: int = 2
    seed: int = 0
    gauss_newton: GaussNewtonConfig = dataclasses.field(default_factory=GaussNewtonConfig)
    adam: AdamConfig = dataclasses.field(default_factory=AdamConfig)


class SyntheticComparison:
    """The methods on held-out synthetic heads.

    Args:
        saved: the network; the maps have its size.
        model: its head model.
        config: how much.
    """

    def __init__(self, saved: Pretrained, model: HeadModel, config: ComparisonConfig):
        self.model, self.config, self._network_config = model, config, saved.config
        self.fitters = Fitters(model, Anchors.landmarks68(model), config.gauss_newton, config.adam)
        self.topology = self.fitters.tables.topology
        self.size = saved.inputs.size
        self._sampler = SyntheticConfig(
            image_size=self.size, crop_scale=saved.inputs.crop_scale, normal_frame="head"
        )
        self._scene = jax.jit(self._make_scene, static_argnames="condition")
        self._forward = compiled_network(saved)
        self._errors = jax.jit(functools.partial(_errors, size=self.size))

    def _make_scene(self, model, topology, index, condition):
        """Head number ``index``: what was drawn, what is seen of it."""
        degradation, noise = CONDITIONS[condition]
        key = held_out_key(self.config.seed, 0)
        sampler = dataclasses.replace(self._sampler, **degradation)
        batch = make_batch(key, model, topology, sampler, 1, targets=True, indices=index[None])
        shift = jax.random.normal(jax.random.fold_in(jax.random.fold_in(key, 1), index), (1, 68, 2))
        points = batch["landmarks_2d"] + noise * self.size * shift
        return batch, Observation(batch["normals"], batch["mask"], points)

    def scene(self, condition: str, index: int) -> tuple[dict, Observation]:
        return self._scene(self.model, self.topology, jnp.asarray(index), condition=condition)

    def network(self, batch, seen) -> Answer:
        camera = batch["camera"]
        return self._forward(seen.normals, seen.mask, camera.focal, camera.principal_point)

    def mean(self, batch) -> Answer:
        camera = batch["camera"]
        return mean_start(self.model, camera.focal, camera.principal_point, self._network_config)

    def errors(self, batch, answer) -> list[dict[str, float]]:
        """Of every head of a batch."""
        figures, aligned, truth = jax.device_get(self._errors(self.model, self.topology, batch, *answer))
        face = np.asarray(self.model.masks["face"])
        distances = [
            1000.0 * cKDTree(a).query(t[face])[0].mean() for a, t in zip(aligned, truth, strict=True)
        ]
        figures["cd_mm"] = np.asarray(distances)
        return [{name: float(value[i]) for name, value in figures.items()} for i in range(len(distances))]

    def run(self, path: str | Path, progress: bool = True) -> dict[str, Any]:
        """Measures what ``path`` does not hold yet, and writes it there as it goes."""
        path = Path(path)
        wanted = json.loads(json.dumps(dataclasses.asdict(self.config)))
        results = json.loads(path.read_text()) if path.exists() else {"config": wanted, "heads": {}}
        if results["config"] != wanted:
            raise ValueError(f"{path} holds results of other settings: remove it, or name another file")
        heads = results["heads"]
        for condition in CONDITIONS:
            heads.setdefault(condition, [])
        # What Adam does too comes first: a run that is cut short has compared something.
        counts = (min(self.config.adam_heads, self.config.heads), self.config.heads)
        for count, what in zip(counts, ("first heads", "heads"), strict=True):
            todo = [(c, i) for c in CONDITIONS for i in range(len(heads[c]), count)]
            for number, (condition, index) in enumerate(tqdm(todo, desc=what, disable=not progress)):
                heads[condition].append(self._one_by_one(condition, index))
                if number % 10 == 9:
                    _write(path, results)
            _write(path, results)
            if what == "first heads":
                self._adam_in_batches(heads, lambda: _write(path, results), progress)
        return results

    def _one_by_one(self, condition: str, index: int) -> dict[str, Any]:
        batch, seen = self.scene(condition, index)
        mean = self.mean(batch)
        warm = index > 0
        answers, seconds = {}, {}

        def timed(method, call: Callable[[], Any]):
            if not warm:  # compiles, or fetches what an earlier run compiled
                jax.block_until_ready(call())
            begin = time.perf_counter()
            answers[method] = jax.block_until_ready(call())
            seconds[method] = time.perf_counter() - begin

        jax.block_until_ready((seen, mean))
        timed("network", lambda: self.network(batch, seen))
        timed("GN from network", lambda: self.fitters.gauss_newton(seen, answers["network"]))
        timed("GN from mean", lambda: self.fitters.gauss_newton(seen, mean))
        if condition == next(iter(CONDITIONS)) and index < self.config.timed_adam:
            timed("Adam from network", lambda: self.fitters.adam(seen, answers["network"]))
        rotation = np.asarray(frontal_rotation(batch["camera"].rotation))[0]
        row = {"yaw": float(np.degrees(np.arcsin(np.clip(rotation[0, 2], -1, 1)))), "seconds": seconds}
        row["errors"] = {method: self.errors(batch, answer)[0] for method, answer in answers.items()}
        row["errors"]["mean head"] = self.errors(batch, mean)[0]
        return row

    def _adam_in_batches(self, heads, save, progress):
        """A batch of each condition in turn."""
        todo = []
        for first in range(0, self.config.adam_heads, _BATCH):
            for condition, rows in heads.items():
                indices = range(first, min(first + _BATCH, self.config.adam_heads))
                missing = [i for i in indices if "Adam from mean" not in rows[i]["errors"]]
                todo += [(condition, missing)] if missing else []
        for condition, indices in tqdm(todo, desc="Adam", unit="batch", disable=not progress):
            # One program: a batch that is not full repeats its first head.
            padded = [*indices, *[indices[0]] * (_BATCH - len(indices))]
            scenes = [self.scene(condition, i) for i in padded]
            batch, seen = jax.tree.map(lambda *x: jnp.concatenate(x), *scenes)
            for method, start in (
                ("Adam from network", self.network(batch, seen)),
                ("Adam from mean", self.mean(batch)),
            ):
                answer = self.fitters.adam(seen, start)
                for index, errors in zip(indices, self.errors(batch, answer), strict=False):
                    heads[condition][index]["errors"][method] = errors
            save()


def _errors(model, topology, batch, params, camera, *, size):
    """Figures of each head, the answer's vertices aligned rigidly on the face, and the truth's."""
    answer, _ = flame_jax.decode(model, params)
    truth, _ = flame_jax.decode(model, batch["params"])
    face = model.masks["face"]
    aligned = procrustes(answer[:, face], truth[:, face]).apply(answer)
    landmarks = project(flame_jax.landmarks68(model, answer), camera)
    off = jnp.linalg.norm(landmarks - batch["landmarks_2d"], axis=-1)
    maps = render_head(topology, answer, camera, size)
    seen = batch["target_normals"], batch["target_mask"]
    figures = {
        "face_mm": vertex_errors(model, answer, truth)["face"],
        "normals_deg": mean_normal_angle(maps.normals, maps.mask, *seen, if_apart=0.0),
        "landmarks_percent": 100.0 / size * off.mean(axis=-1),
    }
    return figures, aligned, truth


def _write(path: Path, results: Mapping[str, Any]) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(results), encoding="utf-8")


def summarize(results: Mapping[str, Any]) -> dict[str, dict[str, dict[str, Any]]]:
    """condition → method → figures: ``(mean, standard error, n)`` of each error, over all heads and over those that
    Adam did; for Gauss–Newton from the mean the share that converged among heads within ±30° of yaw."""
    summary: dict[str, dict[str, dict[str, Any]]] = {}
    for condition, rows in results["heads"].items():
        paired = [row for row in rows if "Adam from mean" in row["errors"]]
        summary[condition] = {}
        for method in ("mean head", *METHODS):
            row_sets = {"all": rows, "paired": paired}
            figures: dict[str, Any] = {}
            for name, subset in row_sets.items():
                have = [row["errors"][method] for row in subset if method in row["errors"]]
                if len(have) == len(subset) and have:
                    figures[name] = {key: _statistics([one[key] for one in have]) for key in FIGURES}
            figures["converged"] = _converged_share(rows, method)
            summary[condition][method] = figures
    return summary


def _statistics(values: Sequence[float]) -> tuple[float, float, int]:
    values = np.asarray(values)
    error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else float("nan")
    return float(values.mean()), float(error), len(values)


def _converged_share(rows, method) -> tuple[int, int]:
    """Of the heads within ±30° of yaw: how many came near the best answer, and how many there are."""
    converged, count = 0, 0
    for row in rows:
        if abs(row["yaw"]) > _MAX_YAW or method not in row["errors"]:
            continue
        count += 1
        converged += all(
            row["errors"][method][key] <= min(one[key] for one in row["errors"].values()) + margin
            for key, margin in _CONVERGED.items()
        )
    return converged, count


def seconds_of(results: Mapping[str, Any]) -> dict[str, tuple[float, float, float, int]]:
    """Median, quartiles and number of the seconds a head of each method, one head at a time."""
    times: dict[str, list[float]] = {}
    for rows in results["heads"].values():
        for row in rows:
            for method, seconds in row["seconds"].items():
                times.setdefault(method, []).append(seconds)
    return {
        method: (*(float(q) for q in np.percentile(values, [50, 25, 75])), len(values))
        for method, values in times.items()
    }


def format_table(results: Mapping[str, Any]) -> str:
    """What ``scripts/fit.py compare`` prints, as Markdown."""
    lines = []
    for condition, methods in summarize(results).items():
        for name in ("paired", "all"):
            have = {method: one[name] for method, one in methods.items() if name in one}
            if not have:
                continue
            count = next(iter(have.values()))["cd_mm"][2]
            lines += [
                "",
                f"**{condition}**, {count} heads" + (" that Adam did too" if name == "paired" else ""),
                "",
                "| | CD, mm | face, mm | normals, ° | landmarks, % | converged, yaw within ±30° |",
                "|---|---|---|---|---|---|",
            ]
            for method, figures in have.items():
                cells = [f"{figures[key][0]:.3f} ± {figures[key][1]:.3f}" for key in FIGURES]
                done, of = methods[method]["converged"]
                lines.append(f"| {method} | {' | '.join(cells)} | {done} of {of} |")
    lines += ["", "| seconds a head, one at a time | median | quartiles | heads |", "|---|---|---|---|"]
    for method, (median, low, high, count) in seconds_of(results).items():
        lines.append(f"| {method} | {median:.3f} | {low:.3f} … {high:.3f} | {count} |")
    return "\n".join(lines[1:])


def draw_tradeoff(results: Mapping[str, Any], path: str | Path) -> None:
    """Error against time, a panel a condition (needs Matplotlib)."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    seconds = {method: values[0] for method, values in seconds_of(results).items()}
    seconds.setdefault("Adam from mean", seconds.get("Adam from network", float("nan")))
    summary = summarize(results)
    figure, axes = plt.subplots(2, len(summary), figsize=(4 * len(summary), 6), sharex=True, sharey="row")
    colors = dict(zip(METHODS, ("#444444", "#c0392b", "#e08e0b", "#2962a3", "#6aa5d8"), strict=True))
    for column, (condition, methods) in enumerate(summary.items()):
        for row, (key, label) in enumerate((("cd_mm", "CD, mm"), ("normals_deg", "normals, °"))):
            axis = axes[row, column]
            for method in METHODS:
                if "paired" not in methods[method]:
                    continue
                mean, error, _ = methods[method]["paired"][key]
                axis.errorbar(
                    seconds[method], mean, error, fmt="o", capsize=3, color=colors[method], label=method
                )
            axis.set_xscale("log")
            axis.grid(alpha=0.3)
            if row == 0:
                axis.set_title(condition)
            else:
                axis.set_xlabel("seconds a head")
            if column == 0:
                axis.set_ylabel(label)
    for row in axes:
        row[0].set_ylim(bottom=0)  # when all panels, which share it, are drawn
    axes[0, -1].legend(fontsize=8)
    figure.tight_layout()
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)
    plt.close(figure)
