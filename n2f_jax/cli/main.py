"""``n2f``: finds the subcommand and runs it."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

import n2f_jax

# Words of the subcommand → its module in this package, the name of its ``Command`` there, one line for the list.
COMMANDS = {
    "reconstruct": ("reconstruct", "main", "photographs to FLAME heads"),
    "serve": ("serve", "main", "a web server that turns photographs into heads"),
    "track": ("track", "main", "a clip to one person's FLAME track"),
    "view": ("view", "main", "heads and tracks in the browser, to turn and move"),
    "app": ("app", "main", "a page in the browser: drop a photograph, download its head"),
    "live": ("live", "main", "a camera's face as packets for avatars and game engines"),
    "preprocess": (
        "preprocess",
        "main",
        "many photographs and videos to normals, masks and landmarks on disk",
    ),
    "fit": ("fit", "main", "pseudo ground truth for preprocessed faces, by Gauss–Newton"),
    "train": ("train", "main", "train one stage of the network"),
    "evaluate": ("evaluate", "main", "measure reconstructions of any method against ground truth"),
    "convert weights": ("convert", "weights", "DINOv3's weights to a folder that training reads"),
    "convert head-model": ("convert", "head_model", "FLAME's own files to one archive without pickles"),
    "convert heads": ("convert", "heads", "reconstructed heads (.npz) to .obj, .glb or .ply"),
    "convert coefficients": ("convert", "coefficients", "reconstructed heads (.npz) to another head model"),
    "convert arkit": ("convert", "arkit", "heads to ARKit's blendshape weights (.csv), and back"),
    "export torch": ("export", "torch", "a trained network for PyTorch, and back"),
    "export onnx": ("export", "onnx", "a trained network as one ONNX file"),
    "export track": (
        "export",
        "track",
        "a track as a data set for GaussianAvatars, VHAP, INSTA, metrical-tracker",
    ),
    "convert track": ("convert", "track", "tracks of VHAP, metrical-tracker, Pixel3DMM to a track.npz"),
    "export program": ("export", "program", "the way to heads as StableHLO with its weights (jax.export)"),
    "export rig": (
        "export",
        "rig",
        "a head or a track as a rig: skin, ARKit's 52, texture, animation (.glb)",
    ),
    "draw front-ends": ("draw", "front_ends", "what Pixel3DMM and FaRL see of a photograph"),
    "draw head-model": ("draw", "head_model", "a head model's axes, landmarks and parameters"),
    "draw mesh": ("draw", "mesh", "any mesh: normals, depth, texture coordinates, mask"),
    "draw preprocessed": ("draw", "preprocessed", "a page of preprocessed faces"),
    "draw samples": ("draw", "samples", "a page of training samples"),
    "fetch": ("fetch", "main", "the free front end's networks into the cache"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one subcommand and returns its exit code: 0 done, 1 partly, 2 wrong usage or nothing done."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_help())
        return 0 if arguments else 2
    if arguments[0] == "--version":
        print(n2f_jax.__version__)
        return 0
    for count in (2, 1):
        words = " ".join(arguments[:count])
        if words in COMMANDS:
            module, name, _ = COMMANDS[words]
            command = getattr(importlib.import_module(f"n2f_jax.cli.{module}"), name)
            return command(arguments[count:], prog=f"n2f {words}")
    group = {words: line for words, line in COMMANDS.items() if words.split()[0] == arguments[0]}
    if group:
        asked = arguments[1:] and arguments[1] in ("-h", "--help")
        print(_table(group), file=sys.stdout if asked else sys.stderr)
        return 0 if asked else 2
    print(f"error: n2f has no command {arguments[0]!r}\n{_help()}", file=sys.stderr)
    return 2


def _help() -> str:
    return (
        "usage: n2f COMMAND …        n2f COMMAND --help\n\n"
        "One photograph to a FLAME head in one feed-forward pass.\n\n" + _table(COMMANDS)
    )


def _table(commands: dict[str, tuple[str, str, str]]) -> str:
    width = max(map(len, commands)) + 2
    return "\n".join(f"  {words:<{width}}{line}" for words, (_, _, line) in commands.items())


if __name__ == "__main__":
    sys.exit(main())
