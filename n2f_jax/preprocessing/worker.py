"""One process's work: images through the front end, their faces onto the disk, a record of each."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from n2f_jax.data.images import ImageError, ImageInfo, read_image
from n2f_jax.data.manifest import Record
from n2f_jax.data.preprocessed import StoredFace, face_id, face_path, write_face
from n2f_jax.frontends.base import FrontendFace, largest_face_size
from n2f_jax.frontends.registry import make_frontend
from n2f_jax.geometry.crop import Crop, crop_intrinsics
from n2f_jax.geometry.focal import Focal, resolve_focal
from n2f_jax.preprocessing.settings import Settings
from n2f_jax.runtime.output_folder import describe_error, stop_if_over

_NO_INFO = ImageInfo(focal=None, orientation=1, mode="RGB")  # of a video's frame


@dataclasses.dataclass(frozen=True)
class Task:
    """One image to do.

    Attributes:
        key, path, file: as in the manifest's ``Record``: name, file, its size and time of change.
        frame: number of the frame, if it is one of a video.
        image: ``(H, W, 3)`` uint8 RGB of the frame; None: to be read from the file.
    """

    key: str
    path: Path
    file: tuple[int, int]
    frame: int | None = None
    image: np.ndarray | None = None

    def record(self, **values: Any) -> Record:
        return Record(self.key, frame=self.frame, source=str(self.path), file=self.file, **values)


class Worker:
    """Not thread-safe: one object for each process.

    Args:
        folder: the preprocessed folder.
        settings: how faces are made.

    Raises:
        ValueError, AssetError, ImportError: the front end cannot be made (``make_frontend``).
    """

    def __init__(self, folder: Path, settings: Settings):
        self.folder, self.settings = folder, settings
        self.frontend = make_frontend(settings.frontend, settings.frontend_options)

    def process(self, tasks: Sequence[Task]) -> list[Record]:
        """Does some images together; a record of each, in order. Its faces are on the disk by then.

        Raises:
            OutputError: nothing can be written any more.
        """
        started = time.perf_counter()
        records: dict[int, Record] = {}
        images: dict[int, tuple[np.ndarray, ImageInfo]] = {}
        for number, task in enumerate(tasks):
            try:
                images[number] = (task.image, _NO_INFO) if task.image is not None else read_image(task.path)
            except ImageError as error:
                reason = str(error).removeprefix(f"{task.path}: ")
                records[number] = task.record(status="error", reason=reason)
            except Exception as error:  # a damaged file can fail in any way inside a decoder
                records[number] = task.record(status="error", reason=f"unreadable: {describe_error(error)}")
        found = self._detect([tasks[n].path for n in images], [image for image, _ in images.values()])
        for (number, (image, info)), faces in zip(images.items(), found, strict=True):
            records[number] = self._store(tasks[number], image, info, faces)
        share = (time.perf_counter() - started) / max(1, len(tasks))
        return [dataclasses.replace(records[n], seconds=round(share, 4)) for n in range(len(tasks))]

    def _detect(self, paths: list[Path], images: list[np.ndarray]) -> list[list[FrontendFace] | Exception]:
        """Faces of all images at once; if that fails, image by image."""
        if not images:
            return []
        try:
            return self.frontend(images, paths)
        except Exception as error:
            if len(images) == 1:
                return [error]
            return [self._detect([path], [image])[0] for path, image in zip(paths, images, strict=True)]

    def _store(
        self, task: Task, image: np.ndarray, info: ImageInfo, faces: list[FrontendFace] | Exception
    ) -> Record:
        size = (int(image.shape[0]), int(image.shape[1]))
        if isinstance(faces, Exception):
            return task.record(status="error", reason=f"front end: {describe_error(faces)}", image_size=size)
        faces = faces[: self.settings.options.max_faces]
        if not faces:
            return task.record(status="no face", image_size=size)
        largest = largest_face_size(faces, self.settings.frontend_options.crop_scale)
        focal = resolve_focal(size, self.settings.focal, info.focal, largest)
        note = info.focal_note or focal.note if self.settings.focal is None else ""
        names, sizes = [], []
        try:
            for face in faces:
                name = face_id(task.key, task.frame, len(names) + 1)
                stored = stored_face(face, size, focal, task.path, task.frame)
                path = face_path(self.folder, name)
                write_face(path, stored)
                names.append(name)
                sizes.append(path.stat().st_size)
        except OSError as error:
            stop_if_over(error, self.folder)
            return task.record(status="error", reason=f"writing: {describe_error(error)}", image_size=size)
        except Exception as error:  # one image never stops the others
            return task.record(
                status="error", reason=f"the front end's maps: {describe_error(error)}", image_size=size
            )
        return task.record(status="ok", reason=note, faces=tuple(names), sizes=tuple(sizes), image_size=size)


def stored_face(
    face: FrontendFace,
    image_size: tuple[int, int],
    focal: Focal,
    source: str | Path,
    frame: int | None = None,
) -> StoredFace:
    """What a front end found, as it is stored.

    Args:
        face: from the front end.
        image_size: height and width of its image.
        focal: of the image (``resolve_focal``).
        source: the image's file.
        frame: of a video.

    Raises:
        ValueError: the face has no pixel.
    """
    normals, mask = np.asarray(face.normals, np.float32), np.asarray(face.mask, np.float32)
    mask = np.where(
        np.linalg.norm(normals, axis=-1) > 0.5, mask, 0
    )  # a pixel without a direction shows no face
    if not mask.any():
        raise ValueError("the mask is empty")
    size = mask.shape[0]
    crop = Crop(np.asarray(face.crop.x0y0, np.float64), np.asarray(face.crop.side, np.float64))
    length, centre = crop_intrinsics(focal.pixels, 0.5 * np.array(image_size[::-1]), crop, size)
    landmarks = size / crop.side * (np.asarray(face.landmarks_68, np.float64) - crop.x0y0)
    provenance = {} if face.provenance is None else dataclasses.asdict(face.provenance)
    return StoredFace(
        normals=normals,
        mask=mask,
        crop=np.array([*crop.x0y0, crop.side]),
        landmarks_68=landmarks.astype(np.float32),
        intrinsics=np.array([[length, 0, centre[0]], [0, length, centre[1]], [0, 0, 1]]),
        focal_source=focal.source,
        image_size=image_size,
        source=str(source),
        frame=frame,
        score=float(face.score),
        provenance=provenance,
        uv=None if face.uv is None else np.asarray(face.uv, np.float32),
        classes=None if face.classes is None else np.asarray(face.classes, np.uint8),
    )
