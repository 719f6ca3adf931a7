"""The dimensions of a head model's heads beside those of people, as surveys took them by caliper and tape.

python scripts/benchmarks/anthropometry.py [--heads 10000] [--seed 0] [--picture points.jpg]

Prints a Markdown table: mean ± standard deviation of heads drawn at the sampler's spread, and of people (those of
n2f_jax/evaluation/surveys.py). n2f_jax/evaluation/anthropometry.py describes the points that are measured between.
"""

import argparse
import sys
from pathlib import Path


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--heads", type=int, default=10_000, help="how many are drawn; default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="of the draw; default: %(default)s")
    parser.add_argument("--beta-std", type=float, help="of the shape coefficients; default: the sampler's")
    parser.add_argument("--head-model", metavar="FILE", help="FLAME, or an .npz; default: the open head")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="also draw the points here (.jpg, .png)")
    flags = parser.parse_args()

    import flame_jax
    from n2f_jax.evaluation.anthropometry_sheet import anthropometry_sheet
    from n2f_jax.evaluation.anthropometry_table import compare_with_surveys, format_table

    try:
        model = (
            flame_jax.load_head_model(flags.head_model) if flags.head_model else flame_jax.load_open_head()
        )
        beta_std = model.shape_std if flags.beta_std is None else flags.beta_std
        rows = compare_with_surveys(model, flags.heads, flags.seed, beta_std)
        print(f"{flags.heads} heads of {model.name}, shape N(0, {beta_std:g}²), seed {flags.seed}\n")
        print(format_table(rows))
        if flags.picture:
            from PIL import Image

            Image.fromarray(anthropometry_sheet(model)).save(flags.picture, quality=85)
    except (flame_jax.HeadModelError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
