"""Draws photo-like clips of heads that are not ours, with all that a tracker should find in them.

    git clone https://github.com/ICT-VGL/ICT-FaceKit
    python scripts/build/make_face_clips.py --model ICT-FaceKit/FaceXModel --out face_clips --people 8 --frames 80

People as in scripts/build/make_face_renders.py: OUT/choosing is for choosing settings, OUT/reporting for figures. What
is there stays, so the command resumes. A second a frame.
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
    parser.add_argument("--people", type=int, default=8, metavar="N", help="of a half; default: %(default)s")
    parser.add_argument(
        "--frames", type=int, default=80, metavar="N", help="at 25 a second; default: %(default)s"
    )
    parser.add_argument("--groups", nargs="+", choices=GROUPS, default=GROUPS, help="default: both")
    flags = parser.parse_args()

    from n2f_jax.benchmark.face_renders import FaceRenderer
    from n2f_jax.benchmark.ict_facekit import load_ict_facekit
    from n2f_jax.benchmark.sequences import write_sequences
    from n2f_jax.runtime import compilation_cache

    compilation_cache.enable()
    first = dict(zip(GROUPS, (0, HEADS // 2), strict=True))
    try:
        renderer = FaceRenderer(load_ict_facekit(flags.model), SEED)
        for group in flags.groups:
            people = range(first[group], first[group] + flags.people)
            write_sequences(renderer, flags.out / group, people, flags.frames)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"clips: {flags.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
