"""468 face points with MediaPipe's face mesh networks, and what is seen of the eyes."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from jaxtyping import Float, UInt8

from n2f_jax.face_mesh.coarse_mesh import NUM_POINTS, load_coarse_mesh
from n2f_jax.frontends import DEFAULT_LANDMARKS, LANDMARKS, Landmarks
from n2f_jax.frontends.blendshapes import BlendshapeNetwork
from n2f_jax.frontends.eyes import EyeReader, Eyes
from n2f_jax.frontends.face_confidence import DOUBTFUL, FaceConfidence
from n2f_jax.frontends.face_detector import Detection, FaceDetector
from n2f_jax.frontends.face_networks import OUTER_EYE_CORNERS, CropPoints, FaceNetwork
from n2f_jax.frontends.profile import profile_weights, turned_fully
from n2f_jax.frontends.tflite import Runtime
from n2f_jax.geometry.boxes import bounding_box, box_overlap
from n2f_jax.geometry.squares import Square, cut_square

# The networks were trained on squares half as large again as the face's box.
BOX_SCALE = 1.5
# Passes of the first network, with which the square settles; the second one then sees the face once.
PASSES = {"v1": 3, "v2": 2}
# Overlap from which a face of a turned image and a doubtful one are the same, and by how much surer it must be.
_SAME_TURNED, _SURER = 0.15, 0.2


@dataclasses.dataclass(frozen=True)
class MeshedFace:
    """One face of one image.

    Attributes:
        points: ``(468, 3)`` float32: u, v in pixels of the image (pixel centres at +0.5), and a depth in the
            same scale that grows away from the camera, relative to the head's centre.
        score: the older network's probability that its crop holds a face (the newer one gives profiles up).
        detection_score: the detector's.
        points_478: ``(478, 3)`` float32, the same of the newer network with irises (``frontends.face_networks``); None
            where it did not run.
        blendshapes: ``(52,)`` scores of ``frontends.blendshapes.BLENDSHAPES``; None without the newer network.
        square: what the last network saw.
        mirror_gap: mean distance between the points of its crop and of the mirrored one, in units of the square's side.
        version_gap: the same between the two networks' points; NaN where only one ran.
        confidence: probability that the points are right (``frontends.face_confidence.FaceCheck``); NaN without the
            check.
        region_confidence: of each of ``frontends.face_confidence.REGIONS``, how much of it is in view and in place,
            0 … 1; empty without the check.
        turned: quarter turns counter-clockwise of the image in which the face was found; points and square are those of
            the image as it came.
        eyes: as ``EyeReader`` reads them; None where they were not read.
        activations: ``(2, D)`` of the newer network (``frontends.face_networks.CropPoints``); None without it.
    """

    points: Float[np.ndarray, "468 3"]
    score: float
    detection_score: float
    points_478: Float[np.ndarray, "478 3"] | None = None
    blendshapes: Float[np.ndarray, "52"] | None = None
    square: Square | None = None
    mirror_gap: float = 0.0
    version_gap: float = math.nan
    confidence: float = math.nan
    region_confidence: dict[str, float] = dataclasses.field(default_factory=dict)
    turned: int = 0
    eyes: Eyes | None = None
    activations: Float[np.ndarray, "2 D"] | None = None

    @property
    def doubtful(self) -> bool:
        """The points are not to be believed; False without the check."""
        return self.confidence < DOUBTFUL

    @property
    def landmarks_68(self) -> Float[np.ndarray, "68 2"]:
        """iBUG's 68 landmarks among the points."""
        return self.points[load_coarse_mesh().ibug68, :2]

    @property
    def box(self) -> Float[np.ndarray, "4"]:
        """u0, v0, u1, v1 around the points."""
        return bounding_box(self.points[:, :2])

    @property
    def size(self) -> float:
        """Longer side of the 68 landmarks' box in pixels, by which the paper's crop is cut: larger faces come first."""
        low, high = np.split(bounding_box(self.landmarks_68), 2)
        return float((high - low).max())


