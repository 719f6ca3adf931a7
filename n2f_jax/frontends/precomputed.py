"""The front end that computes nothing: what Pixel3DMM's own scripts wrote for each photograph."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from n2f_jax.frontends.base import Frontend, FrontendFace, Image, Provenance
from n2f_jax.frontends.files import FrontendFileError, record
from n2f_jax.frontends.pixel3dmm.folder import find_frame
from n2f_jax.frontends.resample import crop_maps
from n2f_jax.geometry.crop import landmark_crop


class PrecomputedFrontend(Frontend):
    """Normals, UV, classes and PIPNet's landmarks of a folder that Pixel3DMM wrote; one face a photograph. No PyTorch.

    Args:
        folder: ``PREPROCESSED_DATA`` or one folder in it (``pixel3dmm.folder``).
        size: S, side of the maps in pixels.
        crop_scale: side of the crop over the longer side of the 68 landmarks' box.

    Raises:
        FrontendFileError: no such folder.
    """

    name = "precomputed"

    def __init__(self, folder: str | Path | None, *, size: int, crop_scale: float):
        if folder is None or not Path(folder).is_dir():
            raise FrontendFileError(
                "the precomputed front end reads a folder that Pixel3DMM's scripts wrote: --precomputed=DIR, "
                + ("which was not given" if folder is None else f"and {folder} is none")
            )
        self.folder, self.size, self.crop_scale = Path(folder).absolute(), size, crop_scale

    def detect(self, images: Sequence[Image], sources: Sequence[Path | None]) -> list[list[FrontendFace]]:
        """The one face of each image, found by the image's file.

        Raises:
            FrontendFileError: an image without its file, or nothing (whole) of it in the folder.
        """
        return [[self._face(image, source)] for image, source in zip(images, sources, strict=True)]

    def _face(self, image: Image, source: Path | None) -> FrontendFace:
        if source is None:
            raise FrontendFileError(
                "the precomputed front end finds maps by the image's file: give its source"
            )
        folder, name, is_crop = find_frame(self.folder, source)
        frame = folder.read(name, image.shape[:2], is_crop)
        crop = landmark_crop(frame.landmarks_68, self.crop_scale)
        maps = crop_maps(frame.window, crop, self.size, frame.normals, frame.classes, frame.uv)
        return FrontendFace(
            normals=maps.normals,
            mask=maps.mask,
            crop=crop,
            landmarks_68=frame.landmarks_68,
            score=float("nan"),
            uv=maps.uv,
            classes=maps.classes,
            provenance=Provenance(
                frontend=self.name,
                files=record(frame.files),
                region="Pixel3DMM's crop",
                mask="told by the normals"
                if frame.classes is None
                else "FaRL's classes, by facer as Pixel3DMM changed it",
                landmarks="PIPNet's 98 points",
            ),
        )
