"""Front ends by name."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

from n2f_jax.frontends import DEFAULT_LANDMARKS, FRONTENDS, Landmarks
from n2f_jax.frontends.base import Frontend


@dataclasses.dataclass(frozen=True)
class FrontendOptions:
    """What the front ends take; each reads its own fields.

    Attributes:
        size: S, side of the maps in pixels; a checkpoint records what it was trained with.
        crop_scale: side of the crop over the longer side of the 68 landmarks' box; likewise.
        max_faces: keep only the largest of each image; None keeps all.
        landmarks: which of MediaPipe's face networks finds the points (``frontends.face_networks``).
        small_faces: look hardest for small faces (``frontends.face_detector``).
        turns: look for faces that lie on the side (``frontends.face_landmarks``).
        pixel3dmm_normals: Pixel3DMM's ``normals.ckpt``.
        pixel3dmm_uv: its ``uv.ckpt``; None for no UV.
        farl_weights: FaRL's TorchScript file (``face_parsing.farl.celebm…_jit.pt``); None: where facer keeps it.
        precomputed: a folder that Pixel3DMM's scripts wrote, or the folder of such folders.
        torch_device: ``'cpu'``, ``'cuda'``, ``'cuda:1'``, …; None for the GPU if PyTorch sees one.
        precision: of the PyTorch networks' matrix products.
    """

    size: int = 256
    crop_scale: float = 1.4
    max_faces: int | None = None
    landmarks: Landmarks = DEFAULT_LANDMARKS
    small_faces: bool = False
    turns: bool = True
    pixel3dmm_normals: Path | None = None
    pixel3dmm_uv: Path | None = None
    farl_weights: Path | None = None
    precomputed: Path | None = None
    torch_device: str | None = None
    precision: Literal["float32", "bfloat16", "float16"] = "float32"


def make_frontend(name: str, options: FrontendOptions) -> Frontend:
    """The front end of that name (``FRONTENDS``). Imports what it needs, and nothing of the others.

    Raises:
        ValueError: an unknown name, or a file that the front end needs was not named.
        FrontendFileError, AssetError, ImportError: a file or package is missing or wrong; the message has the remedy.
    """
    if name == "face_mesh":
        from n2f_jax.frontends.face_mesh import FaceMeshFrontend

        return FaceMeshFrontend(
            options.size,
            options.crop_scale,
            options.max_faces,
            small_faces=options.small_faces,
            landmarks=options.landmarks,
            turns=options.turns,
        )
    if name == "pixel3dmm":
        from n2f_jax.frontends.face_landmarks import FaceLandmarker

        try:
            from n2f_jax.frontends.pixel3dmm.frontend import Pixel3dmmFrontend
        except ModuleNotFoundError as error:
            if error.name != "torch":
                raise
            raise ImportError(
                "the pixel3dmm front end needs PyTorch: pip install 'n2f-jax[bridge]'"
            ) from error

        return Pixel3dmmFrontend(
            options.pixel3dmm_normals,
            options.pixel3dmm_uv,
            options.farl_weights,
            size=options.size,
            crop_scale=options.crop_scale,
            max_faces=options.max_faces,
            device=options.torch_device,
            precision=options.precision,
            landmarker=FaceLandmarker(
                small_faces=options.small_faces,
                every_face=options.max_faces != 1,
                landmarks=options.landmarks,
            ),
        )
    if name == "precomputed":
        from n2f_jax.frontends.precomputed import PrecomputedFrontend

        return PrecomputedFrontend(options.precomputed, size=options.size, crop_scale=options.crop_scale)
    raise ValueError(f"no front end named {name!r}; there are {', '.join(FRONTENDS)}")
