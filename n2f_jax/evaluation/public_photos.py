"""Photographs that lie in public repositories: listed by repository, commit and path, never copied here.

A list is a JSON file of one repository::

    {
      "repository": "owner/name",
      "commit": "40 hex digits",
      "about": "what these are, and what was left out",
      "photographs": [
        {"path": "folder/photo.jpg", "split": "choosing", "person": "a", "faces": 1,
         "boxes": [[120, 80, 240, 210]], "unclear": [[400, 60, 440, 110]], "tags": ["glasses"]}
      ]
    }

Of a photograph only ``path`` is required. Whoever measures puts the repositories where
``ROOT/owner/name/path`` is each file (``photo_files`` says how where one is missing).
"""

from __future__ import annotations

import dataclasses
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from flame_jax.files.outside import one_line, reason
from n2f_jax.runtime.outside_values import OutsideValueError, read_bytes, read_json

SPLITS = ("choosing", "reporting")
NUM_LANDMARKS = 68
_MAX_XML_BYTES = 1 << 28

_LIST_KEYS = frozenset({"repository", "commit", "about", "photographs"})
_PHOTO_KEYS = frozenset({"path", "split", "person", "faces", "boxes", "unclear", "tags"})


class PhotoListError(ValueError):
    """A list, or a file of landmarks, that cannot be what it should be; the message names file and reason."""


class MissingPhotoError(FileNotFoundError):
    """A listed photograph is not under the folder given; the message says which, and what brings it."""


@dataclasses.dataclass(frozen=True)
class PublicPhoto:
    """One photograph of a public repository, and what a person saw in it.

    Attributes:
        repository: ``owner/name`` on GitHub.
        commit: 40 hex digits.
        path: inside the repository, with ``/``.
        split: ``choosing``: settings may be chosen on it; ``reporting``: only reported; None: not said.
        person: the same for all photographs of one person, within the repository; None: several, or not said.
        faces: how many a person counted; None: not counted.
        boxes: ``(faces, 4)`` u0, v0, u1, v1 in pixels around brows, jaw and chin (the 68 landmarks), each
            checked by eye; None: not drawn.
        unclear: ``(n, 4)`` likewise: where a face may or may not be counted (out of focus, cut off, a picture
            in the picture).
        tags: what else is known of it.
    """

    repository: str
    commit: str
    path: str
    split: str | None = None
    person: str | None = None
    faces: int | None = None
    boxes: np.ndarray | None = None
    unclear: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros((0, 4)))
    tags: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """``owner/name/path``: the file's place under the folder of all repositories."""
        return f"{self.repository}/{self.path}"


@dataclasses.dataclass(frozen=True)
class LandmarkedFace:
    """One face of a dlib landmark file, in pixels (u = 0 is the left edge, pixel centres at +0.5).

    Attributes:
        box: ``(4,)`` float32 u0, v0, u1, v1: the outer edges of the pixels that the file's box holds.
        points: ``(68, 2)`` float32 u, v, in iBUG's order.
    """

    box: np.ndarray
    points: np.ndarray


def read_photo_list(path: Path | str) -> list[PublicPhoto]:
    """The photographs of one list file, in its order.

    Raises:
        PhotoListError: not JSON, a key that is unknown or missing, a value that cannot be, or a path twice.
    """
    path = Path(path)
    try:
        content = read_json(path)
    except OutsideValueError as error:
        raise PhotoListError(str(error)) from error
    try:
        if not isinstance(content, dict):
            raise ValueError("an object with 'repository', 'commit' and 'photographs' is expected")
        _check_keys(content, _LIST_KEYS, ("repository", "commit", "photographs"))
        repository, commit = content["repository"], content["commit"]
        if len(PurePosixPath(repository).parts) != 2 or ".." in repository.split("/"):
            raise ValueError(f"repository {repository!r} is not owner/name")
        if len(commit) != 40 or not set(commit) <= set("0123456789abcdef"):
            raise ValueError(f"commit {commit!r} is not 40 hex digits")
        photos = [_photo(repository, commit, entry) for entry in content["photographs"]]
    except (ValueError, TypeError, AttributeError) as error:
        raise PhotoListError(f"{path}: {reason(error)}") from error
    names = [photo.path for photo in photos]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise PhotoListError(f"{path}: listed twice: {', '.join(twice)}")
    return photos


def read_photo_lists(folder: Path | str) -> list[PublicPhoto]:
    """The photographs of all ``*.json`` in a folder, by file name.

    Raises:
        PhotoListError: as ``read_photo_list``, or there is no list.
    """
    files = sorted(Path(folder).glob("*.json"))
    if not files:
        raise PhotoListError(f"{folder}: no list (*.json) there")
    return [photo for file in files for photo in read_photo_list(file)]


