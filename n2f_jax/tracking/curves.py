"""A track's curves as one picture: expression, jaw, pose, lids, gaze, confidence."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from n2f_jax.geometry.camera import FRONTAL
from n2f_jax.runtime.atomic_files import atomic_path
from n2f_jax.tracking.smoothing import runs
from n2f_jax.tracking.track_file import BRIDGED, DOUBTFUL, LOST

_MOST_POINTS = 4000  # of a curve; of longer tracks every n-th frame is drawn
_EXPRESSIONS = 6


def write_curves(path: Path, track: Mapping[str, Any]) -> None:
    """Writes the picture (PNG), whole or not at all."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    every = max(1, len(track["seconds"]) // _MOST_POINTS)
    rows = np.arange(0, len(track["seconds"]), every)
    seconds, status = np.asarray(track["seconds"])[rows], np.asarray(track["status"])[rows]
    figure = Figure(figsize=(12, 12), dpi=90, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(6, 1, sharex=True)
    for axis, (name, unit, curves) in zip(axes, _curves(track, rows, status), strict=True):
        for label, values in curves.items():
            axis.plot(seconds, values, linewidth=1.0, label=label)
        for kind, color in ((LOST, "0.75"), (BRIDGED, "moccasin"), (DOUBTFUL, "mistyrose")):
            for start, end in runs(status == kind):
                axis.axvspan(
                    seconds[start], seconds[min(end, len(seconds) - 1)], color=color, linewidth=0, zorder=0
                )
        axis.set_ylabel(f"{name}{f' ({unit})' if unit else ''}")
        axis.grid(alpha=0.25)
        axis.legend(loc="upper right", ncols=len(curves), fontsize=7, framealpha=0.6)
        axis.margins(x=0.0)
        if name == "confidence":
            axis.set_ylim(0.0, 1.05)
    for cut in np.flatnonzero(np.diff(np.asarray(track["shot"])[rows])):
        for axis in axes:
            axis.axvline(seconds[cut + 1], color="0.3", linestyle=":", linewidth=1.0)
    axes[-1].set_xlabel("seconds; grey: lost, yellow: bridged, red: doubtful, dotted: cut")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png")


def _curves(track, rows, status):
    """(name, unit, label → values) of each panel."""
    there = status != LOST
    expression = np.asarray(track["expression"])[rows]
    spread = np.nanstd(expression[there], axis=0) if there.any() else np.zeros(expression.shape[1])
    most = np.argsort(-spread, kind="stable")[:_EXPRESSIONS]
    angles = np.full((len(rows), 3), np.nan)
    gaze = np.full((len(rows), 2), np.nan)
    if there.any():
        rotation = np.asarray(track["rotation"], np.float64)[rows][there]
        angles[there] = np.degrees(Rotation.from_matrix(rotation @ FRONTAL).as_euler("XYZ"))
        eyes = np.asarray(track["eyes_pose"], np.float64)[rows][there][:, 0]
        look = Rotation.from_rotvec(eyes).as_matrix()[:, :, 2]
        gaze[there] = np.degrees(
            np.stack([np.arctan2(look[:, 0], look[:, 2]), np.arcsin(np.clip(look[:, 1], -1, 1))], axis=1)
        )
    jaw = np.degrees(np.asarray(track["jaw_pose"])[rows])
    lids = np.asarray(track["eyelids"])[rows]
    return [
        ("expression", "", {f"{i}": expression[:, i] for i in most}),
        ("jaw", "°", {"open": jaw[:, 0], "sideways": jaw[:, 1]}),
        ("head", "°", {"pitch": angles[:, 0], "yaw": angles[:, 1], "roll": angles[:, 2]}),
        ("lids", "", {"left": lids[:, 0], "right": lids[:, 1]}),
        ("gaze", "°", {"to the left": gaze[:, 0], "up": gaze[:, 1]}),
        ("confidence", "", {"face": np.asarray(track["confidence"])[rows]}),
    ]
