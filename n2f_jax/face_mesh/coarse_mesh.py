"""Normal map and mask of the 468-point face mesh: what the free front end sees of a face.

One function serves the photograph (points from the face mesh network) and the synthetic generator (points of
the open head, embedded once by ``scripts/build/embed_landmarks.py``), so that training data look like the front
end. Pure JAX, for one face; use ``jax.vmap`` for a batch.
"""

from __future__ import annotations

import dataclasses
import functools
from importlib import resources

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from n2f_jax.geometry.alignment import procrustes
from n2f_jax.render import rasterize, vertex_normals

NUM_POINTS = 468
ASSET = "face_mesh_topology.npz"

# The points come with weak-perspective depth; the rasteriser wants a pinhole camera. Lifted to a camera
# this many crops away they project to the same pixels, and depth keeps its order.
_LIFT_DISTANCE = 16.0


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class CoarseMesh:
    """The 468-point mesh and its place on a head model, a pytree of JAX or of NumPy arrays.

    Attributes:
        faces: ``(F, 3)`` triangles, counter-clockwise from outside: the face mesh's 852 and those that
            close the eyes and the mouth.
        upper_face: ``(U,)`` points that neither expression nor jaw moves much; they give the head's rotation.
        reference: ``(468, 3)`` the points on the mean of the open head's version 1, head frame, metres: the face about
            which rotations are defined.
        embedding_faces: ``(468,)`` the head model's triangle under each point.
        embedding_barycentric: ``(468, 3)``.
        mirror: ``(468,)`` each point's mirror image.
        ibug68: ``(68,)`` the 68 landmarks of iBUG's scheme among the points.
        head_triangles: how many triangles the head model has at least (static).
    """

    faces: Int[Array | np.ndarray, "F 3"]
    upper_face: Int[Array | np.ndarray, "U"]
    reference: Float[Array | np.ndarray, "468 3"]
    embedding_faces: Int[Array | np.ndarray, "468"]
    embedding_barycentric: Float[Array | np.ndarray, "468 3"]
    mirror: Int[Array | np.ndarray, "468"]
    ibug68: Int[Array | np.ndarray, "68"]
    head_triangles: int = dataclasses.field(metadata={"static": True})


@functools.cache
def load_coarse_mesh() -> CoarseMesh:
    """The mesh that ships with the package, on the open head (NumPy arrays, so that loading starts no device)."""
    path = resources.files("n2f_jax.face_mesh") / "assets" / ASSET
    with path.open("rb") as stream, np.load(stream, allow_pickle=False) as data:
        faces = np.concatenate([data["triangles"], data["fill_triangles"]]).astype(np.int32)
        return CoarseMesh(
            faces=faces,
            upper_face=data["upper_face"].astype(np.int32),
            reference=data["reference"].astype(np.float32),
            embedding_faces=data["embedding_faces"].astype(np.int32),
            embedding_barycentric=data["embedding_barycentric"].astype(np.float32),
            mirror=data["mirror"].astype(np.int32),
            ibug68=data["ibug68"].astype(np.int32),
            head_triangles=int(data["embedding_faces"].max()) + 1,
        )


def coarse_maps(
    points: Float[Array, "468 3"], size: int, mesh: CoarseMesh | None = None
) -> tuple[Float[Array, "S S 3"], Float[Array, "S S"]]:
    """Draws the coarse mesh of one face in its crop.

    Args:
        points: u, v in pixels of the crop (centres at +0.5) and depth in the same scale, growing away from
            the camera; its zero does not matter.
        size: S, side of the crop in pixels (static).
        mesh: None for the one that ships.

    Returns:
        Unit normals in the head frame, zero outside the mask; and the mask, 0 or 1.
    """
    mesh = load_coarse_mesh() if mesh is None else mesh
    faces = jnp.asarray(mesh.faces)
    normals = vertex_normals(points, faces) @ head_rotation(points, mesh)  # rows times R = Rᵀ applied to each
    face = _visible_faces(points, faces, size)
    return _interpolate(points, normals, faces, face, size)


def head_rotation(points: Float[Array, "468 3"], mesh: CoarseMesh) -> Float[Array, "3 3"]:
    """Rotation R from the head frame to the camera frame of the points, by Procrustes on the upper face.

    Expression and jaw hardly move those points, and scale and position drop out.
    """
    upper = jnp.asarray(mesh.upper_face)
    return procrustes(jnp.asarray(mesh.reference)[upper], points[upper]).rotation


def _visible_faces(points: Float[Array, "468 3"], faces: Int[Array, "F 3"], size: int) -> Int[Array, "S S"]:
    distance = _LIFT_DISTANCE * size
    centre = 0.5 * size
    depth = distance + (points[:, 2:] - points[:, 2:].mean(axis=0, keepdims=True))
    lifted = jnp.concatenate([(points[:, :2] - centre) * depth / distance, depth], axis=1)
    focal, principal = jnp.asarray(distance), jnp.full((2,), centre)
    return rasterize(lifted, faces, focal, principal, (size, size)).face


def _interpolate(
    points: Float[Array, "468 3"],
    values: Float[Array, "468 3"],
    faces: Int[Array, "F 3"],
    face: Int[Array, "S S"],
    size: int,
) -> tuple[Float[Array, "S S 3"], Float[Array, "S S"]]:
    """Values interpolated in each triangle, normalised: affine in the pixel, so one 3×3 matrix a triangle."""
    # About the crop's centre, where float32 is densest.
    corners = points[faces][..., :2] - 0.5 * size
    a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]
    # Barycentric numerators: the area of the triangle that replaces each corner by the pixel.
    edges = jnp.stack([c - b, a - c, b - a], axis=1)
    slope = jnp.stack([-edges[..., 1], edges[..., 0]], axis=-1)
    start = jnp.stack([b, c, a], axis=1)
    offset = -(slope * start).sum(axis=-1)
    weights = jnp.concatenate([slope, offset[..., None]], axis=-1)  # (F, corner, [u v 1])
    # Triangles that are seen have negative area here (v points down); the sign would flip the normals.
    rows = jnp.einsum("fck,fcd->fdk", -weights, values[faces], precision=jax.lax.Precision.HIGHEST)
    rows = jnp.concatenate([rows, jnp.zeros((1, 3, 3), rows.dtype)]).reshape(-1, 9)
    index = jnp.where(face >= 0, face, faces.shape[0]).ravel()
    # Planes and not a trailing axis of 3, and nothing fused into the gather: three times as fast on a CPU.
    row = jax.lax.optimization_barrier(rows).at[index].get(mode="promise_in_bounds")
    row = jax.lax.optimization_barrier(row.T).reshape(3, 3, size, size)
    centres = jnp.arange(size, dtype=points.dtype) + (0.5 - 0.5 * size)
    planes = row[:, 0] * centres[None, None, :] + row[:, 1] * centres[None, :, None] + row[:, 2]
    normals = planes * jax.lax.rsqrt(jnp.maximum((planes * planes).sum(axis=0), 1e-20))[None]
    return jnp.moveaxis(normals, 0, -1), (face >= 0).astype(points.dtype)