def photo_files(photos: Sequence[PublicPhoto], root: Path | str) -> list[Path]:
    """Where each photograph lies under a folder that holds the repositories as ``ROOT/owner/name``.

    Raises:
        MissingPhotoError: one is not there; the message has the commands that bring its repository.
    """
    root = Path(root)
    files = [root / photo.name for photo in photos]
    missing = [photo for photo, file in zip(photos, files, strict=True) if not file.is_file()]
    if missing:
        raise MissingPhotoError(_how_to_fetch(missing, root))
    return files


def read_dlib_landmarks(path: Path | str) -> dict[str, list[LandmarkedFace]]:
    """The boxes and 68 points of a landmark file as dlib's ``imglab`` writes it.

    dlib counts pixels from 0 at their centres, so half a pixel is added to every point.

    Args:
        path: an XML file with ``<image file="…"><box left top width height><part name="00" x y/>…``.

    Returns:
        Image file, as written there → its faces. Boxes without parts, and those marked ``ignore``, are left
        out.

    Raises:
        PhotoListError: not XML, or a box whose parts are not 00 … 67 once each.
    """
    path = Path(path)
    try:
        tree = ElementTree.fromstring(read_bytes(path, _MAX_XML_BYTES, "landmark files"))
    except OutsideValueError as error:
        raise PhotoListError(str(error)) from error
    except (ElementTree.ParseError, ValueError, LookupError) as error:  # LookupError: an unknown encoding
        raise PhotoListError(f"{path}: not XML: {reason(error)}") from error
    images: dict[str, list[LandmarkedFace]] = {}
    for image in tree.iter("image"):
        name = image.get("file", "")
        faces = images.setdefault(name, [])
        for number, box in enumerate(image.iter("box")):
            parts = list(box.iter("part"))
            if not parts or box.get("ignore") == "1":
                continue
            try:
                faces.append(_landmarked_face(box, parts))
            except (KeyError, ValueError) as error:
                raise PhotoListError(
                    f"{path}: {one_line(name, 100)}, box {number}: {reason(error)}"
                ) from error
    return images


def _landmarked_face(box: ElementTree.Element, parts: Sequence[ElementTree.Element]) -> LandmarkedFace:
    places = {int(part.attrib["name"]): (float(part.attrib["x"]), float(part.attrib["y"])) for part in parts}
    if sorted(places) != list(range(NUM_LANDMARKS)) or len(parts) != NUM_LANDMARKS:
        raise ValueError(f"{len(parts)} parts, where 00 … 67 are expected once each")
    left, top, width, height = (float(box.attrib[key]) for key in ("left", "top", "width", "height"))
    points = np.array([places[i] for i in range(NUM_LANDMARKS)], np.float32) + np.float32(0.5)
    return LandmarkedFace(np.array([left, top, left + width, top + height], np.float32), points)


def _photo(repository: str, commit: str, entry: Any) -> PublicPhoto:
    if not isinstance(entry, dict):
        raise ValueError(f"a photograph is an object, not {entry!r}")
    path = entry.get("path", "?")
    try:
        _check_keys(entry, _PHOTO_KEYS, ("path",))
        if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
            raise ValueError("the path leaves the repository")
        split = entry.get("split")
        if split is not None and split not in SPLITS:
            raise ValueError(f"split {split!r} is none of {', '.join(SPLITS)}")
        boxes = _boxes(entry["boxes"]) if "boxes" in entry else None
        faces = entry.get("faces")
        if boxes is not None and faces is not None and len(boxes) != faces:
            raise ValueError(f"{len(boxes)} boxes of {faces} faces")
        return PublicPhoto(
            repository=repository,
            commit=commit,
            path=path,
            split=split,
            person=entry.get("person"),
            faces=faces,
            boxes=boxes,
            unclear=_boxes(entry.get("unclear", [])),
            tags=tuple(entry.get("tags", [])),
        )
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: {error}") from error


def _boxes(values: Any) -> np.ndarray:
    boxes = np.array(values, np.float64).reshape(-1, 4) if values else np.zeros((0, 4))
    if len(boxes) != len(values) or not (boxes[:, 2:] > boxes[:, :2]).all():
        raise ValueError(f"boxes are u0, v0, u1, v1 with u1 > u0 and v1 > v0, not {values}")
    return boxes


def _check_keys(entry: dict[str, Any], known: frozenset[str], required: tuple[str, ...]) -> None:
    if unknown := sorted(set(entry) - known):
        raise ValueError(f"unknown key {', '.join(unknown)}; there are {', '.join(sorted(known))}")
    if missing := [key for key in required if key not in entry]:
        raise ValueError(f"no {', '.join(missing)}")


def _how_to_fetch(missing: Sequence[PublicPhoto], root: Path) -> str:
    """What is missing, by its first file, and the commands for each repository."""
    lines = [f"{root / missing[0].name} is not there"]
    if len(missing) > 1:
        lines[0] += f", nor are {len(missing) - 1} other listed photographs"
    lines.append("these commands bring them:")
    for repository, commit in dict.fromkeys((photo.repository, photo.commit) for photo in missing):
        folder = root / repository
        lines.append(
            f"  git clone https://github.com/{repository} {folder} && git -C {folder} checkout {commit}"
        )
    return "\n".join(lines)
