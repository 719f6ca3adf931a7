"""Reconstructed heads in the coefficients of another head model, with what that costs in millimetres."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flame_jax import HeadModel
from flame_jax.rotations import matrix_to_rotation_6d, rotation_6d_to_axis_angle, rotation_6d_to_matrix
from n2f_jax.fitting.correspondence_cache import kept_correspondence
from n2f_jax.fitting.head_correspondence import completed
from n2f_jax.fitting.head_tables import HeadTables
from n2f_jax.fitting.head_transfer import HeadTransfer
from n2f_jax.geometry.camera import Camera, project_points
from n2f_jax.mesh.closest_points import Surface
from n2f_jax.mesh.triangle_mesh import TriangleMesh
from n2f_jax.metrics.skin import face_skin, skin_faces
from n2f_jax.models.pretrained import HeadModelIdentity, identity_sha256
from n2f_jax.reconstruction.head_file import flame_params
from n2f_jax.reconstruction.prediction import with_visible_landmarks


@dataclasses.dataclass(frozen=True)
class Converted:
    """One head.

    Attributes:
        values: as ``head_file.save_parameters`` takes them.
        mean_mm, high_mm: mean and 95th percentile of the distances of the given head's face, vertex by vertex, from the
            skin of the new one.
    """

    values: dict[str, Any]
    mean_mm: float
    high_mm: float


class HeadConverter:
    """From one head model to another (``fitting.head_transfer``).

    Args:
        source: with landmarks and masks.
        target: with landmarks; the same model leaves heads as they are.
        beside: the target's file or folder, beside which the correspondence is kept; None for the cache's.
        say: told what takes its time.

    Raises:
        ValueError: one has no landmarks.
        AlignmentError: the source finds no place on the target.
        ImportError: libigl is not installed.
    """

    def __init__(
        self,
        source: HeadModel,
        target: HeadModel,
        beside: Path | None = None,
        say: Callable[[str], None] = print,
    ):
        self.source, self.target = source, target
        self._source_sha256 = identity_sha256(HeadModelIdentity.of(source))
        self._target_sha256 = identity_sha256(HeadModelIdentity.of(target))
        self._transfer = None
        if self._source_sha256 == self._target_sha256:
            return  # heads stay as they are
        found = kept_correspondence(source, target, beside, say=say)
        self.target = completed(source, target, found)
        self._transfer = HeadTransfer.make(source, self.target, found, HeadTables.from_model(self.target))
        self._carry_over = jax.jit(HeadTransfer.carry_over)
        self._skin = np.asarray(target.faces, np.int64)[skin_faces(target)]
        self._face = face_skin(source)

    def __call__(self, head: Mapping[str, Any]) -> Converted:
        """Converts what ``head_file.load_parameters`` read.

        Raises:
            ValueError: the head is of another model than ``source``.
        """
        if head["head_model_sha256"] != self._source_sha256:
            raise ValueError(
                f"is a head of {head['head_model']!r}, whose arrays are not those of {self.source.name!r}: name its "
                "head model with --from"
            )
        if self._transfer is None:
            return Converted(dict(head), 0.0, 0.0)
        params = flame_params([head])
        eyes = rotation_6d_to_matrix(params.eyes[0])
        camera = Camera(
            jnp.asarray(head["rotation"], jnp.float32)[None],
            jnp.asarray(head["translation"], jnp.float32)[None],
            jnp.asarray([head["intrinsics"][0, 0]], jnp.float32),
            jnp.asarray(head["intrinsics"][:2, 2], jnp.float32)[None],
        )
        vertices = jnp.asarray(head["vertices"], jnp.float32)[None]
        params, camera, _ = self._carry_over(self._transfer, vertices, params, camera)
        frame = self._transfer.rotation
        eyes = matrix_to_rotation_6d(jnp.einsum("ij,njk,lk->nil", frame, eyes, frame))[None]
        made = jax.device_get(
            with_visible_landmarks(self.target, dataclasses.replace(params, eyes=eyes), camera)
        )
        rotation, translation = made.camera.rotation[0], made.camera.translation[0]
        in_camera = made.landmarks[0].astype(np.float64) @ rotation.T + translation
        jaw, eyes = (
            np.asarray(rotation_6d_to_axis_angle(jnp.asarray(x))[0])
            for x in (made.params.jaw, made.params.eyes)
        )
        there = made.vertices[0].astype(np.float64) @ rotation.T + translation
        here = head["vertices"].astype(np.float64) @ head["rotation"].T + head["translation"]
        distance = 1000.0 * Surface(TriangleMesh(there, self._skin)).closest(here[self._face]).distance
        values = dict(head) | {
            "vertices": made.vertices[0],
            "faces": np.asarray(self.target.faces),
            "rotation": rotation,
            "translation": translation,
            "landmarks_2d": project_points(in_camera, head["intrinsics"]).astype(np.float32),
            "landmarks_3d": made.landmarks[0],
            "shape": made.params.shape[0],
            "expression": made.params.expression[0],
            "jaw_pose": jaw,
            "eyelids": made.params.eyelids[0],
            "eyes_pose": eyes,
            "head_model": self.target.name,
            "head_model_sha256": self._target_sha256,
        }
        return Converted(values, float(distance.mean()), float(np.percentile(distance, 95)))
