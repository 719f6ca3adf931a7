"""``n2f export``: a trained network for other frameworks, and back; a track for programs that make avatars."""

from __future__ import annotations

import argparse
from pathlib import Path

from n2f_jax.cli import options
from n2f_jax.cli.command import Command
from n2f_jax.runtime.display import echo

_TORCH = """A trained network for PyTorch, and back.

    n2f export torch CHECKPOINT --out DIR [--head-model FILE] [--onnx]
    n2f export torch DIR --from-torch --out CHECKPOINT

DIR holds config.json, model.safetensors, the nn.Module that runs it (torch_n2fnet.py, which needs PyTorch and
safetensors and no JAX) and a model card. With a head model its vertices come too. --from-torch gives the same
parameters back, bit for bit in float32, as a folder that --checkpoint and --config.init_from read. --onnx adds
model.onnx (needs PyTorch, onnx, onnxscript: pip install 'n2f-jax[torch]').

CHECKPOINT "default" is the one that ships.
"""
_ONNX = """A trained network as one ONNX file (needs PyTorch, onnx, onnxscript: pip install 'n2f-jax[torch]').

    n2f export onnx CHECKPOINT --out model.onnx [--head-model FILE]

CHECKPOINT "default" is the one that ships.
"""
_PROGRAM = """A compiled program with its weights, by jax.export (StableHLO): loads with JAX alone.

    n2f export program CHECKPOINT --out DIR [--batch 8] [--size HEIGHT WIDTH] [--head-model FILE] [--platform cuda …]

With --size the whole way from photographs of that size to heads, by the face mesh; without it from maps to heads.
Load it with n2f_jax.export.stablehlo.ExportedProgram.load(DIR).

CHECKPOINT "default" is the one that ships.
"""
_RIG = """A person's head as a rig: binary glTF with skin, morph targets, texture, and a track's animation.

    n2f export rig heads/person.npz --photo person.jpg --out person.glb [--camera]
    n2f export rig heads/front.npz heads/left.npz --photo front.jpg left.jpg --out person.glb
    n2f export rig track/ --photo clip.mp4 --out person.glb [--targets arkit]

Joints root, neck, jaw, eyes; ARKit's 52 blendshapes by name; the person's shape is the mesh at rest. The texture comes
from the photographs, the first counting most; what none shows is the mirror image, matched in light, or what lies
around. A track's animation is exact with the head model's own targets (both, the default there). --camera puts the
photograph's camera at the origin and the head where it was seen. docs/rigs.md. Needs pygltflib: pip install
'n2f-jax[rig]'.
"""

_TRACK = """A finished track as the data set of a program that makes avatars, without tracking again.

    n2f export track TRACK --format gaussian-avatars --head-model FLAME [--clip CLIP] [--out DIR]

TRACK is the folder that n2f track wrote, for a FLAME head (n2f track --head-model). Written are TRACK/FORMAT, or
DIR/FORMAT, and the person mattes that they need; frames in which the person was not seen are left out. The same
command again goes on where an interrupted one was. Formats: docs/tracking.md.
"""


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", help='folder to read; "default" for the checkpoint that ships')
    parser.add_argument(
        "--head-model",
        metavar="FILE",
        help='to include; "open" for the open head that ships; needed by a network with a correction for another head',
    )


def _add_torch(parser: argparse.ArgumentParser) -> None:
    _add_common(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="made if needed")
    parser.add_argument(
        "--from-torch", action="store_true", help="the other way: a PyTorch folder back to JAX"
    )
    parser.add_argument("--onnx", action="store_true", help="also write model.onnx")


