"""``n2f draw``: pages that show inputs, samples, models and meshes as pictures."""

from __future__ import annotations

import argparse
from pathlib import Path

from n2f_jax.cli import options
from n2f_jax.cli.command import Command
from n2f_jax.cli.configs import add_config, load_head, read_config
from n2f_jax.runtime.display import echo

_FRONT_ENDS = """What Pixel3DMM and FaRL see of a photograph, beside our own head; with their files, also their output.

    n2f draw front-ends photo.jpg --out page.png
    n2f draw front-ends photo.jpg --out page.png --pixel3dmm-normals normals.ckpt [--pixel3dmm-uv uv.ckpt] \\
        [--farl-weights FILE]

Without the files the page shows how their pictures have to look (docs/front_ends.md).
"""
_HEAD_MODEL = """A head model's axes, landmarks and parameters on one page.

    n2f draw head-model --out sheet.jpg [--head-model FILE]
"""
_MESH = """Any mesh, drawn by the renderer: triangles, normals, depth, texture coordinates, mask and its derivative.

    n2f draw mesh head.glb --out sheet.png [--yaw 25] [--pitch 5] [--size 512]

Takes .obj, .ply, .stl, .off, .glb and .npz (vertices, faces), y up. Without a mesh: the open head.
"""
_PREPROCESSED = """A page of preprocessed faces: photograph, normals, mask, landmarks, and what the network is shown.

    n2f draw preprocessed --folder DIR --out page.png [--num 6] [--first 0]

--truth also draws the heads of the pseudo ground truth, of the open head model or of --head-model.
"""
_SAMPLES = """A page of training samples: input normals, mask, and what was sampled.

    n2f draw samples --config stage1:small --out samples.png [--num 24] [--seed 0]
    n2f draw samples --config stage1 --config.data.hair_share=0.5 --out samples.png
    n2f draw samples --config stage1 --each --out degradations.png

--each draws instead every degradation alone, at a strong setting, next to the clean map.
"""


def _add_out(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, required=True, metavar="PICTURE", help="picture to write")


def _save(page, flags: argparse.Namespace, what: str, quality: int) -> int:
    import numpy as np
    from PIL import Image

    Image.fromarray(np.asarray(page)).save(flags.out, quality=quality)
    echo(f"{what} → {flags.out}")
    return 0


