"""Pseudo ground truth for a preprocessed folder, by Gauss–Newton (``n2f fit``)."""

import sys

from n2f_jax.cli.fit import main

if __name__ == "__main__":
    sys.exit(main())
