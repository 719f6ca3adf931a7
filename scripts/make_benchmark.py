"""Makes the open benchmark: heads that no coefficients of the open head give exactly, and crops of them.

    python scripts/make_benchmark.py --out benchmark            # 90 heads, 2 minutes
    python scripts/run_benchmark.py benchmark --out results     # the shipped network, fits, tables

What it is: docs/benchmark.md. The same command resumes.
"""

import argparse
import sys
from pathlib import Path


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the benchmark goes")
    parser.add_argument(
        "--heads", type=int, default=90, help="multiples of 90 use every cell alike; default: %(default)s"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size", type=int, default=128, help="of the crops, pixels; default: %(default)s")
    parser.add_argument("--crop-scale", type=float, default=1.4, help="default: %(default)s")
    flags = parser.parse_args()
    if flags.heads < 1 or flags.size < 16:
        parser.error("at least one head of at least 16 pixels")

    from n2f_jax.runtime import compilation_cache

    try:
        from n2f_jax.benchmark.files import write_benchmark

        compilation_cache.enable()
        write_benchmark(flags.out, flags.heads, seed=flags.seed, size=flags.size, crop_scale=flags.crop_scale)
    except (OSError, ValueError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{flags.heads} heads: {flags.out}, pictures: {flags.out / 'sheet.png'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
