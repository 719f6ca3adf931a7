"""Measures networks and fits on the open benchmark, or on meshes, with intervals.

    python scripts/make_benchmark.py --out benchmark
    python scripts/run_benchmark.py benchmark --out results                          # the network that ships, and fits
    python scripts/run_benchmark.py benchmark --out inputs --conditions clean --fits none \\
        --network uv=runs/uv/best --network normals=runs/normals/best                # networks of your own

    python scripts/run_benchmark.py --curves --out results                           # robustness, as a plot

    python scripts/run_benchmark.py outside --group reporting --out results          # heads as meshes (--meshes)

Writes tables.md and figures.json (every head); the same command resumes. Of heads as meshes the tables are those of the
protocol "surface", from normals and from pictures through the whole way.
"""

import argparse
import sys
from pathlib import Path


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("benchmark", nargs="?", type=Path, help="of scripts/make_benchmark.py")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument(
        "--network", action="append", default=[], metavar="NAME=DIR", help="default: the one that ships"
    )
    parser.add_argument(
        "--head-model",
        metavar="FILE",
        help="of the networks, on a benchmark of meshes; default: the one that ships",
    )
    parser.add_argument("--conditions", nargs="+", metavar="NAME", help="default: all but *_unmasked")
    parser.add_argument("--fits", nargs="+", metavar="NAME", help='"none", or some of the fits; default: all')
    parser.add_argument(
        "--uv-places",
        action="store_true",
        help="also the networks with the image positions that true UV maps, inverted, give",
    )
    parser.add_argument(
        "--own-masks",
        action="store_true",
        help="also the networks with masks predicted from normals, in the conditions *_unmasked",
    )
    parser.add_argument("--heads", type=int, metavar="N", help="the first N; default: all")
    parser.add_argument(
        "--group", default="", metavar="NAME", help="of a benchmark of meshes: one subfolder's heads"
    )
    parser.add_argument("--adam-heads", type=int, default=24, metavar="N", help="default: %(default)s")
    parser.add_argument(
        "--jobs", type=int, default=2, metavar="N", help="processes that measure; default: %(default)s"
    )
    parser.add_argument(
        "--curves", action="store_true", help="error against what disturbs, instead of tables"
    )
    flags = parser.parse_args()
    if flags.curves == (flags.benchmark is not None):
        parser.error("one of: a benchmark's folder, --curves")
    if flags.curves and flags.head_model:
        parser.error("--curves are of the head model that ships")

    import flame_jax
    from n2f_jax.benchmark.files import CONDITIONS, BenchmarkError, read_settings
    from n2f_jax.benchmark.mesh_heads import MESH_CONDITIONS, PHOTOS
    from n2f_jax.benchmark.methods import FITS
    from n2f_jax.models.pretrained import DEFAULT_CHECKPOINT, from_pretrained
    from n2f_jax.runtime import compilation_cache

    try:
        of_meshes = not flags.curves and read_settings(flags.benchmark)["of_meshes"]
    except BenchmarkError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if flags.head_model and not of_meshes:
        parser.error("--head-model goes with a benchmark of meshes: the open one is of the head that ships")
    known = (*MESH_CONDITIONS, *PHOTOS) if of_meshes else tuple(CONDITIONS)
    shown = known if of_meshes else [name for name in known if CONDITIONS[name].segmented]
    conditions = flags.conditions or list(shown)
    fits = list(FITS) if flags.fits is None else [] if flags.fits == ["none"] else flags.fits
    for what, given, there in (("condition", conditions, known), ("fit", fits, FITS)):
        if unknown := set(given) - set(there):
            parser.error(f"no {what} {', '.join(sorted(unknown))}; there are {', '.join(there)}")
    compilation_cache.enable()
    try:
        own = flags.head_model
        model = flame_jax.load_open_head() if own is None else flame_jax.load_head_model(own)
        folders = dict(one.partition("=")[::2] for one in flags.network) or {"network": DEFAULT_CHECKPOINT}
        if any(not name or "/" in name or not folder for name, folder in folders.items()):
            parser.error("--network takes NAME=DIR")
        networks = {name: from_pretrained(folder, model) for name, folder in folders.items()}
        if of_meshes:
            text = _surface_tables(flags, model, networks, folders, conditions)
        else:
            text = _curves(flags, networks) if flags.curves else _tables(flags, networks, conditions, fits)
    except (OSError, ValueError, ImportError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(text)
    print(f"output: {flags.out}")
    return 0


def _tables(flags: argparse.Namespace, networks: dict, conditions: list[str], fits: list[str]) -> str:
    from n2f_jax.benchmark import tables
    from n2f_jax.benchmark.files import head_names, read_settings
    from n2f_jax.benchmark.methods import MEAN, NEAREST, OWN_MASKS, UV_PLACES
    from n2f_jax.benchmark.open_heads import write_nearest, write_predictions

    settings = read_settings(flags.benchmark)
    predictions = flags.out / "predictions"
    first = next(iter(networks))
    write_predictions(
        flags.benchmark,
        predictions,
        networks,
        conditions,
        fits=fits,
        heads=flags.heads,
        adam_heads=flags.adam_heads,
        uv_places=flags.uv_places,
        own_masks=flags.own_masks,
    )
    asked = {UV_PLACES: flags.uv_places, OWN_MASKS: flags.own_masks}
    variants = [f"{name}{kind}" for kind, wanted in asked.items() if wanted for name in networks]
    if "clean" in conditions:
        write_nearest(flags.benchmark, predictions, flags.heads)
    figures = tables.measure(
        flags.benchmark,
        predictions,
        conditions,
        [MEAN, NEAREST, *networks, *variants, *fits],
        names=head_names(settings, flags.heads),
        jobs=flags.jobs,
    )
    tables.write_figures(figures, flags.out / "figures.json")
    parts = [tables.format_tables(figures, first)]
    if any(fit.startswith("Adam") for fit in fits):
        parts.append(tables.format_tables(figures, first, paired_only=True))
    best = "Gauss-Newton from network" if "Gauss-Newton from network" in fits else first
    parts += [
        tables.format_by_setting(figures, settings["controlled"], name)
        for name in dict.fromkeys((first, best))
    ]
    parts.append(tables.format_speed(figures))
    text = "\n\n".join(parts)
    (flags.out / "tables.md").write_text(text + "\n", encoding="utf-8")
    return text


def _surface_tables(
    flags: argparse.Namespace, model, networks: dict, folders: dict, conditions: list[str]
) -> str:
    from n2f_jax.benchmark import tables
    from n2f_jax.benchmark.files import head_names, read_settings
    from n2f_jax.benchmark.mesh_heads import STEPS, write_mesh_predictions
    from n2f_jax.benchmark.methods import MEAN, NEAREST
    from n2f_jax.benchmark.surface_tables import format_surface_tables

    names = head_names(read_settings(flags.benchmark), flags.heads, flags.group)
    predictions = flags.out / "predictions"
    checkpoint = next(iter(folders.values()))
    write_mesh_predictions(
        flags.benchmark,
        predictions,
        networks,
        checkpoint,
        names,
        conditions=conditions,
        adam_heads=flags.adam_heads,
        model=model,
    )
    methods = [MEAN, *networks, *(f"Gauss-Newton from network, {count} steps" for count in STEPS)]
    methods += ["Adam from network", NEAREST]
    figures = tables.measure(flags.benchmark, predictions, conditions, methods, names=names, jobs=flags.jobs)
    tables.write_figures(figures, flags.out / "figures.json")
    text = format_surface_tables(figures)
    (flags.out / "tables.md").write_text(text + "\n", encoding="utf-8")
    return text


def _curves(flags: argparse.Namespace, networks: dict) -> str:
    from n2f_jax.benchmark.robustness import draw_curves, format_curves, measure_curves

    name, saved = next(iter(networks.items()))
    flags.out.mkdir(parents=True, exist_ok=True)
    curves = measure_curves(saved, flags.out / f"curves-{name}.json", heads=flags.heads or 40)
    draw_curves(curves, flags.out / "curves.png")
    return format_curves(curves)


if __name__ == "__main__":
    sys.exit(main())
