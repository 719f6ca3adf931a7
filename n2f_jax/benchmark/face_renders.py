"""Photo-like pictures of the ICT model's heads with everything known that a front end should find in them.

NAME.png     the picture
NAME.npz     its ``FaceRender``

Of each picture are known pose, camera, the face mesh's 468 points, the 68 landmarks, how far each lid is closed and
where the eyes look; heads are strangers to the open head, and pictures vary in light, skin, distance, size, blur and
JPEG quality. They have no hair but its colour, and no glasses, hands or shoulders.
"""

from __future__ import annotations

import dataclasses
import io
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image
from scipy.spatial.transform import Rotation

import flame_jax
from flame_jax.files.outside import reason
from n2f_jax.benchmark.ict_facekit import MARKED_ALIKE, IctFaceKit, draw_head
from n2f_jax.evaluation.mesh_annotation import MeshAnnotation, annotate, upright
from n2f_jax.face_mesh.coarse_mesh import CoarseMesh, load_coarse_mesh
from n2f_jax.geometry.camera import FRONTAL, Camera
from n2f_jax.mesh.cleaning import clean
from n2f_jax.mesh.triangle_mesh import TriangleMesh
from n2f_jax.runtime.atomic_files import atomic_path
from n2f_jax.runtime.outside_values import OutsideValueError, read_arrays
from n2f_jax.visualization.face_paint import FacePaint, frame_about
from n2f_jax.visualization.portrait import portrait, random_look

# Lids of the 68 landmarks that lie over each other: upper, lower; the subject's left eye, then the right.
LID_PAIRS = (((43, 47), (44, 46)), ((37, 41), (38, 40)))
_GAZE_STD = (14.0, 9.0)  # degrees, to the side and up
_GAZE_MOST = (32.0, 22.0)
_LOOK_FULL = 30.0  # degrees of gaze at which the model's eyeLook shapes have weight 1
_BLINKING = 0.35
_SIDES = (192, 288, 416, 608)  # of the pictures, pixels: few, since each compiles a program


@dataclasses.dataclass(frozen=True)
class FaceRender:
    """What is known of one picture. Head frame and camera as everywhere (``geometry.camera``); metres, pixels.

    Attributes:
        points: ``(468, 3)`` the face mesh's points in the camera frame.
        landmarks: ``(68, 3)`` of the mesh, in the camera frame.
        rotation: ``(3, 3)`` of the head.
        translation: ``(3,)``.
        focal: pixels; the principal point is the picture's centre.
        gaze: ``(2, 3)`` unit vectors in the head frame, left eye, right eye.
        eyes: ``(2, 3)`` centres of the eyeballs in the camera frame.
        closure: ``(2,)`` 1 − the lids' distance over that of the same head at rest, left, right.
        angles: ``(3,)`` pitch, yaw, roll in degrees (``reconstruction.Head.angles``).
        face_size: longer side of the landmarks' box in pixels.
        person: number of the head (``ict_facekit.draw_head``).
    """

    points: Float[np.ndarray, "468 3"]
    landmarks: Float[np.ndarray, "68 3"]
    rotation: Float[np.ndarray, "3 3"]
    translation: Float[np.ndarray, "3"]
    focal: float
    gaze: Float[np.ndarray, "2 3"]
    eyes: Float[np.ndarray, "2 3"]
    closure: Float[np.ndarray, "2"]
    angles: Float[np.ndarray, "3"]
    face_size: float
    person: int

    def pixels(
        self, points: Float[np.ndarray, "N 3"], image_size: tuple[int, int]
    ) -> Float[np.ndarray, "N 2"]:
        """Where points of the camera frame lie in the picture of so many rows and columns."""
        centre = np.array([image_size[1], image_size[0]]) / 2
        return self.focal * points[:, :2] / points[:, 2:] + centre


class Places(NamedTuple):
    """Of one head, head frame, metres.

    Attributes:
        model: ``(V, 3)`` vertices of the open head registered to it.
        points: ``(468, 3)`` the face mesh's.
        landmarks: ``(68, 3)``.
    """

    model: np.ndarray
    points: np.ndarray
    landmarks: np.ndarray


