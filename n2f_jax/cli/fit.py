"""Fits head models: to a folder of preprocessed faces, or to meshes and scans.

    n2f fit PREPROCESSED [--steps 12] [--shard 3/16]
    n2f fit --mesh scan.obj … --out DIR [--unit mm] [--offsets]

PREPROCESSED: writes NAME.truth.npz beside every face of a folder that n2f preprocess filled, for fine-tuning stage 1:
Gauss–Newton from the network's output. The shards of one folder may run at once.

--mesh: registers the head model to each mesh by its landmarks (NAME.npy, .txt, .json or .pp beside it, else found in
pictures of it) and point-to-plane distances; holes, other topologies and cut necks do no harm. Writes NAME.npz
(coefficients, mesh, pose; keys in n2f_jax.evaluation.mesh_fit) and NAME.ply, which lies over the scan.

The same command again resumes.

Exit code: 0 every face or mesh has its file; 1 some have none, or the disk is full; 2 wrong usage, or nothing could be
done.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from n2f_jax.cli import options
from n2f_jax.cli.command import Command, shard_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", nargs="?", type=Path, metavar="PREPROCESSED")
    options.add_head_model(
        parser,
        "the head model that is fitted: FLAME, GNM Head or any in FLAME's format (docs/head_models.md)",
    )
    faces = parser.add_argument_group("preprocessed faces")
    faces.add_argument("--checkpoint", type=Path, metavar="DIR", help="default: the one that ships")
    faces.add_argument("--steps", type=int, default=12, metavar="N", help="at most; default: %(default)s")
    faces.add_argument("--shard", default="0/1", metavar="I/N", help="this process does part I of N, from 0")
    faces.add_argument("--batch-size", type=int, default=8, metavar="N", help="default: %(default)s")
    meshes = parser.add_argument_group("meshes")
    meshes.add_argument("--mesh", nargs="+", type=Path, default=[], metavar="FILE")
    meshes.add_argument("--out", type=Path, metavar="DIR", help="made if needed")
    meshes.add_argument(
        "--unit",
        default="auto",
        choices=("auto", "m", "cm", "mm", "scale"),
        help="of the meshes; auto: by the distance of the eyes; scale: not known, found with the pose",
    )
    meshes.add_argument(
        "--offsets", action="store_true", help="then move vertices off what coefficients express"
    )
    meshes.add_argument("--rest", action="store_true", help="the scans have no expression")


def run(flags: argparse.Namespace) -> int:
    if bool(flags.mesh) == (flags.folder is not None):
        raise ValueError("one of: a preprocessed folder, --mesh FILE …")
    from n2f_jax.runtime import compilation_cache
    from n2f_jax.runtime.display import echo
    from n2f_jax.runtime.output_folder import EXIT_PARTLY, OutputError

    compilation_cache.enable()
    try:
        counts = _fit_meshes(flags) if flags.mesh else _fit_faces(flags)
    except OutputError as error:
        echo(f"stopped: {error}; what is finished is kept, and the same command resumes from there")
        return EXIT_PARTLY
    print(", ".join(f"{number} {what}" for what, number in counts.items()) or "no faces")
    done = counts["written"] + counts["before"]
    if flags.mesh and not done:
        return 2
    return int(counts.total() != done)


def _fit_faces(flags: argparse.Namespace):
    shard = shard_of(flags.shard)
    from n2f_jax.preprocessing.fit_folder import fit_folder
    from n2f_jax.reconstruction.reconstructor import Reconstructor

    reconstructor = Reconstructor.from_pretrained(
        flags.checkpoint, flags.head_model, None, refine=flags.steps, batch_size=flags.batch_size
    )
    return fit_folder(flags.folder, reconstructor, shard=shard)


def _fit_meshes(flags: argparse.Namespace):
    if flags.out is None:
        raise ValueError("--mesh needs --out DIR")
    from n2f_jax.evaluation.mesh_fit import fit_meshes

    model = options.load_head_model(flags.head_model)
    return fit_meshes(flags.mesh, flags.out, model, unit=flags.unit, offsets=flags.offsets, rest=flags.rest)


main = Command(__doc__, add_arguments, run)
