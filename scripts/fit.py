"""Fits heads to normal maps, masks and landmarks by damped Gauss–Newton steps.

    python scripts/fit.py --compare --out DIR

Compares, on held-out synthetic heads (clean, blurred and noisy, occluded), the network alone, Gauss–Newton and the
Pixel3DMM-style Adam, each from the network's answer and from the mean head: DIR/comparison.json (the same command goes on
where it stopped), DIR/comparison.md and DIR/comparison.png, error against time.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # from a clone, uninstalled


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--compare", action="store_true", help="measure the methods side by side")
    parser.add_argument("--out", type=Path, metavar="DIR", help="of the comparison; made if needed")
    parser.add_argument("--checkpoint", type=Path, metavar="DIR", help="default: the one that ships")
    parser.add_argument("--head-model", type=Path, metavar="NPZ", help="default: the open head that ships")
    parser.add_argument("--heads", type=int, default=200, help="of each condition; default: %(default)s")
    parser.add_argument("--adam-heads", type=int, default=24, help="of these by Adam; default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="of the held-out heads")
    flags = parser.parse_args()
    if not flags.compare or flags.out is None:
        parser.error("--compare needs --out")
    if not 0 < flags.adam_heads <= flags.heads:
        parser.error("Adam does at least one of the heads and at most all")

    import flame_jax
    from n2f_jax import compilation_cache
    from n2f_jax.fitting.comparison import (
        ComparisonConfig,
        SyntheticComparison,
        draw_tradeoff,
        format_table,
    )
    from n2f_jax.models.pretrained import PretrainedError, from_pretrained
    from n2f_jax.reconstruct import DEFAULT_CHECKPOINT

    compilation_cache.enable()
    try:
        flags.out.mkdir(parents=True, exist_ok=True)
        model = (
            flame_jax.load_head_model(flags.head_model) if flags.head_model else flame_jax.load_open_head()
        )
        saved = from_pretrained(flags.checkpoint or DEFAULT_CHECKPOINT, model)
        config = ComparisonConfig(heads=flags.heads, adam_heads=flags.adam_heads, seed=flags.seed)
        results = SyntheticComparison(saved, model, config).run(flags.out / "comparison.json")
    except (OSError, ValueError, flame_jax.HeadModelError, PretrainedError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    table = format_table(results)
    print(table)
    (flags.out / "comparison.md").write_text(table + "\n", encoding="utf-8")
    draw_tradeoff(results, flags.out / "comparison.png")
    print(f"output: {flags.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
