"""Places of the face mesh's 468 points on a head model."""

from __future__ import annotations

import dataclasses
import functools
from importlib import resources

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from flame_jax import HeadModel
from n2f_jax.face_mesh.coarse_mesh import ASSET, CoarseMesh, load_coarse_mesh
from n2f_jax.models.correction import CorrectionConfig
from n2f_jax.models.face_mesh_places import FaceMeshPlaces
from n2f_jax.models.surface import SurfacePlaces


def places_of_correction(
    model: HeadModel, config: CorrectionConfig | None, places: FaceMeshPlaces | None = None
) -> SurfacePlaces | None:
    """Where a correction looks on a head model: image positions at the face mesh's points, if they are embedded in it.

    None where a network has no correction.

    Args:
        model: the head model.
        config: of the correction.
        places: of the face mesh on it, where it is not the open head and they are known.

    Raises:
        ValueError: the head model's face has fewer places than ``config`` asks for.
    """
    if config is None:
        return None
    embedding = face_mesh_embedding(model, places)
    return SurfacePlaces.of_model(model, config.num_normals, config.num_points, embedding)


@functools.cache
def points_on_mean_head() -> Float[np.ndarray, "468 3"]:
    """Where the points lie on the mean of the open head that they belong to, metres."""
    path = resources.files("n2f_jax.face_mesh") / "assets" / ASSET
    with path.open("rb") as stream, np.load(stream, allow_pickle=False) as data:
        return data["on_mean_head"].astype(np.float64)


def coarse_mesh_on(places: FaceMeshPlaces | None) -> CoarseMesh:
    """The face mesh on a head model (NumPy arrays), its reference face in the model's frame; on the open head for None.

    Only the reference's rotation is turned with it: a head's rotation is found about its points' middle.
    """
    mesh = load_coarse_mesh()
    if places is None:
        return mesh
    return dataclasses.replace(
        mesh,
        reference=(mesh.reference @ places.rotation.T).astype(np.float32),
        embedding_faces=places.faces,
        embedding_barycentric=places.barycentric,
        head_triangles=int(places.faces.max()) + 1,
    )


def face_mesh_embedding(
    model: HeadModel, places: FaceMeshPlaces | None = None
) -> tuple[jax.Array, jax.Array] | None:
    """Triangles and barycentrics of the face mesh's points: ``places``, or the open head's if this model is it.

    It is if they lie on its mean head where the asset says (``on_mean_head``). That is not
    ``CoarseMesh.reference``: the reference is the face about which the front end's head rotation is defined, on the
    mean head of version 1.
    """
    if places is not None:
        return jnp.asarray(places.faces), jnp.asarray(places.barycentric)
    mesh = load_coarse_mesh()
    triangles = np.asarray(mesh.embedding_faces)
    if triangles.max() >= model.num_faces:
        return None
    corners = np.asarray(model.v_template)[np.asarray(model.faces)[triangles]]
    points = np.einsum("nkc,nk->nc", corners, np.asarray(mesh.embedding_barycentric))
    if not np.allclose(points, points_on_mean_head(), atol=1e-4):
        return None
    return jnp.asarray(triangles), jnp.asarray(mesh.embedding_barycentric)
