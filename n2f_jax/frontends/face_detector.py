"""Face detection with MediaPipe's two BlazeFace networks.

Both are single-shot detectors: one score and 16 numbers an anchor — offset of the box centre, box width and
height, then six keypoints (x, y), all in pixels of the network's input and, but for the size, relative to the
anchor's centre. Anchors have no size of their own.
"""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np

from n2f_jax.frontends.tflite import TfliteModel
from n2f_jax.geometry.boxes import box_overlap
from n2f_jax.runtime.assets_cache import MEDIAPIPE, asset_path

# Cells a side and anchors a cell of each feature map, in the order of the network's output.
_SHORT_RANGE_GRIDS = ((16, 2), (8, 6))
_FULL_RANGE_GRIDS = ((48, 1),)


@dataclasses.dataclass(frozen=True)
class Detection:
    """A detected face, in pixels of the image (u = 0 is the left edge, pixel centres at +0.5).

    Attributes:
        box: ``(4,)`` u0, v0, u1, v1.
        keypoints: ``(6, 2)`` right eye, left eye (the subject's), nose tip, mouth, right ear, left ear.
        score: probability of a face.
    """

    box: np.ndarray
    keypoints: np.ndarray
    score: float


class FaceDetector:
    """Finds faces with the full-range network and the short-range one, merged.

    The full-range network finds smaller faces and some that the other misses; the short-range one is surer
    of faces that fill the picture. Where neither finds any, the picture is tried again inside a wide border
    (a face cut out tightly looks like none to either) and then in overlapping parts, for faces smaller than
    about a tenth of the picture.

    Args:
        num_threads: threads of the interpreter.
        min_score: detections below are dropped.
        small_faces: look at the parts in any case, not only where nothing was found: for group pictures; ten
            times slower.

    Raises:
        AssetError: the networks are not in the cache.
    """

    def __init__(self, num_threads: int = 1, min_score: float = 0.5, small_faces: bool = False):
        self.min_score = min_score
        self.small_faces = small_faces
        full = asset_path(MEDIAPIPE, "face_detection_full_range_sparse.tflite")
        short = asset_path(MEDIAPIPE, "face_detection_short_range.tflite")
        self._full = (TfliteModel(full, num_threads), _anchors(_FULL_RANGE_GRIDS))
        self._short = (TfliteModel(short, num_threads), _anchors(_SHORT_RANGE_GRIDS))

    def __call__(self, image: np.ndarray) -> list[Detection]:
        """Faces of one ``(H, W, 3)`` uint8 RGB image, best score first."""
        found = self._whole(image, border=0.0) or self._whole(image, border=0.5)
        if self.small_faces or not found:
            found = found + self._parts(image)
        return _merge(found)

    def _whole(self, image: np.ndarray, border: float) -> list[Detection]:
        return [
            d for net, anchors in (self._full, self._short) for d in self._run(net, anchors, image, border)
        ]

    def _parts(self, image: np.ndarray) -> list[Detection]:
        """Detections in squares of half the shorter side, overlapping by half, but none cut by a rim."""
        height, width = image.shape[:2]
        side = max(min(height, width) // 2, 1)
        if side < self._full[0].input_size // 2:
            return []  # nothing to gain from so few pixels
        found = []
        for v0 in _starts(height, side):
            for u0 in _starts(width, side):
                part = image[v0 : v0 + side, u0 : u0 + side]
                inner = np.array([u0 > 0, v0 > 0, u0 + side < width, v0 + side < height])
                rim = np.array([-1, -1, 1, 1]) * 0.02 * side
                limit = np.array([0, 0, side, side]) - rim
                for d in self._run(*self._full, part, 0.0):
                    outside = np.sign(rim) * (d.box - limit) > 0
                    if not (outside & inner).any():
                        shift = np.array([u0, v0])
                        found.append(Detection(d.box + np.tile(shift, 2), d.keypoints + shift, d.score))
        return found

    def _run(
        self, network: TfliteModel, anchors: np.ndarray, image: np.ndarray, border: float
    ) -> list[Detection]:
        size = network.input_size
        height, width = image.shape[:2]
        scale = size / (max(height, width) * (1 + 2 * border))
        inner = (max(round(width * scale), 1), max(round(height * scale), 1))
        offset = ((size - inner[0]) // 2, (size - inner[1]) // 2)
        # Letterbox; black is −1 for these networks.
        canvas = np.full((size, size, 3), -1.0, np.float32)
        shrunk = cv2.resize(image, inner, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
        canvas[offset[1] : offset[1] + inner[1], offset[0] : offset[0] + inner[0]] = shrunk / 127.5 - 1.0
        outputs = network(canvas)
        regression, logits = sorted(outputs, key=lambda array: -array.shape[-1])
        scores = 1 / (1 + np.exp(-np.clip(logits[:, 0], -50, 50)))
        keep = scores >= self.min_score
        values = regression[keep].reshape(-1, 8, 2)
        points = values + size * anchors[keep][:, None]
        half = values[:, 1] / 2
        corners = np.stack([points[:, 0] - half, points[:, 0] + half], axis=1)
        to_image = np.array([width / inner[0], height / inner[1]])
        corners = (corners - offset) * to_image
        keypoints = (points[:, 2:] - offset) * to_image
        return [
            Detection(corners[i].ravel(), keypoints[i], float(score)) for i, score in enumerate(scores[keep])
        ]


def _starts(length: int, side: int) -> list[int]:
    """Where squares of a side begin that cover a length, each overlapping the next by half or more."""
    count = max(1, -(-(length - side) // max(side // 2, 1)) + 1)
    return [round(i * (length - side) / max(count - 1, 1)) for i in range(count)]


def _anchors(grids: tuple[tuple[int, int], ...]) -> np.ndarray:
    """``(n, 2)`` anchor centres in [0, 1]: cell centres row by row, each repeated."""
    centres = []
    for cells, repeats in grids:
        v, u = np.mgrid[:cells, :cells]
        grid = (np.stack([u, v], axis=-1).reshape(-1, 2) + 0.5) / cells
        centres.append(np.repeat(grid, repeats, axis=0))
    return np.concatenate(centres)


def _merge(detections: list[Detection], overlap: float = 0.3) -> list[Detection]:
    """Non-maximum suppression that averages what overlaps by score: steadier than the best alone."""
    left = sorted(detections, key=lambda detection: -detection.score)
    merged = []
    while left:
        group = [d for d in left if box_overlap(left[0].box, d.box) > overlap] or left[:1]
        chosen = {id(d) for d in group}
        left = [d for d in left if id(d) not in chosen]
        weights = np.array([d.score for d in group])
        weights /= weights.sum()
        merged.append(
            Detection(
                box=np.einsum("n,nk->k", weights, np.stack([d.box for d in group])),
                keypoints=np.einsum("n,nkc->kc", weights, np.stack([d.keypoints for d in group])),
                score=group[0].score,
            )
        )
    return merged
