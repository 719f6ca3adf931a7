"""Stored faces with annotated landmarks: what fine-tuning stage 2 learns from, 300W above all.

N2FNet, section IV.1: 300W with estimated normals and masks and the dataset's own 68 landmarks. Any folder of images
with ``.pts`` files beside them will do.
"""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float
from tqdm import tqdm

from n2f_jax.data.face_views import View, face_view, landmark_square
from n2f_jax.data.manifest import FOLDER, ManifestError, ManifestIndex, Record
from n2f_jax.data.preprocessed import face_path, read_face, read_landmarks
from n2f_jax.data.pts import read_pts
from n2f_jax.geometry.boxes import bounding_box, box_overlap

Part = Literal[
    "train", "validation", "common", "challenging", "private", "own-train", "own-validation", "all"
]
# 300W's folders by the protocol of Ren et al. (CVPR 2014): trained on AFW and the training parts of LFPW and HELEN,
# tested on their test parts (common) and IBUG (challenging); the competition's 600 are the private test set.
PARTS: dict[str, tuple[str, ...]] = {
    "train": ("afw", "helen/trainset", "lfpw/trainset"),
    "common": ("helen/testset", "lfpw/testset"),
    "challenging": ("ibug",),
    "private": ("01_indoor", "02_outdoor"),
}
# What may be trained on is split once more, for 300W has no validation part and its test parts are for tests: part →
# (of 300W's training folders, else of folders that are none of 300W's; the photographs held out).
SPLIT_PARTS: dict[str, tuple[bool, bool]] = {
    "train": (True, False),
    "validation": (True, True),
    "own-train": (False, False),
    "own-validation": (False, True),
}
# One photograph in so many is held out.
_HELD_OUT = 20
# The front end's face is the annotated one where their landmarks' boxes overlap this much.
_SAME_FACE = 0.4


class AnnotatedFaces(Sequence[View]):
    """Stored faces with the 68 landmarks of a dataset, as the network is shown them.

    An item is ``face_view``'s dict, cut on the annotation's landmark box, with the annotated landmarks.

    Args:
        folder: preprocessed.
        annotations: the folder that was preprocessed, with ``NAME.pts`` beside ``NAME.jpg``.
        size: of the network's input in pixels.
        crop_scale: side of the crop over the longer side of the annotated landmarks' box.
        part: ``'train'`` and ``'validation'``, 19/20 and 1/20 of the photographs in 300W's training folders, by the
            hash of their names; ``'common'``, ``'challenging'``, ``'private'``, its test parts; ``'own-train'`` and
            ``'own-validation'``, the same split of images that lie in none of 300W's folders; ``'all'``, every
            annotated face.
        progress: show a progress bar while annotations are matched to faces (a millisecond each).
        rotations: of front ends' normals into the network's head model's frame (``face_view``).

    Attributes:
        left_out: why how many images are not used: ``'no face'``, ``'no .pts'``, ``'another face'`` (the front end saw
            only others in the image), ``'damaged .pts'``, ``'not 68 points'``, ``'unmarked points'``, ``'error'``.

    Raises:
        ManifestError: not a preprocessed folder.
        ValueError: no image of the part is left; the message counts why.
    """

    def __init__(
        self,
        folder: str | Path,
        annotations: str | Path,
        size: int,
        crop_scale: float,
        part: Part = "train",
        progress: bool = True,
        rotations: Mapping[str, np.ndarray] = MappingProxyType({}),
    ):
        self._rotations = rotations
        if part not in get_args(Part):
            raise ValueError(f"no part {part!r}; there are {', '.join(get_args(Part))}")
        if not (Path(folder) / FOLDER).is_dir():
            raise ManifestError(f"{folder} is not a preprocessed folder: scripts/preprocess.py writes one")
        self.folder, self.annotations = Path(folder), Path(annotations)
        self.size, self.crop_scale = size, crop_scale
        self._index = ManifestIndex(folder)
        self.left_out: collections.Counter[str] = collections.Counter()
        images = [
            (position, record.key)
            for position, record in enumerate(self._index)
            if record.frame is None and record.frames is None
        ]
        wanted = _in_part([key for _, key in images], part)
        positions = [position for (position, _), is_wanted in zip(images, wanted, strict=True) if is_wanted]
        chosen = []
        for position in tqdm(positions, "annotations", disable=not progress):
            if isinstance(found := self._match(self._index.record(position)), str):
                self.left_out[found] += 1
            else:
                chosen.append((position, found))
        if not chosen:
            reasons = ", ".join(f"{count} {why}" for why, count in self.left_out.items()) or "it holds none"
            raise ValueError(
                f"{folder}: no face of part {part!r} with landmarks of {annotations} ({reasons})"
            )
        self._chosen = np.array(chosen, np.int32)  # (image, which of its faces)

    def __len__(self) -> int:
        return len(self._chosen)

    def id(self, position: int) -> str:
        """The face's id in the folder."""
        image, number = self._chosen[position].tolist()
        return self._index.record(image).faces[number]

    def __getitem__(self, position: int) -> View:
        image, number = self._chosen[position].tolist()
        record = self._index.record(image)
        face = read_face(face_path(self.folder, record.faces[number]))
        landmarks = _in_stored_pixels(read_pts(self._file(record)), face.crop, face.size)
        square = landmark_square(landmarks, self.crop_scale)
        face = dataclasses.replace(face, landmarks_68=landmarks)
        return face_view(face, square, self.size, self._rotations)

    def _file(self, record: Record) -> Path:
        """The annotation of an image; keys begin with the name of what was preprocessed."""
        return self.annotations.joinpath(*PurePosixPath(record.key).parts[1:]).with_suffix(".pts")

    def _match(self, record: Record) -> int | str:
        """Which of an image's faces is the annotated one, or why there is none."""
        path = self._file(record)
        if not path.is_file():
            return "no .pts"
        if not record.faces:
            return record.status
        try:
            landmarks = read_pts(path)
        except ValueError:
            return "damaged .pts"
        if len(landmarks) != 68:
            return "not 68 points"
        if not np.isfinite(landmarks).all():
            return "unmarked points"
        overlaps = []
        for name in record.faces:
            found, crop, size = read_landmarks(face_path(self.folder, name))
            overlaps.append(
                box_overlap(bounding_box(found), bounding_box(_in_stored_pixels(landmarks, crop, size)))
            )
        best = int(np.argmax(overlaps))
        return best if overlaps[best] >= _SAME_FACE else "another face"


