"""Photographs to FLAME heads (``n2f reconstruct``): ``python scripts/reconstruct.py PHOTO_OR_FOLDER … --out DIR``."""

import sys

from n2f_jax.cli.reconstruct import main

if __name__ == "__main__":
    sys.exit(main())
