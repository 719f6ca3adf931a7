"""What any head mesh needs to serve as ground truth: landmarks, regions and frame, from a registered head model."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
from jaxtyping import Float, Int

import flame_jax
from flame_jax import HeadModel
from n2f_jax.evaluation.facescape import first_hits
from n2f_jax.evaluation.regions import MAX_TRANSFER, Template, template_of
from n2f_jax.fitting.registration import Registrar, Registration, RegistrationConfig
from n2f_jax.geometry.alignment import Similarity, procrustes
from n2f_jax.mesh.closest_points import Surface, barycentric
from n2f_jax.mesh.normals import unit_face_normals, vertex_normals
from n2f_jax.mesh.triangle_mesh import MeshError, TriangleMesh
from n2f_jax.metrics.skin import skin_vertices
from n2f_jax.render.topology import FACE_REGIONS, MeshTopology, vertices_in

# Brows, eyes and nose: jaw and mouth do not move them, so they say how a head stands.
UPPER_FACE = np.arange(17, 48)
# A vertex of the mesh and the model's surface beneath it look the same way.
_LEAST_COSINE = 0.3
# Rays that leave a vertex start this far out, in units of the head's size.
_LIFT = 1e-4


@dataclasses.dataclass(frozen=True, eq=False)  # by identity: arrays have no one truth
class MeshAnnotation:
    """Places on a mesh, by its own vertices: they hold for every mesh of the same topology.

    Attributes:
        faces: ``(F, 3)`` of the mesh.
        landmark_corners: ``(68, 3)`` vertices between which each of our 68 landmarks (static contour) lies.
        landmark_weights: ``(68, 3)`` its barycentric coordinates.
        regions: name → vertices of the visible skin (``regions.REGIONS``).
        visible: ``(n,)`` vertices of the skin that can be seen from outside.
        mask: ``(m,)`` vertices of what the face mask shows: the face region, seen or not, and what fills the eyes.
        model_corners: ``(N, 3)`` vertices between which the surface is nearest to each vertex of the open head.
        model_weights: ``(N, 3)`` its barycentric coordinates.
        model_height: ``(N,)`` how far above that it lies, in units of the outer-eye distance.
        num_vertices: V.
    """

    faces: Int[np.ndarray, "F 3"]
    landmark_corners: Int[np.ndarray, "68 3"]
    landmark_weights: Float[np.ndarray, "68 3"]
    regions: dict[str, Int[np.ndarray, " n"]]
    visible: Int[np.ndarray, " n"]
    mask: Int[np.ndarray, " m"]
    model_corners: Int[np.ndarray, "N 3"]
    model_weights: Float[np.ndarray, "N 3"]
    model_height: Float[np.ndarray, " N"]
    num_vertices: int

    def landmarks_on(self, vertices: Float[np.ndarray, "V 3"]) -> Float[np.ndarray, "68 3"]:
        """The 68 landmarks of a mesh of this topology."""
        return np.einsum("nc,nci->ni", self.landmark_weights, vertices[self.landmark_corners])

    def model_on(self, vertices: Float[np.ndarray, "V 3"]) -> Float[np.ndarray, "N 3"]:
        """The open head's vertices laid over a mesh of this topology."""
        normals = vertex_normals(vertices, self.faces)
        points, directions = (
            np.einsum("nc,nci->ni", self.model_weights, x[self.model_corners]) for x in (vertices, normals)
        )
        height = self.model_height * _eye_distance(self.landmarks_on(vertices))
        return points + height[:, None] * directions

    def is_of(self, mesh: TriangleMesh) -> bool:
        """Whether a mesh has this topology."""
        return len(mesh.vertices) == self.num_vertices and np.array_equal(mesh.faces, self.faces)

    @functools.cached_property
    def topology(self) -> MeshTopology:
        """For drawing; its region are the triangles that make the face mask where they are seen (``FACE_REGIONS``)."""
        inside = np.zeros(self.num_vertices, bool)
        inside[self.mask] = True
        return MeshTopology.from_faces(self.faces, inside[self.faces].all(axis=1))


def annotate(
    mesh: TriangleMesh,
    landmarks: Float[np.ndarray, "68 3"],
    registrar: Registrar | None = None,
) -> tuple[MeshAnnotation, Registration]:
    """Annotates a mesh by registering the open head to it, up to scale and with offsets.

    Args:
        mesh: a head of any topology, unit and pose; cleaned (``mesh.cleaning.clean``).
        landmarks: on it, iBUG's order; rows that are not known are NaN (``fitting.registration``).
        registrar: of the open head, with ``scaling`` and ``offsets``; None makes one.

    Returns:
        The annotation, and the registration: its similarity takes the open head's frame to the mesh's.

    Raises:
        AlignmentError, MeshError: the mesh is no head, or the landmarks are not its.
    """
    registrar = registrar or annotator()
    model = registrar.model
    registration = registrar(mesh, landmarks)
    placed = registration.similarity.apply(registration.vertices)
    template = template_of(model)
    regions, visible, mask = _regions(mesh, placed, template, model, registration.similarity)
    if len(regions.get("face", ())) < 50:
        raise MeshError("the head model's face lies nowhere on the mesh: wrong landmarks, or no head")
    surface = Surface(mesh)
    own = placed[np.asarray(model.faces)[np.asarray(model.landmarks.static_faces)]]
    own = np.einsum("nc,nci->ni", np.asarray(model.landmarks.static_barycentric, np.float64), own)
    corners, weights, _ = _places(mesh, surface, own)
    model_corners, model_weights, height = _places(mesh, surface, placed)
    found = np.einsum("nc,nci->ni", weights, mesh.vertices[corners])
    annotation = MeshAnnotation(
        faces=mesh.faces,
        landmark_corners=corners,
        landmark_weights=weights,
        regions=regions,
        visible=visible,
        mask=mask,
        model_corners=model_corners,
        model_weights=model_weights,
        model_height=height / _eye_distance(found),
        num_vertices=len(mesh.vertices),
    )
    return annotation, registration


