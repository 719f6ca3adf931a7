"""The benchmark's head model: the open head with directions that its basis lacks, on a finer, smooth mesh."""

from __future__ import annotations

import dataclasses
import functools
from importlib import resources

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

import flame_jax
from flame_jax import HeadModel
from flame_jax.model import LandmarkEmbedding
from n2f_jax.face_mesh.coarse_mesh import CoarseMesh, load_coarse_mesh

ASSET = "unused_targets.npz"


@functools.cache
def load_benchmark_head() -> HeadModel:
    """The model that ground truth is drawn from.

    Its shape coefficients are the open head's 300 and 12 of bodies (``open_head.unused_targets``), its
    expressions the open head's 100 and 5 more. One step of Loop's subdivision takes everything that is linear in the
    vertices along: the first 4,832 vertices belong to the open head's, in its order, smoothed.
    """
    model = flame_jax.load_open_head()
    path = resources.files("n2f_jax.benchmark") / "assets" / ASSET
    with path.open("rb") as stream, np.load(stream, allow_pickle=False) as extra:
        model = dataclasses.replace(
            model,
            shapedirs=jnp.concatenate([model.shapedirs, extra["shapedirs"].astype(np.float32)], axis=-1),
            exprdirs=jnp.concatenate([model.exprdirs, extra["exprdirs"].astype(np.float32)], axis=-1),
            name="benchmark-head",
        )
    return subdivide(model)


def load_benchmark_coarse_mesh() -> CoarseMesh:
    """The free front end's mesh, its points embedded in the benchmark's head."""
    mesh = load_coarse_mesh()
    faces, barycentric = subdivide_embedding(mesh.embedding_faces, mesh.embedding_barycentric)
    mesh = dataclasses.replace(mesh, embedding_faces=faces, embedding_barycentric=barycentric)
    return jax.tree.map(jnp.asarray, mesh)


def subdivide(model: HeadModel) -> HeadModel:
    """A head model on the mesh that one step of Loop's subdivision makes of its own (needs libigl).

    Every triangle becomes four; a vertex moves to a weighted mean of its neighbours, directions and skinning weights
    likewise. Texture coordinates are halved along the edges; a new vertex is in a mask where both ends of its edge are.
    """
    import igl

    count = model.num_vertices
    faces = np.asarray(model.faces, np.int64)
    matrix, finer = igl.loop_matrix(faces, count)

    def through(x):
        rows = matrix @ np.asarray(x, np.float64).reshape(count, -1)
        return jnp.asarray(rows.reshape(-1, *x.shape[1:]), jnp.float32)

    regressor = np.zeros((len(model.parents), matrix.shape[0]), np.float32)
    regressor[:, :count] = model.J_regressor
    uv, uv_faces = np.asarray(model.uv), np.asarray(model.uv_faces)
    if len(uv):
        halves, uv_faces = igl.upsample_matrix(uv_faces.astype(np.int64), len(uv))
        uv = halves @ uv.astype(np.float64)
    ends = _edge_ends(faces, finer, count)
    masks = {}
    for name, indices in model.masks.items():
        inside = np.zeros(count, bool)
        inside[np.asarray(indices)] = True
        masks[name] = jnp.asarray(
            np.flatnonzero(np.concatenate([inside, inside[ends].all(axis=1)])), jnp.int32
        )
    landmarks = model.landmarks
    if landmarks is not None:
        landmarks = LandmarkEmbedding(
            *map(jnp.asarray, subdivide_embedding(landmarks.static_faces, landmarks.static_barycentric)),
            *map(jnp.asarray, subdivide_embedding(landmarks.dynamic_faces, landmarks.dynamic_barycentric)),
        )
    return dataclasses.replace(
        model,
        v_template=through(model.v_template),
        shapedirs=through(model.shapedirs),
        exprdirs=through(model.exprdirs),
        posedirs=through(model.posedirs),
        eyelids=jnp.stack([through(lid) for lid in model.eyelids]),
        J_regressor=jnp.asarray(regressor),
        weights=through(model.weights),
        faces=jnp.asarray(finer, jnp.int32),
        uv=jnp.asarray(uv, jnp.float32),
        uv_faces=jnp.asarray(uv_faces, jnp.int32),
        landmarks=landmarks,
        masks=masks,
    )


def subdivide_embedding(
    faces: Int[Array | np.ndarray, "..."], barycentric: Float[Array | np.ndarray, "... 3"]
) -> tuple[Int[np.ndarray, "..."], Float[np.ndarray, "... 3"]]:
    """Points on triangles (A, B, C) as points on the four that each becomes, in libigl's order:
    (A, AB, CA), (B, BC, AB), (AB, BC, CA), (BC, C, CA)."""
    faces, barycentric = np.asarray(faces), np.asarray(barycentric)
    a, b, c = np.moveaxis(2.0 * barycentric, -1, 0)
    corners = [(a - 1.0, b, c), (b - 1.0, c, a), (1.0 - c, 1.0 - a, 1.0 - b), (b, c - 1.0, a)]
    child = np.select([a >= 1.0, b >= 1.0, c >= 1.0], [0, 1, 3], 2)
    stacked = np.stack([np.stack(np.broadcast_arrays(*one), axis=-1) for one in corners])
    chosen = np.take_along_axis(stacked, child[None, ..., None], axis=0)[0]
    return (4 * faces + child).astype(np.int32), chosen.astype(np.float32)


def _edge_ends(faces: np.ndarray, finer: np.ndarray, count: int) -> np.ndarray:
    """``(V' − V, 2)`` the two vertices between which each new one lies."""
    a, b, c = faces.T
    ab, bc, ca = finer[2::4].T
    ends = np.zeros((finer.max() + 1 - count, 2), np.int64)
    for middle, pair in ((ab, (a, b)), (bc, (b, c)), (ca, (c, a))):
        ends[middle - count] = np.stack(pair, axis=-1)
    return ends
