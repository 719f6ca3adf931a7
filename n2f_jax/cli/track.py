"""A clip to one person's track: one identity, and expression, pose, lids and gaze in every frame.

    n2f track CLIP --out DIR

CLIP is a video file (its own timestamps and rotation hold), a folder of images, or a pattern of image files. Written
are track.npz (the keys are listed in n2f_jax/tracking/track_file.py and docs/tracking.md), overlay.mp4, curves.png,
blendshapes.csv (ARKit's weights, head and eyes, as Live Link Face writes them) and summary.json; with --matte a person
matte of every frame; with --export, for FLAME, folders for other programs, which n2f export track makes of a finished
track too. With --start it begins with a track that is there, of another program (n2f convert track) or corrected by
hand. The same command again goes on where an interrupted one was; for another --person the frames are not looked at
again. Needs the extra `track` (PyAV).

Exit code: 0 every frame has a head; 1 some have not, or the clip is cut off; 2 wrong usage, or nothing to track;
130 interrupted.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from n2f_jax.cli import options
from n2f_jax.cli.command import Command
from n2f_jax.runtime.display import echo


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("clip", type=Path, metavar="CLIP", help="video, folder of images, or pattern")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="made if needed")
    parser.add_argument(
        "--person",
        type=int,
        default=1,
        metavar="N",
        help="of several people: 1 is the one longest and largest in the clip; default: %(default)s",
    )
    parser.add_argument("--fps", type=float, metavar="N", help="of a folder of images; default: 25")
    parser.add_argument(
        "--focal",
        type=float,
        metavar="PX",
        help="default: estimated from the clip, which is not reliable (docs/tracking.md)",
    )
    parser.add_argument(
        "--start",
        type=Path,
        metavar="FILE",
        help="a track.npz of the same frames to begin with, as of n2f convert track; its focal length, if no --focal",
    )
    parser.add_argument("--checkpoint", type=Path, metavar="DIR", help="default: the one that ships")
    options.add_head_model(
        parser,
        "the head model to answer in: FLAME, GNM Head, any in FLAME's format; file or folder (docs/head_models.md)",
    )
    options.add_frontend(parser)
    parser.add_argument(
        "--online",
        action="store_true",
        help="frame by frame, as if live: of the largest face, causal but for --delay",
    )
    parser.add_argument(
        "--delay", type=int, default=2, metavar="N", help="frames that --online lags; default: %(default)s"
    )
    parser.add_argument("--matte", action="store_true", help="a person matte of every frame, as PNG")
    parser.add_argument(
        "--export",
        default="",
        metavar="LIST",
        help="of gaussian-avatars, vhap, insta, metrical-tracker; needs --head-model FLAME",
    )
    parser.add_argument("--no-overlay", action="store_true", help="no video")
    parser.add_argument(
        "--max-faces", type=int, default=4, metavar="N", help="of a frame, the largest; default: %(default)s"
    )
    parser.add_argument("--batch-size", type=int, default=8, metavar="N", help="default: %(default)s")
    parser.add_argument("--overwrite", action="store_true", help="begin again")
    options.add_device(parser)


def run(flags: argparse.Namespace) -> int:
    options.choose_device(flags.device, flags.frontend)
    from n2f_jax.runtime.threads import use_one_thread

    use_one_thread()  # NumPy's products are small here: threads that wait for one another take most of the time
    from n2f_jax.geometry.focal import resolve_focal
    from n2f_jax.reconstruction.reconstructor import Reconstructor
    from n2f_jax.runtime import compilation_cache
    from n2f_jax.tracking.clips import open_clip
    from n2f_jax.tracking.exports import check_formats
    from n2f_jax.tracking.run import TrackOptions, report, say_on_stderr, track_clip

    for name in ("person", "max_faces"):
        if getattr(flags, name) < 1:
            raise ValueError(f"--{name.replace('_', '-')} is at least 1, not {getattr(flags, name)}")
    if flags.start is not None and flags.online:
        raise ValueError(
            "--start is for whole clips: frame by frame (--online) there is nothing to begin with"
        )
    formats = check_formats(tuple(filter(None, flags.export.split(","))))
    clip = open_clip(flags.clip, flags.fps)
    if flags.focal is not None:
        resolve_focal(clip.size, flags.focal)  # a wrong one is said before anything is loaded
    compilation_cache.enable()
    reconstructor = Reconstructor.from_pretrained(
        flags.checkpoint,
        flags.head_model,
        flags.frontend,
        options.frontend_options(flags, max_faces=None),
        refine=0,
        batch_size=flags.batch_size,
    )
    run_options = TrackOptions(
        person=flags.person,
        focal=flags.focal,
        overlay=not flags.no_overlay,
        max_faces=flags.max_faces,
        overwrite=flags.overwrite,
        matte=flags.matte,
        formats=formats,
        head_model=flags.head_model,
        start=flags.start,
    )
    if flags.online:
        from n2f_jax.tracking.online import track_online

        result = track_online(clip, flags.out, reconstructor, run_options, flags.delay, say_on_stderr)
    else:
        result = track_clip(clip, flags.out, reconstructor, run_options, say_on_stderr)
    echo(report(result))
    echo(f"output: {flags.out}")
    return result.exit_code


main = Command(__doc__, add_arguments, run)
