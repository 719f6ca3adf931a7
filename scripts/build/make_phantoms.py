"""Writes made-up ground truth to try scripts/evaluate.py on: scans of random heads, and predictions of known quality.

    python scripts/build/make_phantoms.py --out phantoms
    python scripts/evaluate.py --predictions phantoms/predictions/* --ground-truth phantoms --protocol paper \\
        --out results

The folder is laid out like the NoW dataset. Predictions: exact (the head that was scanned), near (0.7 of its shape
coefficients), mean (the mean head).
"""

import argparse
import sys
from pathlib import Path


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--scans", type=int, default=10, help="default: %(default)s")
    parser.add_argument("--vertices", type=int, default=50_000, help="of each scan; default: %(default)s")
    parser.add_argument("--seed", type=int, default=0)
    flags = parser.parse_args()
    if flags.out.exists() and any(flags.out.iterdir()):
        print(f"error: {flags.out} is not empty", file=sys.stderr)
        return 2
    from n2f_jax.evaluation.phantoms import METHODS, write_now_dataset

    folders = write_now_dataset(flags.out, flags.scans, 1, flags.vertices, flags.seed, tuple(METHODS))
    print(f"{flags.scans} scans and predictions of {', '.join(folders)}: {flags.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
