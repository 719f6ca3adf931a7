"""Draws normal map, mask, UV and depth of a head: rasterise, shade, and antialias the mask."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from n2f_jax.geometry.camera import Camera, to_camera
from n2f_jax.render.antialias import antialias_mask
from n2f_jax.render.columns import take_rows, tie
from n2f_jax.render.rasterizer import rasterize
from n2f_jax.render.shading import shade, shade_directions, vertex_normals
from n2f_jax.render.topology import MeshTopology


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class FaceMaps:
    """Images of one head; rows go down. Everything is zero outside the mask's visible triangles.

    Attributes:
        normals: ``(H, W, 3)`` unit normals.
        mask: ``(H, W)`` 1 where a triangle of the mask's region is visible, else 0; with antialiasing the
            share of the pixel that is covered (approximately), differentiable.
        uv: ``(H, W, 2)`` texture coordinates.
        depth: ``(H, W)`` z in the camera frame, metres.
        overflow: ``()`` int32, what could not be drawn: 0 in every ordinary view (``Fragments.overflow``,
            plus mask borders beyond the antialiasing budget).
    """

    normals: Float[Array, "H W 3"]
    mask: Float[Array, "H W"]
    uv: Float[Array, "H W 2"]
    depth: Float[Array, "H W"]
    overflow: Int[Array, ""]


def render_head(
    topology: MeshTopology,
    vertices_head: Float[Array, "*B V 3"],
    camera: Camera,
    size: int | tuple[int, int],
    normal_frame: str = "head",
    antialias: bool = False,
    vertices_canonical: Float[Array, "*B V 3"] | None = None,
) -> FaceMaps:
    """Draws the face region of a head, hidden where other parts of the head are in front.

    Differentiable in the vertices and the camera: normals, UV and depth through barycentrics, the mask
    through its borders with ``antialias=True``.

    Takes one head, or any leading batch axes shared by vertices and camera. On CPUs prefer those to
    ``jax.vmap``: the heads are then drawn one after the other, which keeps to the cache and is two to four
    times faster.

    Args:
        topology: ``HeadTopology.from_model(model)``.
        vertices_head: decoded mesh, head frame, metres.
        camera: with the same batch axes as the vertices.
        size: side of the square image, or (H, W), pixels.
        normal_frame: ``'head'``: normals in the head frame (x to the subject's left, y up, z out of the
            face), whatever the camera's rotation, as Pixel3DMM predicts them. ``'camera'``: the same normals
            turned by R into the camera frame: x right, y down, z forward, so a surface that faces the camera
            has z < 0.
        antialias: give the mask soft, differentiable borders.
        vertices_canonical: mesh whose normals are drawn, where it differs from ``vertices_head``: decoded
            with the neck at rest.

    Raises:
        ValueError: unknown ``normal_frame``.
    """
    if normal_frame not in ("head", "camera"):
        raise ValueError(f"normal_frame is 'head' or 'camera', not {normal_frame!r}")
    if vertices_head.ndim > 2:
        batch = vertices_head.shape[:-2]

        def draw(args: tuple[Array, Camera, Array | None]) -> FaceMaps:
            vertices, camera, canonical = args
            return render_head(topology, vertices, camera, size, normal_frame, antialias, canonical)

        args = (vertices_head, camera, vertices_canonical)
        flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[len(batch) :]), args)
        maps = jax.lax.map(draw, flat) if jax.default_backend() == "cpu" else jax.vmap(draw)(flat)
        return jax.tree.map(lambda x: x.reshape(*batch, *x.shape[1:]), maps)

    source = vertices_head if vertices_canonical is None else vertices_canonical
    normals = vertex_normals(source, topology.faces)
    if normal_frame == "camera":
        normals = jnp.einsum("vi,ji->vj", normals, camera.rotation, precision=jax.lax.Precision.HIGHEST)
    return render_mesh_maps(
        to_camera(vertices_head, camera),
        normals,
        topology,
        jnp.asarray(camera.focal),
        jnp.asarray(camera.principal_point),
        size,
        antialias=antialias,
    )


def render_mesh_maps(
    vertices_cam: Float[Array, "V 3"],
    normals: Float[Array, "V 3"],
    topology: MeshTopology | Int[Array, "F 3"],
    focal: Float[Array, ""],
    principal_point: Float[Array, "2"],
    size: int | tuple[int, int],
    *,
    antialias: bool = False,
    near: float = 0.01,
) -> FaceMaps:
    """Draws any mesh: vertex normals (in any frame), mask, UV, depth. One mesh; use ``jax.vmap`` for batches.

    Args:
        vertices_cam: camera frame, x right, y down, z forward.
        normals: what to interpolate, renormalised at each pixel.
        topology: ``MeshTopology.from_faces(faces)`` draws every face; the bare faces do too, without
            antialiasing.
        focal: pixels.
        principal_point: pixels.
        size: side, or (H, W).
        antialias: give the mask soft, differentiable borders.
        near: nothing nearer is drawn.
    """
    height, width = (size, size) if isinstance(size, int) else size
    if not isinstance(topology, MeshTopology):
        if antialias:
            raise ValueError("antialiasing needs the mesh's edges: pass MeshTopology.from_faces(faces)")
        faces = jnp.asarray(topology)
        topology = MeshTopology(
            faces=faces,
            neighbors=jnp.full_like(faces, -1),
            region=jnp.ones(faces.shape[0], bool),
            corner_uv=jnp.zeros((*faces.shape, 2), jnp.float32),
        )
    fragments = rasterize(vertices_cam, topology.faces, focal, principal_point, (height, width), near=near)
    drawn = (fragments.face >= 0) & topology.region[jnp.maximum(fragments.face, 0)]
    corner_normals = take_rows(normals, tie(topology.faces, normals).reshape(-1))
    corner_normals = corner_normals[:, :3].reshape(-1, 3, 3)
    geometry = (fragments.face, vertices_cam, topology.faces, focal, principal_point)
    normal_map = shade_directions(*geometry, corner_normals, drawn)
    uv, depth, _ = shade(*geometry, topology.corner_uv, drawn)
    mask, overflow = drawn.astype(jnp.float32), fragments.overflow
    if antialias:
        mask, missed = antialias_mask(fragments.face, vertices_cam, topology, focal, principal_point)
        overflow = overflow + missed
    return FaceMaps(normals=normal_map, mask=mask, uv=uv, depth=depth, overflow=overflow)
