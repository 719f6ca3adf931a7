"""Places of the face mesh's 468 points on a head model."""

from __future__ import annotations

import functools
from importlib import resources

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from flame_jax import HeadModel
from n2f_jax.face_mesh.coarse_mesh import ASSET, load_coarse_mesh
from n2f_jax.models.correction import CorrectionConfig
from n2f_jax.models.surface import SurfacePlaces


def places_of_correction(model: HeadModel, config: CorrectionConfig | None) -> SurfacePlaces | None:
    """Where a correction looks on a head model: image positions at the face mesh's points, if they are embedded in it.

    None where a network has no correction.

    Raises:
        ValueError: the head model's face has fewer places than ``config`` asks for.
    """
    if config is None:
        return None
    embedding = face_mesh_embedding(model)
    return SurfacePlaces.of_model(model, config.num_normals, config.num_points, embedding)


@functools.cache
def points_on_mean_head() -> Float[np.ndarray, "468 3"]:
    """Where the points lie on the mean of the open head that they belong to, metres."""
    path = resources.files("n2f_jax.face_mesh") / "assets" / ASSET
    with path.open("rb") as stream, np.load(stream, allow_pickle=False) as data:
        return data["on_mean_head"].astype(np.float64)


def face_mesh_embedding(model: HeadModel) -> tuple[jax.Array, jax.Array] | None:
    """Triangles and barycentrics of the face mesh's points, if they were embedded in this head model.

    They were if they lie on its mean head where the asset says (``on_mean_head``). That is not
    ``CoarseMesh.reference``: the reference is the face about which the front end's head rotation is defined, on the
    mean head of version 1.
    """
    mesh = load_coarse_mesh()
    triangles = np.asarray(mesh.embedding_faces)
    if triangles.max() >= model.num_faces:
        return None
    corners = np.asarray(model.v_template)[np.asarray(model.faces)[triangles]]
    points = np.einsum("nkc,nk->nc", corners, np.asarray(mesh.embedding_barycentric))
    if not np.allclose(points, points_on_mean_head(), atol=1e-4):
        return None
    return jnp.asarray(triangles), jnp.asarray(mesh.embedding_barycentric)
