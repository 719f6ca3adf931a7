"""A scan beside a head: where it lies in the head's frame, and how far the head is from it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from jaxtyping import Float

from n2f_jax.evaluation.landmarks3d import (
    landmarks_beside,
    outer_eye_distance,
    read_landmarks3d,
    seven_landmarks,
)
from n2f_jax.evaluation.metrics import MILLIMETRES
from n2f_jax.evaluation.now import align, crop_scan
from n2f_jax.evaluation.regions import Template
from n2f_jax.evaluation.units import AUTO, resolve_unit
from n2f_jax.geometry.alignment import Similarity
from n2f_jax.mesh.cleaning import clean
from n2f_jax.mesh.closest_points import Surface
from n2f_jax.mesh.reading import read_mesh
from n2f_jax.mesh.triangle_mesh import TriangleMesh

# Beyond this the scan has no surface where the head has: it ends there, or there is hair.
MAX_MM = 20.0
LIMIT_MM = 5.0  # red


@dataclasses.dataclass(frozen=True, eq=False)
class Scan:
    """A scan in metres.

    Attributes:
        mesh: cleaned.
        landmarks: ``(7, 3)``.
        surface: for closest points.
        face: ``(n,)`` its vertices in NoW's sphere about the nose, which heads are aligned on.
    """

    mesh: TriangleMesh
    landmarks: np.ndarray
    surface: Surface
    face: np.ndarray

    @classmethod
    def read(cls, path: Path, template: Template, unit: str = AUTO) -> Scan:
        """Reads a scan; its landmarks lie beside it, or are those of the head model's topology, or are found on it.

        Args:
            path: any mesh file (``mesh.reading``).
            template: of the head model.
            unit: ``m``, ``cm``, ``mm``, or ``auto``: that in which the eyes are as far apart as eyes are.

        Raises:
            MeshError, LandmarkError, UnitError: no such file, damaged, no face, or a unit that cannot be.
        """
        raw = read_mesh(path)
        beside = landmarks_beside(path)
        if beside is not None:
            landmarks = read_landmarks3d(beside)
        elif template.is_topology_of(raw) and template.landmark_weights is not None:
            landmarks = template.landmarks_on(raw.vertices)
            raw = template.visible_part(raw.vertices)  # no scanner sees into a mouth
        else:
            from n2f_jax.evaluation.mesh_landmarks import find_landmarks

            landmarks = seven_landmarks(find_landmarks(clean(raw, str(path))[0], str(path)), str(path))
        metres = resolve_unit(unit, outer_eye_distance(landmarks), str(path))[1]
        mesh = clean(raw, str(path))[0].scaled(metres)
        landmarks = metres * landmarks
        return cls(mesh, landmarks, Surface(mesh), crop_scan(mesh, landmarks))

    def place(self, template: Template, vertices: Float[np.ndarray, "V 3"]) -> Similarity:
        """Head frame → the scan's, rigid, by NoW's protocol: landmarks, then the surface under the scan's face.

        Args:
            template: of the head model.
            vertices: of the head, head frame, metres.

        Raises:
            AlignmentError: the two stay over 2 cm apart.
        """
        vertices = np.asarray(vertices, np.float64)
        skin = Surface(template.visible_part(vertices))
        points = self.mesh.vertices[self.face]
        return align(skin, template.landmarks_on(vertices), points, self.landmarks, scaling=False).similarity

    def errors_mm(
        self, placed: Similarity, template: Template, vertices: Float[np.ndarray, "V 3"]
    ) -> Float[np.ndarray, " V"]:
        """Distance of each visible vertex of the head from the scan; NaN elsewhere, and where the scan has ended."""
        visible = template.visible
        points = placed.apply(np.asarray(vertices, np.float64)[visible])
        distance = MILLIMETRES * self.surface.closest_of_any_order(points).distance
        errors = np.full(len(vertices), np.nan)
        errors[visible] = np.where(distance <= MAX_MM, distance, np.nan)
        return errors
