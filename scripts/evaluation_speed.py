"""How fast the evaluator measures, and how fast the reconstruction pipeline runs.

    python scripts/evaluation_speed.py scans [--vertices 50000] [--scans 8] [--images 1]
    python scripts/evaluation_speed.py pipeline [PHOTO …] [--repeat 10]

``scans``: synthetic scans of random heads (0.1 mm noise) as .obj files with NoW's landmark files, measured on one core
under the NoW protocol by the code of scripts/evaluate.py: reading, cleaning, cropping, aligning, distances and records.
``--images`` predictions share a scan, as in NoW's dataset (about 17).

``pipeline``: FPS as the paper has it, images per second of the whole pipeline, warm, one at a time: reading the photo,
front end, network with decoding and pose, with each stage's share. Default photograph: scikit-image's astronaut.
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # from a clone, uninstalled


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    commands = parser.add_subparsers(dest="command", required=True)
    scans = commands.add_parser("scans")
    scans.add_argument("--vertices", type=int, default=50_000, help="of each scan; default: %(default)s")
    scans.add_argument("--scans", type=int, default=8, help="default: %(default)s")
    scans.add_argument("--images", type=int, default=1, help="predictions of each scan; default: %(default)s")
    scans.add_argument("--protocol", default="now", choices=("now", "now-metric", "paper"))
    pipeline = commands.add_parser("pipeline")
    pipeline.add_argument("photos", nargs="*", type=Path, metavar="PHOTO")
    pipeline.add_argument(
        "--repeat", type=int, default=10, help="passes over the photos; default: %(default)s"
    )
    pipeline.add_argument("--json", type=Path, help="also write the figures here")
    flags = parser.parse_args()

    if flags.command == "scans":
        # One core, and libraries that know it; they read this as they are imported.
        for name in ("IGL_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
            os.environ[name] = "1"
    from n2f_jax.evaluation import speed

    try:
        if flags.command == "scans":
            if hasattr(os, "sched_setaffinity"):
                os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
            with tempfile.TemporaryDirectory() as folder:
                figures = speed.measure_scans(
                    Path(folder), flags.scans, flags.images, flags.vertices, flags.protocol
                )
            print(speed.format_scans(figures))
        else:
            figures = speed.measure_pipeline(flags.photos or None, flags.repeat)
            print(speed.format_pipeline(figures))
            if flags.json:
                flags.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    except (ValueError, OSError, ImportError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