class FaceRenderer:
    """Draws heads of the ICT model.

    Args:
        kit: the model.
        head_seed: of the heads (``draw_head``).

    Attributes:
        annotation: landmarks and regions of the model's heads.
    """

    def __init__(self, kit: IctFaceKit, head_seed: int):
        self._kit, self._seed = kit, head_seed
        self._model = flame_jax.load_open_head()
        self._mesh: CoarseMesh = load_coarse_mesh()
        landmarks = np.full((68, 3), np.nan)
        landmarks[list(MARKED_ALIKE)] = kit.mesh.vertices[kit.landmarks_68[list(MARKED_ALIKE)]]
        self.annotation: MeshAnnotation = annotate(clean(kit.mesh, "ICT")[0], landmarks)[0]
        if not self.annotation.is_of(kit.mesh):
            raise ValueError("the model's mean head is not clean: repeated or stray triangles")

    def head(self, person: int, rng: np.random.Generator) -> tuple[TriangleMesh, np.ndarray, np.ndarray]:
        """A person with an expression, blinks and a gaze.

        Returns:
            The mesh in the head frame; gaze ``(2, 3)`` there; closure ``(2,)``.
        """
        weights = self.random_expression(rng)
        gaze = np.clip(rng.normal(size=2) * _GAZE_STD, np.negative(_GAZE_MOST), _GAZE_MOST)
        if rng.random() < _BLINKING:
            closed = rng.choice([rng.uniform(0, 1), 1.0])
            both = rng.random() < 0.6
            left, right = (closed, closed) if both else (closed, 0.0) if rng.random() < 0.5 else (0.0, closed)
            weights |= {"eyeBlink_L": left, "eyeBlink_R": right}
        return self.expressed(self.rest(person), weights, gaze)

    def random_expression(self, rng: np.random.Generator) -> dict[str, float]:
        """Weights of a random person's expression, whose strength is drawn as in ``draw_head``, without blinks."""
        _, weights = draw_head(self._kit, int(rng.integers(1 << 20)), self._seed + 1)
        return {name: w for name, w in weights.items() if not name.startswith("eyeBlink")}

    def rest(self, person: int) -> Float[np.ndarray, "V 3"]:
        """A person's head without expression, in the model's own frame."""
        kit = self._kit
        mesh, weights = draw_head(kit, person, self._seed)
        return mesh.vertices - sum(
            (w * kit.expression[kit.expression_names.index(name)] for name, w in weights.items()),
            np.zeros_like(mesh.vertices),
        )

    def expressed(
        self, rest: Float[np.ndarray, "V 3"], weights: Mapping[str, float], gaze: Float[np.ndarray, "2"]
    ) -> tuple[TriangleMesh, np.ndarray, np.ndarray]:
        """A head with an expression and a gaze.

        Args:
            rest: ``rest(person)``.
            weights: of the model's expressions, but for ``eyeLook…``, which follow the gaze.
            gaze: degrees, to the subject's left and up.

        Returns:
            As ``head``.
        """
        kit, weights = self._kit, dict(weights)
        for side, inward in (("L", -1.0), ("R", 1.0)):
            # A gaze of +x goes to the subject's left: outward for the left eye.
            name = "eyeLookIn" if inward * gaze[0] > 0 else "eyeLookOut"
            weights[f"{name}_{side}"] = min(abs(gaze[0]) / _LOOK_FULL, 1.0)
            weights[f"{'eyeLookUp' if gaze[1] > 0 else 'eyeLookDown'}_{side}"] = min(
                abs(gaze[1]) / _LOOK_FULL, 1.0
            )
        vertices = rest + sum(
            w * kit.expression[kit.expression_names.index(name)] for name, w in weights.items()
        )
        frame = upright(self.annotation.landmarks_on(rest))
        vertices, rest = frame.apply(vertices), frame.apply(rest)
        yaw, pitch = np.radians(gaze)
        direction = np.array(
            [math.sin(yaw) * math.cos(pitch), math.sin(pitch), math.cos(yaw) * math.cos(pitch)]
        )
        gaps = [_lid_gaps(self.annotation.landmarks_on(x)) for x in (vertices, rest)]
        return TriangleMesh(vertices, kit.mesh.faces), np.tile(direction, (2, 1)), 1.0 - gaps[0] / gaps[1]

    def places(self, mesh: TriangleMesh) -> Places:
        """Where the face mesh's points and the landmarks lie on a head, and the head model registered to it."""
        placed = self.annotation.model_on(mesh.vertices)
        corners = placed[np.asarray(self._model.faces)[self._mesh.embedding_faces]]
        points = np.einsum("nkc,nk->nc", corners, self._mesh.embedding_barycentric)
        return Places(placed, points, self.annotation.landmarks_on(mesh.vertices))

    def movement(self, person: int, seed: int) -> Float[np.ndarray, "V 3"]:
        """By how much the expression that ``draw`` gives a person moves the open head registered to it, metres."""
        moved, _, _ = self.head(person, np.random.default_rng([seed, person]))
        rest, _, _ = self.expressed(self.rest(person), {}, np.zeros(2))
        return self.annotation.model_on(moved.vertices) - self.annotation.model_on(rest.vertices)

    def paint(self, mesh: TriangleMesh, placed: np.ndarray, gaze: Float[np.ndarray, "2 3"]) -> FacePaint:
        """What a head is painted with, its eyes turned; ``placed`` is that of ``places``."""
        paint = FacePaint.of(mesh, placed, self._model)
        eyes = tuple(
            dataclasses.replace(eye, rotation=frame_about(direction))
            for eye, direction in zip(paint.eyes, gaze, strict=True)
        )
        return dataclasses.replace(paint, eyes=eyes)

    def draw(self, person: int, seed: int) -> tuple[UInt8[np.ndarray, "H W 3"], FaceRender]:
        """A picture of a person; the same for the same numbers, always."""
        rng = np.random.default_rng([seed, person])
        mesh, gaze, closure = self.head(person, rng)
        placed, points, landmarks = self.places(mesh)
        paint = self.paint(mesh, placed, gaze)

        angles, rotation = _draw_pose(rng)
        distance = math.exp(rng.uniform(math.log(0.4), math.log(3.0)))
        middle = rotation @ landmarks[17:].mean(axis=0)
        shown = landmarks @ rotation.T
        extent = np.ptp(shown[:, :2], axis=0).max()
        side = int(rng.choice(_SIDES))
        face_size = side / rng.uniform(1.7, 2.6)
        focal = face_size * distance / extent
        off = rng.uniform(-0.5, 0.5, 2) * (side - 1.3 * face_size) * distance / focal
        translation = np.array([*off, distance]) - middle
        camera = Camera(rotation, translation, np.float64(focal), np.full(2, side / 2))
        look = random_look(rng, "skin" if rng.random() < 0.8 else "grey")
        image = degraded(portrait(mesh, camera, side, look, paint), rng)

        def to_camera(x):
            return x @ rotation.T + translation

        return image, FaceRender(
            points=to_camera(points),
            landmarks=to_camera(landmarks),
            rotation=rotation,
            translation=translation,
            focal=float(focal),
            gaze=gaze,
            eyes=to_camera(np.stack([eye.centre for eye in paint.eyes])),
            closure=closure,
            angles=angles,
            face_size=float(face_size),
            person=person,
        )


