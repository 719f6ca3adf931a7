"""Draws a head model's axes, landmarks and parameters: ``python scripts/draw_head_model.py --out sheet.jpg``.

Takes any model that ``flame_jax.load_head_model`` reads (``--head-model``); the open head without one.
"""

import argparse
import sys
from pathlib import Path


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--head-model", type=Path, help="a FLAME file or its folder")
    parser.add_argument("--out", type=Path, required=True, help="picture to write")
    flags = parser.parse_args()

    from PIL import Image

    from flame_jax import HeadModelError, load_head_model
    from n2f_jax.visualization.head_model_sheet import head_model_sheet

    try:
        model = load_head_model(flags.head_model)
    except HeadModelError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    Image.fromarray(head_model_sheet(model)).save(flags.out, quality=90)
    print(f"{model.name} → {flags.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
