"""FLAME's own files as one clean archive (``n2f convert head-model``)."""

import sys

from n2f_jax.cli.convert import head_model as main

if __name__ == "__main__":
    sys.exit(main())
