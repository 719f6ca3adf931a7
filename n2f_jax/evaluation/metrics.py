"""The paper's metrics, one function each. Meshes are aligned already; lengths come in metres and go out in millimetres.

"The paper" is N2FNet's: CD and NME of its own, MNE and CR after its reference [20]. Each function says what the
paper's words leave open and what was chosen; ``docs/evaluation.md`` has the whole list.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy.spatial import cKDTree

from n2f_jax.mesh.closest_points import Closest, Surface, barycentric
from n2f_jax.mesh.normals import vertex_normals
from n2f_jax.mesh.triangle_mesh import TriangleMesh

MILLIMETRES = 1000.0
COMPLETENESS_MM = 2.0


def vertex_to_vertex(points: np.ndarray, vertices: np.ndarray) -> np.ndarray:
    """``(N,)`` distance in mm of each point from the nearest of ``vertices``: the paper's CD before its mean.

    "The mean vertex-to-vertex distance of the two aligned meshes" (paper, section IV.3).
    """
    return MILLIMETRES * cKDTree(vertices).query(points)[0]


def vertex_to_surface(closest: Closest) -> np.ndarray:
    """``(N,)`` distance in mm of each point from the surface: NoW's scan-to-mesh distance (RingNet, section 5)."""
    return MILLIMETRES * closest.distance


def normal_angles(normals: np.ndarray, surface: Surface, closest: Closest) -> np.ndarray:
    """``(N,)`` angle in radians between normals and the surface's normal at the closest points: MNE before its mean.

    "The mean difference of the normals at each ground-truth vertex and the closest point on the reconstruction's
    surface" (paper, section IV.3). The surface's normal is that of smooth shading: vertex normals interpolated over
    the triangle. NaN where either mesh has no normal.

    Args:
        normals: ``(N, 3)`` at the ground truth's vertices, unit or zero.
        surface: the reconstruction, in the same frame.
        closest: of the ground truth's vertices on it.
    """
    weights = barycentric(surface.mesh, closest.face, closest.point)
    corners = vertex_normals(surface.mesh.vertices, surface.mesh.faces)[surface.mesh.faces[closest.face]]
    there = np.einsum("nc,nci->ni", weights, corners)
    return angles_between(normals, there)


def angles_between(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """``(N,)`` angles in radians of vectors of any length; exact at 0 and π, where arccos of a dot product is not."""
    with np.errstate(invalid="ignore", divide="ignore"):
        a = a / np.linalg.norm(a, axis=1, keepdims=True)
        b = b / np.linalg.norm(b, axis=1, keepdims=True)
    return 2.0 * np.arctan2(np.linalg.norm(a - b, axis=1), np.linalg.norm(a + b, axis=1))


def completeness(distances_mm: np.ndarray, threshold_mm: float = COMPLETENESS_MM) -> float:
    """CR: share of ground-truth vertices no further than 2 mm from the reconstruction's surface (paper, IV.3).

    NaN of nothing.
    """
    return float(np.mean(distances_mm <= threshold_mm)) if len(distances_mm) else float("nan")


@dataclasses.dataclass(frozen=True)
class VertexErrors:
    """What ``compare`` measures at every ground-truth vertex.

    Attributes:
        vertex_mm: ``(V,)`` distance from the nearest vertex of the reconstruction.
        surface_mm: ``(V,)`` distance from its surface.
        normal_rad: ``(V,)`` angle between the normals.
        reverse_mm: ``(P,)`` distance of every reconstruction vertex from the nearest ground-truth vertex.
        reverse_nearest: ``(P,)`` which ground-truth vertex that is.
    """

    vertex_mm: np.ndarray
    surface_mm: np.ndarray
    normal_rad: np.ndarray
    reverse_mm: np.ndarray
    reverse_nearest: np.ndarray


def compare(
    truth: TriangleMesh,
    surface: Surface,
    measured: np.ndarray | None = None,
) -> VertexErrors:
    """All distances and angles between two aligned meshes in one frame, in metres.

    Args:
        truth: the ground truth, its vertices as they are to be measured.
        surface: the reconstruction, without what no scanner could see (mouth cavity, eye sockets).
        measured: indices of the ground truth's vertices to measure at, the others' errors are NaN; None: all.
    """
    measured = np.arange(len(truth.vertices)) if measured is None else measured
    points = truth.vertices[measured]
    closest = surface.closest_of_any_order(points)
    normals = vertex_normals(truth.vertices, truth.faces)
    reverse, nearest = cKDTree(truth.vertices).query(surface.mesh.vertices)

    def everywhere(values: np.ndarray) -> np.ndarray:
        whole = np.full(len(truth.vertices), np.nan)
        whole[measured] = values
        return whole

    return VertexErrors(
        vertex_mm=everywhere(vertex_to_vertex(points, surface.mesh.vertices)),
        surface_mm=everywhere(vertex_to_surface(closest)),
        normal_rad=everywhere(normal_angles(normals[measured], surface, closest)),
        reverse_mm=MILLIMETRES * reverse,
        reverse_nearest=nearest,
    )


def region_figures(errors: VertexErrors, region: np.ndarray) -> dict[str, float]:
    """The paper's figures over one region of the ground truth.

    ``cd_mm`` runs from ground truth to reconstruction (the paper leaves the direction open; this is NoW's).
    ``cd_symmetric_mm`` is the mean of both directions, the other one over those vertices of the reconstruction whose
    nearest ground-truth vertex lies in the region. ``now_mm`` is the vertex-to-surface distance.

    Args:
        errors: of the whole ground truth.
        region: ``(n,)`` vertex indices of it.
    """
    inside = np.zeros(len(errors.vertex_mm), bool)
    inside[region] = True
    back = errors.reverse_mm[inside[errors.reverse_nearest]]
    angle = errors.normal_rad[region]
    angle = angle[np.isfinite(angle)]
    forward = _mean(errors.vertex_mm[region])
    return {
        "cd_mm": forward,
        "cd_symmetric_mm": (forward + _mean(back)) / 2.0,
        "now_mm": _mean(errors.surface_mm[region]),
        "mne_rad": _mean(angle),
        "mne_deg": float(np.degrees(_mean(angle))),
        "cr": completeness(errors.surface_mm[region]),
        "vertices": len(region),
    }


def _mean(values: np.ndarray) -> float:
    return float(np.mean(values)) if len(values) else float("nan")
