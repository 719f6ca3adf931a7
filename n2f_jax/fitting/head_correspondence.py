"""Dense correspondence of two head models: which point of one's skin is which point of the other's, worked out once.

The source is registered to the target's mean head (``registration``), offsets included; every vertex of the target's
skin then belongs to the nearest point of the source's.
"""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from flame_jax import HeadModel, LandmarkEmbedding, landmarks68
from n2f_jax.fitting.correspondences import border_edges, on_border
from n2f_jax.fitting.registration import Registrar, RegistrationConfig, Stage
from n2f_jax.mesh.cleaning import clean
from n2f_jax.mesh.closest_points import Surface, barycentric, morton_order
from n2f_jax.mesh.normals import unit_face_normals, vertex_areas, vertex_normals
from n2f_jax.mesh.triangle_mesh import TriangleMesh
from n2f_jax.metrics.skin import skin_faces
from n2f_jax.render.topology import vertices_in

# Nearest points further away, or of another direction, are no correspondence.
_MAX_DISTANCE, _LEAST_COSINE = 0.005, 0.7
_MAX_VERTICES = 4000
# Both models say where their landmarks are: as the surfaces close, those hold more and more.
_STAGES = (
    Stage(20, 0.04, 0.003, coefficients=False),
    Stage(15, 0.02, 0.003),
    Stage(20, 0.008, 0.00075),
    Stage(20, 0.005, 0.0005),
)
# What a square metre of skin that is not face weighs: heads' backs and necks are hardly seen.
_REST_WEIGHT = 0.25


@dataclasses.dataclass(frozen=True)
class HeadCorrespondence:
    """Points of a source model's skin and where they are on a target's. N pairs, n points of the face mesh.

    Attributes:
        vertices: ``(N,)`` of the target.
        faces: ``(N,)`` the source's triangle that each of them lies on.
        barycentric: ``(N, 3)`` there.
        weights: ``(N,)`` shares of the skin's area, the face's above the rest's; their sum is 1.
        rotation, translation: ``(3, 3)``, ``(3,)`` source's head frame to target's, metres.
        contour_faces, contour_barycentric: ``(bins, 17)``, ``(bins, 17, 3)`` the source's contour on the target.
        point_faces, point_barycentric: ``(n,)``, ``(n, 3)`` the face mesh's points on the target.
        distance: root mean square distance of the pairs on the two mean heads, metres: what registration left.
        paired: share of the target's skin, by vertices, that has a place on the source.
    """

    vertices: Int[np.ndarray, " N"]
    faces: Int[np.ndarray, " N"]
    barycentric: Float[np.ndarray, "N 3"]
    weights: Float[np.ndarray, " N"]
    rotation: Float[np.ndarray, "3 3"]
    translation: Float[np.ndarray, "3"]
    contour_faces: Int[np.ndarray, "bins 17"]
    contour_barycentric: Float[np.ndarray, "bins 17 3"]
    point_faces: Int[np.ndarray, " n"]
    point_barycentric: Float[np.ndarray, "n 3"]
    distance: float
    paired: float


def require_landmarks(*models: HeadModel) -> None:
    """Refuses head models that cannot be laid over each other.

    Raises:
        ValueError: one has no landmarks.
    """
    for model in models:
        if model.landmarks is None:
            raise ValueError(
                f"head model {model.name!r} has no landmarks, by which one model is laid over another: put its "
                "landmark file beside it (docs/head_models.md)"
            )


