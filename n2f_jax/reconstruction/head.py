"""The result of a reconstruction: a head's parameters, mesh and pose, its camera, and what it was made from."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np

import n2f_jax
from n2f_jax.frontends.face_confidence import DOUBTFUL
from n2f_jax.geometry.camera import pitch_yaw_roll, project_points
from n2f_jax.reconstruction.head_file import save_parameters


@dataclasses.dataclass(frozen=True)
class Head:
    """A reconstructed head. NumPy arrays; units, frames and pixels as in ``n2f_jax.reconstruction.head_file.KEYS``.

    Attributes:
        vertices: ``(V, 3)`` head frame, metres.
        faces: ``(F, 3)``.
        rotation: ``(3, 3)`` R of ``x_cam = R·x_head + t``.
        translation: ``(3,)`` t, metres.
        intrinsics: ``(3, 3)`` K of the original image.
        landmarks_2d: ``(68, 2)`` projected landmarks in original pixels, the contour as seen from the camera.
        landmarks_3d: ``(68, 3)`` the same points in the head frame.
        shape, expression, jaw_pose, eyelids, eyes_pose: coefficients; ``jaw_pose`` and the two of ``eyes_pose``
            as axis times angle.
        head_model, head_model_sha256: which head model the coefficients belong to.
        focal_source: ``'given'``, ``'exif'``, ``'face'`` or ``'default'`` (``geometry.focal``).
        alignment: ``'network'`` or ``'landmarks'``.
        image_size: (height, width) of the original image.
        crop: ``(3,)`` x0, y0, side of the network's input.
        input_normals: ``(S, S, 3)`` what it saw there.
        input_mask: ``(S, S)``.
        frontend, frontend_score, frontend_landmarks, frontend_points: the front end's output; NaN where it
            gave no landmarks.
        irises: ``(10, 2)`` as the front end found them, or none (``frontends.eyes.Eyes``).
        confidence: the front end's, of the points that the head rests on; NaN where it gives none.
        region_confidence: ``(6,)`` likewise, of the regions in ``frontends.face_confidence.REGIONS``.
        checkpoint: name of the network's checkpoint.
        frontend_blendshapes: ``(51,)`` the front end's scores of ARKit's units; NaN where it gives none.
    """

    vertices: np.ndarray
    faces: np.ndarray
    rotation: np.ndarray
    translation: np.ndarray
    intrinsics: np.ndarray
    landmarks_2d: np.ndarray
    landmarks_3d: np.ndarray
    shape: np.ndarray
    expression: np.ndarray
    jaw_pose: np.ndarray
    eyelids: np.ndarray
    eyes_pose: np.ndarray
    head_model: str
    head_model_sha256: str
    focal_source: str
    alignment: str
    image_size: tuple[int, int]
    crop: np.ndarray
    input_normals: np.ndarray
    input_mask: np.ndarray
    frontend: str
    frontend_score: float
    frontend_landmarks: np.ndarray
    frontend_points: np.ndarray
    irises: np.ndarray
    confidence: float
    region_confidence: np.ndarray
    checkpoint: str
    frontend_blendshapes: np.ndarray = dataclasses.field(
        default_factory=lambda: np.full(51, np.nan, np.float32)
    )

    @property
    def vertices_camera(self) -> np.ndarray:
        """``(V, 3)`` the mesh in the camera frame, metres."""
        return self.vertices @ self.rotation.T + self.translation

    @property
    def vertices_2d(self) -> np.ndarray:
        """``(V, 2)`` the mesh in original pixels."""
        return project_points(self.vertices_camera, self.intrinsics)

    @property
    def is_doubtful(self) -> bool:
        """Whether the front end says that its points are not to be believed."""
        return self.confidence < DOUBTFUL

    @property
    def is_finite(self) -> bool:
        """Whether the network gave numbers at all."""
        return all(np.isfinite(x).all() for x in (self.vertices, self.rotation, self.translation))

    def angles(self) -> tuple[float, float, float]:
        """Head pose in degrees (pitch, yaw, roll): ``R·diag(1, −1, −1) = R_x·R_y·R_z``. Zero is frontal."""
        pitch, yaw, roll = (math.degrees(x) for x in pitch_yaw_roll(self.rotation))
        return pitch, yaw, roll

    def landmark_gap(self) -> float:
        """Mean distance of the mesh's inner 51 landmarks from the front end's, over the outer-eye distance.

        NaN without landmarks from the front end.
        """
        theirs = self.frontend_landmarks
        eyes = np.linalg.norm(theirs[36] - theirs[45])
        return float(np.linalg.norm(self.landmarks_2d[17:] - theirs[17:], axis=-1).mean() / eyes)

    def parameters(self, source: str = "") -> dict[str, Any]:
        """What is kept of it: the values of ``n2f_jax.reconstruction.head_file.KEYS`` (not the maps).

        Args:
            source: file name of the photo, for the record.
        """
        from_fields = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name not in ("input_normals", "input_mask")
        }
        return {**from_fields, "source": source, "version": n2f_jax.__version__}

    def save(self, path: str | Path, source: str = "") -> None:
        """Writes ``parameters`` as the ``.npz`` of ``n2f_jax.reconstruction.head_file``.

        Args:
            path: the file.
            source: as of ``parameters``.
        """
        save_parameters(path, self.parameters(source))
