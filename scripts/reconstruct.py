"""Photographs to FLAME heads.

    python scripts/reconstruct.py PHOTO_OR_FOLDER … --out DIR

For each photo: NAME.npz (parameters, camera, mesh, landmarks; the keys are listed in
n2f_jax/reconstruction/head_file.py), NAME.obj, NAME.glb, NAME_picture.png (photo, input normals, mesh over the
photo, rendered normals) and NAME_overlay.jpg (the whole photo); further faces are NAME_face2 and so on. For
the run: summary.json, a contact sheet, and a table on screen. The same command again goes on where it
stopped.

Exit code: 0 every photo gave a head; 1 some did not (no face, unreadable, or the disk is full); 2 wrong
usage, or not one photo could be read; 130 interrupted.
"""

import argparse
import os
import sys
from pathlib import Path


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument(
        "photos", nargs="+", metavar="PHOTO_OR_FOLDER", help="folders are searched at any depth"
    )
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="made if needed")
    parser.add_argument("--checkpoint", type=Path, metavar="DIR", help="default: the one that ships")
    parser.add_argument("--head-model", type=Path, metavar="NPZ", help="default: the open head that ships")
    parser.add_argument(
        "--frontend",
        choices=("face_mesh", "pixel3dmm", "precomputed"),
        default="face_mesh",
        help="what turns photos into normal maps (docs/front_ends.md); default: %(default)s, which ships",
    )
    for name, metavar, text in (
        ("pixel3dmm-normals", "CKPT", "Pixel3DMM's normals.ckpt, for --frontend pixel3dmm"),
        ("pixel3dmm-uv", "CKPT", "its uv.ckpt, for a checkpoint whose input has UV"),
        ("farl-weights", "PT", "FaRL's parser; default: where facer keeps it"),
        ("precomputed", "DIR", "what Pixel3DMM's own scripts wrote, for --frontend precomputed"),
    ):
        # Both spellings: messages of the package name the second, which other scripts take.
        spellings = dict.fromkeys([f"--{name}", f"--{name.replace('-', '_')}"])
        parser.add_argument(*spellings, type=Path, metavar=metavar, help=text)
    parser.add_argument(
        "--torch-device", metavar="NAME", help="of --frontend pixel3dmm; default: a GPU if any"
    )
    parser.add_argument(
        "--precision",
        choices=("float32", "bfloat16", "float16"),
        default="float32",
        help="of Pixel3DMM's network; default: %(default)s",
    )
    parser.add_argument(
        "--focal", type=float, metavar="PX", help="default: EXIF, else 1.2 times the longer side"
    )
    parser.add_argument("--faces", choices=("largest", "all"), default="largest", help="of each photo")
    parser.add_argument("--max-faces", type=int, metavar="N", help="at most the N largest of each photo")
    parser.add_argument(
        "--align",
        choices=("network", "landmarks"),
        help="camera: the network's, or then moved onto the front end's landmarks (default)",
    )
    parser.add_argument(
        "--refine",
        type=int,
        metavar="N",
        help="at most N Gauss–Newton steps from the network's answer, 0 for none; default: 2 for the face "
        "mesh's maps, 12 for others, where the network takes normals",
    )
    parser.add_argument(
        "--formats", default="npz,obj,glb", metavar="LIST", help="of npz, obj, glb, ply; default: %(default)s"
    )
    parser.add_argument("--no-picture", action="store_true", help="no pictures and no contact sheet")
    parser.add_argument("--batch-size", type=int, default=8, metavar="N", help="default: %(default)s")
    parser.add_argument("--overwrite", action="store_true", help="do finished photos again")
    parser.add_argument("--device", choices=("cpu", "gpu", "tpu"), help="default: the best that JAX finds")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    flags = parse(arguments)
    if flags.device:
        os.environ["JAX_PLATFORMS"] = "cuda" if flags.device == "gpu" else flags.device
    if flags.frontend == "pixel3dmm":
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # PyTorch shares the GPU
    # After the device is chosen, since importing JAX reads it; and so that --help answers at once.
    from n2f_jax import compilation_cache, many_images, photo_run
    from n2f_jax.frontends.registry import FrontendOptions
    from n2f_jax.reconstruction.reconstructor import DEFAULT_ALIGNMENT, Reconstructor
    from n2f_jax.runtime.assets_cache import AssetError

    compilation_cache.enable()
    try:
        default_faces = None if flags.faces == "all" else 1
        options = photo_run.RunOptions(
            formats=tuple(filter(None, flags.formats.split(","))),
            picture=not flags.no_picture,
            max_faces=flags.max_faces if flags.max_faces is not None else default_faces,
            focal=flags.focal,
            overwrite=flags.overwrite,
        )
        photos = photo_run.find_photos(flags.photos, flags.out)
        if not photos:
            raise ValueError(f"no photos in {', '.join(flags.photos)}")
        many_images.prepare_output(flags.out)
        reconstructor = Reconstructor.from_pretrained(
            flags.checkpoint,
            flags.head_model,
            flags.frontend,
            FrontendOptions(
                max_faces=options.max_faces,
                pixel3dmm_normals=flags.pixel3dmm_normals,
                pixel3dmm_uv=flags.pixel3dmm_uv,
                farl_weights=flags.farl_weights,
                precomputed=flags.precomputed,
                torch_device=flags.torch_device,
                precision=flags.precision,
            ),
            alignment=flags.align or DEFAULT_ALIGNMENT,
            refine=flags.refine,
            batch_size=flags.batch_size,
        )
        summary = photo_run.run(photos, flags.out, reconstructor, options)
    except (ValueError, OSError, AssetError, ImportError, many_images.OutputError) as error:
        print(f"error: {error}", file=sys.stderr)
        return many_images.EXIT_NOTHING
    print(summary.table())
    print(f"output: {flags.out}")
    return summary.exit_code


if __name__ == "__main__":
    sys.exit(main())
