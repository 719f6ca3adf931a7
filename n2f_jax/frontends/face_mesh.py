"""The free front end: MediaPipe's face mesh, drawn as a head-frame normal map."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from n2f_jax.face_mesh.coarse_mesh import coarse_maps, load_coarse_mesh
from n2f_jax.frontends import DEFAULT_LANDMARKS, Landmarks
from n2f_jax.frontends.base import Frontend, FrontendFace, Image, Provenance, as_image
from n2f_jax.frontends.device_landmarks import MeshedFaces
from n2f_jax.frontends.eyes import Eyes
from n2f_jax.frontends.face_confidence import REGIONS
from n2f_jax.frontends.face_landmarks import FaceLandmarker, MeshedFace
from n2f_jax.frontends.tflite import Runtime
from n2f_jax.geometry.crop import Crop, landmark_crop
from n2f_jax.runtime.assets_cache import FACE_LANDMARKER, MEDIAPIPE


class FaceMeshFrontend(Frontend):
    """Finds faces, cuts the paper's landmark box and draws normals and mask of the 468-point mesh there.

    Any number of threads may call one object (``frontends.tflite``).

    Args:
        size: S, side of the maps in pixels; a checkpoint records what it was trained with.
        crop_scale: side of the crop over the longer side of the 68 landmarks' box; likewise.
        max_faces: keep only the largest; None keeps all.
        num_threads: threads of the networks.
        min_score: faces below are dropped.
        small_faces: look harder for small ones, in group pictures.
        landmarks: ``'v1'``: MediaPipe's face mesh, which the checkpoint that ships was trained for; ``'v2'``: its
            successor, whose points are nearer (``frontends.face_networks``).
        eyes: read lids and gaze.
        turns: look at a turned image too where nobody is found (``FaceLandmarker``).
        landmarker: finds the points, in place of one made by the other arguments; for measuring.
        runtime: what runs the networks (``frontends.tflite``); None for LiteRT where it is installed, else JAX.

    Raises:
        AssetError: the networks are not in the cache; the message says how to fetch them.
        ImportError: as ``FaceNetwork``.
    """

    name, can_follow = "face_mesh", True

    def __init__(
        self,
        size: int,
        crop_scale: float,
        max_faces: int | None = None,
        num_threads: int = 1,
        min_score: float = 0.5,
        small_faces: bool = False,
        landmarks: Landmarks = DEFAULT_LANDMARKS,
        eyes: bool = True,
        turns: bool = True,
        landmarker: FaceLandmarker | None = None,
        runtime: Runtime | None = None,
    ):
        if max_faces is not None and max_faces < 1:
            raise ValueError(f"max_faces is at least 1 or None, not {max_faces}")
        self.size = size
        self.crop_scale = crop_scale
        self.max_faces = max_faces
        self._landmarker = landmarker or FaceLandmarker(
            num_threads,
            min_score,
            small_faces=small_faces,
            every_face=max_faces != 1,
            landmarks=landmarks,
            eyes=eyes,
            turns=turns,
            runtime=runtime,
        )
        self.files = MEDIAPIPE.digests | FACE_LANDMARKER.digests
        self.landmarks, self.small_faces, self.min_score = landmarks, small_faces, min_score
        self._provenance = Provenance(
            frontend=self.name,
            files=self.files,
            region="the paper's landmark box",
            mask="the face mesh",
            landmarks=f"the face mesh, {landmarks}",
        )

    def detect(self, images: Sequence[Image], sources: Sequence[Path | None]) -> list[list[FrontendFace]]:
        """The faces of each image, the largest first; ``sources`` do not matter."""
        return [
            [self.face_maps(face) for face in self._landmarker(image)[: self.max_faces]] for image in images
        ]

    def face_of(self, faces: MeshedFaces, i: int, normals: Image, mask: Image, crop: Crop) -> FrontendFace:
        """The face number i that was found and drawn on the device (``frontends.device_faces``), on the host."""
        points_478 = np.asarray(faces.points_478[i])
        return FrontendFace(
            normals=normals,
            mask=mask,
            crop=Crop(crop.x0y0[i], crop.side[i]),
            landmarks_68=np.asarray(faces.points[i, load_coarse_mesh().ibug68, :2]),
            score=float(faces.score[i]),
            points_468=np.asarray(faces.points[i]),
            eyes=Eyes(
                faces.closure[i].astype(np.float64), faces.gaze[i].astype(np.float64), points_478[468:, :2]
            ),
            blendshapes=np.asarray(faces.blendshapes[i]),
            activations=np.asarray(faces.activations[i]),
            confidence=float(faces.confidence[i]),
            region_confidence=dict(zip(REGIONS, faces.regions[i].tolist(), strict=True)),
            provenance=self._provenance,
        )

    def follow(self, image: Image, previous: FrontendFace) -> FrontendFace | None:
        """The face where it was in the frame before, without the detector: a quarter of the time."""
        if previous.points_468 is None:
            return super().follow(image, previous)
        face = self._landmarker.follow(as_image(image), previous.points_468, previous.score)
        return None if face is None else self.face_maps(face)

    @property
    def landmarker(self) -> FaceLandmarker:
        """What finds the points."""
        return self._landmarker

    def face_maps(self, face: MeshedFace) -> FrontendFace:
        """Crop, normals and mask of one face whose points are known."""
        landmarks = face.landmarks_68
        crop = landmark_crop(landmarks, self.crop_scale)
        normals, mask = _draw(points_in_crop(face.points, crop, self.size), size=self.size)
        return FrontendFace(
            normals=np.asarray(normals),
            mask=np.asarray(mask),
            crop=crop,
            landmarks_68=landmarks,
            score=face.score,
            points_468=face.points,
            eyes=face.eyes,
            blendshapes=face.blendshapes,
            activations=face.activations,
            confidence=face.confidence,
            region_confidence=face.region_confidence,
            provenance=self._provenance,
        )


def points_in_crop(points: np.ndarray, crop: Crop, size: int) -> np.ndarray:
    """``(n, 3)`` points of the original image in pixels of the crop; depth is scaled alike."""
    scale = size / np.asarray(crop.side, np.float64)
    shifted = points.astype(np.float64)
    shifted[:, :2] -= np.asarray(crop.x0y0, np.float64)
    return (shifted * scale).astype(np.float32)


@functools.partial(jax.jit, static_argnames="size")
def _draw(points, *, size: int):
    return coarse_maps(points, size)