def _add_onnx(parser: argparse.ArgumentParser) -> None:
    _add_common(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE")


def _add_program(parser: argparse.ArgumentParser) -> None:
    _add_common(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="made if needed")
    parser.add_argument("--batch", type=int, default=8, metavar="B", help="photographs, or crops, a call (8)")
    parser.add_argument("--size", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"), help="of the photographs")
    parser.add_argument(
        "--platform",
        nargs="+",
        default=[],
        metavar="NAME",
        help="cpu, cuda, rocm, tpu; where JAX runs here if none",
    )


def _add_rig(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "sources",
        type=Path,
        nargs="+",
        metavar="SOURCE",
        help="heads (.npz) of one person, or a folder of n2f track",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help=".glb")
    parser.add_argument(
        "--photo",
        nargs="+",
        default=[],
        metavar="FILE",
        help="one for each head, or the track's clip; default: plain skin",
    )
    parser.add_argument(
        "--camera", action="store_true", help="with the photograph's camera, and the head where it was seen"
    )
    parser.add_argument(
        "--targets",
        choices=("arkit", "expression", "both"),
        help="ARKit's 52, the head model's own expressions, or both; default: arkit for heads, both for tracks",
    )
    parser.add_argument(
        "--texture-size",
        type=int,
        default=1024,
        metavar="PX",
        help="side of the texture; default: %(default)s",
    )
    options.add_head_model(parser, "whose heads they are")


def _folder(checkpoint: str) -> Path:
    from n2f_jax.models.pretrained import DEFAULT_CHECKPOINT

    return DEFAULT_CHECKPOINT if checkpoint == "default" else Path(checkpoint)


def _write_torch(folder: Path, out: Path, head_model: str | None, onnx: Path | None) -> None:
    import flame_jax
    from flame_jax.loading import OPEN_HEAD_PATH
    from n2f_jax.export.torch_folder import write_torch_folder
    from n2f_jax.models.pretrained import from_pretrained

    if onnx:  # before the work, if PyTorch is missing
        try:
            from n2f_jax.export.torch_onnx import write_onnx
        except ImportError as error:
            raise ImportError(
                f"ONNX needs PyTorch, onnx and onnxscript (pip install 'n2f-jax[torch]'): {error}"
            ) from error
    model = None
    if head_model:
        model = flame_jax.load_head_model(OPEN_HEAD_PATH if head_model == "open" else head_model)
    pretrained = from_pretrained(folder, model)
    write_torch_folder(out, pretrained, model, name=folder.name)
    if onnx:
        from n2f_jax.export.torch_n2fnet import load

        write_onnx(onnx, load(out), pretrained.inputs.size)


def _export_torch(flags: argparse.Namespace) -> int:
    folder = _folder(flags.checkpoint)
    if flags.from_torch:
        if flags.onnx or flags.head_model:
            raise ValueError("--from-torch takes neither --onnx nor --head-model")
        from n2f_jax.export.torch_folder import save_back

        save_back(folder, flags.out)
        echo(f"{folder} → {flags.out}")
        return 0
    _write_torch(folder, flags.out, flags.head_model, flags.out / "model.onnx" if flags.onnx else None)
    extras = (" with vertices" if flags.head_model else "") + (" and ONNX" if flags.onnx else "")
    echo(f"{folder} → {flags.out}{extras}")
    return 0


def _export_onnx(flags: argparse.Namespace) -> int:
    import tempfile

    folder = _folder(flags.checkpoint)
    with tempfile.TemporaryDirectory() as scratch:
        _write_torch(folder, Path(scratch), flags.head_model, flags.out)
    echo(f"{folder} → {flags.out}")
    return 0


def _export_program(flags: argparse.Namespace) -> int:
    from n2f_jax.export.stablehlo import write_maps_program, write_photo_program
    from n2f_jax.reconstruction.reconstructor import Reconstructor

    if flags.batch < 1 or min(flags.size or [1]) < 1:
        raise ValueError("--batch and --size are at least 1")
    model = None if flags.head_model in (None, "open") else flags.head_model
    frontend = "face_mesh" if flags.size else None
    reconstructor = Reconstructor.from_pretrained(
        _folder(flags.checkpoint), model, frontend, maps=None if frontend else "face_mesh_v2"
    )
    if flags.size:
        write_photo_program(flags.out, reconstructor, flags.batch, tuple(flags.size), flags.platform)
    else:
        write_maps_program(flags.out, reconstructor, flags.batch, flags.platform)
    echo(
        f"{reconstructor.checkpoint}, {flags.batch} {'photographs' if flags.size else 'crops'} a call → {flags.out}"
    )
    return 0


def _export_rig(flags: argparse.Namespace) -> int:
    from n2f_jax.data.images import read_image
    from n2f_jax.reconstruction.arkit_files import units_of
    from n2f_jax.reconstruction.head_file import load_parameters
    from n2f_jax.rig.from_head import RigOptions, require_own, write_head_rig
    from n2f_jax.rig.gltf import pygltflib
    from n2f_jax.runtime import compilation_cache
    from n2f_jax.runtime.outside_values import read_arrays

    if flags.out.suffix.lower() != ".glb":
        raise ValueError(f"--out {flags.out}: a .glb file is written")
    if not flags.out.parent.is_dir():
        raise ValueError(f"--out {flags.out}: there is no folder {flags.out.parent}")
    pygltflib()  # before the work, if it is missing
    compilation_cache.enable()
    sources = [path / "track.npz" if path.is_dir() else path for path in flags.sources]
    is_track = "seconds" in read_arrays(sources[0], ("seconds",))
    rig_options = RigOptions(
        flags.targets or ("both" if is_track else "arkit"), flags.camera, flags.texture_size
    )
    model = options.load_head_model(flags.head_model)
    if is_track:
        from n2f_jax.export.track_rig import write_track_rig
        from n2f_jax.tracking.clips import open_clip
        from n2f_jax.tracking.track_file import load_track

        if len(sources) > 1 or len(flags.photo) > 1:
            raise ValueError("one track at a time, and its one clip for --photo")
        track = load_track(sources[0])
        require_own(model, track, str(sources[0]))
        clip = open_clip(flags.photo[0]) if flags.photo else None
    else:
        heads = [load_parameters(path) for path in sources]
        for path, head in zip(sources, heads, strict=True):
            require_own(model, head, str(path))
        images = [read_image(path)[0] for path in flags.photo]
    units = units_of(model, flags.head_model, echo) if rig_options.targets != "expression" else None
    if is_track:
        report = write_track_rig(flags.out, model, units, track, clip, rig_options)
    else:
        report = write_head_rig(flags.out, model, units, heads, images, rig_options)
    if not flags.photo:
        echo("plain skin: --photo names the photograph, or the clip, that a texture comes from")
    for line in report.lines():
        echo(line)
    echo(f"{flags.sources[0]} → {flags.out}, {flags.out.stat().st_size / 1e6:.1f} MB")
    return 0


rig = Command(_RIG, _add_rig, _export_rig)


def _add_track(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("track", type=Path, metavar="TRACK", help="folder that n2f track wrote")
    parser.add_argument(
        "--format",
        required=True,
        metavar="LIST",
        help="of gaussian-avatars, vhap, insta, metrical-tracker",
    )
    parser.add_argument("--clip", type=Path, metavar="CLIP", help="default: where it was when it was tracked")
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: TRACK")
    parser.add_argument(
        "--matte", action="store_true", help="a person matte of every frame, whatever the format"
    )
    options.add_head_model(parser, "FLAME, the file or folder that the track was made with")
    options.add_device(parser)


def _export_track(flags: argparse.Namespace) -> int:
    options.choose_device(flags.device)
    from n2f_jax.runtime import compilation_cache
    from n2f_jax.runtime.locks import lock_folder
    from n2f_jax.runtime.output_folder import prepare_output
    from n2f_jax.tracking.exports import check_formats, clip_of_track, write_pictures
    from n2f_jax.tracking.flame_track import require_flame
    from n2f_jax.tracking.run import say_on_stderr
    from n2f_jax.tracking.track_file import load_track

    formats = check_formats(tuple(filter(None, flags.format.split(","))))
    track = load_track(flags.track / "track.npz")
    model = options.load_head_model(flags.head_model)
    require_flame(model, " and ".join(formats))
    clip = clip_of_track(flags.track, track, flags.clip)
    compilation_cache.enable()
    out = flags.out or flags.track
    prepare_output(out)
    with lock_folder(out):
        made = write_pictures(clip, track, model, out, formats, flags.matte, say=say_on_stderr)
    for name, count in made["frames"].items():
        echo(f"{count} frames: {out / name}")
    return 0


track = Command(_TRACK, _add_track, _export_track)
program = Command(_PROGRAM, _add_program, _export_program)
torch = Command(_TORCH, _add_torch, _export_torch)
onnx = Command(_ONNX, _add_onnx, _export_onnx)
