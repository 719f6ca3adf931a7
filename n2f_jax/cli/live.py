"""A camera's face, live: ARKit's weights, head and eyes as packets for avatars and game engines.

    n2f live                                        # the first webcam to Live Link Face's port 11111 on this machine
    n2f live --live-link 192.168.1.20 --vmc 127.0.0.1:39539
    n2f live --fake-camera clip.mp4 --repeat        # a clip played in real time

Sent are Live Link Face's UDP packets (Unreal) and, with --vmc, the VMC protocol's OSC messages (VSeeFace, Warudo, VRM
avatars in Unity and Unreal); docs/live.md says which names, axes and signs. A page on this machine shows the picture.
The newest frame is looked at and the others are dropped; a camera that goes away is waited for. Ctrl-C ends it.
Needs the extra `live`.

Exit code: 0 the clip is over or --frames are sent; 2 wrong usage, or no camera; 130 interrupted.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from n2f_jax.cli import options
from n2f_jax.cli.command import Command
from n2f_jax.runtime.display import echo


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--camera", default="0", metavar="N", help="number or device path; default: %(default)s"
    )
    parser.add_argument("--fake-camera", type=Path, metavar="CLIP", help="a clip in its place, in real time")
    parser.add_argument("--repeat", action="store_true", help="begin the clip again at its end")
    parser.add_argument(
        "--fps", type=float, metavar="N", help="of a clip that is a folder of images; default: 25"
    )
    parser.add_argument(
        "--size", default="1280x720", metavar="WxH", help="asked of the camera; default: %(default)s"
    )
    parser.add_argument("--focal", type=float, metavar="PX", help="default: assumed")
    parser.add_argument(
        "--live-link", metavar="HOST[:PORT]", help="of Live Link Face; default: 127.0.0.1:11111 without --vmc"
    )
    parser.add_argument("--vmc", metavar="HOST[:PORT]", help="of the VMC protocol; port 39539 unless named")
    parser.add_argument(
        "--subject", default="n2f", metavar="NAME", help="in Unreal's list; default: %(default)s"
    )
    parser.add_argument(
        "--weights",
        choices=("scores", "fit"),
        default="scores",
        help="the front end's own scores, or those of the fitted expression; default: %(default)s, which are nearer",
    )
    parser.add_argument(
        "--page-host", default="127.0.0.1", metavar="HOST", help="default: this machine alone"
    )
    parser.add_argument("--page-port", type=int, default=8010, metavar="N", help="default: %(default)s")
    parser.add_argument("--no-page", action="store_true", help="no page")
    parser.add_argument("--frames", type=int, metavar="N", help="end after so many")
    parser.add_argument("--checkpoint", type=Path, metavar="DIR", help="default: the one that ships")
    options.add_head_model(parser, "the head model whose expressions are fitted")
    options.add_device(parser)


def run(flags: argparse.Namespace) -> int:
    options.choose_device(flags.device)
    from n2f_jax.runtime.threads import use_one_thread

    use_one_thread()  # NumPy's products are small here: threads that wait for one another take most of the time
    from n2f_jax.frontends.registry import FrontendOptions
    from n2f_jax.geometry.focal import resolve_focal
    from n2f_jax.live import live_link, vmc
    from n2f_jax.live.camera import Camera, ClipCamera, Webcam, frame_size
    from n2f_jax.live.preview import PreviewServer
    from n2f_jax.live.run import LiveOptions, LiveReport, Sender, WeightSource, run_live
    from n2f_jax.reconstruction.arkit_files import units_of
    from n2f_jax.reconstruction.reconstructor import Reconstructor
    from n2f_jax.runtime import compilation_cache
    from n2f_jax.runtime.output_folder import EXIT_INTERRUPTED, EXIT_OK
    from n2f_jax.tracking.live import LiveTracker
    from n2f_jax.tracking.run import say_on_stderr

    size = size_of(flags.size)
    if flags.frames is not None and flags.frames < 1:
        raise ValueError(f"--frames is at least 1, not {flags.frames}")
    if flags.focal is not None:
        resolve_focal(size, flags.focal)
    to_live_link = address_of(flags.live_link, live_link.PORT)
    to_vmc = address_of(flags.vmc, vmc.PORT)
    if to_live_link is None and to_vmc is None:
        to_live_link = ("127.0.0.1", live_link.PORT)
    run_options = LiveOptions(to_live_link, to_vmc, flags.subject, flags.weights, flags.frames)
    live_link.check_subject(flags.subject)
    Sender(run_options).close()  # a wrong address is said before anything is loaded
    camera: Camera
    if flags.fake_camera is not None:
        camera = ClipCamera(flags.fake_camera, flags.fps, flags.repeat)
    else:
        camera = Webcam(int(flags.camera) if flags.camera.isdecimal() else flags.camera, size)
    frame_size(camera)  # likewise one that is not there
    preview = None if flags.no_page else PreviewServer(flags.page_host, flags.page_port)
    report = LiveReport()
    try:
        compilation_cache.enable()
        reconstructor = Reconstructor.from_pretrained(
            flags.checkpoint,
            flags.head_model,
            "face_mesh",
            # Nobody lies on the side before a camera, and looking for it takes four times as long.
            FrontendOptions(max_faces=1, landmarks="v2", turns=False),
            refine=0,
            batch_size=1,
        )
        source = WeightSource(units_of(reconstructor.head_model, flags.head_model, echo), flags.weights)
        for name, where in (("Live Link Face", to_live_link), ("VMC", to_vmc)):
            if where is not None:
                say_on_stderr(f"{name}: {where[0]}:{where[1]}")
        if preview is not None:
            say_on_stderr(f"page: {preview.url}")
        run_live(
            camera,
            lambda frame: LiveTracker(reconstructor, frame, flags.focal),
            source,
            run_options,
            preview,
            say_on_stderr,
            report,
        )
    except KeyboardInterrupt:
        echo(f"interrupted: {report.text()}")
        return EXIT_INTERRUPTED
    finally:
        if preview is not None:
            preview.close()
    echo(report.text())
    return EXIT_OK


def address_of(text: str | None, port: int) -> tuple[str, int] | None:
    """``HOST``, ``HOST:PORT``, ``[HOST]:PORT`` as host and port; None of None.

    Raises:
        ValueError: no such text, or a port that is none.
    """
    if text is None:
        return None
    host, colon, number = text.rpartition(":")
    if not colon or (text.count(":") > 1 and not text.startswith("[")):
        host, number = text, str(port)
    host = host.removeprefix("[").removesuffix("]")
    if not host or not number.isdecimal() or not 0 < int(number) < 65536:
        raise ValueError(f"{text}: an address is HOST or HOST:PORT with a port from 1 to 65535")
    return host, int(number)


def size_of(text: str) -> tuple[int, int]:
    """``WxH`` as height and width.

    Raises:
        ValueError: no such text.
    """
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal() and 0 < int(width) <= 8192 and 0 < int(height) <= 8192):
        raise ValueError(f"--size {text}: WxH is meant, as 1280x720")
    return int(height), int(width)


main = Command(__doc__, add_arguments, run)
