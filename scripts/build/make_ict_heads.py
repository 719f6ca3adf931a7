"""Writes the outside set: 100 random heads of the ICT Face Model Light as meshes, half to choose by, half to report on.

    git clone https://github.com/ICT-VGL/ICT-FaceKit
    python scripts/build/make_ict_heads.py --model ICT-FaceKit/FaceXModel --out ict_heads
    python scripts/make_benchmark.py --meshes ict_heads --out outside

The model (USC ICT, MIT License) is not ours to ship, and no part of it is. --model also takes an .npz of its arrays
(n2f_jax.benchmark.ict_facekit.load_ict_facekit). Landmarks beside the meshes are the corners of eyes and
mouth and the middles of the lips: the model's others are marked in other places than ours.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np

SEED = 20261126
HEADS = 100
# Settings are chosen by the first half alone; figures are reported of the second.
GROUPS = ("choosing", "reporting")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--model", type=Path, required=True, metavar="PATH", help="FaceXModel, or an .npz")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="made if needed")
    parser.add_argument("--heads", type=int, default=HEADS, metavar="N", help="default: %(default)s")
    parser.add_argument(
        "--modes",
        choices=("all", "even", "odd"),
        default="all",
        help="identity modes that heads are drawn of: odd ones for a head model whose statistics are of the even ones "
        "(build_open_head.py --scan-modes even); default: %(default)s",
    )
    flags = parser.parse_args()

    from n2f_jax.benchmark.ict_facekit import MARKED_ALIKE, MODES, draw_head, load_ict_facekit
    from n2f_jax.mesh.writing import write_ply
    from n2f_jax.runtime.atomic_files import atomic_path, write_text

    try:
        model = load_ict_facekit(flags.model)
        expressions = {}
        for number in range(flags.heads):
            group = GROUPS[number >= HEADS // 2]
            folder = flags.out / group
            folder.mkdir(parents=True, exist_ok=True)
            head, expressions[f"{group}/person{number:03d}"] = draw_head(
                model, number, SEED, MODES[flags.modes]
            )
            landmarks = np.full((68, 3), np.nan)
            landmarks[list(MARKED_ALIKE)] = head.vertices[model.landmarks_68[list(MARKED_ALIKE)]]
            write_ply(folder / f"person{number:03d}.ply", head.vertices, head.faces)
            with atomic_path(folder / f"person{number:03d}.npy") as temporary:
                np.save(temporary, landmarks)
        write_text(flags.out / "expressions.txt", json.dumps(expressions, indent=1) + "\n")
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{flags.heads} heads: {flags.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
