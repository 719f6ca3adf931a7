"""Trains one stage (``n2f train``): ``python scripts/train.py --config=configs/stage1.py:small --workdir=DIR``."""

import sys

from n2f_jax.cli.train import main

if __name__ == "__main__":
    sys.exit(main())