def write_face_renders(
    renderer: FaceRenderer, folder: str | Path, persons: Iterable[int], views: Iterable[int]
) -> None:
    """Draws every person in every view into a folder; what is there stays.

    Args:
        renderer: of the heads.
        folder: made if needed.
        persons: numbers of heads.
        views: numbers that seed a picture of each.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for view in views:
        for person in persons:
            path = folder / f"person{person:03d}_view{view}.npz"
            if path.exists():
                continue
            image, known = renderer.draw(person, view)
            with atomic_path(path.with_suffix(".png")) as temporary:
                Image.fromarray(image).save(temporary)
            with atomic_path(path) as temporary:
                np.savez_compressed(temporary, allow_pickle=False, **dataclasses.asdict(known))


def read_face_renders(folder: str | Path) -> list[tuple[Path, FaceRender]]:
    """Pictures of a folder and what is known of them, by name.

    Raises:
        FileNotFoundError: there are none.
        OutsideValueError: one is damaged.
    """
    found = []
    for path in sorted(Path(folder).glob("*_view*.npz")):
        values = {key: array if array.ndim else array.item() for key, array in read_arrays(path).items()}
        try:
            found.append((path.with_suffix(".png"), FaceRender(**values)))
        except TypeError as error:
            raise OutsideValueError(f"{path}: not what is known of a picture: {reason(error)}") from error
    if not found:
        raise FileNotFoundError(
            f"{folder} holds no pictures: make them with scripts/build/make_face_renders.py"
        )
    return found


def visible_points(render: FaceRender, faces: np.ndarray) -> Bool[np.ndarray, " N"]:
    """``(468,)`` which of the face mesh's points lie on triangles that face the camera."""
    corners = render.points[faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    facing = (normals * corners.mean(axis=1)).sum(axis=1) < 0
    visible = np.zeros(len(render.points), bool)
    visible[faces[facing].ravel()] = True
    return visible


def _lid_gaps(landmarks):
    return np.array(
        [np.mean([np.linalg.norm(landmarks[a] - landmarks[b]) for a, b in pairs]) for pairs in LID_PAIRS]
    )


def _draw_pose(rng):
    yaw = rng.normal() * 25.0 if rng.random() < 0.5 else rng.uniform(-90.0, 90.0)
    yaw = float(np.clip(yaw, -90.0, 90.0))
    pitch, roll = rng.normal(size=2) * [12.0, 10.0]
    rotation = Rotation.from_euler("XYZ", [pitch, yaw, roll], degrees=True).as_matrix() @ FRONTAL
    return np.array([pitch, yaw, roll]), rotation


def degraded(
    image: UInt8[np.ndarray, "H W 3"],
    rng: np.random.Generator,
    noise_rng: np.random.Generator | None = None,
) -> UInt8[np.ndarray, "H W 3"]:
    """Blur, noise and JPEG as photographs have them.

    Args:
        image: the picture.
        rng: how much of each.
        noise_rng: the noise itself; None: ``rng``.
    """
    blur = rng.uniform(0.0, 1.2)
    if blur > 0.3:
        image = cv2.GaussianBlur(image, (0, 0), blur)
    strength = rng.uniform(0.0, 4.0)
    noise = strength * (rng if noise_rng is None else noise_rng).standard_normal(image.shape)
    image = np.clip(np.rint(image + noise), 0, 255).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG", quality=int(rng.integers(55, 98)))
    return np.asarray(Image.open(stream).convert("RGB"))
