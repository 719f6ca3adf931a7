"""Photographs, folders and videos through a front end onto the disk, for fitting and fine-tuning.

    n2f preprocess PHOTO_OR_FOLDER_OR_VIDEO … --out DIR
    n2f preprocess '/data/celeba/**/*.jpg' --out DIR --shard 3/16 --workers 8

Each face becomes one file, NAME.face.zip: head-frame normals, mask, landmarks, camera (docs/preprocessing.md). A
line for every image goes to DIR/manifest/. The same command again resumes; the shards of one DIR may run at once, on
any hosts. An input is called after its last folder; NAME=PATH gives it another name. In folders, images are known by
their suffix or their first bytes, and what is neither image nor video is listed at the end.

Pixel3DMM's own output: --frontend precomputed --precomputed PREPROCESSED_DATA takes its maps instead of making them,
and --tracking TRACKING_OUTPUT --head-model FLAME its heads as pseudo ground truth.

Exit code: 0 every image gave a face; 1 some did not, a video is cut off, or the disk is full; 2 wrong
usage, or not one image could be read; 130 interrupted.
"""

from __future__ import annotations

import argparse

from n2f_jax.cli import options
from n2f_jax.cli.command import Command, shard_of
from n2f_jax.runtime.display import echo


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "inputs", nargs="+", metavar="PHOTO_OR_FOLDER_OR_VIDEO", help="or a pattern in quotes"
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="folder to fill; made if needed")
    options.add_frontend(parser)
    number = {"type": int, "metavar": "N"}
    parser.add_argument(
        "--size", default=256, help="side of the network's input; default: %(default)s", **number
    )
    parser.add_argument(
        "--crop-scale",
        type=float,
        default=1.4,
        help="the network's crop over the landmarks' box; default: %(default)s",
    )
    parser.add_argument(
        "--margin",
        type=float,
        default=1.25,
        help="what is stored over the network's crop; default: %(default)s",
    )
    parser.add_argument("--max-faces", default=1, help="the largest of each image; 0 for all", **number)
    parser.add_argument(
        "--focal",
        type=float,
        metavar="PX",
        help="of all images; default: EXIF, else 1.2 times the longer side",
    )
    parser.add_argument("--frame-step", default=1, help="of a video every N-th frame", **number)
    parser.add_argument("--shard", default="0/1", metavar="I/N", help="this process does part I of N, from 0")
    parser.add_argument("--workers", default=0, help="processes; 0: in this one", **number)
    parser.add_argument("--batch-size", default=1, help="images that the front end gets at once", **number)
    parser.add_argument(
        "--tracking", metavar="DIR", help="of Pixel3DMM's tracker; needs --precomputed and --head-model"
    )
    parser.add_argument("--head-model", metavar="FILE", help="the FLAME model of --tracking (docs/flame.md)")


def run(flags: argparse.Namespace) -> int:
    for name, least in (("size", 8), ("max_faces", 0), ("frame_step", 1), ("workers", 0), ("batch_size", 1)):
        if getattr(flags, name) < least:
            raise ValueError(f"--{name.replace('_', '-')} is at least {least}, not {getattr(flags, name)}")
    shard = shard_of(flags.shard)
    if flags.tracking and not (flags.precomputed and flags.head_model):
        raise ValueError(
            "--tracking needs --precomputed (Pixel3DMM's PREPROCESSED_DATA) and --head-model (FLAME)"
        )
    import flame_jax
    from n2f_jax.data.manifest import count_statuses
    from n2f_jax.preprocessing import run as preprocessing
    from n2f_jax.preprocessing.inputs import parse_inputs, skipped_files
    from n2f_jax.preprocessing.settings import Settings
    from n2f_jax.preprocessing.tracked import write_tracked_truths
    from n2f_jax.runtime import compilation_cache

    compilation_cache.enable()
    frontend_options = options.frontend_options(
        flags, size=flags.size, crop_scale=flags.crop_scale, max_faces=flags.max_faces or None
    )
    inputs = parse_inputs(flags.inputs)
    settings = Settings(flags.frontend, frontend_options, flags.margin, flags.focal, flags.frame_step)
    summary = preprocessing.run(
        inputs,
        flags.out,
        settings,
        shard=shard,
        workers=flags.workers,
        batch_size=flags.batch_size,
    )
    if skipped := skipped_files(inputs).text():
        echo(skipped)
    echo(summary.text())
    if flags.tracking and not (summary.stopped or summary.interrupted):
        model = flame_jax.load_head_model(flags.head_model)
        tracked = write_tracked_truths(flags.out, flags.precomputed, flags.tracking, model, shard=shard)
        print("tracked heads: " + ", ".join(f"{count} {name}" for name, count in tracked.items()))
    merged = count_statuses(flags.out)
    echo(f"{flags.out}, all shards: " + ", ".join(f"{count} {name}" for name, count in merged.items()))
    return summary.exit_code


main = Command(__doc__, add_arguments, run)
