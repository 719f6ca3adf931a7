"""468 face points with MediaPipe's face mesh network."""

from __future__ import annotations

import dataclasses
import math

import cv2
import numpy as np

from n2f_jax.face_mesh.coarse_mesh import NUM_POINTS, load_coarse_mesh
from n2f_jax.frontends.face_detector import Detection, FaceDetector
from n2f_jax.frontends.tflite import TfliteModel
from n2f_jax.geometry.boxes import bounding_box, box_overlap
from n2f_jax.runtime.assets_cache import MEDIAPIPE, asset_path

# Outer corners of the eyes: the subject's right, left.
_OUTER_EYE_CORNERS = (33, 263)
# The network was trained on squares half as large again as the face's box.
_BOX_SCALE = 1.5


@dataclasses.dataclass(frozen=True)
class MeshedFace:
    """One face of one image.

    Attributes:
        points: ``(468, 3)`` float32: u, v in pixels of the image (pixel centres at +0.5), and a depth in the
            same scale that grows away from the camera, relative to the head's centre.
        score: the network's probability that its crop holds a face.
        detection_score: the detector's.
    """

    points: np.ndarray
    score: float
    detection_score: float

    @property
    def box(self) -> np.ndarray:
        """``(4,)`` u0, v0, u1, v1 around the points."""
        return bounding_box(self.points[:, :2])

    @property
    def size(self) -> float:
        """Diagonal of the box in pixels."""
        low, high = np.split(self.box, 2)
        return float(np.linalg.norm(high - low))


@dataclasses.dataclass(frozen=True)
class _Square:
    """A rotated square of the image: centre, side, and the angle of its u axis in the image."""

    centre: np.ndarray
    side: float
    angle: float

    def axes(self) -> np.ndarray:
        """``(2, 2)`` columns: image directions of the square's u and v axes."""
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        return np.array([[cos, -sin], [sin, cos]])


class FaceLandmarker:
    """Detects faces and finds 468 points on each.

    The detector's eyes give a first, rough square; the points found there give a better one, upright along
    the outer eye corners, and so on: where a face is turned or tilted much, two passes have not settled
    yet. Each crop is also seen mirrored and the two outputs are averaged, which steadies them.

    Args:
        num_threads: threads of the interpreters.
        min_score: faces that the mesh network scores below are dropped.
        min_detection_score: the same for the detector.
        passes: how often the square is refined, plus one.
        average_mirrored: False halves the time.
        small_faces: look harder for small ones (``FaceDetector``).

    Raises:
        AssetError: the networks are not in the cache.
        ImportError: ``ai-edge-litert`` is missing.
    """

    def __init__(
        self,
        num_threads: int = 1,
        min_score: float = 0.5,
        min_detection_score: float = 0.5,
        passes: int = 3,
        average_mirrored: bool = True,
        small_faces: bool = False,
    ):
        self.min_score = min_score
        self._passes = passes
        self._mirror = load_coarse_mesh().mirror if average_mirrored else None
        self._detector = FaceDetector(num_threads, min_detection_score, small_faces)
        self._network = TfliteModel(asset_path(MEDIAPIPE, "face_landmark.tflite"), num_threads)

    def __call__(self, image: np.ndarray) -> list[MeshedFace]:
        """Faces of one ``(H, W, 3)`` uint8 RGB image, the largest first."""
        faces: list[MeshedFace] = []
        for detection in self._detector(image):
            square = _square_of_detection(detection)
            for _ in range(self._passes):
                points, score = self._run(image, square)
                square = _square_of_points(points[:, :2])
            if score >= self.min_score:
                faces.append(MeshedFace(points.astype(np.float32), score, detection.score))
        faces.sort(key=lambda face: -face.size)
        # Two detections may lead to one face.
        distinct: list[MeshedFace] = []
        for face in faces:
            if all(box_overlap(face.box, other.box) < 0.5 for other in distinct):
                distinct.append(face)
        return distinct

    def _run(self, image: np.ndarray, square: _Square) -> tuple[np.ndarray, float]:
        size = self._network.input_size
        crop = _cut(image, square, size).astype(np.float32) / 255
        points, score = self._run_crop(crop)
        if self._mirror is not None:
            mirrored, mirrored_score = self._run_crop(crop[:, ::-1])
            mirrored = mirrored[self._mirror]
            mirrored[:, 0] = size - mirrored[:, 0]
            points, score = (points + mirrored) / 2, (score + mirrored_score) / 2
        points *= square.side / size
        plane = square.centre + (points[:, :2] - square.side / 2) @ square.axes().T
        return np.concatenate([plane, points[:, 2:]], axis=1), score

    def _run_crop(self, crop: np.ndarray) -> tuple[np.ndarray, float]:
        points, logit = sorted(self._network(crop), key=lambda array: -array.size)
        score = 1 / (1 + math.exp(-float(np.clip(logit.item(), -50, 50))))
        return points.reshape(NUM_POINTS, 3).astype(np.float64), score


def _square_of_detection(detection: Detection) -> _Square:
    right_eye, left_eye = detection.keypoints[:2]
    low, high = detection.box[:2], detection.box[2:]
    angle = math.atan2(left_eye[1] - right_eye[1], left_eye[0] - right_eye[0])
    return _Square((low + high) / 2, max(1.0, float((high - low).max()) * _BOX_SCALE), angle)


def _square_of_points(points: np.ndarray) -> _Square:
    right, left = points[list(_OUTER_EYE_CORNERS)]
    angle = math.atan2(left[1] - right[1], left[0] - right[0])
    axes = _Square(np.zeros(2), 1.0, angle).axes()
    turned = points @ axes
    low, high = turned.min(axis=0), turned.max(axis=0)
    return _Square(axes @ ((low + high) / 2), max(1.0, float((high - low).max()) * _BOX_SCALE), angle)


def _cut(image: np.ndarray, square: _Square, size: int) -> np.ndarray:
    """``(size, size, 3)`` resampled square; large ones are oversampled and averaged against aliasing."""
    factor = min(max(1, round(square.side / size)), 8)
    fine = size * factor
    linear = square.axes() * (square.side / fine)
    origin = square.centre - linear @ np.full(2, fine / 2)
    # cv2 counts pixel centres from 0: u_cv = u − 0.5 on both sides.
    shift = origin + linear @ np.full(2, 0.5) - 0.5
    matrix = np.concatenate([linear, shift[:, None]], axis=1)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    out = cv2.warpAffine(image, matrix, (fine, fine), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return out if factor == 1 else cv2.resize(out, (size, size), interpolation=cv2.INTER_AREA)
