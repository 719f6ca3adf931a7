"""Heads and tracks in the browser: turned, moved by sliders, coloured by what is known of them.

    n2f view OUT_OR_TRACK [--scan mesh.ply]

OUT_OR_TRACK is a folder of n2f reconstruct, one of its heads (.npz), or a folder of n2f track. The mesh lies over its
photograph as the photograph's camera sees it; a track has a timeline. Photographs and clips are looked for where the
run found them, then beside its folder; --photo says where they are now. Nothing is written.

--scan measures the head against a scan or mesh of the same face, laid over it as evaluation does (docs/evaluation.md);
landmarks beside it (NAME.npy, .txt, .json, .pp) are used, else found on it.

Ctrl-C ends it. Needs the extra `view` (viser).

Exit code: 0 ended by Ctrl-C; 2 nothing to look at.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from n2f_jax.cli import options
from n2f_jax.cli.command import Command
from n2f_jax.runtime.display import echo


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", type=Path, metavar="OUT_OR_TRACK", help="folder, or .npz")
    parser.add_argument(
        "--photo", type=Path, metavar="PATH", help="photograph, folder of photographs, or clip"
    )
    parser.add_argument("--scan", type=Path, metavar="MESH", help="to measure against (.ply, .obj, …)")
    parser.add_argument(
        "--unit",
        default="auto",
        choices=("auto", "m", "cm", "mm"),
        help="of the scan; auto: by the distance of the eyes",
    )
    options.add_head_model(parser, "the head model of the heads")
    options.add_listening(parser, 8090)
    options.add_device(parser)


def run(flags: argparse.Namespace) -> int:
    options.choose_device(flags.device)
    from n2f_jax.runtime import compilation_cache
    from n2f_jax.viewer.sources import open_source

    compilation_cache.enable()
    source = open_source(flags.source, flags.photo)
    model = options.load_head_model(flags.head_model)
    scan = None
    if flags.scan is not None:
        from n2f_jax.evaluation.regions import template_of
        from n2f_jax.viewer.scan import Scan

        scan = Scan.read(flags.scan, template_of(model), flags.unit)
    from n2f_jax.viewer.server import ViewerServer
    from n2f_jax.viewer.state import ViewerState

    server = ViewerServer(ViewerState(model, source, scan), flags.host, flags.port)
    echo(f"{server.url} (Ctrl-C ends it)")
    options.open_browser(server.url, flags)
    try:
        server.wait()
    except KeyboardInterrupt:
        server.stop()
    return 0


main = Command(__doc__, add_arguments, run)
