"""Makes a benchmark: of the open head's own kind, or of any head meshes.

    python scripts/make_benchmark.py --out benchmark                        # 90 heads, 2 minutes
    python scripts/make_benchmark.py --out outside --meshes FOLDER --unit mm    # heads that are not ours
    python scripts/run_benchmark.py benchmark --out results                 # the shipped network, fits, tables

Without --meshes: heads that no coefficients of the open head give exactly, and crops of them. With it, every mesh of
the folder (and its subfolders, which are groups) is ground truth: its frame, regions, visible skin and landmarks come
from a registration of the open head; landmarks beside it (NAME.npy, .txt, .json or .pp; 7, 51 or 68) are used, else
they are found in pictures of it. Drawn are normals, masks, landmarks, and pictures like photographs.

What each is: docs/benchmark.md. The same command resumes.
"""

import argparse
import sys
from pathlib import Path


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the benchmark goes")
    parser.add_argument(
        "--heads", type=int, default=90, help="multiples of 90 use every cell alike; default: %(default)s"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size", type=int, default=128, help="of the crops, pixels; default: %(default)s")
    parser.add_argument("--crop-scale", type=float, default=1.4, help="default: %(default)s")
    parser.add_argument("--meshes", type=Path, metavar="DIR", help="heads as meshes, instead of ours")
    parser.add_argument(
        "--unit", choices=("m", "cm", "mm"), default="m", help="of the meshes; default: %(default)s"
    )
    flags = parser.parse_args()
    if flags.heads < 1 or flags.size < 16:
        parser.error("at least one head of at least 16 pixels")

    from n2f_jax.runtime import compilation_cache

    try:
        from n2f_jax.benchmark.files import write_benchmark

        compilation_cache.enable()
        drawn = {"seed": flags.seed, "size": flags.size, "crop_scale": flags.crop_scale}
        heads, pictures = flags.heads, "sheet.png"
        if flags.meshes is None:
            write_benchmark(flags.out, heads, **drawn)
        else:
            from n2f_jax.benchmark.mesh_heads import write_mesh_benchmark

            heads = write_mesh_benchmark(flags.meshes, flags.out, unit=flags.unit, **drawn)
            pictures = "photos.jpg"
    except (OSError, ValueError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{heads} heads: {flags.out}, pictures: {flags.out / pictures}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
