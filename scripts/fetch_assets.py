"""The free front end's networks into the cache (``n2f fetch``)."""

import sys

from n2f_jax.cli.fetch import main

if __name__ == "__main__":
    sys.exit(main())
