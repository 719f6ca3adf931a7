"""Photographs to FLAME heads over HTTP.

    n2f serve                                                # http://127.0.0.1:8000
    curl --data-binary @photo.jpg http://127.0.0.1:8000/v1/heads

Needs the extra serve: pip install 'n2f-jax[serve]'. What comes in within a few milliseconds is computed together.
GET /health answers 200 when everything is compiled, GET /metrics is for Prometheus (docs/serving.md).

SIGTERM or Ctrl-C: nothing more is let in, what is inside is answered, then it ends with exit code 0. Exit code 2: wrong
usage, the address cannot be had, or the trial at the start gave no head.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from n2f_jax.cli import options
from n2f_jax.cli.command import Command
from n2f_jax.runtime.display import echo
from n2f_jax.runtime.output_folder import EXIT_NOTHING, EXIT_OK


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", default="127.0.0.1", help="default: %(default)s, this machine alone")
    parser.add_argument(
        "--port", type=int, default=8000, help="0: a free one, which is said; default: %(default)s"
    )
    parser.add_argument("--checkpoint", type=Path, metavar="DIR", help="default: the one that ships")
    options.add_head_model(parser, "the head model to answer in (docs/head_models.md)")
    options.add_frontend(parser)
    parser.add_argument(
        "--refine", type=int, metavar="N", help="Gauss–Newton steps; default: as reconstruct's"
    )
    parser.add_argument(
        "--path",
        choices=("frontend", "device"),
        help="how photographs become heads (docs/front_ends.md); default: the faster one here",
    )
    parser.add_argument(
        "--batch", type=int, default=8, metavar="N", help="photographs at once; default: %(default)s"
    )
    parser.add_argument(
        "--wait", type=float, default=4.0, metavar="MS", help="for others of a batch; default: %(default)s"
    )
    parser.add_argument(
        "--canvas",
        type=int,
        default=1024,
        metavar="PX",
        help="--path device: photographs are brought to this size; default: %(default)s",
    )
    parser.add_argument(
        "--max-inside",
        type=int,
        default=64,
        metavar="N",
        help="photographs that are read, computed and wait, in all; more are answered 503; default: %(default)s",
    )
    parser.add_argument(
        "--max-mb", type=float, default=20, metavar="N", help="of a request; default: %(default)s"
    )
    parser.add_argument(
        "--max-megapixels", type=float, default=50, metavar="N", help="of a photograph; default: %(default)s"
    )
    parser.add_argument(
        "--max-faces",
        type=int,
        default=4,
        metavar="N",
        help="of a photograph, the largest; default: %(default)s",
    )
    parser.add_argument(
        "--seconds", type=float, default=30, metavar="S", help="a request may take; default: %(default)s"
    )
    parser.add_argument(
        "--threads",
        type=int,
        default=max(2, min(8, os.cpu_count() or 2)),
        metavar="N",
        help="that unpack photographs and look for faces; default: %(default)s here",
    )
    parser.add_argument(
        "--drain",
        type=float,
        default=0.5,
        metavar="S",
        help="after SIGTERM still answer 503; default: %(default)s",
    )
    parser.add_argument("--access-log", action="store_true", help="a line for every request, on stderr")
    options.add_device(parser)


def run(flags: argparse.Namespace) -> int:
    options.choose_device(flags.device, flags.frontend)
    if flags.frontend == "precomputed":
        raise ValueError("--frontend precomputed looks up files, and photographs that are sent have none")
    try:
        from n2f_jax.serving.server import Server, listen
    except ImportError as error:
        raise ImportError(f"{error}: the server needs pip install 'n2f-jax[serve]'") from error
    from n2f_jax.reconstruction.output_files import MeshWriter
    from n2f_jax.reconstruction.reconstructor import Reconstructor
    from n2f_jax.runtime import compilation_cache
    from n2f_jax.serving.answers import Answers
    from n2f_jax.serving.engines import make_engine
    from n2f_jax.serving.limits import Limits
    from n2f_jax.serving.service import Service

    limits = Limits(
        max_bytes=int(flags.max_mb * (1 << 20)),
        max_pixels=int(flags.max_megapixels * 1e6),
        max_faces=flags.max_faces,
        max_inside=flags.max_inside,
        seconds=flags.seconds,
        batch=flags.batch,
        wait=flags.wait / 1000,
        threads=flags.threads,
        canvas=flags.canvas,
        drain=flags.drain,
    )
    with listen(flags.host, flags.port) as sock:
        compilation_cache.enable()
        reconstructor = Reconstructor.from_pretrained(
            flags.checkpoint,
            flags.head_model,
            flags.frontend,
            options.frontend_options(flags, max_faces=limits.max_faces),
            refine=flags.refine,
            batch_size=limits.batch,
        )
        engine = make_engine(reconstructor, limits.max_faces, limits.batch, limits.canvas, flags.path)
        service = Service(engine, Answers(MeshWriter(reconstructor.head_model)), limits, _say)
        host, port = sock.getsockname()[:2]
        _say(f"http://{f'[{host}]' if ':' in host else host}:{port}  path {engine.path}, compiling …")
        Server(service, flags.access_log, _say).run([sock])
    code = EXIT_NOTHING if service.has_failed else EXIT_OK
    _say(service.account())
    if service.is_compiling:  # which cannot be interrupted, and would be waited for
        sys.stderr.flush()
        os._exit(code)
    return code


def _say(line: str) -> None:
    echo(line)
    sys.stdout.flush()


main = Command(__doc__, add_arguments, run)
