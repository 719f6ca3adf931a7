"""Photographs and videos through a front end onto the disk (``n2f preprocess``)."""

import sys

from n2f_jax.cli.preprocess import main

if __name__ == "__main__":
    sys.exit(main())
