"""Paint for a head mesh of any topology: a registered head model tells which point of a face each of its points is."""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from flame_jax import HeadModel
from n2f_jax.geometry.alignment import procrustes
from n2f_jax.mesh.closest_points import Surface, barycentric
from n2f_jax.mesh.normals import face_normals, unit_face_normals
from n2f_jax.mesh.triangle_mesh import TriangleMesh
from n2f_jax.render.topology import vertices_in
from n2f_jax.visualization.face_features import (
    CAVITY,
    TEETH,
    TONGUE,
    FaceFeatures,
    Pigments,
    eye_albedo,
)
from n2f_jax.visualization.open_sky import open_sky

# Parts of the head model. The eyes come last.
_SKIN, _CAVITY, _TEETH, _TONGUE, _LEFT_EYE, _RIGHT_EYE = range(6)
_PARTS = {
    "mouth_cavity": _CAVITY,
    "teeth": _TEETH,
    "tongue": _TONGUE,
    "left_eyeball": _LEFT_EYE,
    "right_eyeball": _RIGHT_EYE,
}
_PLAIN = {_CAVITY: CAVITY, _TEETH: TEETH, _TONGUE: TONGUE}
# A part of a mesh is an eyeball if a sphere of such a radius, so near to the head model's eyeball, fits it so well.
_EYE_RADIUS = (0.008, 0.018)
_EYE_SHIFT, _EYE_MISFIT, _EYE_VERTICES = 0.012, 0.0012, 30
# Metres. What is so much nearer to teeth, tongue or cavity than to skin is that; what is beyond the reach of the
# registered head model is plain skin (shoulders, say).
_LIP = 0.0015
_REACH = 0.020


