"""Face detection with MediaPipe's two BlazeFace networks.

Both are single-shot detectors: one score and 16 numbers an anchor — offset of the box centre, box width and
height, then six keypoints (x, y), all in pixels of the network's input and, but for the size, relative to the
anchor's centre. Anchors have no size of their own.
"""

from __future__ import annotations

import dataclasses
import math

import cv2
import numpy as np

from n2f_jax.frontends.tflite import Runtime, open_network
from n2f_jax.geometry.boxes import box_overlap
from n2f_jax.runtime.assets_cache import MEDIAPIPE, asset_path

# Cells a side and anchors a cell of each feature map, in the order of the network's output.
SHORT_RANGE_GRIDS = ((16, 2), (8, 6))
FULL_RANGE_GRIDS = ((48, 1),)
# The full-range network's score from which something is looked at again.
CANDIDATE = 0.3
# Large, in parts of the picture's longer side: what the full-range network sees in 24 pixels.
LARGE = 1 / 8
# Sides of the parts, in parts of the picture's shorter side, and by how much of their side they overlap at least.
SHARES, _SHARED = (0.6, 0.3), 1 / 6
# The mean of both networks' scores from which something is a face: between what faces have and what resembles them
# (on the choosing half of scripts/benchmarks/public_photos).
SURE = 0.65
# Side of the second look, in sides of the face.
CLOSER = 3.0
# Two boxes are of one face where they share this much of both together, or of the smaller one.
OVERLAP, INSIDE = 0.3, 0.6


@dataclasses.dataclass(frozen=True, eq=False)  # arrays have no truth value: each is equal to itself alone
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

    @property
    def size(self) -> float:
        """The box's longer side in pixels."""
        return float((self.box[2:] - self.box[:2]).max())


class FaceDetector:
    """Finds faces, large and small.

    Two networks see the whole picture: the full-range one finds smaller faces and some that the other misses,
    the short-range one is surer of faces that fill the picture. Where there is none, the short-range one looks
    again inside a wide border (a face cut out tightly looks like none). What both are sure of is a face; what one
    of them sees, the full-range one be it with a low score, is a face if both are sure of it in a second look:
    at a square around it, three times as large as itself.

    Unless the box of a face takes up an eighth of the picture's longer side or more, the full-range network
    then looks for smaller ones in overlapping squares of 0.6 of the shorter side, where 40 pixels of
    1920 × 1080 are enough, and, where nothing is found, of 0.3 of it. They too are faces if both networks
    are sure of them in a second look.

    Args:
        num_threads: threads of the interpreter.
        min_score: detections below are dropped.
        small_faces: look hardest: in squares of both sizes, whatever was found.
        every_face: look in the larger squares even where a large face was found: for pictures of several
            people of whom one is near.
        runtime: what runs the networks (``frontends.tflite``).

    Raises:
        AssetError: the networks are not in the cache.
    """

    def __init__(
        self,
        num_threads: int = 1,
        min_score: float = 0.5,
        small_faces: bool = False,
        every_face: bool = False,
        runtime: Runtime | None = None,
    ):
        self.min_score = min_score
        self.small_faces = small_faces
        self.every_face = every_face
        self._full = _BlazeFace(
            "face_detection_full_range_sparse.tflite", FULL_RANGE_GRIDS, num_threads, runtime
        )
        self._short = _BlazeFace("face_detection_short_range.tflite", SHORT_RANGE_GRIDS, num_threads, runtime)

    def __call__(self, image: np.ndarray) -> list[Detection]:
        """Faces of one ``(H, W, 3)`` uint8 RGB image, best score first."""
        picture = _Picture(image)
        faces = self._whole(picture) or self._in_border(picture)
        if any(face.size >= LARGE * picture.size.max() for face in faces) and not (
            self.small_faces or self.every_face
        ):
            return _without_repetitions(faces)
        for share in SHARES:
            parts = [d for d in self._parts(picture, share) if not any(_same(d, face) for face in faces)]
            faces = faces + self._confirmed(picture, _merge(parts))
            if faces and not self.small_faces:
                break
        return _without_repetitions(faces)

    def _whole(self, picture: _Picture) -> list[Detection]:
        """What both networks are sure of in the whole picture, or see in a second look at what one saw there."""
        square = _Square.around(picture.size / 2, float(picture.size.max()))
        short = self._short(picture, square, self.min_score)
        faces, unsure = [], []
        for seen in self._full(picture, square, min(CANDIDATE, self.min_score)):
            also = [d for d in short if box_overlap(d.box, seen.box) > OVERLAP]
            short = [d for d in short if d not in also]
            sure = also and _mean_score([seen, also[0]]) >= SURE
            (faces if sure else unsure).append(_average([seen, *also]))
        unsure += short
        return faces + self._confirmed(picture, unsure)

    def _in_border(self, picture: _Picture) -> list[Detection]:
        square = _Square.around(picture.size / 2, 2.0 * float(picture.size.max()))
        return self._confirmed(picture, self._short(picture, square, self.min_score))

    def _parts(self, picture: _Picture, share: float) -> list[Detection]:
        """Candidates in squares whose side is a share of the picture's shorter side."""
        side = share * float(picture.size.min())
        if side < self._full.input_size / 2:
            return []  # nothing to gain from so few pixels
        across, down = (starts(length, side) for length in picture.size)
        least = min(CANDIDATE, self.min_score)
        return [d for v in down for u in across for d in self._full(picture, _Square(u, v, side), least)]

    def _confirmed(self, picture: _Picture, candidates: list[Detection]) -> list[Detection]:
        """Those that both networks see, as they see them, in a square around each."""
        return [face for candidate in candidates if (face := self._second_look(picture, candidate))]

    def _second_look(self, picture: _Picture, candidate: Detection) -> Detection | None:
        centre = (candidate.box[:2] + candidate.box[2:]) / 2
        square = _Square.around(centre, max(CLOSER * candidate.size, 1.0))
        seen = []
        for network in (self._short, self._full):  # the quicker one first
            faces = network(picture, square, self.min_score)
            faces = [face for face in faces if box_overlap(face.box, candidate.box) > OVERLAP]
            if not faces:
                return None
            seen.append(faces[0])
        return _average(seen) if _mean_score(seen) >= SURE else None


