"""Places of the face mesh's 468 points on a head model."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from flame_jax import HeadModel
from n2f_jax.face_mesh.coarse_mesh import load_coarse_mesh


def face_mesh_embedding(model: HeadModel) -> tuple[jax.Array, jax.Array] | None:
    """Triangles and barycentrics of the face mesh's points, if they were embedded in this head model.

    They were if they give the points that the asset holds.
    """
    mesh = load_coarse_mesh()
    triangles = np.asarray(mesh.embedding_faces)
    if triangles.max() >= model.num_faces:
        return None
    corners = np.asarray(model.v_template)[np.asarray(model.faces)[triangles]]
    points = np.einsum("nkc,nk->nc", corners, np.asarray(mesh.embedding_barycentric))
    if not np.allclose(points, np.asarray(mesh.reference), atol=1e-4):
        return None
    return jnp.asarray(triangles), jnp.asarray(mesh.embedding_barycentric)
