"""Faces that a front end has seen, on disk: what preprocessing writes and datasets read.

A preprocessed folder::

    FOLDER/manifest/*.jsonl             a line an image (n2f_jax/data/manifest.py)
    FOLDER/ab/cd/NAME-abcd0123….face.zip   one face; ab, cd: the first digits of its hash
    FOLDER/ab/cd/NAME-abcd0123….truth.npz  its pseudo ground truth, if any (n2f_jax/data/pseudo_truth.py)

256 · 256 folders keep a million faces at some 15 a folder, and the hash of an image's name decides where
its faces lie, so that processes that know nothing of each other never meet.

**One file a face**, a zip archive that stores (PNGs do not shrink any further):

    normals.png   8 bits, RGB = x, y, z as (n + 1)/2, head frame; 128 where the mask is empty
    mask.png      8 bits, 255 on the face
    uv.png        optional; 16 bits, R, G = (u + 1)/2, (v + 1)/2, B = 0
    classes.png   optional; 8 bits, the front end's class ids
    face.json     all numbers

One file and not four because it takes its place by one rename: a face is written atomically, and a face that is
written anew never shows new normals with an old mask, whatever kills the process. It also is a quarter of the files
and of the opens, which is what a million faces cost on a network file system. Any archive tool opens it.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from n2f_jax.data.manifest import FOLDER, ManifestError, ManifestIndex, key_hash
from n2f_jax.runtime.atomic_files import atomic_path

FORMAT = "n2f-jax/face"
FORMAT_VERSION = 1
SUFFIX = ".face.zip"

_NORMALS, _MASK, _UV, _CLASSES, _NUMBERS = "normals.png", "mask.png", "uv.png", "classes.png", "face.json"
# Archives carry times; the same face gives the same bytes.
_EPOCH = (1980, 1, 1, 0, 0, 0)
# Measured on 320² normals: a fifth more bytes than at level 6, a third of the time.
_PNG = (cv2.IMWRITE_PNG_COMPRESSION, 1)


class StoredFaceError(ValueError):
    """A stored face that is missing, damaged or of another format; the message names the file."""


@dataclasses.dataclass(frozen=True)
class StoredFace:
    """One face as stored. NumPy arrays; S is the side of the stored crop in pixels.

    Pixels of the stored crop count from its left and top edge, centres at +0.5.

    Attributes:
        normals: ``(S, S, 3)`` float32 unit normals in the front end's head frame (``face_mesh.map_frames``), zero
            outside the mask.
        mask: ``(S, S)`` float32, 1 on the face.
        crop: ``(3,)`` float64 x0, y0, side: the square of the original image that the maps show, its pixels.
        landmarks_68: ``(68, 2)`` float32 iBUG landmarks in pixels of the stored crop; NaN where there are none.
        intrinsics: ``(3, 3)`` float64 K of the stored crop, pixels.
        focal_source: ``'given'``, ``'exif'``, ``'face'``, ``'default'``, or whatever else made K.
        image_size: (height, width) of the original image.
        source: path of the original image or video.
        frame: number of the video's frame, None for an image.
        score: the front end's probability that this is a face; NaN if it gave none.
        provenance: JSON values: which front end, its version, its crop's scale.
        uv: ``(S, S, 2)`` float32 texture coordinates in [−1, 1], zero outside the mask; None without.
        classes: ``(S, S)`` uint8 class ids of the front end's parser; None without.
    """

    normals: Float[np.ndarray, "S S 3"]
    mask: Float[np.ndarray, "S S"]
    crop: Float[np.ndarray, "3"]
    landmarks_68: Float[np.ndarray, "68 2"]
    intrinsics: Float[np.ndarray, "3 3"]
    focal_source: str
    image_size: tuple[int, int]
    source: str
    frame: int | None = None
    score: float = math.nan
    provenance: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    uv: Float[np.ndarray, "S S 2"] | None = None
    classes: UInt8[np.ndarray, "S S"] | None = None

    @property
    def size(self) -> int:
        """S."""
        return self.mask.shape[0]


def face_id(key: str, frame: int | None = None, number: int = 1) -> str:
    """The id of an image's n-th face: its path in a preprocessed folder, without suffix.

    Args:
        key: of the image (``manifest.Record.key``).
        frame: of the video.
        number: from 1.
    """
    digits = key_hash(key, frame)
    path = Path(key)
    # Pixel3DMM keeps the frames of NAME as NAME/rgb/00000.jpg, …
    name = f"{path.parent.parent.name}-{path.stem}" if path.parent.name == "rgb" else path.stem
    stem = re.sub(r"[^A-Za-z0-9._-]", "_", name)[:40].strip(".")
    if frame is not None:
        stem += f"-{frame:06d}"
    return f"{digits[:2]}/{digits[2:4]}/{stem}-{digits[:16]}" + (f"_face{number}" if number > 1 else "")


def face_path(folder: str | Path, face: str) -> Path:
    """The file of a face by its id."""
    return Path(folder) / f"{face}{SUFFIX}"


class FaceList(Sequence[str]):
    """Ids of all faces of a preprocessed folder, in an order that depends on the images' names alone.

    However many processes wrote the folder, in whatever order. An id is read from the manifest when it is asked for.
    """

    def __init__(self, index: ManifestIndex):
        self._index = index
        self._ends = np.cumsum(index.face_counts(), dtype=np.int64)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, position):
        if isinstance(position, slice):
            return [self[i] for i in range(*position.indices(len(self)))]
        if not -len(self) <= position < len(self):
            raise IndexError(f"face {position} of {len(self)}")
        position %= len(self)
        image = int(np.searchsorted(self._ends, position, side="right"))
        faces = self._index.record(image).faces
        return faces[position - int(self._ends[image]) + len(faces)]

    def __iter__(self) -> Iterator[str]:
        return (face for record in self._index for face in record.faces)


def list_faces(folder: str | Path) -> FaceList:
    """The faces of a preprocessed folder: a sequence of ids for ``face_path`` and ``pseudo_truth.truth_path``.

    Raises:
        ManifestError: no preprocessed folder, or a damaged one.
    """
    if not (Path(folder) / FOLDER).is_dir():
        raise ManifestError(
            f"{folder} is not a preprocessed folder: it has no {FOLDER}/. scripts/preprocess.py writes one"
        )
    return FaceList(ManifestIndex(folder))


def write_face(path: str | Path, face: StoredFace) -> None:
    """Writes one face, atomically. The same face gives the same bytes.

    Args:
        path: from ``face_path``; its folder is made.
        face: what to write.

    Raises:
        ValueError: arrays that do not fit each other or are not finite, normals in the mask that are not unit vectors.
        OSError: the file cannot be written.
    """
    _check(face)
    inside = face.mask > 0
    stored = np.where(inside[..., None], face.normals, 0)
    numbers = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "size": face.size,
        "crop": [float(x) for x in face.crop],
        "image_size": [int(x) for x in face.image_size],
        "intrinsics": np.asarray(face.intrinsics, np.float64).tolist(),
        "focal_source": face.focal_source,
        "landmarks_68": _numbers(np.asarray(face.landmarks_68, np.float32)),
        "source": face.source,
        "frame": face.frame,
        "score": float(face.score) if math.isfinite(face.score) else None,
        "provenance": dict(face.provenance),
    }
    members = {
        _NORMALS: _encode(np.rint((stored + 1) * 127.5).astype(np.uint8)[..., ::-1]),
        _MASK: _encode(np.rint(face.mask * 255).astype(np.uint8)),
    }
    if face.uv is not None:
        uv = np.clip(np.where(inside[..., None], face.uv, 0), -1, 1)
        uv = np.rint((uv + 1) * 32767.5).astype(np.uint16)
        members[_UV] = _encode(np.concatenate([np.zeros_like(uv[..., :1]), uv[..., ::-1]], axis=-1))
    if face.classes is not None:
        members[_CLASSES] = _encode(face.classes)
    text = json.dumps(numbers, ensure_ascii=False, allow_nan=False).encode("utf-8", "surrogateescape")

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), content)
        archive.writestr(zipfile.ZipInfo(_NUMBERS, _EPOCH), text, compress_type=zipfile.ZIP_DEFLATED)


def read_face(path: str | Path) -> StoredFace:
    """Reads one face. Normals are renormalised (8 bits leave up to 0.4°) and zero outside the mask.

    Raises:
        StoredFaceError: missing, damaged, or of another format.
    """
    path = Path(path)
    members, numbers = _read(path, None)
    try:
        size = numbers["size"]
        mask = _decode(members[_MASK], (size, size), np.uint8).astype(np.float32) / 255
        inside = mask > 0
        colors = cv2.cvtColor(_decode(members[_NORMALS], (size, size, 3), np.uint8), cv2.COLOR_BGR2RGB)
        normals = colors.astype(np.float32)
        normals *= np.float32(1 / 127.5)
        normals -= 1
        # No stored direction is shorter than the 0.007 of (128, 128, 128).
        length = np.sqrt(np.einsum("hwc,hwc->hw", normals, normals))
        normals *= (inside / length)[..., None]
        uv = classes = None
        if _UV in members:
            uv = (
                _decode(members[_UV], (size, size, 3), np.uint16)[..., :0:-1].astype(np.float32) / 32767.5 - 1
            )
            uv *= inside[..., None]
        if _CLASSES in members:
            classes = _decode(members[_CLASSES], (size, size), np.uint8)
        return StoredFace(
            normals=normals,
            mask=mask,
            crop=np.array(numbers["crop"], np.float64).reshape(3),
            landmarks_68=np.array(numbers["landmarks_68"], np.float32).reshape(68, 2),
            intrinsics=np.array(numbers["intrinsics"], np.float64).reshape(3, 3),
            focal_source=numbers["focal_source"],
            image_size=tuple(numbers["image_size"]),
            source=numbers["source"],
            frame=numbers["frame"],
            score=math.nan if numbers["score"] is None else numbers["score"],
            provenance=numbers["provenance"],
            uv=uv,
            classes=classes,
        )
    except (KeyError, TypeError, ValueError, cv2.error) as error:
        raise StoredFaceError(f"{path} is damaged: {error!r}") from error


def read_landmarks(path: str | Path) -> tuple[Float[np.ndarray, "68 2"], Float[np.ndarray, "3"], int]:
    """Landmarks, crop and S of a face, without its maps: a tenth of ``read_face``'s time.

    Raises:
        StoredFaceError: as there.
    """
    path = Path(path)
    _, numbers = _read(path, (_NUMBERS,))
    try:
        landmarks = np.array(numbers["landmarks_68"], np.float32).reshape(68, 2)
        return landmarks, np.array(numbers["crop"], np.float64).reshape(3), int(numbers["size"])
    except (KeyError, TypeError, ValueError) as error:
        raise StoredFaceError(f"{path} is damaged: {error!r}") from error


def _read(path: Path, names: Sequence[str] | None) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Members of the archive (all for None) and its numbers, their format checked."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = {name: archive.read(name) for name in names or archive.namelist()}
        numbers = json.loads(members[_NUMBERS].decode("utf-8", "surrogateescape"))
    except OSError as error:
        raise StoredFaceError(f"{path} cannot be read: {error.strerror or error}") from error
    except (zipfile.BadZipFile, zlib.error, KeyError, ValueError, EOFError) as error:
        raise StoredFaceError(f"{path} is damaged or not a stored face: {error}") from error
    if numbers.get("format") != FORMAT or numbers.get("format_version") != FORMAT_VERSION:
        found = f"{numbers.get('format')} {numbers.get('format_version')}"
        raise StoredFaceError(f"{path} is {found}, not {FORMAT} {FORMAT_VERSION}: preprocess it again")
    return members, numbers


def _check(face: StoredFace) -> None:
    size = face.mask.shape[0]
    shapes = {
        "normals": (face.normals, (size, size, 3)),
        "mask": (face.mask, (size, size)),
        "crop": (face.crop, (3,)),
        "landmarks_68": (face.landmarks_68, (68, 2)),
        "intrinsics": (face.intrinsics, (3, 3)),
        "uv": (face.uv, (size, size, 2)),
        "classes": (face.classes, (size, size)),
    }
    for name, (values, shape) in shapes.items():
        if values is None:
            continue
        if np.shape(values) != shape:
            raise ValueError(f"a stored face's {name} is {shape}, not {np.shape(values)}")
        if name != "landmarks_68" and not np.isfinite(values).all():
            raise ValueError(f"a stored face's {name} is not finite")
    if face.mask.min(initial=0) < 0 or face.mask.max(initial=0) > 1:
        raise ValueError("a stored face's mask is 0 … 1")
    if not face.crop[2] > 0:
        raise ValueError(f"a stored face's crop has side {face.crop[2]}")
    if face.classes is not None and face.classes.dtype != np.uint8:
        raise ValueError(f"a stored face's classes are uint8, not {face.classes.dtype}")
    length = np.linalg.norm(face.normals[face.mask > 0], axis=-1)
    if length.size and np.abs(length - 1).max() > 0.01:
        worst = length[np.abs(length - 1).argmax()]
        raise ValueError(
            f"a stored face's normals are unit vectors inside the mask; one has length {worst:.3f}"
        )
    if face.uv is not None and np.abs(face.uv[face.mask > 0]).max(initial=0) > 1.001:
        raise ValueError("a stored face's uv is −1 … 1")


def _encode(image: np.ndarray) -> bytes:
    """PNG of an image with OpenCV's order of channels."""
    done, content = cv2.imencode(".png", np.ascontiguousarray(image), _PNG)
    if not done:
        raise ValueError(f"no PNG could be made of {image.shape} {image.dtype}")
    return content.tobytes()


def _decode(content: bytes, shape: tuple[int, ...], dtype: type) -> np.ndarray:
    image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if image is None or image.shape != shape or image.dtype != dtype:
        found = "no PNG" if image is None else f"{image.shape} {image.dtype}"
        raise ValueError(f"a map is {found}, not {shape} {np.dtype(dtype)}")
    return image


def _numbers(values: np.ndarray) -> list:
    """Nested lists; JSON knows no NaN, so it becomes null. float32 as its shortest decimal."""
    flat = [float(str(x)) if np.isfinite(x) else None for x in values.ravel()]
    return [flat[i : i + values.shape[-1]] for i in range(0, len(flat), values.shape[-1])]