@dataclasses.dataclass(frozen=True)
class _Square:
    """A square of the image, in its pixels: upper left corner and side. It may reach beyond the image."""

    u: float
    v: float
    side: float

    @classmethod
    def around(cls, centre: np.ndarray, side: float) -> _Square:
        """With its centre (u, v) given."""
        return cls(float(centre[0]) - side / 2, float(centre[1]) - side / 2, side)


class _Picture:
    """An image with its halves, quarters and so on, from which squares are cut quickly at any scale."""

    def __init__(self, image: np.ndarray):
        self.size = np.array([image.shape[1], image.shape[0]])
        self._levels = [np.ascontiguousarray(image)]

    def cut(self, square: _Square, pixels: int) -> np.ndarray:
        """``(pixels, pixels, 3)`` uint8: the square resampled, black beyond the image."""
        level = self._level(max(0, round(math.log2(square.side / pixels))))
        scale = 0.5**level * square.side / pixels
        # cv2 counts pixel centres from 0: u_cv = u − 0.5 on both sides.
        u, v = (0.5**level * corner + 0.5 * scale - 0.5 for corner in (square.u, square.v))
        matrix = np.array([[scale, 0.0, u], [0.0, scale, v]])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return cv2.warpAffine(self._levels[level], matrix, (pixels, pixels), flags=flags)

    def _level(self, wanted: int) -> int:
        """The level wanted, made if need be, or the last that has two pixels to halve."""
        while len(self._levels) <= wanted:
            finer = self._levels[-1]
            height, width = finer.shape[0] // 2, finer.shape[1] // 2
            if min(height, width) == 0:
                break
            even = finer[: 2 * height, : 2 * width]
            self._levels.append(cv2.resize(even, (width, height), interpolation=cv2.INTER_AREA))
        return min(wanted, len(self._levels) - 1)


