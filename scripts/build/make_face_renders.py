"""Draws photo-like pictures of heads that are not ours, with all that a front end should find in them.

    git clone https://github.com/ICT-VGL/ICT-FaceKit
    python scripts/build/make_face_renders.py --model ICT-FaceKit/FaceXModel --out face_renders --views 8

Of the outside set's 100 people (scripts/build/make_ict_heads.py) the first half is for choosing settings and for the
error model that ships, the second for figures: OUT/choosing and OUT/reporting. With --more further people are drawn,
for the error model alone. What is there stays, so the command resumes. A second a picture.
"""

import argparse
import sys
from pathlib import Path

from make_ict_heads import GROUPS, HEADS, SEED


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--model", type=Path, required=True, metavar="PATH", help="FaceXModel, or an .npz")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="made if needed")
    parser.add_argument(
        "--views", type=int, default=8, metavar="N", help="pictures a person; default: %(default)s"
    )
    parser.add_argument("--groups", nargs="+", choices=GROUPS, default=GROUPS, help="default: both")
    parser.add_argument(
        "--more", type=int, default=0, metavar="N", help="and N people who are in neither half: OUT/more"
    )
    flags = parser.parse_args()

    from n2f_jax.benchmark.face_renders import FaceRenderer, write_face_renders
    from n2f_jax.benchmark.ict_facekit import load_ict_facekit

    halves = dict(zip(GROUPS, (range(HEADS // 2), range(HEADS // 2, HEADS)), strict=True))
    people = {group: halves[group] for group in flags.groups} | {"more": range(HEADS, HEADS + flags.more)}
    try:
        renderer = FaceRenderer(load_ict_facekit(flags.model), SEED)
        # View by view, so that a run that was stopped has pictures of everybody.
        for view in range(flags.views):
            for group, numbers in people.items():
                if numbers:
                    write_face_renders(renderer, flags.out / group, numbers, [view])
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"pictures: {flags.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