def _in_stored_pixels(
    landmarks: Float[np.ndarray, "n 2"], crop: Float[np.ndarray, "3"], size: int
) -> Float[np.ndarray, "n 2"]:
    """Pixels of the original image → pixels of the stored crop."""
    return (landmarks - crop[:2]) * (size / crop[2])


def _in_part(keys: Sequence[str], part: str) -> list[bool]:
    """Which of a folder's images are of a part; what is held out of ``SPLIT_PARTS`` follows from their names alone."""
    if part == "all":
        return [True] * len(keys)
    if part not in SPLIT_PARTS:
        return [_in_folders(key, PARTS[part]) for key in keys]
    of_300w, wanted = SPLIT_PARTS[part]
    everywhere = [name for names in PARTS.values() for name in names]
    inside = [
        _in_folders(key, PARTS["train"]) if of_300w else not _in_folders(key, everywhere) for key in keys
    ]
    held_out = _held_out({photograph(key) for key, is_inside in zip(keys, inside, strict=True) if is_inside})
    return [
        is_inside and (photograph(key) in held_out) == wanted
        for key, is_inside in zip(keys, inside, strict=True)
    ]


def _in_folders(key: str, names: Sequence[str]) -> bool:
    folder = f"/{PurePosixPath(key).parent.as_posix().lower()}/"
    return any(f"/{name}/" in folder for name in names)


def photograph(key: str) -> str:
    """The name of the photograph that an image is of.

    AFW and HELEN have a file for each face of one (``134212_1.jpg``, ``134212_2.jpg``), which must go the same way.
    """
    stem = PurePosixPath(key).stem
    face = re.fullmatch(r"(\d+)_\d{1,2}", stem)
    return face[1] if face else stem


def _held_out(photographs: set[str]) -> set[str]:
    """The twentieth of them, rounded up, whose hashes come first."""
    digest = lambda name: hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()  # noqa: E731
    return set(sorted(photographs, key=digest)[: -(-len(photographs) // _HELD_OUT)])
