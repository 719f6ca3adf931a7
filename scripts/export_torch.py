"""A trained network for PyTorch, and back (``n2f export torch``)."""

import sys

from n2f_jax.cli.export import torch as main

if __name__ == "__main__":
    sys.exit(main())
