"""A track as the start of another: who somebody is, and every frame's expression and pose, by a program or run before.

It takes the place of the network's answers. Its shape is what the joint fit begins at and is held to, its expression,
jaw and lids are those of each frame, its camera is where a frame's fit begins; the front end's points then move all of
them as they move the network's own. Frames that it does not know have the network's answers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from flame_jax import HeadModel
from n2f_jax.geometry.camera import project_points
from n2f_jax.models.pretrained import HeadModelIdentity, identity_sha256
from n2f_jax.runtime.display import printable
from n2f_jax.runtime.outside_values import is_rotation
from n2f_jax.tracking.clips import Clip
from n2f_jax.tracking.shards import Faces
from n2f_jax.tracking.track_file import LOST, load_track

# Of a person's frames, from which a start whose head is not in their face is somebody else's.
_ELSEWHERE = 0.5
_MOST = 100.0  # of any coefficient, radian or metre


class StartError(ValueError):
    """A track that this clip cannot be begun with; the message says why."""


@dataclasses.dataclass(frozen=True)
class Start:
    """A track to begin with.

    Attributes:
        name: for messages.
        shape: ``(S,)`` identity coefficients.
        unknowns: ``(T, V)`` expression, jaw (axis times angle) and lids.
        rotation, translation: ``(T, 3, 3)``, ``(T, 3)`` of ``x_cam = R·x_head + t``; NaN where lost.
        intrinsics: ``(3, 3)`` K.
        known: ``(T,)`` it has a head there.
    """

    name: str
    shape: Float[np.ndarray, " S"]
    unknowns: Float[np.ndarray, "T V"]
    rotation: Float[np.ndarray, "T 3 3"]
    translation: Float[np.ndarray, "T 3"]
    intrinsics: Float[np.ndarray, "3 3"]
    known: Bool[np.ndarray, " T"]

    @classmethod
    def read(cls, path: Path, model: HeadModel, clip: Clip) -> Start:
        """Reads a ``track.npz`` as the start for a clip.

        Args:
            path: of ``n2f track``, or of ``n2f convert track`` from another program's.
            model: the head model that is tracked with.
            clip: opened; how many frames a video has is found out later (``check_frames``).

        Raises:
            StartError: it belongs to another head model, to frames of another size, or to another number of images.
            ValueError, FileNotFoundError: as ``load_track``.
        """
        name = printable(path)
        if path.is_dir():
            raise StartError(
                f"{name}: a folder: a start is a track.npz, which n2f convert track makes of another program's folder"
            )
        track = load_track(path)
        if track["head_model_sha256"] != identity_sha256(HeadModelIdentity.of(model)):
            raise StartError(
                f"{name}: its coefficients are those of head model {track['head_model']!r}, not of {model.name!r}: "
                "track with that one (--head-model), or convert with this one: n2f convert track FOLDER --head-model"
            )
        counts = (len(track["shape"]), track["expression"].shape[1])
        if counts != (model.num_shape, model.num_expression):
            raise StartError(
                f"{name}: {counts[0]} shape and {counts[1]} expression coefficients, head model {model.name!r} has "
                f"{model.num_shape} and {model.num_expression}"
            )
        known = track["status"] != LOST
        if track["intrinsics"][0, 0] <= 0 or track["intrinsics"][2].tolist() != [0, 0, 1]:
            raise StartError(f"{name}: its intrinsics are none, or its focal length is not above 0")
        if not all(is_rotation(one) for one in track["rotation"][known]):
            raise StartError(f"{name}: a rotation is none")
        for key in ("shape", "expression", "jaw_pose", "eyelids", "translation"):
            values = track[key] if key == "shape" else track[key][known]
            if np.abs(values).max(initial=0.0) > _MOST:
                raise StartError(f"{name}: {key} is beyond {_MOST:g}")
        size = tuple(int(n) for n in track["image_size"])
        if size != tuple(clip.size):
            raise StartError(
                f"{name}: its frames are {size[1]} × {size[0]}, the clip's {clip.size[1]} × {clip.size[0]} pixels"
            )
        start = cls.of(name, track)
        if clip.images is not None:
            start.check_frames(clip.said)
        return start

    @classmethod
    def of(cls, name: str, track: Mapping[str, Any]) -> Start:
        """Of a track's values."""
        rows = [
            np.asarray(track[key], np.float64).reshape(len(track["status"]), -1)
            for key in ("expression", "jaw_pose", "eyelids")
        ]
        return cls(
            name,
            np.asarray(track["shape"], np.float64),
            np.concatenate(rows, axis=1),
            np.asarray(track["rotation"], np.float64),
            np.asarray(track["translation"], np.float64),
            np.asarray(track["intrinsics"], np.float64),
            np.asarray(track["status"]) != LOST,
        )

    def check_frames(self, frames: int) -> None:
        """Refuses a clip of another number of frames.

        Raises:
            StartError: it has.
        """
        if frames != len(self.known):
            raise StartError(
                f"{self.name}: it has {len(self.known)} frames, the clip {frames}: a start is of the same frames"
            )

    @property
    def focal(self) -> float:
        """Pixels."""
        return float(self.intrinsics[0, 0])

    def answers(self, faces: Faces) -> Faces:
        """The faces with this track in place of the network's answers, where it knows them."""
        known = self.known[faces.frame]
        own = self.unknowns[faces.frame]
        shape = np.broadcast_to(self.shape, (len(faces), len(self.shape)))
        answer = np.where(known[:, None], np.concatenate([shape, own], axis=1), faces.answer)
        return dataclasses.replace(faces, answer=answer.astype(faces.answer.dtype))

    def cameras(
        self, frames: np.ndarray, focal: float, size: tuple[int, int], pivot: Float[np.ndarray, "3"]
    ) -> tuple[Float[np.ndarray, "K 3 3"], Float[np.ndarray, "K 3"]]:
        """R and t of frames under a camera of this focal length that looks at the frame's middle; NaN where lost.

        The pivot stays at its pixel and as large as it was, so a longer focal length moves it away.

        Args:
            frames: numbers.
            focal: pixels.
            size: height and width of the frames.
            pivot: head frame, metres.
        """
        rotation = self.rotation[frames]
        middle = rotation @ pivot + self.translation[frames]
        pixels = project_points(middle, self.intrinsics)
        depth = middle[:, 2:] * focal / self.focal
        centre = np.array([size[1], size[0]]) / 2
        placed = np.concatenate([(pixels - centre) / focal * depth, depth], axis=1)
        return rotation, placed - rotation @ pivot

    def check_person(self, faces: list[Faces], pivot: Float[np.ndarray, "3"]) -> None:
        """Refuses the track of another person than the one whose faces these are.

        Raises:
            StartError: in most frames its head is not within their face's crop, or it knows none of them.
        """
        inside = common = 0
        for part in faces:
            rows = np.flatnonzero(self.known[part.frame])
            at = part.frame[rows]
            pixels = project_points(self.rotation[at] @ pivot + self.translation[at], self.intrinsics)
            offset = (pixels - part.crop[rows, :2]) / part.crop[rows, 2:]
            inside += int(((offset > 0) & (offset < 1)).all(axis=1).sum())
            common += len(rows)
        if common == 0:
            raise StartError(f"{self.name}: it knows no frame in which the person is seen")
        if inside < _ELSEWHERE * common:
            raise StartError(
                f"{self.name}: in {common - inside} of {common} frames its head is not where the person's face is: "
                "it is of somebody else (--person), or of another clip"
            )
