"""Fetches what the free front end needs and checks it: ``python scripts/fetch_assets.py [--wheel FILE]``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # from a clone, uninstalled

from n2f_jax.frontends.assets_cache import main

if __name__ == "__main__":
    sys.exit(main())