def annotator() -> Registrar:
    """A registrar that suits ``annotate``."""
    return Registrar(flame_jax.load_open_head(), RegistrationConfig(scaling=True, offsets=True))


def upright(landmarks: Float[np.ndarray, "68 3"], metres: float = 1.0) -> Similarity:
    """From a mesh's frame to the head frame: the mesh's upper face over that of the mean open head.

    Args:
        landmarks: of the mesh.
        metres: one unit of the mesh; its size is kept.

    Returns:
        ``scale`` is ``metres``.
    """
    model = flame_jax.load_open_head()
    own = np.asarray(flame_jax.landmarks68(model, model.v_template), np.float64)[UPPER_FACE]
    found = procrustes(metres * landmarks[UPPER_FACE], own)
    return Similarity(metres, found.rotation, found.translation)


def _places(
    mesh: TriangleMesh, surface: Surface, points: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Corners and barycentric coordinates of the nearest points of a mesh, and how far above these points lie."""
    found = surface.closest_of_any_order(points)
    weights = barycentric(mesh, found.face, found.point)
    corners = mesh.faces[found.face]
    normals = np.einsum("nc,nci->ni", weights, vertex_normals(mesh.vertices, mesh.faces)[corners])
    return corners, weights, ((points - found.point) * normals).sum(axis=1)


def _eye_distance(landmarks: np.ndarray) -> float:
    return float(np.linalg.norm(landmarks[36] - landmarks[45]))


def _regions(
    mesh: TriangleMesh, placed: np.ndarray, template: Template, model: HeadModel, similarity: Similarity
) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Of each vertex: whose nearest point of the registered model is a visible one of a region, and is seen itself."""
    faces = np.asarray(model.faces, np.int64)
    found = Surface(TriangleMesh(placed, faces)).closest_of_any_order(mesh.vertices)
    weights = barycentric(TriangleMesh(placed, faces), found.face, found.point)
    near = found.distance < MAX_TRANSFER * float(similarity.scale)
    nearest = faces[found.face][np.arange(len(weights)), weights.argmax(axis=1)]
    facing = (unit_face_normals(placed, faces)[found.face] * vertex_normals(mesh.vertices, mesh.faces)).sum(
        axis=1
    ) > _LEAST_COSINE
    of_skin = np.zeros(len(placed), bool)
    of_skin[skin_vertices(model)] = True
    seen = near & facing & of_skin[nearest]
    seen[seen] = is_exposed(mesh, np.flatnonzero(seen))
    regions = {}
    for name, indices in template.regions.items():
        member = np.zeros(len(placed), bool)
        member[indices] = True
        regions[name] = np.flatnonzero(seen & member[nearest])
    masked = vertices_in(model, (*FACE_REGIONS, "eye_sockets"))
    return regions, np.flatnonzero(seen), np.flatnonzero(near & masked[nearest])


def is_exposed(mesh: TriangleMesh, indices: Int[np.ndarray, " n"]) -> np.ndarray:
    """``(n,)`` whether a ray out of each vertex leaves the mesh: the sides of a mouth's cavity have none that do.

    Rays run along the vertex's normal and 12 directions 50° off it.

    Raises:
        ImportError: embreex is not installed.
    """
    normals = vertex_normals(mesh.vertices, mesh.faces)[indices]
    size = float(np.ptp(mesh.vertices, axis=0).max())
    # Any frame about the normal will do.
    helper = np.where(np.abs(normals[:, :1]) < 0.9, [[1.0, 0.0, 0.0]], [[0.0, 1.0, 0.0]])
    first = np.cross(normals, helper)
    first /= np.maximum(np.linalg.norm(first, axis=1, keepdims=True), 1e-12)
    second = np.cross(normals, first)
    angles = np.arange(12) * (2.0 * np.pi / 12)
    tilt = np.deg2rad(50.0)
    directions = [normals] + [
        np.cos(tilt) * normals + np.sin(tilt) * (np.cos(a) * first + np.sin(a) * second) for a in angles
    ]
    origins = mesh.vertices[indices] + _LIFT * size * normals
    exposed = np.zeros(len(indices), bool)
    for direction in directions:
        left = np.flatnonzero(~exposed)
        if not len(left):
            break
        free = np.ones(len(left), bool)
        free[first_hits(mesh, origins[left], direction[left])[0]] = False
        exposed[left[free]] = True
    return exposed
