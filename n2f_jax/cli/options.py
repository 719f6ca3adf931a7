"""Flags that several subcommands take, and what they become."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from n2f_jax.frontends import DEFAULT_LANDMARKS, FRONTENDS, LANDMARKS

if TYPE_CHECKING:
    from flame_jax import HeadModel
    from n2f_jax.frontends.registry import FrontendOptions


def add_pixel3dmm(parser: argparse.ArgumentParser) -> None:
    """Files of the paper's front end."""
    for name, metavar, text in (
        ("pixel3dmm-normals", "CKPT", "Pixel3DMM's normals.ckpt, for --frontend pixel3dmm"),
        ("pixel3dmm-uv", "CKPT", "its uv.ckpt, for a checkpoint whose input has UV"),
        ("farl-weights", "PT", "FaRL's parser; default: where facer keeps it"),
    ):
        parser.add_argument(f"--{name}", type=Path, metavar=metavar, help=text)


def add_frontend(parser: argparse.ArgumentParser) -> None:
    """Which front end, its files and its device."""
    parser.add_argument(
        "--frontend",
        choices=FRONTENDS,
        default="face_mesh",
        help="what turns photographs into normal maps (docs/front_ends.md); default: %(default)s, which ships",
    )
    parser.add_argument(
        "--landmarks",
        choices=LANDMARKS,
        default=DEFAULT_LANDMARKS,
        help="which of MediaPipe's face networks finds the points: v2 of 2022 is nearer to the truth than v1 of 2020; "
        "default: %(default)s",
    )
    parser.add_argument(
        "--small-faces", action="store_true", help="look hardest for small faces, whatever the time it takes"
    )
    add_pixel3dmm(parser)
    parser.add_argument(
        "--precomputed",
        type=Path,
        metavar="DIR",
        help="what Pixel3DMM's own scripts wrote, for --frontend precomputed",
    )
    parser.add_argument(
        "--torch-device", metavar="NAME", help="of --frontend pixel3dmm; default: a GPU if any"
    )
    parser.add_argument(
        "--precision",
        choices=("float32", "bfloat16", "float16"),
        default="float32",
        help="of Pixel3DMM's network; default: %(default)s",
    )


def frontend_options(flags: argparse.Namespace, **more: object) -> FrontendOptions:
    """What the flags of ``add_frontend`` say; ``more`` are further fields."""
    from n2f_jax.frontends.registry import FrontendOptions

    return FrontendOptions(
        landmarks=flags.landmarks,
        small_faces=flags.small_faces,
        pixel3dmm_normals=flags.pixel3dmm_normals,
        pixel3dmm_uv=flags.pixel3dmm_uv,
        farl_weights=flags.farl_weights,
        precomputed=flags.precomputed,
        torch_device=flags.torch_device,
        precision=flags.precision,
        **more,
    )


def add_head_model(parser: argparse.ArgumentParser, of: str = "") -> None:
    parser.add_argument(
        "--head-model",
        type=Path,
        metavar="FILE",
        help=f"{of or 'a FLAME or GNM file, or its folder (docs/head_models.md)'}; default: the open head that ships",
    )


def load_head_model(path: Path | None) -> HeadModel:
    """The head model of ``--head-model``; the open head without one.

    Raises:
        HeadModelError: it cannot be read.
    """
    import flame_jax

    return flame_jax.load_head_model(path) if path else flame_jax.load_open_head()


def add_listening(parser: argparse.ArgumentParser, port: int) -> None:
    """Where a page of ours is served, and whether a browser is opened."""
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        metavar="ADDRESS",
        help="to listen at; default: %(default)s, this machine alone. There is no password: others let everybody in",
    )
    parser.add_argument(
        "--port", type=int, default=port, metavar="N", help="default: %(default)s, or the next free one"
    )
    parser.add_argument("--no-browser", action="store_true", help="open none")


def open_browser(url: str, flags: argparse.Namespace) -> None:
    """Opens a page in the desktop's browser, if there is a desktop and ``--no-browser`` does not forbid it."""
    import sys
    import webbrowser

    desktop = (
        sys.platform in ("darwin", "win32") or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    )
    if desktop and not flags.no_browser and not os.environ.get("CI"):
        webbrowser.open(url)


def add_device(parser: argparse._ActionsContainer) -> None:
    parser.add_argument("--device", choices=("cpu", "gpu", "tpu"), help="default: the best that JAX finds")


def choose_device(device: str | None, frontend: str | None = None) -> None:
    """Must come before JAX is imported, which reads it; JAX leaves memory of a GPU to a front end in PyTorch."""
    if frontend == "pixel3dmm":
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    if device:
        os.environ["JAX_PLATFORMS"] = "cuda" if device == "gpu" else device
