"""A page where photographs are dropped: the mesh over the photograph, in 3D, its normals, and files to download.

    n2f app [--port 7860]

Files: .npz, .glb, .obj of every face (n2f reconstruct's), and ARKit's blendshape weights (.csv). Photographs of at most
32 MiB and 64 million pixels are taken; they and the results are gone when the command ends. It listens at this
machine's own address alone unless --host says otherwise; there is no password.

Ctrl-C ends it. Needs the extra `app` (gradio) and the free front end's networks (n2f fetch).

Exit code: 0 ended by Ctrl-C; 2 it cannot start.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from n2f_jax.cli import options
from n2f_jax.cli.command import Command
from n2f_jax.runtime.display import echo


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--checkpoint", type=Path, metavar="DIR", help="default: the one that ships")
    options.add_head_model(parser, "the head model to answer in")
    options.add_frontend(parser)
    options.add_listening(parser, 7860)
    options.add_device(parser)


def run(flags: argparse.Namespace) -> int:
    options.choose_device(flags.device, flags.frontend)
    from n2f_jax.app.page import make_page, serve
    from n2f_jax.app.photo_answers import MAX_FACES, PhotoAnswers
    from n2f_jax.reconstruction.reconstructor import Reconstructor
    from n2f_jax.runtime import compilation_cache

    compilation_cache.enable()
    reconstructor = Reconstructor.from_pretrained(
        flags.checkpoint,
        flags.head_model,
        flags.frontend,
        options.frontend_options(flags, max_faces=MAX_FACES),
        batch_size=1,
    )
    answers = PhotoAnswers(reconstructor, flags.head_model)
    try:
        page = make_page(answers)
        url = serve(page, flags.host, flags.port)
        echo(f"{url} (Ctrl-C ends it); the first photograph takes a minute, to compile")
        options.open_browser(url, flags)
        try:
            while True:
                time.sleep(1.0)
        except KeyboardInterrupt:
            page.close(verbose=False)
    finally:
        answers.close()
    return 0


main = Command(__doc__, add_arguments, run)
