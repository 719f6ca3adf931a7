"""Regions of a ground-truth mesh: face, eyes, nose, mouth, ears."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path

import numpy as np
from scipy.interpolate import RBFInterpolator
from scipy.spatial import cKDTree

from flame_jax import HeadModel
from n2f_jax.evaluation.landmarks3d import SEVEN_OF_68
from n2f_jax.evaluation.scan_alignment import refine
from n2f_jax.geometry.alignment import procrustes_of_landmarks
from n2f_jax.mesh.closest_points import Surface, morton_order
from n2f_jax.mesh.triangle_mesh import TriangleMesh, part_of
from n2f_jax.metrics.skin import skin_vertices, visible_vertices
from n2f_jax.runtime.outside_values import numbers, read_arrays, read_json, told

REGIONS = ("face", "eyes", "nose", "mouth", "ears")
# Beyond this a scan vertex is hair, neck or clothes, whatever template vertex is nearest.
MAX_TRANSFER = 0.02
# The template is another person's head: more points would not fit it better.
_FIT_POINTS = 3000


class RegionError(ValueError):
    """Regions that cannot be found or read; the message says why."""


@dataclasses.dataclass(frozen=True)
class Template:
    """A head model at rest with its regions, in its own frame, metres.

    Attributes:
        mesh: all of it.
        landmarks: ``(7, 3)``, or None where the model has none.
        landmark_corners: ``(7, 3)`` vertices between which each landmark lies, or None.
        landmark_weights: ``(7, 3)`` its barycentric coordinates, or None.
        regions: name → vertex indices, of ``REGIONS``, skin alone.
        visible: vertices that a scanner can reach: skin, and the fronts of the eyeballs.
        name: of the head model.
    """

    mesh: TriangleMesh
    landmarks: np.ndarray | None
    landmark_corners: np.ndarray | None
    landmark_weights: np.ndarray | None
    regions: dict[str, np.ndarray]
    visible: np.ndarray
    name: str

    def landmarks_on(self, vertices: np.ndarray) -> np.ndarray:
        """``(7, 3)`` landmarks of a mesh of this topology."""
        return np.einsum("nc,nci->ni", self.landmark_weights, vertices[self.landmark_corners])

    def visible_part(self, vertices: np.ndarray) -> TriangleMesh:
        """What of a mesh of this topology can be seen, without mouth cavity, teeth and sockets: a mesh of its own."""
        return part_of(TriangleMesh(vertices, self.mesh.faces), self.visible)

    def is_topology_of(self, mesh: TriangleMesh) -> bool:
        """Whether a mesh has this template's vertices and triangles, one to one."""
        return mesh.vertices.shape == self.mesh.vertices.shape and np.array_equal(mesh.faces, self.mesh.faces)


@functools.lru_cache(maxsize=4)
def load_template(head_model: str | None = None) -> Template:
    """The template of a head model; None for the open head that ships with the package."""
    import flame_jax

    return template_of(flame_jax.load_head_model(head_model) if head_model else flame_jax.load_open_head())


def template_of(model: HeadModel) -> Template:
    """The template of a loaded head model."""
    vertices = np.asarray(model.v_template, np.float64)
    landmarks = corners = weights = None
    if model.landmarks is not None:
        chosen = list(SEVEN_OF_68)
        corners = np.asarray(model.faces)[np.asarray(model.landmarks.static_faces)[chosen]]
        weights = np.asarray(model.landmarks.static_barycentric, np.float64)[chosen]
        landmarks = np.einsum("nc,nci->ni", weights, vertices[corners])
    not_skin = np.ones(len(vertices), bool)
    not_skin[skin_vertices(model)] = False
    named = {name: np.asarray(indices) for name, indices in model.masks.items()}
    if "left_ear" in named and "right_ear" in named:
        named["ears"] = np.union1d(named["left_ear"], named["right_ear"])
    regions = {name: named[name][~not_skin[named[name]]] for name in REGIONS if name in named}
    mesh = TriangleMesh(vertices, np.asarray(model.faces, np.int64))
    return Template(mesh, landmarks, corners, weights, regions, visible_vertices(model), model.name)


def transfer_regions(
    scan: TriangleMesh, landmarks: np.ndarray, crop: np.ndarray, template: Template
) -> dict[str, np.ndarray]:
    """Regions of a scan of any topology: those of the template's nearest vertex, the template laid over the scan.

    It is aligned with scale by landmarks, refined on ``crop``, and bent so that its landmarks meet the scan's (their
    displacements interpolated linearly with distance, ``RBFInterpolator``); a scan vertex further than 2 cm from
    every visible template vertex is in no region. Reconstructions play no part, so all methods are measured on the
    same vertices.

    Args:
        scan: metres.
        landmarks: ``(7, 3)`` of the scan.
        crop: indices of the scan's vertices to refine on.
        template: with landmarks.

    Raises:
        RegionError: the template has no landmarks or no regions.
    """
    if template.landmarks is None or "face" not in template.regions:
        raise RegionError(
            f"head model {template.name!r} has no landmarks or no face region (for FLAME: its landmark and mask files)"
        )
    start = procrustes_of_landmarks(template.landmarks, landmarks, scaling=True)
    points = scan.vertices[crop]
    points = points[morton_order(points)][:: max(1, len(points) // _FIT_POINTS)]
    fitted = refine(Surface(template.mesh), points, start, True, tolerance=1e-5).similarity
    corresponding = fitted.apply(template.landmarks)
    bend = RBFInterpolator(corresponding, landmarks - corresponding, kernel="linear", degree=0)
    visible = fitted.apply(template.mesh.vertices[template.visible])
    visible += bend(visible)
    distance, nearest = cKDTree(visible).query(scan.vertices, distance_upper_bound=MAX_TRANSFER)
    found = np.isfinite(distance)
    vertex = template.visible[np.where(found, nearest, 0)]
    regions = {}
    for name, indices in template.regions.items():
        member = np.zeros(len(template.mesh.vertices), bool)
        member[indices] = True
        regions[name] = np.flatnonzero(found & member[vertex])
    return regions


def read_regions(path: str | Path, num_vertices: int) -> dict[str, np.ndarray]:
    """Regions of a fixed topology: ``.json`` or ``.npz`` of name → vertex indices; at least ``face``.

    Raises:
        RegionError: not such a file, or indices beyond the topology's vertices.
    """
    path = Path(path)
    try:
        named = read_arrays(path) if path.suffix.lower() == ".npz" else read_json(path)
        if not isinstance(named, dict):
            raise ValueError("not a file of regions: no object of name → vertex indices")
        regions = {name: np.unique(numbers(indices, np.int64)) for name, indices in named.items()}
    except (OSError, ValueError) as error:
        raise RegionError(told(path, error)) from error
    for name, indices in regions.items():
        if indices.size and (indices.min() < 0 or indices.max() >= num_vertices):
            wrong = indices.min() if indices.min() < 0 else indices.max()
            raise RegionError(f"{path}: region {name[:60]!r} has vertex {wrong} of {num_vertices}")
    if not regions.get("face", np.zeros(0)).size:
        raise RegionError(f"{path}: no region 'face'")
    return regions
