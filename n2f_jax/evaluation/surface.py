"""Distance of a ground truth's visible skin from a reconstruction's surface, aligned rigidly and up to scale.

What accuracy is steered by here. CD has a floor of the vertex spacing, and a rigid alignment alone does not tell a head
of the wrong shape from one of the wrong size; so distances run to the surface, under both alignments, and the size is
a figure of its own.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from n2f_jax.evaluation.metrics import MILLIMETRES, normal_angles
from n2f_jax.evaluation.now import MAX_RMS, TOLERANCE
from n2f_jax.evaluation.scan_alignment import refine
from n2f_jax.geometry.alignment import AlignmentError, Similarity, procrustes_of_landmarks
from n2f_jax.mesh.closest_points import Surface
from n2f_jax.mesh.normals import vertex_areas, vertex_normals
from n2f_jax.mesh.triangle_mesh import MeshError, TriangleMesh

METRIC, SCALED = "metric", "scaled"


@dataclasses.dataclass(frozen=True)
class SurfaceResult:
    """One reconstruction.

    Attributes:
        figures: ``REGION/metric_mm`` and ``REGION/scaled_mm``, means over the region's area; ``face/metric_deg`` and
            ``face/scaled_deg``, of the normals; ``size_ratio``, the reconstruction's size over the truth's.
        distance_mm: ``(V,)`` at the truth's vertices, aligned rigidly; NaN outside the regions.
        metric, scaled: the alignments, reconstruction → truth.
    """

    figures: dict[str, float]
    distance_mm: np.ndarray
    metric: Similarity
    scaled: Similarity


def measure(
    skin: Surface,
    landmarks: np.ndarray,
    truth: TriangleMesh,
    truth_landmarks: np.ndarray,
    regions: dict[str, np.ndarray],
) -> SurfaceResult:
    """Aligns the reconstruction on the face region and measures every region, twice: without and with scale.

    Each alignment minimises the squared distances of the face region's vertices from the skin
    (``scan_alignment.refine``), from the seven landmarks on.

    Args:
        skin: what of the reconstruction can be seen, metres.
        landmarks: ``(7, 3)`` on it.
        truth: metres.
        truth_landmarks: ``(7, 3)``.
        regions: name → vertices of the truth's visible skin; ``face`` among them.

    Raises:
        AlignmentError: a surface that stays over 2 cm off.
        MeshError: a face region without area.
    """
    face = regions["face"]
    weights = vertex_areas(truth.vertices, truth.faces)
    normals = vertex_normals(truth.vertices, truth.faces)
    measured = np.unique(np.concatenate(list(regions.values())))
    figures: dict[str, float] = {}
    alignments, distances = {}, {}
    for name, scaling in ((METRIC, False), (SCALED, True)):
        start = procrustes_of_landmarks(landmarks, truth_landmarks, scaling=scaling)
        found = refine(skin, truth.vertices[face], start, scaling, TOLERANCE)
        if found.rms > MAX_RMS:
            raise AlignmentError(
                f"after alignment the face is {1000 * found.rms:.0f} mm (RMS) from the reconstruction: wrong "
                "landmarks, unit or mesh"
            )
        similarity = found.similarity
        closest = skin.closest_of_any_order(similarity.inverse(truth.vertices[measured]))
        distance, angle = (np.full(len(truth.vertices), np.nan) for _ in range(2))
        distance[measured] = MILLIMETRES * float(similarity.scale) * closest.distance
        angle[measured] = normal_angles(normals[measured] @ similarity.rotation, skin, closest)
        for region, indices in regions.items():
            figures[f"{region}/{name}_mm"] = _mean(distance[indices], weights[indices])
        figures[f"face/{name}_deg"] = float(np.degrees(_mean(angle[face], weights[face])))
        alignments[name], distances[name] = similarity, distance
    if not np.isfinite(figures["face/metric_mm"]):
        raise MeshError("the ground truth's face region has no area")
    figures["size_ratio"] = 1.0 / float(alignments[SCALED].scale)
    return SurfaceResult(figures, distances[METRIC], alignments[METRIC], alignments[SCALED])


def _mean(values: np.ndarray, weights: np.ndarray) -> float:
    good = np.isfinite(values) & (weights > 0)
    return float(np.average(values[good], weights=weights[good])) if good.any() else float("nan")
