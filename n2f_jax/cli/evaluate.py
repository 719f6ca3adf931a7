"""Measures reconstructions of any method against ground truth.

    n2f evaluate --predictions [NAME=]DIR … --ground-truth DIR --protocol paper --out DIR

Predictions: the .npz of n2f reconstruct, .npz of FLAME coefficients, or any meshes with landmarks beside them.
Ground truth: meshes or scans with landmarks beside them, or the folders of the NoW and Multiface datasets; annotated
photographs for 300w. docs/evaluation.md defines the protocols and shows the folders.

Writes under --out: summary.json, summary.csv, samples.csv, curves.png, worst.png, and for every method a record and the
errors of every sample and heat maps of the worst. The same command again resumes.

Exit code: 0 every sample was measured; 1 some were not (missing or unusable, listed at the end); 2 wrong usage, or not
one sample was measured; 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from n2f_jax.cli.command import Command
from n2f_jax.runtime.display import echo
from n2f_jax.runtime.threads import use_one_thread


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--predictions",
        nargs="+",
        metavar="[NAME=]DIR",
        help="one or more methods; default name: the folder's",
    )
    parser.add_argument("--ground-truth", required=True, type=Path, metavar="DIR")
    parser.add_argument(
        "--protocol",
        required=True,
        choices=("surface", "paper", "now", "now-metric", "facescape", "300w"),
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="made if needed")
    parser.add_argument(
        "--layout",
        default="auto",
        choices=("auto", "plain", "now", "multiface", "300w"),
        help="of the ground truth",
    )
    parser.add_argument(
        "--truth-unit",
        default="auto",
        choices=("auto", "m", "cm", "mm", "pupil"),
        help="auto: from the distance of the outer eye corners, and reported; pupil: FaceScape's",
    )
    parser.add_argument(
        "--prediction-unit",
        default="auto",
        choices=("auto", "m", "cm", "mm"),
        help="auto: .npz are in metres; of meshes it must be named, unless the protocol (now) finds the scale",
    )
    parser.add_argument("--head-model", metavar="FILE", help="default: the open head that ships")
    parser.add_argument("--regions", metavar="FILE", help="vertex indices by region, for a fixed topology")
    parser.add_argument(
        "--landmark-vertices",
        type=Path,
        metavar="FILE",
        help="the predictions' landmarks, for a fixed topology",
    )
    parser.add_argument(
        "--whole-mesh",
        action="store_true",
        help="measure against mouth cavity, teeth and eyeballs of the head model's topology too, as NoW's code does",
    )
    parser.add_argument("--multiface-frames", type=int, default=1, metavar="N", help="of each segment")
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, metavar="N", help="processes; default: all cores"
    )
    parser.add_argument(
        "--worst", type=int, default=6, metavar="N", help="heat maps a method; default: %(default)s"
    )
    parser.add_argument("--list", action="store_true", help="only list the samples and their photographs")


def run(flags: argparse.Namespace) -> int:
    use_one_thread()  # samples run side by side, each on one core
    from n2f_jax.evaluation.run import evaluate, format_samples, named_folders

    if flags.list:
        echo(format_samples(flags.ground_truth, flags.layout, flags.protocol, flags.multiface_frames))
        return 0
    if not flags.predictions or flags.out is None:
        raise ValueError("--predictions and --out are needed")
    result = evaluate(
        named_folders(flags.predictions),
        flags.ground_truth,
        flags.out,
        protocol=flags.protocol,
        layout=flags.layout,
        truth_unit=flags.truth_unit,
        prediction_unit=flags.prediction_unit,
        head_model=flags.head_model,
        regions=flags.regions,
        landmark_vertices=flags.landmark_vertices,
        multiface_frames=flags.multiface_frames,
        whole_mesh=flags.whole_mesh,
        jobs=flags.jobs,
        worst=flags.worst,
    )
    echo(result.text)
    return result.exit_code


main = Command(__doc__, add_arguments, run)
