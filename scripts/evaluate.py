"""Measures reconstructions of any method against ground truth (``n2f evaluate``)."""

import sys

from n2f_jax.cli.evaluate import main

if __name__ == "__main__":
    sys.exit(main())
