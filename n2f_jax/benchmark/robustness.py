"""Error against what disturbs, one thing at a time: yaw, mask, occlusion, blur, noise, focal length, crop."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray
from tqdm import tqdm

import flame_jax
from n2f_jax.benchmark.design import Scene, Setting, draw_scene, frontal
from n2f_jax.benchmark.files import DRAWN_AT_ONCE
from n2f_jax.benchmark.head import load_benchmark_head
from n2f_jax.benchmark.methods import Crops, make_methods
from n2f_jax.benchmark.tables import interval
from n2f_jax.data.degrade_mask import dilate, erode
from n2f_jax.data.degrade_normals import gaussian_blur, rotate_smoothly
from n2f_jax.data.sampler import render_beyond_the_face
from n2f_jax.metrics.head_errors import vertex_errors
from n2f_jax.models.pretrained import Pretrained
from n2f_jax.render import HeadTopology
from n2f_jax.runtime.atomic_files import atomic_path, write_text
from n2f_jax.runtime.outside_values import read_json

# Largest blur and largest step of the mask's border, in units of the crop's side.
_MOST_BLUR, _MOST_BORDER = 0.05, 0.08


@dataclasses.dataclass(frozen=True)
class Disturbance:
    """What is done to the maps of a head; each number (a traced one) does nothing at 0.

    Attributes:
        border: the mask grows (+) or shrinks (−) by this, in units of the crop's side.
        hidden: share of the face's pixels that is cut off by a straight line of random direction.
        blur: σ of a Gaussian on the normals, in units of the crop's side.
        noise: σ of the smooth rotation of the normals about each axis, degrees.
    """

    border: float = 0.0
    hidden: float = 0.0
    blur: float = 0.0
    noise: float = 0.0


@dataclasses.dataclass(frozen=True)
class Sweep:
    """One curve.

    Attributes:
        label: of the axis, with the unit.
        values: along it.
        apply: value → what is set in ``Setting`` and in ``Disturbance``.
    """

    label: str
    values: tuple[float, ...]
    apply: Callable[[float], tuple[dict[str, float], dict[str, float]]]


SWEEPS = {
    "yaw": Sweep(
        "yaw, degrees", (-75, -60, -45, -30, -15, 0, 15, 30, 45, 60, 75), lambda x: ({"yaw": x}, {})
    ),
    "pitch": Sweep("pitch, degrees", (-40, -20, 0, 20, 40), lambda x: ({"pitch": x}, {})),
    "border": Sweep(
        "mask too small (−) or too large (+), % of the crop",
        (-6, -4, -2, 0, 2, 4, 6),
        lambda x: ({}, {"border": x / 100}),
    ),
    "hidden": Sweep("face hidden, %", (0, 10, 20, 30, 40, 50, 60), lambda x: ({}, {"hidden": x / 100})),
    "blur": Sweep(
        "blur of the normals, σ in % of the crop", (0, 1, 2, 3, 4, 5), lambda x: ({}, {"blur": x / 100})
    ),
    "noise": Sweep(
        "error of the normals, σ in degrees", (0, 5, 10, 15, 20, 30), lambda x: ({}, {"noise": x})
    ),
    "focal": Sweep(
        "focal length and distance, times the usual",
        (0.4, 0.6, 0.8, 1.0, 1.5, 2.0, 4.0),
        lambda x: ({"focal": x}, {}),
    ),
    "crop": Sweep(
        "error of the crop, % of its side", (0, 5, 10, 15, 20), lambda x: ({"crop_error": x / 100}, {})
    ),
}
METHODS = ("network", "Gauss-Newton from network")


def measure_curves(
    saved: Pretrained, path: str | Path, *, heads: int = 40, seed: int = 0, progress: bool = True
) -> dict[str, Any]:
    """Face error of the network, and of Gauss–Newton from it, along every sweep; the same heads everywhere.

    Mean vertex distance of the face region (the open head's vertices on the finer truth), aligned rigidly on it.
    Landmarks, which Gauss–Newton has as well, are exact.

    Args:
        saved: a network that takes masked head-frame normals.
        path: JSON that is filled as it goes; what it holds already is not measured again.
        heads: of each point.
        seed: of the heads.
        progress: show a bar.

    Raises:
        ValueError: the network takes something else, or the file holds results of other settings.
    """
    inputs = saved.inputs
    if inputs.channels != "normals" or not inputs.masked or inputs.normal_frame != "head":
        raise ValueError("robustness is measured for networks that take masked head-frame normals")
    path = Path(path)
    settings = {"heads": heads, "seed": seed}
    curves = read_json(path) if path.exists() else {"settings": settings, "sweeps": {}}
    if not isinstance(curves, dict) or not isinstance(curves.get("sweeps"), dict):
        raise ValueError(f"{path} holds no results of robustness: remove it, or name another folder")
    if curves.get("settings") != settings:
        raise ValueError(f"{path} holds results of other settings: remove it, or name another folder")
    finer, model = load_benchmark_head(), flame_jax.load_open_head()
    topology = HeadTopology.from_model(finer)
    methods = make_methods(model, {"network": saved})
    errors = jax.jit(
        lambda model, params, truth: vertex_errors(
            model, flame_jax.decode(model, params)[0], truth[:, : model.num_vertices]
        )["face"]
    )
    todo = [
        (name, value)
        for name, sweep in SWEEPS.items()
        for value in sweep.values
        if str(value) not in curves["sweeps"].setdefault(name, {})
    ]
    for name, value in tqdm(todo, desc="curves", unit="point", disable=not progress):
        set_to, disturbed = SWEEPS[name].apply(float(value))
        found: dict[str, list[float]] = {method: [] for method in METHODS}
        setting = _setting(set_to)
        for first in range(0, heads, DRAWN_AT_ONCE):
            scene = draw_scene(
                finer,
                jnp.arange(first, first + DRAWN_AT_ONCE),
                setting,
                seed=seed,
                size=inputs.size,
                crop_scale=inputs.crop_scale,
            )
            crops = _crops(scene, topology, Disturbance(**disturbed), inputs.size)
            for method in METHODS:
                params, _ = methods[method](crops)
                found[method] += np.asarray(errors(model, params, scene.vertices)).tolist()
        curves["sweeps"][name][str(value)] = {method: each[:heads] for method, each in found.items()}
        write_text(path, json.dumps(curves))
    return curves


def _setting(values: dict[str, float]) -> Setting:
    setting = frontal(DRAWN_AT_ONCE)
    return dataclasses.replace(
        setting, **{name: jnp.full(DRAWN_AT_ONCE, value) for name, value in values.items()}
    )


def _crops(scene: Scene, topology: HeadTopology, disturbance: Disturbance, size: int) -> Crops:
    amounts = {f.name: jnp.asarray(getattr(disturbance, f.name)) for f in dataclasses.fields(disturbance)}
    normals, mask = _maps(topology, scene, amounts, size=size)
    return Crops(normals, mask, scene.landmarks_2d, scene.camera.focal, scene.camera.principal_point)


@functools.partial(jax.jit, static_argnames="size")
def _maps(
    topology: HeadTopology, scene: Scene, amounts: dict[str, Array], *, size: int
) -> tuple[Float[Array, "B S S 3"], Float[Array, "B S S"]]:
    normals, mask = render_beyond_the_face(topology, scene.vertices, scene.camera, size, "head")

    def one(key: PRNGKeyArray, normals: Array, mask: Array) -> tuple[Array, Array]:
        noise_key, line_key = jax.random.split(key)
        planes = jnp.moveaxis(normals, -1, 0)
        planes = rotate_smoothly(noise_key, planes, math.pi / 180.0 * amounts["noise"])
        blurred = gaussian_blur(planes, amounts["blur"] * size, _MOST_BLUR * size)
        planes = jnp.where(amounts["blur"] > 0.0, blurred, planes)
        normals = jnp.moveaxis(planes, 0, -1)
        most, step = round(_MOST_BORDER * size), jnp.round(amounts["border"] * size)
        there = jnp.sum(normals * normals, axis=-1) > 0.0
        grown = jnp.where(there, dilate(mask, jnp.maximum(step, 0.0), most), 0.0)
        mask = jnp.where(step < 0.0, erode(mask, jnp.maximum(-step, 0.0), most), grown)
        mask = mask * _beyond_a_line(line_key, mask, amounts["hidden"])
        return normals * mask[..., None], mask

    return jax.vmap(one)(scene.keys, normals, mask)


def _beyond_a_line(
    key: PRNGKeyArray, mask: Float[Array, "S S"], share: Float[Array, ""]
) -> Float[Array, "S S"]:
    """One where a straight line of random direction leaves the face: ``share`` of the mask's pixels lie before it."""
    angle = 2.0 * math.pi * jax.random.uniform(key)
    at = jnp.arange(mask.shape[0], dtype=jnp.float32)
    along = at[None, :] * jnp.cos(angle) + at[:, None] * jnp.sin(angle)
    border = jnp.nanquantile(jnp.where(mask > 0.5, along, jnp.nan), share)
    return jnp.where((share > 0.0) & (along < border), 0.0, 1.0)


def format_curves(curves: dict[str, Any]) -> str:
    """A table of all points, Markdown: mean of the face error in mm."""
    lines = []
    for name, sweep in SWEEPS.items():
        points = curves["sweeps"][name]
        lines += ["", f"| {sweep.label} | {' | '.join(f'{v:g}' for v in sweep.values)} |"]
        lines.append("|---" * (len(sweep.values) + 1) + "|")
        for method in METHODS:
            means = [f"{np.mean(points[str(v)][method]):.2f}" for v in sweep.values]
            lines.append(f"| {method}, mm | {' | '.join(means)} |")
    return "\n".join(lines[1:])


def draw_curves(curves: dict[str, Any], path: str | Path) -> None:
    """All sweeps as small panels, 95 % bootstrap bands (needs Matplotlib)."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    columns = 4
    rows = -(-len(SWEEPS) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(3.6 * columns, 2.9 * rows), sharey=True)
    colors = dict(zip(METHODS, ("#444444", "#c0392b"), strict=True))
    for axis, (name, sweep) in zip(axes.flat, SWEEPS.items(), strict=False):
        for method in METHODS:
            points = np.array(
                [interval(np.array(curves["sweeps"][name][str(v)][method])) for v in sweep.values]
            )
            axis.plot(sweep.values, points[:, 0], ".-", color=colors[method], label=method)
            axis.fill_between(sweep.values, points[:, 1], points[:, 2], color=colors[method], alpha=0.2, lw=0)
        axis.set_xlabel(sweep.label, fontsize=8)
        axis.grid(alpha=0.3)
        if name == "focal":
            axis.set_xscale("log")
            axis.set_xticks(sweep.values, [f"{value:g}" for value in sweep.values])
            axis.minorticks_off()
    axes.flat[0].set_ylim(bottom=0)
    for row in axes:
        row[0].set_ylabel("face error, mm")
    axes.flat[0].legend(fontsize=8)
    figure.tight_layout()
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)
    plt.close(figure)
