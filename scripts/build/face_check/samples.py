"""Found faces with the errors of their points: what the check learns from and is measured on."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from face_check.corruptions import spoil
from face_check.known_faces import KnownFace, faceless_parts, facing
from n2f_jax.face_mesh.coarse_mesh import load_coarse_mesh
from n2f_jax.frontends.face_confidence import CROP
from n2f_jax.frontends.face_detector import Detection
from n2f_jax.frontends.face_landmarks import FaceLandmarker, MeshedFace
from n2f_jax.geometry.boxes import bounding_box, box_overlap
from n2f_jax.geometry.squares import cut_square

_MARGIN = (1.0, 1.7)  # half side of the picture around a face, in sides of the face
_FACE = (60, 200)  # pixels
_LOST = 9.0  # error of what is no face, eye distances


@dataclasses.dataclass
class Sample:
    """A found face, or that none was found.

    Attributes:
        name, group, source: of the ``KnownFace``; source ``ghost`` where there is no face.
        kind: of ``corruptions.KINDS``, ``part`` or ``square`` for ghosts.
        found: nothing below is set where this is False.
        crop: PNG of the square.
        image_size: rows, columns.
        face: without blanks; its points and square are in pixels of the spoilt picture.
        errors: ``(2, 68)`` of the points and of the second network's, eye distances.
        seen: ``(68,)`` that landmark is neither hidden nor turned away nor outside.
    """

    name: str
    group: str
    source: str
    kind: str
    found: bool
    crop: np.ndarray | None = None
    image_size: tuple[int, int] = (0, 0)
    face: MeshedFace | None = None
    errors: np.ndarray | None = None
    seen: np.ndarray | None = None

    @property
    def inner_error(self) -> float:
        """Mean over the inner 51 landmarks."""
        return float(self.errors[0, 17:].mean())


def random_of(*key: object) -> np.random.Generator:
    """Random numbers that depend on the key alone."""
    digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "little"))


def spoilt_samples(
    known: KnownFace, kinds: Sequence[str], landmarker: FaceLandmarker, textures: list[np.ndarray]
) -> Iterator[Sample]:
    """One sample for each kind."""
    for number, kind in enumerate(kinds):
        rng = random_of(known.name, kind, list(kinds[:number]).count(kind))
        image, landmarks, scale = _cut(known, rng)
        spoilt = spoil(kind, image, landmarks, rng, textures)
        true = spoilt.place(landmarks)
        unit = known.eye_distance * scale * np.sqrt(abs(np.linalg.det(spoilt.to_image[:, :2])))
        about = (known.name, known.group, known.source, kind)
        box = bounding_box(true)
        faces = [(box_overlap(face.box, box), face) for face in landmarker(spoilt.image)]
        overlap, face = max(faces, key=lambda pair: pair[0], default=(0.0, None))
        if face is None or overlap < 0.1:
            yield Sample(*about, found=False)
            continue
        height, width = spoilt.image.shape[:2]
        u, v = np.floor(true).astype(int).T
        inside = (u >= 0) & (v >= 0) & (u < width) & (v < height)
        covered = spoilt.hidden[v.clip(0, height - 1), u.clip(0, width - 1)]
        seen = inside & ~covered & facing(known.points)[load_coarse_mesh().ibug68]
        yield _sample(about, spoilt.image, face, _errors(face, true, unit), seen)


def ghosts(root: Path, split: str, landmarker: FaceLandmarker, parts: int, squares: int) -> Iterator[Sample]:
    """What the networks see where no face is: where the detector sees one, and at random squares."""
    rng = random_of("ghosts", split)
    lost, unseen = np.full((2, 68), _LOST), np.zeros(68, bool)
    for number, (name, image) in enumerate(faceless_parts(root, split, rng, parts)):
        for face in landmarker(image):
            yield _sample((name, name, "ghost", "part"), image, _surer(face, rng), lost, unseen)
        if number < squares:
            height, width = image.shape[:2]
            side = rng.uniform(0.3, 0.9) * min(height, width)
            centre = rng.uniform(side / 2, [width - side / 2, height - side / 2])
            angle = rng.choice([0.0, rng.uniform(-np.pi, np.pi)])
            eyes = 0.2 * side * np.array([[-np.cos(angle), -np.sin(angle)], [np.cos(angle), np.sin(angle)]])
            box = np.concatenate([centre - side / 2, centre + side / 2])
            keypoints = centre + np.concatenate([eyes, np.zeros((4, 2))])
            face = landmarker.at(image, Detection(box, keypoints, rng.uniform(0.4, 0.95)))
            yield _sample((name, name, "ghost", "square"), image, _surer(face, rng), lost, unseen)


def _surer(face, rng):
    """With the score of a ghost that gets through, so that the check learns to look."""
    return face if face.score >= 0.5 else dataclasses.replace(face, score=float(rng.uniform(0.5, 1.0)))


def _cut(known, rng):
    """The face with its surroundings, at a random size; landmarks there; the scale."""
    low, high = known.landmarks.min(axis=0), known.landmarks.max(axis=0)
    size, centre = float((high - low).max()), (low + high) / 2
    reach = rng.uniform(*_MARGIN) * size
    height, width = known.image.shape[:2]
    first = np.maximum(np.floor(centre - reach), 0).astype(int)
    last = np.minimum(np.ceil(centre + reach), [width, height]).astype(int)
    part = known.image[first[1] : last[1], first[0] : last[0]]
    scale = min(np.exp(rng.uniform(*np.log(_FACE))) / size, 1.5)
    new = np.maximum(np.round((last - first) * scale), 4).astype(int)
    part = cv2.resize(
        part, tuple(new.tolist()), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    )
    return part, (known.landmarks - first) * (new / (last - first)), scale


def _errors(face, true, unit):
    ibug = load_coarse_mesh().ibug68
    found = np.stack([face.points[ibug, :2], face.points_478[ibug, :2]])
    return np.linalg.norm(found - true, axis=-1) / unit


def _sample(about, image, face, errors, seen):
    crop = cut_square(image, face.square, CROP)
    _, coded = cv2.imencode(".png", crop)
    return Sample(*about, True, coded, image.shape[:2], face, errors.astype(np.float32), seen)