def _add_front_ends(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("photo", type=Path)
    _add_out(parser)
    options.add_pixel3dmm(parser)


def _draw_front_ends(flags: argparse.Namespace) -> int:
    from n2f_jax.data.images import read_image
    from n2f_jax.frontends.registry import FrontendOptions, make_frontend
    from n2f_jax.geometry.focal import resolve_focal
    from n2f_jax.reconstruction.front_end_sheet import front_end_sheet
    from n2f_jax.reconstruction.reconstructor import Reconstructor

    image, info = read_image(flags.photo)
    reconstructor = Reconstructor.from_pretrained()
    faces = reconstructor.detect(image)[:1]
    if not faces:
        raise ValueError(f"no face in {flags.photo}")
    size = image.shape[:2]
    focal = resolve_focal(size, exif=info.focal, face_size=reconstructor.face_size(faces))
    (head,) = reconstructor.from_faces(faces, [size], [focal])
    frontend = None
    if flags.pixel3dmm_normals:
        frontend_options = FrontendOptions(
            max_faces=1,
            pixel3dmm_normals=flags.pixel3dmm_normals,
            pixel3dmm_uv=flags.pixel3dmm_uv,
            farl_weights=flags.farl_weights,
        )
        frontend = make_frontend("pixel3dmm", frontend_options)
    page = front_end_sheet(image, faces[0], head, reconstructor.head_model, frontend)
    return _save(page, flags, str(flags.photo), 85)


def _add_head_model(parser: argparse.ArgumentParser) -> None:
    options.add_head_model(parser)
    _add_out(parser)


def _draw_head_model(flags: argparse.Namespace) -> int:
    from n2f_jax.visualization.head_model_sheet import head_model_sheet

    model = options.load_head_model(flags.head_model)
    return _save(head_model_sheet(model), flags, model.name, 90)


def _add_mesh(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("mesh", type=Path, nargs="?", help="mesh file; the open head if left out")
    _add_out(parser)
    parser.add_argument("--yaw", type=float, default=25.0, help="degrees the mesh is turned to its left")
    parser.add_argument("--pitch", type=float, default=5.0, help="degrees it is turned forwards")
    parser.add_argument("--size", type=int, default=512, help="side of a panel, pixels")


def _draw_mesh(flags: argparse.Namespace) -> int:
    from n2f_jax.visualization.mesh_sheet import mesh_sheet, open_head_mesh, read_textured_mesh

    mesh = read_textured_mesh(flags.mesh) if flags.mesh else open_head_mesh()
    page = mesh_sheet(mesh, flags.yaw, flags.pitch, flags.size)
    return _save(page, flags, f"{len(mesh.vertices)} vertices, {len(mesh.faces)} triangles", 90)


def _add_preprocessed(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--folder", type=Path, required=True, metavar="DIR", help="preprocessed folder")
    _add_out(parser)
    parser.add_argument("--num", type=int, default=6, help="faces; default: %(default)s")
    parser.add_argument("--first", type=int, default=0, help="number of the first one; default: %(default)s")
    parser.add_argument(
        "--size", type=int, default=128, help="side of the network's input; default: %(default)s"
    )
    parser.add_argument("--crop-scale", type=float, default=1.4, help="default: %(default)s")
    parser.add_argument("--truth", action="store_true", help="draw the pseudo ground truth too")
    options.add_head_model(parser, "that the pseudo ground truth belongs to")


def _draw_preprocessed(flags: argparse.Namespace) -> int:
    from n2f_jax.data.preprocessed import list_faces
    from n2f_jax.visualization.stored_sheet import stored_page

    if flags.num < 1 or flags.first < 0:
        raise ValueError("--num is at least 1 and --first at least 0")
    faces = list_faces(flags.folder)[flags.first : flags.first + flags.num]
    if not faces:
        raise ValueError(f"{flags.folder} has no face number {flags.first}")
    model = options.load_head_model(flags.head_model) if flags.truth else None
    page = stored_page(flags.folder, faces, crop_scale=flags.crop_scale, size=flags.size, head_model=model)
    return _save(page, flags, f"{len(faces)} faces", 85)


def _add_samples(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    _add_out(parser)
    parser.add_argument("--num", type=int, help="samples; 24, with --each 3")
    parser.add_argument("--seed", type=int, default=0, help="of the batch")
    parser.add_argument("--each", action="store_true", help="every degradation alone")


def _draw_samples(flags: argparse.Namespace) -> int:
    config = read_config(flags)
    from n2f_jax.training.setup import build_assets, check, sampler_config
    from n2f_jax.visualization.sample_sheet import degradation_page, sample_page

    if flags.num is not None and flags.num < 1:
        raise ValueError("--num is at least 1")
    model, places = load_head(config)
    check(config, model)
    assets, sampler = build_assets(config, model, places), sampler_config(config.data)
    draw, num = (degradation_page, flags.num or 3) if flags.each else (sample_page, flags.num or 24)
    page = draw(assets, sampler, num=num, seed=flags.seed)
    return _save(page, flags, f"{num} samples of {sampler.image_size}² pixels", 75)


front_ends = Command(_FRONT_ENDS, _add_front_ends, _draw_front_ends)
head_model = Command(_HEAD_MODEL, _add_head_model, _draw_head_model)
mesh = Command(_MESH, _add_mesh, _draw_mesh)
preprocessed = Command(_PREPROCESSED, _add_preprocessed, _draw_preprocessed)
samples = Command(_SAMPLES, _add_samples, _draw_samples)
