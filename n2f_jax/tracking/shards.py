"""What the first pass found, on disk: a file for each so many frames, so that a clip may be of any length."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, UInt8

from n2f_jax.frontends.face_confidence import REGIONS
from n2f_jax.runtime.atomic_files import atomic_path
from n2f_jax.runtime.outside_values import OutsideValueError, read_arrays

SHARD = 128  # frames of a file
THUMBNAIL = (18, 32)  # rows and columns


@dataclasses.dataclass(frozen=True)
class Faces:
    """K faces of some frames. NumPy; pixels of the upright frames.

    Attributes:
        frame: ``(K,)`` number of each one's frame; rising, and within a frame the largest face first.
        points: ``(K, 468, 3)`` the face mesh's, as ``FrontendFace.points_468``; NaN where there are none.
        landmarks: ``(K, 68, 2)``.
        crop: ``(K, 3)`` x0, y0, side of what the network saw.
        score, confidence: ``(K,)`` as of ``FrontendFace``.
        region_confidence: ``(K, 6)``.
        closure: ``(K, 2)``; NaN where not seen.
        gaze: ``(K, 3)`` likewise, in the frame of the ray to the face (``frontends.eyes.Eyes``).
        irises: ``(K, 10, 2)`` likewise.
        blendshapes: ``(K, 51)`` scores of ARKit's units; NaN where not known.
        appearance: ``(K, A)`` what a face looks like (``appearance.describe``).
        answer: ``(K, U)`` the most probable head given the network's answer (``models.calibration.to_unknowns``).
        focal: ``(K,)`` that it was looked at with.
    """

    frame: Int[np.ndarray, " K"]
    points: Float[np.ndarray, "K 468 3"]
    landmarks: Float[np.ndarray, "K 68 2"]
    crop: Float[np.ndarray, "K 3"]
    score: Float[np.ndarray, " K"]
    confidence: Float[np.ndarray, " K"]
    region_confidence: Float[np.ndarray, "K 6"]
    closure: Float[np.ndarray, "K 2"]
    gaze: Float[np.ndarray, "K 3"]
    irises: Float[np.ndarray, "K 10 2"]
    blendshapes: Float[np.ndarray, "K 51"]
    appearance: Float[np.ndarray, "K A"]
    answer: Float[np.ndarray, "K U"]
    focal: Float[np.ndarray, " K"]

    def __len__(self) -> int:
        return len(self.frame)

    def rows(self, chosen: np.ndarray) -> Faces:
        """Some of them."""
        return Faces(**{field.name: getattr(self, field.name)[chosen] for field in dataclasses.fields(self)})

    @classmethod
    def joined(cls, parts: list[Faces]) -> Faces:
        """Several, one after the other."""
        return cls(
            **{
                field.name: np.concatenate([getattr(part, field.name) for part in parts])
                for field in dataclasses.fields(cls)
            }
        )


_SHAPES = {
    "frame": (),
    "points": (468, 3),
    "landmarks": (68, 2),
    "crop": (3,),
    "score": (),
    "confidence": (),
    "region_confidence": (len(REGIONS),),
    "closure": (2,),
    "gaze": (3,),
    "irises": (10, 2),
    "blendshapes": (51,),
    "appearance": (None,),
    "answer": (None,),
    "focal": (),
}


@dataclasses.dataclass(frozen=True)
class Shard:
    """Consecutive frames.

    Attributes:
        start: number of the first one.
        seconds: ``(n,)`` moments.
        thumbnails: ``(n, h, w, 3)`` uint8, by which cuts are seen.
        faces: of these frames.
    """

    start: int
    seconds: Float[np.ndarray, " n"]
    thumbnails: UInt8[np.ndarray, "n h w 3"]
    faces: Faces

    def __len__(self) -> int:
        return len(self.seconds)

    def save(self, folder: Path) -> None:
        """Writes the shard's file, whole or not at all."""
        arrays = {field.name: getattr(self.faces, field.name) for field in dataclasses.fields(Faces)}
        with atomic_path(shard_path(folder, self.start)) as temporary:
            np.savez(
                temporary,
                allow_pickle=False,
                start=np.int64(self.start),
                seconds=self.seconds,
                thumbnails=self.thumbnails,
                **arrays,
            )


def shard_path(folder: Path, start: int) -> Path:
    """The file of the shard that begins with a frame."""
    return folder / f"{start // SHARD:06d}.npz"


def read_shard(path: Path) -> Shard:
    """Reads what ``Shard.save`` wrote.

    Raises:
        FileNotFoundError: there is none.
        OutsideValueError: it is damaged, or something else.
    """
    arrays = read_arrays(path)
    names = {"start", "seconds", "thumbnails", *_SHAPES}
    if missing := names - arrays.keys():
        raise OutsideValueError(f"{path}: no {', '.join(sorted(missing))}")
    count, faces = len(np.atleast_1d(arrays["seconds"])), len(np.atleast_1d(arrays["frame"]))
    wanted: dict[str, tuple[int | None, ...]] = {name: (faces, *shape) for name, shape in _SHAPES.items()}
    wanted |= {"start": (), "seconds": (count,), "thumbnails": (count, *THUMBNAIL, 3)}
    for name, shape in wanted.items():
        got = arrays[name].shape
        if len(got) != len(shape) or any(n is not None and n != m for n, m in zip(shape, got, strict=True)):
            raise OutsideValueError(f"{path}: {name} has shape {got}")
        if arrays[name].dtype.kind not in "iuf":
            raise OutsideValueError(f"{path}: {name} holds no numbers")
    start = int(arrays["start"])
    frame = arrays["frame"]
    if (
        count == 0
        or start < 0
        or ((frame < start) | (frame >= start + count) | (np.diff(frame, prepend=0) < 0)).any()
    ):
        raise OutsideValueError(f"{path}: frames that are not the shard's")
    return Shard(
        start, arrays["seconds"], arrays["thumbnails"], Faces(**{name: arrays[name] for name in _SHAPES})
    )


def read_shards(folder: Path, frames: int) -> Iterator[Shard]:
    """The shards of so many frames, in order; errors as ``read_shard``."""
    for start in range(0, frames, SHARD):
        shard = read_shard(shard_path(folder, start))
        if shard.start != start:
            raise OutsideValueError(f"{shard_path(folder, start)}: of frame {shard.start}")
        yield shard
