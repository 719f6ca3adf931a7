"""``n2f convert``: pretrained weights, head models and reconstructed heads into other files."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from n2f_jax.cli import options
from n2f_jax.cli.command import Command
from n2f_jax.runtime.display import echo

_WEIGHTS = """Pretrained DINOv3 weights as a folder of ours.

    n2f convert weights dinov3_vitl16_pretrain_lvd1689m-8aa4cbdd.pth --out dinov3_vitl16
    n2f convert weights dinov3-vitl16-pretrain-lvd1689m/ --out dinov3_vitl16 [--channels 5]

Reads S, S+, B, L, H+ and the satellite L: Meta's .pth (needs PyTorch), Hugging Face's folder or .safetensors file. The
size is found from the arrays. --config.backbone_weights of training takes the folder, and the originals as well.
The first convolution, trained on RGB: with --channels 3 the normals' x, y, z take the kernels of R, G, B; with 5
(UV and normals) u and v start at zero besides; with 2 (UV) each takes 3/2 of the kernels' mean.
"""
_HEAD_MODEL = """FLAME's own files as one clean archive: no pickle, no chumpy, landmarks, masks and eyelids included.

    n2f convert head-model FLAME2020/generic_model.pkl --out flame2020.npz
    n2f convert head-model folder_with_all_files/ --out flame2023.safetensors

