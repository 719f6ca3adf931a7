"""Tables of the protocol ``surface``: distances under both alignments, ratios of size and distance, differences."""

from __future__ import annotations

import numpy as np

from n2f_jax.benchmark.methods import MEAN
from n2f_jax.benchmark.tables import Figures, interval

REGIONS = ("eyes", "nose", "mouth", "ears")


def format_surface_tables(figures: Figures, reference: str = MEAN, paired_only: bool = False) -> str:
    """A table for each condition, as Markdown.

    Intervals are 95 % (``tables.interval``); differences are taken head by head. A method whose face is further from
    the truth than the reference's, by more than chance, says so.

    Args:
        figures: of ``tables.measure``.
        reference: the method that others are compared with.
        paired_only: only heads that every method did.
    """
    lines: list[str] = []
    for condition, methods in figures.items():
        if not methods:
            continue
        done = {name: np.isfinite(one["face/metric_mm"]) for name, one in methods.items()}
        keep = (
            np.all(list(done.values()), axis=0)
            if paired_only
            else np.ones(len(next(iter(done.values()))), bool)
        )
        heads = max(int((values & keep).sum()) for values in done.values())
        lines += [
            "",
            f"**{condition}**, {heads} heads" + (" that every method did" if paired_only else ""),
            "",
            f"| | face, metric | less {reference} | face, scaled | less {reference} | "
            + " | ".join(f"{region}, metric / scaled" for region in REGIONS)
            + " | normals, ° | size | distance |",
            "|---" * (8 + len(REGIONS)) + "|",
        ]
        base = methods.get(reference)
        for name, one in methods.items():
            count = int((done[name] & keep).sum())
            cells = [name if count == heads else f"{name} ({count} heads)"]
            for kind in ("metric", "scaled"):
                values = one[f"face/{kind}_mm"][keep]
                cells.append("{:.2f} [{:.2f}, {:.2f}]".format(*interval(values)))
                if base is None or one is base:
                    cells.append("")
                    continue
                mean, low, high = interval(values - base[f"face/{kind}_mm"][keep])
                verdict = " **worse**" if low > 0 else ""
                cells.append(f"{mean:+.2f} [{low:+.2f}, {high:+.2f}]{verdict}")
            for region in REGIONS:
                both = [_mean(one.get(f"{region}/{kind}_mm"), keep) for kind in ("metric", "scaled")]
                cells.append(" / ".join("—" if np.isnan(x) else f"{x:.2f}" for x in both))
            cells.append(f"{_mean(one['face/metric_deg'], keep):.1f}")
            for ratio in ("size_ratio", "distance_ratio"):
                values = one.get(ratio, np.zeros(0))
                values = values[keep][np.isfinite(values[keep])] if len(values) else values
                cells.append(f"{values.mean():.3f} ± {values.std():.3f}" if len(values) else "—")
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines[1:])


def _mean(values: np.ndarray | None, keep: np.ndarray) -> float:
    if values is None:
        return float("nan")
    values = values[keep][np.isfinite(values[keep])]
    return float(values.mean()) if len(values) else float("nan")
