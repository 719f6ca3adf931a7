"""Photographs to FLAME heads.

    n2f reconstruct PHOTO_OR_FOLDER … --out DIR

Folders are searched at any depth, also through links: images are what has an image's suffix, or none or an unknown
one and an image's first bytes; what is passed over is listed. HEIC needs the extra `heif`.

For each photograph: NAME.npz (parameters, camera, mesh, landmarks; the keys are listed in
n2f_jax/reconstruction/head_file.py), NAME.obj, NAME.glb, NAME_picture.png (photo, input normals, mesh over the
photo, rendered normals) and NAME_overlay.jpg (the whole photo); further faces are NAME_face2 and so on. For
the run: summary.json, a contact sheet, and a table on screen. The same command again resumes.

Exit code: 0 every photograph gave a head; 1 some did not (no face, unreadable, or the disk is full); 2 wrong
usage, or not one photograph could be read; 130 interrupted.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from n2f_jax.cli import options
from n2f_jax.cli.command import Command
from n2f_jax.runtime.display import echo


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "photos", nargs="+", metavar="PHOTO_OR_FOLDER", help="folders are searched at any depth"
    )
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="made if needed")
    parser.add_argument("--checkpoint", type=Path, metavar="DIR", help="default: the one that ships")
    options.add_head_model(
        parser,
        "the head model to answer in: FLAME, GNM Head, any in FLAME's format; file or folder (docs/head_models.md)",
    )
    options.add_frontend(parser)
    parser.add_argument(
        "--focal",
        type=float,
        metavar="PX",
        help="default: EXIF, else the larger of 1.2 times the longer side and what puts the largest face 1 m away",
    )
    parser.add_argument("--faces", choices=("largest", "all"), default="largest", help="of each photograph")
    parser.add_argument("--max-faces", type=int, metavar="N", help="at most the N largest of each photograph")
    parser.add_argument(
        "--align",
        choices=("network", "landmarks"),
        help="camera: the network's, or then moved onto the front end's landmarks (default)",
    )
    parser.add_argument(
        "--refine",
        type=int,
        metavar="N",
        help="at most N Gauss–Newton steps from the network's output, 0 for none; default: 2 for the face "
        "mesh's maps, 12 for others, where the network takes normals",
    )
    parser.add_argument(
        "--formats",
        default="npz,obj,glb",
        metavar="LIST",
        help="of npz, obj, glb, ply, rig (docs/rigs.md); default: %(default)s",
    )
    parser.add_argument("--no-picture", action="store_true", help="no pictures and no contact sheet")
    parser.add_argument(
        "--blendshapes", action="store_true", help="blendshapes.csv too, of all heads (docs/live.md)"
    )
    parser.add_argument("--batch-size", type=int, default=8, metavar="N", help="default: %(default)s")
    parser.add_argument("--overwrite", action="store_true", help="do finished photographs again")
    options.add_device(parser)


def run(flags: argparse.Namespace) -> int:
    options.choose_device(flags.device, flags.frontend)
    from n2f_jax.data.image_files import SkippedFiles
    from n2f_jax.preprocessing.inputs import VIDEO_SUFFIXES
    from n2f_jax.reconstruction import batch_run
    from n2f_jax.reconstruction.arkit_files import units_of, write_live_link_table
    from n2f_jax.reconstruction.head_file import load_parameters
    from n2f_jax.reconstruction.photos import find_photos
    from n2f_jax.reconstruction.reconstructor import DEFAULT_ALIGNMENT, Reconstructor
    from n2f_jax.runtime import compilation_cache
    from n2f_jax.runtime.locks import lock_folder
    from n2f_jax.runtime.output_folder import prepare_output

    compilation_cache.enable()
    default_faces = None if flags.faces == "all" else 1
    run_options = batch_run.RunOptions(
        formats=tuple(filter(None, flags.formats.split(","))),
        picture=not flags.no_picture,
        max_faces=flags.max_faces if flags.max_faces is not None else default_faces,
        focal=flags.focal,
        overwrite=flags.overwrite,
    )
    if flags.blendshapes and "npz" not in run_options.formats:
        raise ValueError("--blendshapes takes npz among --formats")
    for given in flags.photos:
        if Path(given).suffix.lower() in VIDEO_SUFFIXES and Path(given).is_file():
            raise ValueError(
                f"{given} is a video: n2f track {given} --out {flags.out} follows a person through it"
            )
    skipped = SkippedFiles()
    photos = find_photos(flags.photos, flags.out, skipped)
    if skipped.count:
        echo(skipped.text())
    if not photos:
        raise ValueError(f"no photos in {', '.join(flags.photos)}")
    prepare_output(flags.out)
    with lock_folder(flags.out):
        pass  # said before the network is loaded, if another process is writing there
    reconstructor = Reconstructor.from_pretrained(
        flags.checkpoint,
        flags.head_model,
        flags.frontend,
        options.frontend_options(flags, max_faces=run_options.max_faces),
        alignment=flags.align or DEFAULT_ALIGNMENT,
        refine=flags.refine,
        batch_size=flags.batch_size,
    )
    summary = batch_run.run(photos, flags.out, reconstructor, run_options, skipped=skipped)
    if flags.blendshapes:
        files = [flags.out / face["files"]["npz"] for entry in summary.entries for face in entry.faces]
        if files:
            units = units_of(reconstructor.head_model, flags.head_model, echo)
            write_live_link_table(
                flags.out / "blendshapes.csv", units, [load_parameters(file) for file in files]
            )
    echo(summary.table())
    echo(f"output: {flags.out}")
    return summary.exit_code


main = Command(__doc__, add_arguments, run)