def find_correspondence(
    source: HeadModel,
    target: HeadModel,
    points: tuple[Int[np.ndarray, " n"], Float[np.ndarray, "n 3"]] | None = None,
) -> HeadCorrespondence:
    """Registers ``source`` to the mean head of ``target``; half a minute.

    Args:
        source: with landmarks and masks.
        target: with landmarks.
        points: triangles and barycentrics, on the source, of the face mesh's points (``face_mesh.embedding``), or None.

    Raises:
        ValueError: one of them has no landmarks.
        AlignmentError: the source found no place on the target.
        ImportError: libigl is not installed.
    """
    require_landmarks(source, target)
    template = np.asarray(target.v_template, np.float64)
    of_skin = skin_faces(target)
    scan, kept, _ = clean(TriangleMesh(template, np.asarray(target.faces, np.int64)[of_skin]), target.name)
    marks = np.asarray(landmarks68(target, target.v_template), np.float64)
    found = Registrar(source, RegistrationConfig(_STAGES, offsets=True))(scan, marks)
    laid = found.similarity.apply(found.vertices)

    own = np.asarray(source.faces, np.int64)
    own_skin = skin_faces(source)
    mesh = TriangleMesh(laid, own[own_skin])
    near = Surface(mesh).closest_of_any_order(scan.vertices)
    shares = barycentric(mesh, near.face, near.point)
    agreement = (
        unit_face_normals(laid, mesh.faces[near.face]) * vertex_normals(scan.vertices, scan.faces)
    ).sum(axis=1)
    good = (near.distance < _MAX_DISTANCE) & (agreement > _LEAST_COSINE)
    good &= ~on_border(shares, border_edges(mesh.faces)[near.face])
    pairs = np.flatnonzero(good)
    of_face = vertices_in(source, ("face",))[mesh.faces[near.face]].all(axis=1)
    weights = vertex_areas(scan.vertices, scan.faces) * np.where(of_face, 1.0, _REST_WEIGHT)
    if len(pairs) > _MAX_VERTICES:
        pairs = np.sort(np.random.default_rng(0).choice(pairs, _MAX_VERTICES, replace=False))

    def on_target(faces: np.ndarray, shares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Points of the source's triangles as points of the target's."""
        flat = np.einsum("nk,nkc->nc", shares.reshape(-1, 3), laid[own[faces.reshape(-1)]])
        order = morton_order(flat)
        found = Surface(scan).closest(flat[order]).reordered(order)
        there = barycentric(scan, found.face, found.point)
        triangles = _model_faces(target, kept[scan.faces[found.face]], of_skin)
        return triangles.reshape(faces.shape), np.asarray(there, np.float32).reshape(shares.shape)

    assert source.landmarks is not None
    contour = on_target(
        *(np.asarray(x) for x in (source.landmarks.dynamic_faces, source.landmarks.dynamic_barycentric))
    )
    none = np.zeros(0, np.int32), np.zeros((0, 3), np.float32)
    marked = none if points is None else on_target(np.asarray(points[0]), np.asarray(points[1]))
    return HeadCorrespondence(
        vertices=kept[pairs].astype(np.int32),
        faces=np.flatnonzero(own_skin)[near.face[pairs]].astype(np.int32),
        barycentric=shares[pairs].astype(np.float32),
        weights=(weights[pairs] / weights[pairs].sum()).astype(np.float32),
        rotation=np.asarray(found.similarity.rotation, np.float32),
        translation=np.asarray(found.similarity.translation, np.float32),
        contour_faces=contour[0],
        contour_barycentric=contour[1],
        point_faces=marked[0],
        point_barycentric=marked[1],
        distance=float(np.sqrt(np.mean(near.distance[good] ** 2))),
        paired=float(good.mean()),
    )


def lacks_regions_or_contour(model: HeadModel) -> bool:
    """Whether ``completed`` has something to add to a model with landmarks."""
    return "face" not in model.masks or (
        model.landmarks is not None and model.landmarks.dynamic_faces.shape[0] == 1
    )


def completed(source: HeadModel, target: HeadModel, found: HeadCorrespondence) -> HeadModel:
    """``target`` with what its files lack and ``source`` has: regions, if it has no face, and the contour by yaw, if it
    has one for all."""
    landmarks, masks = target.landmarks, dict(target.masks)
    if landmarks is not None and landmarks.dynamic_faces.shape[0] == 1:
        landmarks = LandmarkEmbedding(
            landmarks.static_faces,
            landmarks.static_barycentric,
            jnp.asarray(found.contour_faces),
            jnp.asarray(found.contour_barycentric),
        )
    if "face" not in masks:
        corner = np.asarray(source.faces)[found.faces, np.argmax(found.barycentric, axis=1)]
        for name, own in source.masks.items():
            inside = np.isin(corner, np.asarray(own))
            if name not in masks and inside.any():
                masks[name] = jnp.asarray(found.vertices[inside])
    return dataclasses.replace(target, landmarks=landmarks, masks=masks)


def _model_faces(model: HeadModel, corners: np.ndarray, among: np.ndarray) -> np.ndarray:
    """Indices of triangles of a model by their corners ``(n, 3)``, which cleaning has renumbered."""
    faces = np.asarray(model.faces, np.int64)
    count = model.num_vertices
    places = np.flatnonzero(among)
    keys = (faces[places, 0] * count + faces[places, 1]) * count + faces[places, 2]
    order = np.argsort(keys)
    wanted = (corners[:, 0] * count + corners[:, 1]) * count + corners[:, 2]
    return places[order[np.searchsorted(keys[order], wanted)]].astype(np.int32)
