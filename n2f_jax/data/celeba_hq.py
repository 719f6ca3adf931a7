"""Stored faces with pseudo ground truth: what fine-tuning stage 1 learns from, CelebA-HQ above all.

N2FNet, section IV.1: CelebA-HQ with FLAME parameters from a tracker. Which tracker is all the same here: whatever wrote
``.truth.npz`` beside the faces (our fitter, or Pixel3DMM's frames through ``scripts/preprocess.py``).
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import numpy as np

from flame_jax import HeadModel
from n2f_jax.data.face_views import View, face_view, landmark_square
from n2f_jax.data.preprocessed import face_path, list_faces, read_face
from n2f_jax.data.pseudo_truth import PseudoTruthError, read_truth, truth_path
from n2f_jax.models.pretrained import HeadModelIdentity

Part = Literal["train", "validation", "test", "all"]
# list_eval_partition.txt's numbers.
_PARTS: dict[str, int] = {"train": 0, "validation": 1, "test": 2}
MAPPING_FILE, PARTITION_FILE = "CelebA-HQ-to-CelebA-mapping.txt", "list_eval_partition.txt"
# Where there is no official partition: of 20 faces one is for validation, one for test.
_HELD_OUT = 20


class PseudoTruthFaces(Sequence[View]):
    """Stored faces that have pseudo ground truth, as the network is shown them.

    An item is ``face_view``'s dict with the camera of the pseudo ground truth, and ``shape`` (S,), ``expression`` (E,),
    ``jaw`` (6,), ``eyelids`` (2,), ``rotation`` (3, 3), ``translation`` (3,); all float32.

    Args:
        folder: preprocessed.
        size: of the network's input in pixels.
        crop_scale: side of the crop over the longer side of the box of the front end's landmarks.
        head_model: that the coefficients must belong to.
        part: ``'train'``, ``'validation'``, ``'test'`` or ``'all'``.
        celeba: folder with CelebA's ``list_eval_partition.txt`` and CelebAMask-HQ's
            ``CelebA-HQ-to-CelebA-mapping.txt``, by which the parts are CelebA's own. None: by the faces' hashes, 18/20,
            1/20 and 1/20.
        rotations: of front ends' normals into the head model's frame (``face_view``).

    Attributes:
        without_truth: how many faces of the part were left out because nothing was fitted to them.

    Raises:
        ManifestError: not a preprocessed folder.
        PseudoTruthError: no face of the part has pseudo ground truth, or the first one's is another head model's.
        OSError, ValueError: CelebA's files are missing or damaged.
    """

    def __init__(
        self,
        folder: str | Path,
        size: int,
        crop_scale: float,
        head_model: HeadModel | HeadModelIdentity,
        part: Part = "train",
        celeba: str | Path | None = None,
        rotations: Mapping[str, np.ndarray] = MappingProxyType({}),
    ):
        self._rotations = rotations
        self.folder, self.size, self.crop_scale = Path(folder), size, crop_scale
        known = isinstance(head_model, HeadModelIdentity)
        self.head_model = head_model if known else HeadModelIdentity.of(head_model)
        self._faces = list_faces(folder)
        in_part = _celeba_parts(Path(celeba)) if celeba is not None else _hash_part
        wanted = [i for i, face in enumerate(self._faces) if part == "all" or in_part(face) == part]
        have = [i for i in wanted if truth_path(folder, self._faces[i]).is_file()]
        self._positions = np.array(have, np.int64)
        self.without_truth = len(wanted) - len(have)
        if not have:
            raise PseudoTruthError(
                f"{folder}: none of the {len(wanted)} faces of part {part!r} has pseudo ground truth (*.truth.npz): "
                "scripts/fit.py writes it for a preprocessed folder"
            )
        self[0]  # another head model is an error at once, and not in the middle of an epoch

    def __len__(self) -> int:
        return len(self._positions)

    def id(self, position: int) -> str:
        """The face's id in the folder."""
        return self._faces[int(self._positions[position])]

    def __getitem__(self, position: int) -> View:
        face_name = self.id(position)
        path = truth_path(self.folder, face_name)
        truth = read_truth(path)
        if differences := self.head_model.differences(truth.head_model):
            raise PseudoTruthError(
                f"{path} belongs to head model {truth.head_model.name!r}, not {self.head_model.name!r}: "
                + "; ".join(differences)
            )
        face = read_face(face_path(self.folder, face_name))
        square = landmark_square(face.landmarks_68, self.crop_scale)
        face = dataclasses.replace(face, intrinsics=truth.intrinsics.astype(np.float64))
        view = face_view(face, square, self.size, self._rotations)
        names = ("shape", "expression", "jaw", "eyelids", "rotation", "translation")
        return view | {name: getattr(truth, name) for name in names}


def _hash_part(face: str) -> Part:
    number = int(re.sub(r"_face\d+$", "", face).rsplit("-", 1)[1], 16) % _HELD_OUT
    return {0: "validation", 1: "test"}.get(number, "train")


def _celeba_parts(folder: Path):
    """Face id → part, by the number that the image is called in CelebA-HQ."""
    names = {number: name for name, number in _PARTS.items()}
    partition = {}
    for path, line, columns in _rows(folder / PARTITION_FILE, 2):
        if columns[1] not in ("0", "1", "2"):
            raise ValueError(f"{path}, line {line}: a partition is 0, 1 or 2, not {columns[1]}")
        partition[columns[0]] = names[int(columns[1])]
    parts: dict[int, Part] = {}
    for path, line, columns in _rows(folder / MAPPING_FILE, 3):
        if columns[0] == "idx":
            continue
        if columns[2] not in partition:
            raise ValueError(f"{path}, line {line}: {columns[2]} is not in {PARTITION_FILE}")
        parts[int(columns[0])] = partition[columns[2]]

    def part(face: str) -> Part:
        # 17.jpg, or 17/rgb/00000.jpg of Pixel3DMM's.
        number = re.fullmatch(r"(\d+)(-00000)?-[0-9a-f]+(_face\d+)?", face.rsplit("/", 1)[1])
        if number is None or int(number[1]) not in parts:
            raise ValueError(f"face {face} is not called by a number of CelebA-HQ's (0.jpg … 29999.jpg)")
        return parts[int(number[1])]

    return part


def _rows(path: Path, count: int):
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if columns := line.split():
            if len(columns) != count:
                raise ValueError(f"{path}, line {number}: {count} columns are expected")
            yield path, number, columns