Reads every model file of FLAME 2019, 2020, 2023 and 2023 Open without running anything that is in it, and the
companion files that lie beside it (or that the options name). The archive is what --head-model, --config.head_model
and FLAME_MODEL_PATH take; they take the original just as well. FLAME's licence holds for the archive too.
"""
_HEADS = """Reconstructed heads as meshes in other formats, without reconstructing them again.

    n2f convert heads heads/*.npz --formats obj,ply --out meshes/

Reads what n2f reconstruct wrote. --posed puts the mesh where the camera saw it (OpenCV axes, metres) instead of the
head frame.
"""


_COEFFICIENTS = """Reconstructed heads in the coefficients of another head model.

    n2f convert coefficients heads/*.npz --to FLAME2020/ --out flame_heads/
    n2f convert coefficients flame_heads/*.npz --from FLAME2020/ --to gnm/ --out gnm_heads/

Reads and writes what n2f reconstruct writes. Shape, expression, jaw and lids are those whose surface comes nearest to
the given one, under the new model's prior; camera and frame go along, so that the new head lies where the old one does
in its photograph. The distance between the two faces in mm, mean and 95th percentile, is printed and stands in
conversion.json. Models: docs/head_models.md. For meshes: n2f fit --mesh.
"""


_ARKIT = """ARKit's 52 blendshape weights: of reconstructed heads as a table, or a table as a head model's expressions.

    n2f convert arkit heads/*.npz --out weights.csv
    n2f convert arkit weights.csv --out expressions.npz [--head-model FLAME2020/]

A table is CSV with a row a head or frame and columns by ARKit's names; Live Link Face's files are taken as they are.
Weights of a head are those of 0 … 1 whose sum of units moves the mean face nearest to where its expression, jaw and
lids move it; the gaze gives eyeLook…. The other way the expression that lies nearest to the sum. What either leaves, in
mm over the face, is in the column left_mm and printed. docs/head_models.md has the round trip's error.
"""


_TRACK = """A track of another program as a track.npz, without tracking.

    n2f convert track FOLDER --out track.npz --head-model FLAME

FOLDER is what VHAP exports or GaussianAvatars reads (transforms.json and flame_param/), what VHAP's tracker leaves of
one camera (tracked_flame_params*.npz), or .frame files of metrical-tracker or of Pixel3DMM's tracker (whose frames are
its square crops). --head-model is the FLAME model that it was tracked with. What the formats do not share is said; the
keys of track.npz are in docs/tracking.md.
"""


def _add_weights(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", type=Path, help="a .pth or .safetensors file, or a folder")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="made if needed")
    parser.add_argument("--channels", type=int, choices=(2, 3, 5), default=3, help="default: %(default)s")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="of the matrices")


def _convert_weights(flags: argparse.Namespace) -> int:
    from n2f_jax.models.dinov3_files import read_dinov3, save_dinov3, with_channels
    from n2f_jax.models.parameters import count

    weights = with_channels(read_dinov3(flags.source), flags.channels)
    save_dinov3(flags.out, weights, flags.dtype)
    config, source = weights.config, weights.source
    echo(f"{flags.source} → {flags.out}")
    print(
        f"DINOv3 ViT {weights.name}: width {config.width}, {config.depth} blocks, {config.num_heads} heads, "
        f"{count(weights.tree):,} numbers; names: {source['names']}"
    )
    print(f"rotary periods: {'from the file' if source['periods'] == 'file' else 'recomputed in float32'}")
    print(f"first convolution, {config.channels} channels: {source['patch_embedding']}")
    ignored = sorted({re.sub(r"\.\d+\.", ".N.", key) for key in source["ignored"]})
    print(f"left out knowingly: {', '.join(ignored) or 'nothing'}")
    return 0


def _add_head_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, help="the model file (.pkl, .npz, .safetensors) or its folder")
    parser.add_argument("--out", type=Path, required=True, help="the archive to write, .npz or .safetensors")
    parser.add_argument("--landmarks", type=Path, help="landmark_embedding.npy or flame_static_embedding.pkl")
    parser.add_argument("--masks", type=Path, help="FLAME_masks.pkl")
    parser.add_argument("--eyelids", type=Path, help="the folder of l_eyelid.npy and r_eyelid.npy")
    parser.add_argument("--uv", type=Path, help="FLAME_texture.npz or head_template.obj")
    parser.add_argument("--num-shape", type=int, help="shape directions, for a model of unusual size")
    parser.add_argument("--name", help="what the model shall call itself; default: the output's name")


def _convert_head_model(flags: argparse.Namespace) -> int:
    from flame_jax.files.archive import write_archive
    from flame_jax.loading import head_model_from_arrays, read_arrays

    arrays, path, found = read_arrays(
        flags.model, flags.landmarks, flags.masks, flags.eyelids, flags.uv, flags.num_shape
    )
    if "joint_template" in arrays:
        raise ValueError(f"{path} is GNM's one archive already, without pickles: use it as it is")
    model = head_model_from_arrays(arrays, default_name=flags.name or flags.out.stem)
    write_archive(flags.out, arrays, model.name)
    echo(f"{path}{' with ' + ', '.join(found) if found else ''} → {flags.out}")
    print(
        f"{model.num_vertices} vertices, {model.num_faces} triangles, {model.num_shape} shape and "
        f"{model.num_expression} expression directions"
    )
    missing = {
        "landmarks": model.landmarks is None,
        "region masks": not model.masks,
        "eyelids": not bool(model.eyelids.any()),
        "texture coordinates": model.uv.shape[0] == 0,
    }
    for part in (name for name, absent in missing.items() if absent):
        print(f"without {part}: none was found beside the model or named")
    return 0


def _add_heads(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("heads", type=Path, nargs="+", metavar="NPZ", help="of n2f reconstruct")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="made if needed")
    parser.add_argument(
        "--formats", default="obj", metavar="LIST", help="of obj, glb, ply; default: %(default)s"
    )
    parser.add_argument("--posed", action="store_true", help="in the camera frame instead of the head frame")
    options.add_head_model(parser, "whose texture coordinates and colours the meshes get")


def _convert_heads(flags: argparse.Namespace) -> int:
    from n2f_jax.reconstruction.head_file import load_parameters
    from n2f_jax.reconstruction.output_files import MeshWriter
    from n2f_jax.runtime.output_folder import prepare_output

    writer = MeshWriter(options.load_head_model(flags.head_model))
    formats = tuple(filter(None, flags.formats.split(",")))
    prepare_output(flags.out)
    for path in flags.heads:
        head = load_parameters(path)
        vertices = head["vertices"]
        if flags.posed:
            vertices = vertices @ head["rotation"].T + head["translation"]
        for kind in formats:
            writer.write(flags.out / f"{path.stem}.{kind}", vertices, head["faces"])
    echo(f"{len(flags.heads)} heads as {', '.join(formats)}: {flags.out}")
    return 0


def _add_coefficients(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("heads", type=Path, nargs="+", metavar="NPZ", help="of n2f reconstruct")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="made if needed")
    parser.add_argument(
        "--from", dest="source", type=Path, metavar="FILE", help="theirs; default: the open head"
    )
    parser.add_argument("--to", dest="target", type=Path, metavar="FILE", help="default: the open head")


def _convert_coefficients(flags: argparse.Namespace) -> int:
    import json

    from n2f_jax.reconstruction.head_conversion import HeadConverter
    from n2f_jax.reconstruction.head_file import load_parameters, save_parameters
    from n2f_jax.runtime.atomic_files import write_text
    from n2f_jax.runtime.output_folder import prepare_output

    models = [options.load_head_model(path) for path in (flags.source, flags.target)]
    prepare_output(flags.out)
    convert = HeadConverter(*models, beside=flags.target, say=echo)
    errors = {}
    for path in flags.heads:
        try:
            made = convert(load_parameters(path))
        except ValueError as error:
            raise ValueError(str(error) if str(path) in str(error) else f"{path} {error}") from error
        save_parameters(flags.out / f"{path.stem}.npz", made.values)
        errors[path.stem] = {"mean_mm": round(made.mean_mm, 4), "p95_mm": round(made.high_mm, 4)}
        echo(
            f"{path.stem}: {made.mean_mm:.2f} mm from the given face in the mean, 95 % within {made.high_mm:.2f} mm"
        )
    names = {"from": models[0].name, "to": models[1].name}
    write_text(flags.out / "conversion.json", json.dumps({**names, "heads": errors}, indent=1))
    echo(f"{len(errors)} heads of {names['from']} as {names['to']}: {flags.out}")
    return 0


def _add_arkit(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "sources", type=Path, nargs="+", metavar="FILE", help=".npz of n2f reconstruct, or one .csv"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help=".csv, or for a table .npz")
    parser.add_argument(
        "--live-link", action="store_true", help="the table as Live Link Face writes it, a frame a head"
    )
    options.add_head_model(parser, "whose expressions they are")


def _convert_arkit(flags: argparse.Namespace) -> int:
    from n2f_jax.reconstruction import arkit_files
    from n2f_jax.reconstruction.head_file import load_parameters

    table = flags.sources[0].suffix.lower() == ".csv"
    if table and len(flags.sources) > 1:
        raise ValueError("one table at a time")
    wanted = ".npz" if table else ".csv"
    if flags.out.suffix.lower() != wanted:
        raise ValueError(f"--out {flags.out}: a {wanted} file is written")
    model = options.load_head_model(flags.head_model)
    if table:
        names, values = arkit_files.read_weights(flags.sources[0])
        left = arkit_files.write_expressions(
            flags.out, model, arkit_files.units_of(model, flags.head_model, echo), names, values
        )
    else:
        heads = [load_parameters(path) for path in flags.sources]
        for path, head in zip(flags.sources, heads, strict=True):
            if head["expression"].shape != (model.num_expression,):
                raise ValueError(f"{path} is of the head model {head['head_model']}: name it by --head-model")
        units = arkit_files.units_of(model, flags.head_model, echo)
        if flags.live_link:
            left = arkit_files.write_live_link_table(flags.out, units, heads)
        else:
            values, left = arkit_files.heads_to_weights(units, heads)
            arkit_files.write_weights(flags.out, [path.stem for path in flags.sources], values, left)
    echo(f"{len(left)} rows, {left.mean():.2f} mm left in the mean, {left.max():.2f} at most: {flags.out}")
    return 0


def _add_track(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folder", type=Path, metavar="FOLDER", help="of VHAP, GaussianAvatars, or .frame files"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="track.npz")
    parser.add_argument("--fps", type=float, metavar="N", help="where the folder does not say; default: 25")
    options.add_head_model(parser, "FLAME, the file or folder that it was tracked with")


def _convert_track(flags: argparse.Namespace) -> int:
    from n2f_jax.runtime import compilation_cache
    from n2f_jax.tracking.other_tracks import read_other_track
    from n2f_jax.tracking.run import say_on_stderr
    from n2f_jax.tracking.track_file import LOST, save_track

    if flags.fps is not None and not 0.01 < flags.fps < 1e4:
        raise ValueError(f"a clip has 0.01 to 10,000 frames a second, not {flags.fps:g}")
    model = options.load_head_model(flags.head_model)
    compilation_cache.enable()
    track = read_other_track(flags.folder, model, flags.fps, say_on_stderr)
    save_track(flags.out, track)
    seen = int((track["status"] != LOST).sum())
    echo(f"{seen} of {len(track['status'])} frames of {track['frontend']}: {flags.out}")
    return 0


track = Command(_TRACK, _add_track, _convert_track)
weights = Command(_WEIGHTS, _add_weights, _convert_weights)
head_model = Command(_HEAD_MODEL, _add_head_model, _convert_head_model)
heads = Command(_HEADS, _add_heads, _convert_heads)
coefficients = Command(_COEFFICIENTS, _add_coefficients, _convert_coefficients)
arkit = Command(_ARKIT, _add_arkit, _convert_arkit)
