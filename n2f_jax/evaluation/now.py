"""The NoW benchmark's protocol: crop, align, scan-to-mesh distance.

Sanyal, Bolkart, Feng, Black: "Learning to Regress 3D Face Shape and Expression from an Image without 3D
Supervision" (RingNet), CVPR 2019, and the benchmark's code, github.com/soubhiksanyal/now_evaluation. Written anew from
what they do; ``docs/evaluation.md`` names the differences.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from n2f_jax.evaluation.landmarks3d import (
    LEFT_INNER_EYE,
    NOSE_BASE,
    RIGHT_INNER_EYE,
    outer_eye_distance,
)
from n2f_jax.evaluation.metrics import vertex_to_surface
from n2f_jax.evaluation.scan_alignment import Refinement, refine
from n2f_jax.geometry.alignment import AlignmentError, procrustes_of_landmarks
from n2f_jax.mesh.closest_points import Surface
from n2f_jax.mesh.triangle_mesh import MeshError, TriangleMesh

CROP_FACTOR = 1.4
# In metres: a further step would move no point by a thousandth of a millimetre.
TOLERANCE = 1e-6
# A face that lies this far from its scan was not aligned (a head model's mean face is 2 mm from anyone's).
MAX_RMS = 0.02


@dataclasses.dataclass(frozen=True)
class NowResult:
    """One sample.

    Attributes:
        distances_mm: ``(n,)`` of the cropped scan's vertices from the aligned surface.
        crop: ``(n,)`` their indices in the scan.
        refinement: the alignment; its closest points are in the reconstruction's frame.
    """

    distances_mm: np.ndarray
    crop: np.ndarray
    refinement: Refinement


def face_sphere(landmarks: np.ndarray) -> tuple[np.ndarray, float]:
    """Centre and radius of the sphere that NoW crops scans to.

    The centre lies 0.3 of the way from the base of the nose to the middle of the inner eye corners; the radius is 1.4
    times the mean of the outer-eye distance and the nose's length.

    Args:
        landmarks: ``(7, 3)`` of the scan.
    """
    base = landmarks[NOSE_BASE]
    bridge = (landmarks[RIGHT_INNER_EYE] + landmarks[LEFT_INNER_EYE]) / 2.0
    radius = CROP_FACTOR * (outer_eye_distance(landmarks) + np.linalg.norm(bridge - base)) / 2.0
    return base + 0.3 * (bridge - base), float(radius)


def crop_scan(scan: TriangleMesh, landmarks: np.ndarray) -> np.ndarray:
    """Indices of the scan's vertices within ``face_sphere``.

    Raises:
        MeshError: fewer than 100: the landmarks are not of this scan.
    """
    centre, radius = face_sphere(landmarks)
    crop = np.flatnonzero(((scan.vertices - centre) ** 2).sum(axis=1) <= radius**2)
    if len(crop) < 100:
        raise MeshError(
            f"only {len(crop)} of {len(scan.vertices)} scan vertices lie within {radius:.4g} of the nose: "
            "no face there, or landmarks in another frame or unit"
        )
    return crop


def align(
    surface: Surface,
    landmarks: np.ndarray,
    scan_points: np.ndarray,
    scan_landmarks: np.ndarray,
    scaling: bool,
) -> Refinement:
    """Seven-landmark Procrustes, then ``refine`` on scan points. Metres.

    Args:
        surface: of the reconstruction.
        landmarks: ``(7, 3)`` of the reconstruction.
        scan_points: ``(n, 3)``.
        scan_landmarks: ``(7, 3)``.
        scaling: also find the scale (NoW), or hold it at 1 (NoW's metrical variant, the paper's CD).

    Raises:
        AlignmentError: landmarks that determine nothing, or a surface that stays over 2 cm off.
    """
    start = procrustes_of_landmarks(landmarks, scan_landmarks, scaling=scaling)
    refinement = refine(surface, scan_points, start, scaling, TOLERANCE)
    if refinement.rms > MAX_RMS:
        raise AlignmentError(
            f"after alignment the scan is {1000 * refinement.rms:.0f} mm (RMS) from the reconstruction: wrong "
            "landmarks, unit or mesh"
        )
    return refinement


def measure(
    surface: Surface,
    landmarks: np.ndarray,
    scan: TriangleMesh,
    scan_landmarks: np.ndarray,
    scaling: bool,
) -> NowResult:
    """NoW's distances of one reconstruction.

    Args:
        surface: of the reconstruction, metres (any unit where ``scaling``).
        landmarks: ``(7, 3)`` on it.
        scan: metres.
        scan_landmarks: ``(7, 3)``.
        scaling: False for the metrical variant.
    """
    crop = crop_scan(scan, scan_landmarks)
    refinement = align(surface, landmarks, scan.vertices[crop], scan_landmarks, scaling)
    distances = vertex_to_surface(refinement.closest) * refinement.similarity.scale
    return NowResult(distances, crop, refinement)


def pooled(distances_mm: np.ndarray) -> dict[str, float]:
    """NoW's figures: median, mean and standard deviation of all distances of all scans together, in mm."""
    return {
        "median_mm": float(np.median(distances_mm)),
        "mean_mm": float(np.mean(distances_mm)),
        "std_mm": float(np.std(distances_mm)),
    }


def cumulative_curve(distances_mm: np.ndarray, thresholds_mm: np.ndarray) -> np.ndarray:
    """Per cent of distances at or below each threshold: NoW's cumulative error curve."""
    ordered = np.sort(distances_mm)
    return 100.0 * np.searchsorted(ordered, thresholds_mm, side="right") / max(len(ordered), 1)
