"""Pictures of faces whose landmarks are known: annotated photographs, clean ones as found, and renders of heads."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from n2f_jax.benchmark.face_renders import read_face_renders
from n2f_jax.data.images import read_image
from n2f_jax.evaluation.public_photos import photo_files, read_dlib_landmarks, read_photo_lists
from n2f_jax.face_mesh.coarse_mesh import NUM_POINTS, load_coarse_mesh
from n2f_jax.frontends.face_landmarks import FaceLandmarker, MeshedFace
from n2f_jax.geometry.boxes import bounding_box, box_overlap

LISTS = Path(__file__).resolve().parents[2] / "benchmarks/public_photos"
_EYE_CORNERS = [33, 263]
_SMALLEST = 48.0  # pixels; smaller faces are no truth
# A clean photograph's points count as true where both networks are sure and agree so well, in sides of the square.
_SURE, _AGREE = 0.9, 0.02
# Where something lies before the face already.
_NOT_CLEAN = ("hand on face", "sunglasses", "tongue out", "collage", "no face")
_DLIB = {"choosing": "training_with_face_landmarks.xml", "reporting": "testing_with_face_landmarks.xml"}


@dataclasses.dataclass(frozen=True)
class KnownFace:
    """A face in a picture.

    Attributes:
        name: of the picture and the face.
        group: the same for all pictures of one person.
        source: ``annotated``, ``photograph`` or ``render``.
        image: ``(H, W, 3)`` uint8.
        landmarks: ``(68, 2)`` true, pixels.
        eye_distance: between the outer corners, pixels.
        points: ``(468, 3)`` for what faces the camera; None: all of it.
    """

    name: str
    group: str
    source: str
    image: np.ndarray
    landmarks: np.ndarray
    eye_distance: float
    points: np.ndarray | None


def known_photographs(root: Path, split: str, landmarker: FaceLandmarker) -> Iterator[KnownFace]:
    """Faces of the listed photographs of one half, then dlib's annotated ones of that half."""
    listed = [p for p in read_photo_lists(LISTS) if p.split == split and p.boxes is not None]
    listed = [p for p in listed if p.repository != "davisking/dlib"]
    for photo, file in zip(listed, photo_files(listed, root), strict=True):
        if any(tag in _NOT_CLEAN for tag in photo.tags):
            continue
        image = read_image(file)[0]
        faces = landmarker(image)
        for number, box in enumerate(photo.boxes):
            face = best_match(faces, box)
            if face is None or not _is_truth(face):
                continue
            group = f"{photo.repository}/{photo.person or photo.path}"
            eyes = face.points[_EYE_CORNERS].astype(float)
            distance = float(np.linalg.norm(eyes[0] - eyes[1]))
            landmarks, points = face.landmarks_68.astype(float), face.points.astype(float)
            yield KnownFace(f"{photo.name}#{number}", group, "photograph", image, landmarks, distance, points)
    folder = root / "davisking/dlib/examples/faces"
    for file, annotated in read_dlib_landmarks(folder / _DLIB[split]).items():
        image = read_image(folder / file)[0]
        faces = landmarker(image)
        for number, known in enumerate(annotated):
            face = best_match(faces, bounding_box(known.points))
            points = None if face is None else face.points.astype(float)
            landmarks = known.points.astype(float)
            distance = float(np.linalg.norm(landmarks[36] - landmarks[45]))
            yield KnownFace(
                f"dlib/{file}#{number}", f"dlib/{file}", "annotated", image, landmarks, distance, points
            )


def known_renders(folder: Path, most: int) -> Iterator[KnownFace]:
    """Renders of a folder (``scripts/build/make_face_renders.py``), evenly chosen from all."""
    found = read_face_renders(folder)
    chosen = np.unique(np.linspace(0, len(found) - 1, min(most, len(found))).round().astype(int))
    for path, known in (found[i] for i in chosen):
        image = read_image(path)[0]
        landmarks = known.pixels(known.landmarks, image.shape[:2])
        depth = known.landmarks[:, 2].mean()
        distance = float(np.linalg.norm(known.landmarks[36] - known.landmarks[45]) * known.focal / depth)
        scale = known.focal / depth
        points = np.concatenate(
            [known.pixels(known.points, image.shape[:2]), known.points[:, 2:] * scale], axis=1
        )
        yield KnownFace(path.name, f"render/{known.person}", "render", image, landmarks, distance, points)


def faceless_parts(
    root: Path, split: str, rng: np.random.Generator, count: int
) -> Iterator[tuple[str, np.ndarray]]:
    """Parts of the listed photographs that touch no face, named by their photographs."""
    listed = [p for p in read_photo_lists(LISTS) if p.split == split and p.boxes is not None]
    files = photo_files(listed, root)
    for _ in range(count * 20):
        index = rng.integers(len(listed))
        image = read_image(files[index])[0]
        taken = np.concatenate([listed[index].boxes, listed[index].unclear])
        height, width = image.shape[:2]
        for _ in range(10):
            side = int(min(height, width) * rng.uniform(0.15, 0.7))
            u, v = rng.integers(0, width - side + 1), rng.integers(0, height - side + 1)
            part = np.array([u, v, u + side, v + side], float)
            if side >= 40 and not any(_meet(part, box) for box in taken):
                yield listed[index].name, np.ascontiguousarray(image[v : v + side, u : u + side])
                count -= 1
                break
        if count <= 0:
            return


def best_match(faces: Sequence[MeshedFace], box: np.ndarray, least: float = 0.4) -> MeshedFace | None:
    """The face that overlaps a box most; None where none does by ``least``."""
    overlaps = [box_overlap(bounding_box(face.landmarks_68), box) for face in faces]
    return faces[int(np.argmax(overlaps))] if overlaps and max(overlaps) >= least else None


def facing(points: np.ndarray | None) -> np.ndarray:
    """``(468,)`` whether the surface at each point faces the camera, or nearly."""
    if points is None:
        return np.ones(NUM_POINTS, bool)
    faces = np.asarray(load_coarse_mesh().faces)
    corners = points[faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    sums = np.zeros((NUM_POINTS, 3))
    for i in range(3):
        np.add.at(sums, faces[:, i], normals)
    sums /= np.linalg.norm(sums, axis=1, keepdims=True).clip(1e-9)
    return sums[:, 2] < 0.15


def _is_truth(face):
    return (
        face.score > _SURE
        and face.version_gap < _AGREE
        and face.mirror_gap < _AGREE
        and face.size >= _SMALLEST
    )


def _meet(a, b):
    grown = b + np.array([-0.4, -0.6, 0.4, 0.4]) * (b[2] - b[0])
    return bool((np.minimum(a[2:], grown[2:]) > np.maximum(a[:2], grown[:2])).all())