class FaceLandmarker:
    """Detects faces and finds 468 points on each.

    The detector's eyes give a first, rough square; the points found there give a better one, upright along
    the outer eye corners, and so on: where a face is turned or tilted much, two passes have not settled
    yet. Each crop is also seen mirrored and the two outputs are averaged, which steadies them.

    Args:
        num_threads: threads of the interpreters.
        min_score: faces that the mesh network scores below are dropped.
        min_detection_score: the same for the detector.
        average_mirrored: False halves the time.
        small_faces: look hard for small ones (``FaceDetector``).
        every_face: look for small ones also where a large one was found.
        landmarks: ``'v1'``: the points are those of MediaPipe's face mesh of 2020; ``'v2'``: of its successor of 2022,
            for which the square settles with the first.
        newer: with ``'v1'``, let the newer network look at each face once, for blendshapes, eyes, profiles and the
            check.
        eyes: read each face's eyes; takes the newer network.
        check: give each face its ``confidence`` and drop what is no face.
        turns: with the check: where nothing was found, or something doubtful, look at the image turned by 90°, 180° and
            270° too, which then takes four times as long.

        profiles: turn the points of heads that are turned far by what the networks miss of it (``frontends.profile``);
            takes the newer network.
        runtime: what runs the networks (``frontends.tflite``); None for LiteRT where it is installed, else JAX.

    Raises:
        AssetError: the networks are not in the cache.
        ImportError: as ``FaceNetwork``.
        ValueError: another name of landmarks.
    """

    def __init__(
        self,
        num_threads: int = 1,
        min_score: float = 0.5,
        min_detection_score: float = 0.5,
        average_mirrored: bool = True,
        small_faces: bool = False,
        every_face: bool = False,
        landmarks: Landmarks = DEFAULT_LANDMARKS,
        newer: bool = True,
        eyes: bool = True,
        check: bool = True,
        turns: bool = True,
        profiles: bool = True,
        runtime: Runtime | None = None,
    ):
        if landmarks not in LANDMARKS:
            raise ValueError(f"landmarks are one of {', '.join(LANDMARKS)}, not {landmarks!r}")
        self.min_score, self.landmarks = min_score, landmarks
        self._mirrored = average_mirrored
        self._detector = FaceDetector(num_threads, min_detection_score, small_faces, every_face, runtime)
        self._first = FaceNetwork("v1", num_threads, runtime)
        self._second = FaceNetwork("v2", num_threads, runtime) if newer or landmarks == "v2" else None
        self._blendshapes = None if self._second is None else BlendshapeNetwork(num_threads, runtime)
        self._eyes = EyeReader(num_threads, runtime) if eyes and self._second is not None else None
        self._profiles = profiles
        if profiles:
            # Read now: the first faces may be those of several threads at once, and NumPy's reading of headers fails
            # now and then in threads of CPython 3.11 (``data.pseudo_truth``).
            profile_weights()
        self._check = FaceConfidence() if check else None
        self._turns = check and turns

    def __call__(self, image: UInt8[np.ndarray, "H W 3"]) -> list[MeshedFace]:
        """Faces of one RGB image, the largest first."""
        faces = self._upright(image, self._detector(image))
        if self._turns and (not faces or any(face.doubtful for face in faces)):
            faces = self._also_turned(image, faces)
        return sorted((self._finished(image, face) for face in faces), key=lambda face: -face.size)

    def _finished(self, image: np.ndarray, face: MeshedFace) -> MeshedFace:
        """Turned as far as the head is, with its eyes read."""
        if face.points_478 is None:
            return face
        points = face.points
        if self._profiles:
            points = turned_fully(points, face.points_478[:NUM_POINTS], self.landmarks).astype(np.float32)
        eyes = None if self._eyes is None else self._eyes(image, face.points_478, face.blendshapes)
        return dataclasses.replace(face, points=points, eyes=eyes)

    def _upright(self, image: np.ndarray, detections: list[Detection]) -> list[MeshedFace]:
        return _distinct(self._believed(image, [self.at(image, detection) for detection in detections]))

    def _believed(self, image: np.ndarray, faces: list[MeshedFace]) -> list[MeshedFace]:
        """Those of a sufficient score, with what the check says of them; without ghosts."""
        faces = [face for face in faces if face.score >= self.min_score]
        if self._check is not None:
            checks = [self._check(image, face) for face in faces]
            faces = [
                dataclasses.replace(face, confidence=check.confidence, region_confidence=check.regions)
                for face, check in zip(faces, checks, strict=True)
                if not check.ghost
            ]
        return faces

    def _also_turned(self, image: np.ndarray, faces: list[MeshedFace]) -> list[MeshedFace]:
        """The faces, and those that can be believed in the turned image: instead of what they show to be wrong."""
        size, found = image.shape[:2], []
        believed = [face.box for face in faces if not face.doubtful]
        for turns in (1, 2, 3):
            turned = np.ascontiguousarray(np.rot90(image, turns))
            # Faces that are believed already are not looked at again.
            boxes = [
                (bounding_box(_places_back(detection.box.reshape(2, 2), size, turns)), detection)
                for detection in self._detector(turned)
            ]
            new = [d for box, d in boxes if all(box_overlap(box, other) < _SAME_TURNED for other in believed)]
            found += [_turned_back(face, size, turns) for face in self._upright(turned, new)]
        for face in sorted(found, key=lambda face: -face.confidence):
            same = [other for other in faces if box_overlap(face.box, other.box) >= _SAME_TURNED]
            surest = max((other.confidence for other in same), default=0.0)
            if (
                not face.doubtful
                and all(other.doubtful for other in same)
                and face.confidence >= surest + _SURER
            ):
                faces = [other for other in faces if all(other is not one for one in same)] + [face]
        return faces

    def at(self, image: UInt8[np.ndarray, "H W 3"], detection: Detection) -> MeshedFace:
        """The face that one detection shows, whatever its scores."""
        return self._settled(image, _square_of_detection(detection), PASSES[self.landmarks], detection.score)

    def follow(
        self, image: UInt8[np.ndarray, "H W 3"], points: Float[np.ndarray, "N 3"], detection_score: float
    ) -> MeshedFace | None:
        """The face of one frame where it was in the frame before: no detector, and a single look of the first network.

        Args:
            image: RGB.
            points: of the face in the frame before, N ≥ 468.
            detection_score: of the detection that the face came from.

        Returns:
            None where the networks see no face there.
        """
        face = self._settled(image, _square_of_points(points[:, :2]), 1, detection_score)
        faces = self._believed(image, [face])
        return self._finished(image, faces[0]) if faces else None

    def glance(
        self,
        image: UInt8[np.ndarray, "H W 3"],
        previous: MeshedFace,
        check: bool = False,
        mirrored: bool = False,
    ) -> MeshedFace | None:
        """``follow`` for live use: one look of the newer network alone; a quarter of the time.

        Args:
            image: RGB.
            previous: the face in the frame before, with the newer network's points.
            check: whether it can be believed is looked at anew; otherwise that is as it was in the frame before.
            mirrored: look twice, as at the crop mirrored, and take the mean.

        Returns:
            None where there is no face any more; the newer network alone is not sure of profiles, so a look that it
            gives low marks is one of ``follow``.

        Raises:
            ValueError: the newer network does not run, or its points are not those asked for.
        """
        if self._second is None or self.landmarks != "v2" or previous.points_478 is None:
            raise ValueError("a glance takes the newer network's points")
        square = _square_of_points(previous.points_478[:, :2])
        seen = self._look(self._second, image, square, mirrored)
        if seen.score < self.min_score:
            return self.follow(image, previous.points_478, previous.detection_score)
        points = square.to_image(seen.points).astype(np.float32)
        face = dataclasses.replace(
            previous,
            points=points[:NUM_POINTS],
            points_478=points,
            blendshapes=self._blendshapes(seen.points),
            activations=seen.activations,
            square=square,
            mirror_gap=seen.disagreement if mirrored else previous.mirror_gap,
        )
        if check:
            # What the check is told by: the older network's score, and how far it is from the newer one.
            first = self._look(self._first, image, square, mirrored=False)
            gap = np.linalg.norm(square.to_image(first.points)[:, :2] - points[:NUM_POINTS, :2], axis=1)
            face = dataclasses.replace(face, score=first.score, version_gap=float(gap.mean() / square.side))
            believed = self._believed(image, [face])
            if not believed:
                return None
            face = believed[0]
        return self._finished(image, face)

    def _settled(self, image: np.ndarray, square: Square, passes: int, detection_score: float) -> MeshedFace:
        """The face in a square that settles in so many passes of the first network."""
        for _ in range(passes):
            seen = square
            first = self._look(self._first, image, seen, self._mirrored)
            square = _square_of_points(seen.to_image(first.points)[:, :2])
        if self._second is None:
            points = seen.to_image(first.points).astype(np.float32)
            return MeshedFace(
                points, first.score, detection_score, square=seen, mirror_gap=first.disagreement
            )
        second = self._look(self._second, image, square, self._mirrored)
        of_first, of_second = seen.to_image(first.points), square.to_image(second.points)
        gap = np.linalg.norm(of_first[:, :2] - of_second[:NUM_POINTS, :2], axis=1).mean() / square.side
        chosen, last = (of_first, first) if self.landmarks == "v1" else (of_second[:NUM_POINTS], second)
        return MeshedFace(
            chosen.astype(np.float32),
            first.score,
            detection_score,
            points_478=of_second.astype(np.float32),
            blendshapes=self._blendshapes(second.points),
            activations=second.activations,
            square=square,
            mirror_gap=last.disagreement,
            version_gap=float(gap),
        )

    def _look(self, network: FaceNetwork, image: np.ndarray, square: Square, mirrored: bool) -> CropPoints:
        return network(cut_square(image, square, network.input_size).astype(np.float32) / 255, mirrored)


