"""Landmarks of a head mesh that comes without any: the free front end on pictures of it, and rays back to the mesh."""

from __future__ import annotations

import itertools

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

import flame_jax
from n2f_jax.evaluation.facescape import first_hits
from n2f_jax.frontends.base import Frontend
from n2f_jax.frontends.registry import FrontendOptions, make_frontend
from n2f_jax.geometry.alignment import AlignmentError, procrustes_of_landmarks
from n2f_jax.geometry.camera import FRONTAL, Camera
from n2f_jax.mesh.triangle_mesh import MeshError, TriangleMesh
from n2f_jax.visualization.portrait import Look, portrait

_SIZE = 512
# Of the mesh's half diagonal: how far the camera stands off, and how much of the picture the mesh fills.
_DISTANCE, _FILLED = 8.0, 0.8
_LOOK = Look(skin=(0.35, 0.27, 0.22), paint=False)
_INNER = np.arange(17, 68)
# Landmarks that miss the mesh (through an open mouth) may be few.
_FEWEST = 30


def find_landmarks(
    mesh: TriangleMesh, name: str = "mesh", frontend: Frontend | None = None
) -> Float[np.ndarray, "68 3"]:
    """The inner 51 of the 68 landmarks on a mesh in any pose; NaN for the contour, and where a ray meets nothing.

    A face is looked for along the axes, the most usual orientation (y up, z out of the face) first; then once more from
    in front of it.

    Args:
        mesh: cleaned; any unit.
        name: for the message.
        frontend: None for the free one.

    Raises:
        MeshError: no face is found from any side.
    """
    frontend = frontend or make_frontend("face_mesh", FrontendOptions(max_faces=1))
    for rotation in _orientations():
        found = _landmarks_from(mesh, rotation, frontend)
        if found is None:
            continue
        again = _landmarks_from(mesh, _towards_viewer(found, rotation), frontend)
        return found if again is None else again
    raise MeshError(
        f"{name}: no face was found on it from any side, and there are no landmarks beside it (.npy, .txt, .json, .pp)"
    )


def _orientations() -> list[np.ndarray]:
    """Rotations from a mesh's frame to the head frame: its axes' 24 permutations, the usual ones first."""
    rotations = []
    for order in itertools.permutations(range(3)):
        for signs in itertools.product((1.0, -1.0), repeat=3):
            matrix = np.zeros((3, 3))
            matrix[np.arange(3), order] = signs
            if np.linalg.det(matrix) > 0:
                rotations.append(matrix)
    return sorted(rotations, key=lambda r: -(4.0 * np.trace(r) + 2.0 * r[1, 1] + r[1, 2] + r[2, 2]))


def _landmarks_from(mesh: TriangleMesh, rotation: np.ndarray, frontend: Frontend) -> np.ndarray | None:
    """Landmarks of the mesh seen from where ``rotation`` (mesh → head frame) has its front; None where no face is."""
    low, high = mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)
    centre, radius = (low + high) / 2.0, float(np.linalg.norm(high - low)) / 2.0
    turned = TriangleMesh((mesh.vertices - centre) @ rotation.T / radius, mesh.faces)
    camera = Camera(
        rotation=FRONTAL,
        translation=np.array([0.0, 0.0, _DISTANCE], np.float32),
        focal=np.float32(_FILLED * 0.5 * _SIZE * _DISTANCE),
        principal_point=np.full(2, _SIZE / 2, np.float32),
    )
    faces = frontend(portrait(turned, camera, _SIZE, _LOOK, None))
    if not faces:
        return None
    pixels = np.asarray(faces[0].landmarks_68, np.float64)[_INNER]
    rays = np.concatenate(
        [(pixels - camera.principal_point) / camera.focal, np.ones((len(pixels), 1))], axis=1
    )
    # Camera to head frame: the frontal rotation is its own inverse.
    directions = rays @ FRONTAL.T
    origins = np.tile(-camera.translation @ FRONTAL, (len(rays), 1)).astype(np.float64)
    ray, _, distance = first_hits(turned, origins, directions)
    if len(ray) < _FEWEST:
        return None
    found = np.full((68, 3), np.nan)
    found[_INNER[ray]] = (origins[ray] + distance[:, None] * directions[ray]) @ rotation * radius + centre
    try:
        _towards_viewer(found, rotation)
    except AlignmentError:
        return None
    return found


def _towards_viewer(landmarks: np.ndarray, rotation: np.ndarray) -> np.ndarray:
    """Rotation from the mesh's frame to the head frame by its landmarks; refused where it is far from ``rotation``."""
    model = flame_jax.load_open_head()
    own = np.asarray(flame_jax.landmarks68(model, jnp.asarray(model.v_template)), np.float64)
    known = np.isfinite(landmarks).all(axis=1)
    found = procrustes_of_landmarks(landmarks[known], own[known], scaling=True).rotation
    if np.trace(found @ rotation.T) < 1.0:  # over 90° apart: a face was seen where there is none
        raise AlignmentError("landmarks that do not fit a face")
    return found
