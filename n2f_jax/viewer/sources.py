"""What there is to look at: the heads of a run of ``n2f reconstruct``, one head's file, or the track of a clip."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float, UInt8

from n2f_jax.data.images import ImageError, read_image
from n2f_jax.face_mesh.coarse_mesh import NUM_POINTS
from n2f_jax.geometry.crop import landmark_crop
from n2f_jax.reconstruction.batch_run import SUMMARY
from n2f_jax.reconstruction.head_file import load_parameters
from n2f_jax.reconstruction.summary_file import read_entries
from n2f_jax.runtime.display import printable
from n2f_jax.runtime.outside_values import OutsideValueError, numbers, read_arrays, read_json, told
from n2f_jax.tracking.clips import ClipError, open_clip
from n2f_jax.tracking.track_file import LOST, STATUSES, load_track
from n2f_jax.viewer.clip_pictures import ClipPictures

TRACK = "track.npz"
MAX_HEADS = 2000  # to choose from
# Of the crop that a track's normals are drawn in, over the box of its landmarks: as the network that ships has it.
_CROP_SCALE = 1.4
_MAX_SIDE = 1 << 20  # of an image that a head may say to be from, pixels


class ViewError(ValueError):
    """Nothing to look at; one line that says why."""


@dataclasses.dataclass(frozen=True)
class SeenHead:
    """A head as one image shows it. Units, frames and pixels as in ``reconstruction.head_file.KEYS``.

    Attributes:
        shape, expression, jaw_pose, eyelids, eyes_pose: coefficients.
        rotation, translation: head frame to camera frame.
        intrinsics: K of the image.
        image_size: (height, width).
        crop: ``(3,)`` x0, y0, side of the square that normals are drawn in.
        confidence: of the points under the head; NaN where not known.
        region_confidence: ``(6,)`` of ``face_confidence.REGIONS``.
        points: ``(P, 3)`` the face mesh's own points, if that front end saw them; else none.
        status: of a track's frame; "" of a photograph's head.
    """

    shape: Float[np.ndarray, " S"]
    expression: Float[np.ndarray, " E"]
    jaw_pose: Float[np.ndarray, "3"]
    eyelids: Float[np.ndarray, "2"]
    eyes_pose: Float[np.ndarray, "2 3"]
    rotation: Float[np.ndarray, "3 3"]
    translation: Float[np.ndarray, "3"]
    intrinsics: Float[np.ndarray, "3 3"]
    image_size: tuple[int, int]
    crop: Float[np.ndarray, "3"]
    confidence: float
    region_confidence: Float[np.ndarray, "6"]
    points: Float[np.ndarray, "P 3"]
    status: str = ""

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            may_be_unknown = field.name in ("region_confidence", "points")
            if isinstance(value, np.ndarray) and not may_be_unknown and not np.isfinite(value).all():
                raise ViewError(f"{field.name} is not finite")
        if (
            not (np.diag(self.intrinsics)[:2] > 0).all()
            or not self.crop[2] > 0
            or not self.translation[2] > 0
        ):
            raise ViewError("no focal length, no crop, or a head that is not before the camera")
        if not all(0 < side <= _MAX_SIDE for side in self.image_size):
            raise ViewError(f"an image of {self.image_size[1]} × {self.image_size[0]}")
        if abs(np.linalg.det(self.rotation) - 1.0) > 1e-2:
            raise ViewError("rotation is none")


class Source(Protocol):
    """Heads by number.

    Attributes:
        names: of the heads; of a track the clip's, once for every frame.
        seconds: moments of a track's frames; None where heads are of photographs.
    """

    names: list[str]
    seconds: Float[np.ndarray, " T"] | None

    def head(self, index: int) -> SeenHead | None:
        """The head; None in a frame whose head is lost."""
        ...

    def picture(self, index: int) -> UInt8[np.ndarray, "H W 3"] | None:
        """The photograph or frame; None where it cannot be had (or not yet)."""
        ...

    def note(self, index: int) -> str:
        """Why there is no picture; "" where there is one."""
        ...


@dataclasses.dataclass
class PhotoHeads:
    """Heads of photographs, each read when it is looked at.

    Attributes:
        files: ``.npz`` of the heads.
        photos: the photograph of each, where it was found.
        names: what they are called in a list.
        seconds: None.
    """

    files: list[Path]
    photos: list[Path | None]
    names: list[str]
    seconds: None = None

    def head(self, index: int) -> SeenHead:
        values = load_parameters(self.files[index])
        seen = values["frontend"] == "face_mesh" and len(values["frontend_points"]) == NUM_POINTS
        try:
            return SeenHead(
                **_coefficients(values),
                rotation=_array(values["rotation"]),
                translation=_array(values["translation"]),
                intrinsics=_array(values["intrinsics"]),
                image_size=_size(values["image_size"]),
                crop=_array(values["crop"]),
                confidence=float(values["confidence"]),
                region_confidence=_array(values["region_confidence"]),
                points=_array(values["frontend_points"] if seen else np.zeros((0, 3))),
            )
        except (ValueError, TypeError, OverflowError) as error:
            raise ViewError(told(self.files[index], error)) from error

    def picture(self, index: int) -> np.ndarray | None:
        return self._photo(index)[0]

    def note(self, index: int) -> str:
        return self._photo(index)[1]

    def _photo(self, index: int) -> tuple[np.ndarray | None, str]:
        path = self.photos[index]
        if path is None:
            return None, "the photograph was not found: --photo says where it is"
        try:
            image, _ = read_image(path)
        except ImageError as error:
            return None, str(error)
        size = self.head(index).image_size
        if image.shape[:2] != size:
            height, width = image.shape[:2]
            return None, f"{path} is {width} × {height}, the head's photograph {size[1]} × {size[0]}"
        return image, ""


@dataclasses.dataclass
class TrackFrames:
    """Frames of a track, with the clip's pictures as far as they are read.

    Attributes:
        track: of ``track_file.KEYS``.
        pictures: of the clip; None where it was not found.
        why: why there are none.
    """

    track: Mapping[str, Any]
    pictures: ClipPictures | None
    why: str = ""

    def __post_init__(self):
        self.seconds = np.asarray(self.track["seconds"], np.float64)
        self.names = [str(self.track["source"])] * len(self.seconds)

    def head(self, index: int) -> SeenHead | None:
        track = self.track
        status = int(track["status"][index])
        if status == LOST:
            return None
        rows = ("expression", "jaw_pose", "eyelids", "eyes_pose")
        crop = landmark_crop(np.asarray(track["landmarks_2d"][index], np.float64), _CROP_SCALE)
        return SeenHead(
            **_coefficients({"shape": track["shape"], **{key: track[key][index] for key in rows}}),
            rotation=_array(track["rotation"][index]),
            translation=_array(track["translation"][index]),
            intrinsics=_array(track["intrinsics"]),
            image_size=_size(track["image_size"]),
            crop=np.array([*np.asarray(crop.x0y0), float(crop.side)]),
            confidence=float(track["confidence"][index]),
            region_confidence=_array(track["region_confidence"][index]),
            points=np.zeros((0, 3)),
            status=STATUSES[status],
        )

    def picture(self, index: int) -> np.ndarray | None:
        return None if self.pictures is None else self.pictures.at(index)

    def note(self, index: int) -> str:
        return self.why if self.pictures is None else self.pictures.problem


def open_source(path: Path, photo: Path | None = None) -> PhotoHeads | TrackFrames:
    """What lies under a path.

    Args:
        path: a folder of ``n2f reconstruct`` or ``n2f track``, or an ``.npz`` of one of them.
        photo: the photograph or clip, or the folder of the photographs, where it is not where it was.

    Raises:
        ViewError: there is nothing of the kind.
        ValueError, OSError: a file is damaged, or cannot be read.
    """
    if path.is_dir():
        if (path / TRACK).is_file():
            return _open_track(path / TRACK, photo)
        return _open_heads(path, None, photo)
    if path.suffix.lower() != ".npz":
        raise ViewError(f"{path}: a folder of n2f reconstruct or n2f track, or an .npz of theirs, is meant")
    if "seconds" in read_arrays(path, ("seconds",)):
        return _open_track(path, photo)
    load_parameters(path)  # said now, if it is no head
    return _open_heads(path.parent, path, photo)


def _open_heads(folder: Path, only: Path | None, photo: Path | None) -> PhotoHeads:
    sources: dict[str, Path] = {}
    for entry in read_entries(folder / SUMMARY).values():
        for face in entry.faces:
            if name := face["files"].get("npz"):
                sources[name] = Path(entry.source)
    if only is not None:
        names = [only.name]
    elif sources:
        names = [name for name in sources if (folder / name).is_file()]
    else:
        names = sorted(file.name for file in folder.glob("*.npz"))
    if not names:
        raise ViewError(f"{folder} has no heads: n2f reconstruct PHOTO --out {folder} makes some")
    files = [folder / name for name in names[:MAX_HEADS]]
    photos = []
    for file in files:
        source = sources.get(file.name) or Path(str(load_parameters(file)["source"]))
        photos.append(_find(source, folder, photo))
    return PhotoHeads(files, photos, [printable(file.stem) for file in files])


def _open_track(path: Path, photo: Path | None) -> TrackFrames:
    track = load_track(path)
    folder, clip = path.parent, None
    try:
        said = read_json(folder / SUMMARY).get("clip")
        clip = said if isinstance(said, str) else None
    except (OSError, OutsideValueError, AttributeError):
        pass  # the track is what is looked at; its name for the clip is tried next
    found = photo or _find(Path(clip or str(track["source"])), folder, None)
    if found is None:
        return TrackFrames(track, None, "the clip was not found: --photo says where it is")
    try:
        opened = open_clip(found, float(track["frame_rate"]))
    except (ClipError, ImportError) as error:
        if photo is not None:
            raise
        return TrackFrames(track, None, str(error))
    if opened.size != _size(track["image_size"]):
        raise ViewError(f"{found}: its frames are not of the track's size")
    return TrackFrames(track, ClipPictures(opened, len(track["seconds"])))


def _find(source: Path, folder: Path, photo: Path | None) -> Path | None:
    """A photograph or clip by the name that a run gave it, where it may be now."""
    if photo is not None:
        return photo / source.name if photo.is_dir() else photo
    for place in (
        source,
        folder / source,
        folder.parent / source,
        folder / source.name,
        folder.parent / source.name,
    ):
        if source.name and place.exists():
            return place
    return None


def _coefficients(values: Mapping[str, Any]) -> dict[str, np.ndarray]:
    return {key: _array(values[key]) for key in ("shape", "expression", "jaw_pose", "eyelids", "eyes_pose")}


def _array(value: Any) -> np.ndarray:
    return numbers(value)


def _size(value: Any) -> tuple[int, int]:
    height, width = numbers(value, np.int64).tolist()
    return height, width