@dataclasses.dataclass(frozen=True)
class Eye:
    """An eyeball of a mesh.

    Attributes:
        centre: ``(3,)`` head frame, metres.
        rotation: ``(3, 3)`` from a frame whose z axis points where the eye looks to the head frame.
    """

    centre: Float[np.ndarray, "3"]
    rotation: Float[np.ndarray, "3 3"]

    def offset(self, points: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N 3"]:
        """Points of the head frame from the eye's centre, in its frame."""
        return (points - self.centre) @ self.rotation


@dataclasses.dataclass(frozen=True)
class FacePaint:
    """Which point of the open head each point of a mesh is, and so its colour. Made once for a mesh, by ``of``.

    Attributes:
        features: where lips, brows and lids lie on the head model at rest.
        eyes: left and right eyeball.
        eye_of_face: ``(F,)`` of each triangle of the mesh: 0 or 1 in a separate left or right eyeball, else −1.
        reached: ``(F,)`` which triangles of the mesh lie near the registered head model.
        normals: ``(F, 3)`` unit normals of the mesh's triangles.
        outer: the registered head model's skin, with the eyeballs that the mesh has not of its own.
        outer_part: ``(T,)`` what each triangle of ``outer`` is.
        inner: its mouth cavity, teeth and tongue; None where it has none.
        inner_part: ``(S,)`` what each triangle of ``inner`` is.
        rest: ``(N, 3)`` the head model's vertices at rest.
        occlusion: ``(V,)`` share of the sky that each vertex of the mesh sees (``open_sky``).
    """

    features: FaceFeatures
    eyes: tuple[Eye, Eye]
    eye_of_face: Int[np.ndarray, " F"]
    reached: Bool[np.ndarray, " F"]
    normals: Float[np.ndarray, "F 3"]
    outer: Surface
    outer_part: Int[np.ndarray, " T"]
    inner: Surface | None
    inner_part: Int[np.ndarray, " S"]
    rest: Float[np.ndarray, "N 3"]
    occlusion: Float[np.ndarray, " V"]

    @classmethod
    def of(
        cls, mesh: TriangleMesh, template_vertices: Float[np.ndarray, "N 3"], model: HeadModel
    ) -> FacePaint:
        """Paint for ``mesh``.

        Eyeballs that are parts of their own are recognised by their shape; without, what lies over the head model's
        eyeballs is painted as eyes.

        Args:
            mesh: head frame, metres.
            template_vertices: the head model's vertices registered to the mesh: the same frame, on its surface.
            model: the head model, with landmarks and masks.

        Raises:
            ValueError: ``template_vertices`` are not those of the model, or it has no landmarks or eyeballs.
            ImportError: libigl is not installed.
        """
        template = np.asarray(template_vertices, np.float64)
        rest = np.asarray(model.v_template, np.float64)
        if template.shape != rest.shape:
            raise ValueError(
                f"template_vertices have shape {template.shape}, {model.name} has {rest.shape} of them"
            )
        if "left_eyeball" not in model.masks or "right_eyeball" not in model.masks:
            raise ValueError(f"head model {model.name!r} has no masks of its eyeballs")
        features = FaceFeatures.of(model)
        parts = _parts_of_faces(model)
        eyes, eye_of_face = _find_eyes(mesh, template, model, features)

        own = [part for side, part in enumerate((_LEFT_EYE, _RIGHT_EYE)) if (eye_of_face == side).any()]
        faces = np.asarray(model.faces, np.int64)
        # Triangles without area have no barycentric coordinates.
        sound = np.linalg.norm(face_normals(template, faces), axis=1) > 0.0
        is_outer = sound & np.isin(parts, (_SKIN, _LEFT_EYE, _RIGHT_EYE)) & ~np.isin(parts, own)
        is_inner = sound & np.isin(parts, list(_PLAIN))
        near = Surface(TriangleMesh(template, faces[sound])).closest_of_any_order(mesh.vertices)
        return cls(
            features=features,
            eyes=eyes,
            eye_of_face=eye_of_face,
            reached=(near.distance < _REACH)[mesh.faces].any(axis=1),
            normals=unit_face_normals(mesh.vertices, mesh.faces),
            outer=Surface(TriangleMesh(template, faces[is_outer])),
            outer_part=parts[is_outer],
            inner=Surface(TriangleMesh(template, faces[is_inner])) if is_inner.any() else None,
            inner_part=parts[is_inner],
            rest=rest,
            occlusion=open_sky(mesh.vertices, mesh.faces),
        )

    def albedo(
        self, points: Float[np.ndarray, "P 3"], face: Int[np.ndarray, " P"], pigments: Pigments
    ) -> tuple[Float[np.ndarray, "P 3"], Bool[np.ndarray, " P"], Float[np.ndarray, "P 3"]]:
        """Colours of points of the mesh.

        Args:
            points: head frame, metres.
            face: the mesh's triangle under each.
            pigments: the person's.

        Returns:
            Linear albedo; which points are of an eye; and for these the unit normal of the eyeball in the head frame
            (zeros elsewhere).
        """
        part = np.where(self.eye_of_face[face] >= 0, self.eye_of_face[face] + _LEFT_EYE, _SKIN)
        asked = np.flatnonzero((part == _SKIN) & self.reached[face])
        found = self.outer.closest_of_any_order(points[asked])
        part[asked] = self.outer_part[found.face]
        self._mark_inner(part, asked, found.distance, points, face)

        place, scalp = points.copy(), np.zeros(len(points))
        weights = barycentric(self.outer.mesh, found.face, found.point)
        corners = self.outer.mesh.faces[found.face]
        place[asked] = np.einsum("nk,nkc->nc", weights, self.rest[corners])
        scalp[asked] = np.einsum("nk,nk->n", weights, self.features.scalp[corners])

        albedo, normals = np.zeros((len(points), 3)), np.zeros((len(points), 3))
        skin = part == _SKIN
        albedo[skin] = self.features.skin(place[skin], scalp[skin], pigments)
        for number, color in _PLAIN.items():
            albedo[part == number] = color
        for side, eye in enumerate(self.eyes):
            seen = part == _LEFT_EYE + side
            albedo[seen] = eye_albedo(eye.offset(points[seen]), pigments)
            outward = points[seen] - eye.centre
            normals[seen] = outward / np.maximum(np.linalg.norm(outward, axis=1, keepdims=True), 1e-9)
        return albedo, part >= _LEFT_EYE, normals

    def _mark_inner(self, part, asked, distance, points, face):
        """Writes into ``part`` which of the points ``asked`` belong to the inside of the mouth."""
        if self.inner is None:
            return
        corners = self.inner.mesh.vertices[self.inner.mesh.faces].reshape(-1, 3)
        low, high = corners.min(axis=0), corners.max(axis=0)
        p = points[asked]
        candidates = asked[(distance > _LIP) & ((p > low - _LIP) & (p < high + _LIP)).all(axis=1)]
        outside = np.full(len(points), np.inf)
        outside[asked] = distance
        found = self.inner.closest(points[candidates])
        # The cavity's front wall, which faces backwards, may poke through a chin that is registered badly.
        facing = (self.inner.face_normals[found.face] * self.normals[face[candidates]]).sum(axis=1) > 0.0
        inside = facing & (found.distance + _LIP < outside[candidates])
        part[candidates[inside]] = self.inner_part[found.face[inside]]


def _parts_of_faces(model: HeadModel) -> Int[np.ndarray, " T"]:
    """What each triangle of the head model is; −1 in the eye sockets, where lids would be painted twice."""
    faces = np.asarray(model.faces)
    parts = np.full(len(faces), _SKIN)
    for name, number in {"eye_sockets": -1, **_PARTS}.items():
        parts[vertices_in(model, [name])[faces].all(axis=1)] = number
    return parts


def _find_eyes(
    mesh: TriangleMesh,
    template: Float[np.ndarray, "N 3"],
    model: HeadModel,
    features: FaceFeatures,
) -> tuple[tuple[Eye, Eye], Int[np.ndarray, " F"]]:
    """Both eyes, and the triangles of the mesh that are theirs alone."""
    eye_of_face = np.full(len(mesh.faces), -1)
    eyes = []
    rest = np.asarray(model.v_template, np.float64)
    part_of_vertex = _connected_parts(mesh)
    for side, name in enumerate(("left_eyeball", "right_eyeball")):
        ball = np.asarray(model.masks[name])
        # At rest the head model's eyes look out from between its lids; turned, they tell where the mesh's look.
        ahead = frame_about(features.between_lids(side) - rest[ball].mean(axis=0))
        rotation = procrustes(rest[ball], template[ball]).rotation @ ahead
        centre = template[ball].mean(axis=0)
        near = np.linalg.norm(mesh.vertices - centre, axis=1) < _EYE_RADIUS[1] + _EYE_SHIFT
        own = []
        for part in np.unique(part_of_vertex[near]):
            vertices = np.flatnonzero(part_of_vertex == part)
            if len(vertices) < _EYE_VERTICES or not near[vertices].all():
                continue
            middle, radius, misfit = _sphere(mesh.vertices[vertices])
            if (
                _EYE_RADIUS[0] < radius < _EYE_RADIUS[1]
                and misfit < _EYE_MISFIT
                and np.linalg.norm(middle - centre) < _EYE_SHIFT
            ):
                own.append((len(vertices), middle))
                eye_of_face[part_of_vertex[mesh.faces[:, 0]] == part] = side
        if own:  # a cornea may come as a second part
            centre = max(own, key=lambda one: one[0])[1]
        eyes.append(Eye(centre, rotation))
    return (eyes[0], eyes[1]), eye_of_face


def frame_about(z: Float[np.ndarray, "3"]) -> Float[np.ndarray, "3 3"]:
    """A rotation whose third column points along z, and whose second as far up as it can."""
    z = z / np.linalg.norm(z)
    x = np.cross([0.0, 1.0, 0.0], z)
    x /= np.linalg.norm(x)
    return np.stack([x, np.cross(z, x), z], axis=1)


def _connected_parts(mesh: TriangleMesh) -> Int[np.ndarray, " V"]:
    """The number of each vertex's part."""
    a, b, c = mesh.faces.T
    rows, columns = np.concatenate([a, b]), np.concatenate([b, c])
    count = len(mesh.vertices)
    graph = coo_matrix((np.ones(len(rows), bool), (rows, columns)), shape=(count, count))
    return connected_components(graph, directed=False)[1]


def _sphere(points: Float[np.ndarray, "n 3"]) -> tuple[Float[np.ndarray, "3"], float, float]:
    """Centre and radius of the sphere through points by least squares, and the RMS distance from it."""
    origin = points.mean(axis=0)
    p = points - origin
    system = np.concatenate([2.0 * p, np.ones((len(p), 1))], axis=1)
    solution = np.linalg.lstsq(system, (p**2).sum(axis=1), rcond=None)[0]
    centre = solution[:3]
    radius = float(np.sqrt(max(solution[3] + centre @ centre, 0.0)))
    misfit = np.linalg.norm(p - centre, axis=1) - radius
    return centre + origin, radius, float(np.sqrt((misfit**2).mean()))
