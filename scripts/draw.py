"""Pages that show inputs, samples, models and meshes (``n2f draw``): ``python scripts/draw.py samples --config …``."""

import sys

from n2f_jax.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["draw", *sys.argv[1:]]))