def _distinct(faces: list[MeshedFace]) -> list[MeshedFace]:
    """Two detections may lead to one face: the better is kept, or the larger."""
    kept: list[MeshedFace] = []
    for face in sorted(faces, key=lambda face: (face.doubtful, -face.size)):
        if all(box_overlap(face.box, other.box) < 0.5 for other in kept):
            kept.append(face)
    return kept


def _turned_back(face: MeshedFace, image_size: tuple[int, int], turns: int) -> MeshedFace:
    """A face of ``np.rot90(image, turns)`` in the image, whose rows and columns are given."""
    square = face.square
    points, points_478, centre = (
        None if x is None else _places_back(x, image_size, turns)
        for x in (face.points, face.points_478, square.centre)
    )
    angle = math.remainder(square.angle + turns * math.pi / 2, 2 * math.pi)
    return dataclasses.replace(
        face, points=points, points_478=points_478, square=Square(centre, square.side, angle), turned=turns
    )


def _places_back(places: Float[np.ndarray, "... D"], image_size: tuple[int, int], turns: int) -> np.ndarray:
    """Places u, v (and what follows, which stays) of ``np.rot90(image, turns)`` in the image."""
    for left in range(turns - 1, -1, -1):
        # Width of the picture that was turned last: the image's rows where it lies on its side.
        width = image_size[1 - left % 2]
        places = np.concatenate([width - places[..., 1:2], places[..., :1], places[..., 2:]], axis=-1)
    return places


def _square_of_detection(detection: Detection) -> Square:
    right_eye, left_eye = detection.keypoints[:2]
    low, high = detection.box[:2], detection.box[2:]
    angle = math.atan2(left_eye[1] - right_eye[1], left_eye[0] - right_eye[0])
    return Square((low + high) / 2, max(1.0, float((high - low).max()) * BOX_SCALE), angle)


def _square_of_points(points: Float[np.ndarray, "N 2"]) -> Square:
    right, left = points[list(OUTER_EYE_CORNERS)]
    return Square.around(points[:NUM_POINTS], math.atan2(left[1] - right[1], left[0] - right[0]), BOX_SCALE)
