"""Makes small sets to try fine-tuning on, free of licences: heads with exact parameters, photographs with landmarks.

    python scripts/build/make_finetune_data.py --out finetune_data [--num-renders 512] [--size 128]

    OUT/renders          preprocessed: sampled open heads as the free front end sees them, each with its parameters as
                         pseudo ground truth; stands in for CelebA-HQ (stage 1)
    OUT/photos           two portraits in the public domain, varied, with the front end's landmarks as .pts files
    OUT/photos_faces     the same, preprocessed; with OUT/photos it stands in for 300W (stage 2)

The same command again resumes. Exit code 0; 2 where something is missing.
"""

import argparse
import sys
from pathlib import Path

from n2f_jax.cli.command import Command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder to fill; made if needed"
    )
    parser.add_argument("--num-renders", type=int, default=512, help="sampled heads; default: %(default)s")
    parser.add_argument(
        "--size", type=int, default=128, help="side of the network's input; default: %(default)s"
    )
    parser.add_argument("--crop-scale", type=float, default=1.4, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="of the sampled heads")


def run(flags: argparse.Namespace) -> int:
    from n2f_jax.data.manifest import count_statuses
    from n2f_jax.frontends.registry import FrontendOptions
    from n2f_jax.preprocessing import run as preprocessing
    from n2f_jax.preprocessing.inputs import parse_inputs
    from n2f_jax.preprocessing.open_sets import write_photo_set, write_rendered_set
    from n2f_jax.preprocessing.settings import Settings
    from n2f_jax.runtime import compilation_cache

    compilation_cache.enable()
    if flags.num_renders < 1 or flags.size < 8:
        raise ValueError("at least one render of at least 8 pixels")
    out, size, crop_scale = flags.out, flags.size, flags.crop_scale
    options = FrontendOptions(size=size, crop_scale=crop_scale, max_faces=1)
    write_rendered_set(out / "renders", flags.num_renders, size, crop_scale=crop_scale, seed=flags.seed)
    photos = write_photo_set(out / "photos", size, crop_scale)
    preprocessing.run(parse_inputs([str(photos)]), out / "photos_faces", Settings(options=options))
    for name in ("renders", "photos_faces"):
        print(f"{out / name}: {count_statuses(out / name)['faces']} faces")
    return 0


main = Command(__doc__, add_arguments, run)

if __name__ == "__main__":
    sys.exit(main())