class _BlazeFace:
    """One of the networks."""

    def __init__(
        self, file: str, grids: tuple[tuple[int, int], ...], num_threads: int, runtime: Runtime | None
    ):
        self._network = open_network(asset_path(MEDIAPIPE, file), num_threads, runtime)
        self._anchors = anchors(grids)
        self.input_size = self._network.input_size

    def __call__(self, picture: _Picture, square: _Square, min_score: float) -> list[Detection]:
        """What the network sees in a square of an image, each face once, best score first."""
        size = self.input_size
        outputs = self._network(picture.cut(square, size) / np.float32(127.5) - 1)  # black is −1
        regression, logits = sorted(outputs, key=lambda array: -array.shape[-1])
        scores = 1 / (1 + np.exp(-np.clip(logits[:, 0], -50, 50)))
        keep = scores >= min_score
        values = regression[keep].reshape(-1, 8, 2)
        points = values + size * self._anchors[keep][:, None]
        half = values[:, 1:2] / 2
        corners = np.concatenate([points[:, :1] - half, points[:, :1] + half], axis=1)
        scale, corner = square.side / size, np.array([square.u, square.v])
        corners, points = corners * scale + corner, points * scale + corner
        found = zip(corners.reshape(-1, 4), points[:, 2:], scores[keep].tolist(), strict=True)
        return _merge([Detection(*face) for face in found])


def starts(length: float, side: float) -> list[float]:
    """Where squares of a side begin that cover a length; one that is longer than that lies about it."""
    if length <= side:
        return [(length - side) / 2]
    steps = math.ceil((length - side) / (side * (1 - _SHARED)) - 1e-6)
    return [i * (length - side) / steps for i in range(steps + 1)]


def anchors(grids: tuple[tuple[int, int], ...]) -> np.ndarray:
    """``(n, 2)`` anchor centres in [0, 1]: cell centres row by row, each repeated."""
    centres = []
    for cells, repeats in grids:
        v, u = np.mgrid[:cells, :cells]
        grid = (np.stack([u, v], axis=-1).reshape(-1, 2) + 0.5) / cells
        centres.append(np.repeat(grid, repeats, axis=0))
    return np.concatenate(centres)


def _same(first: Detection, second: Detection) -> bool:
    """Whether two detections are of one face, or one of them of a part of it."""
    low, high = np.maximum(first.box[:2], second.box[:2]), np.minimum(first.box[2:], second.box[2:])
    shared = np.prod(np.clip(high - low, 0, None))
    smaller = min(np.prod(d.box[2:] - d.box[:2]) for d in (first, second))
    return bool(box_overlap(first.box, second.box) > OVERLAP or shared > INSIDE * smaller)


def _groups(detections: list[Detection]) -> list[list[Detection]]:
    """What overlaps the best, then what overlaps the best of the rest, and so on; the best first in each."""
    left = sorted(detections, key=lambda detection: -detection.score)
    groups = []
    while left:
        group = left[:1] + [d for d in left[1:] if box_overlap(left[0].box, d.box) > OVERLAP]
        chosen = {id(d) for d in group}
        left = [d for d in left if id(d) not in chosen]
        groups.append(group)
    return groups


def _average(group: list[Detection]) -> Detection:
    """Weighted by score, which is the best's: steadier than the best alone."""
    weights = np.array([d.score for d in group])
    weights /= weights.sum()
    return Detection(
        box=np.einsum("n,nk->k", weights, np.stack([d.box for d in group])),
        keypoints=np.einsum("n,nkc->kc", weights, np.stack([d.keypoints for d in group])),
        score=max(d.score for d in group),
    )


def _mean_score(detections: list[Detection]) -> float:
    return sum(d.score for d in detections) / len(detections)


def _merge(detections: list[Detection]) -> list[Detection]:
    """Non-maximum suppression that averages what overlaps; best score first."""
    return [_average(group) for group in _groups(detections)]


def _without_repetitions(faces: list[Detection]) -> list[Detection]:
    """Each face once, as it has the best score; best score first."""
    distinct: list[Detection] = []
    for face in sorted(faces, key=lambda face: -face.score):
        if not any(_same(face, other) for other in distinct):
            distinct.append(face)
    return distinct
