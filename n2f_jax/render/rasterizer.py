"""Finds the triangle seen at each pixel: an exact, integer, tile-queued rasteriser in pure JAX.

How it works. Vertices are projected and snapped to 1/256 pixel (``snapping``). The bounding box of every triangle
that faces the camera is cut into tiles of 8 × 16 pixels; a prefix sum over their counts lays all tiles into one
queue, which is worked off in chunks that fit the cache (``tiles``). Each tile evaluates the triangle's three edge
functions in integers, exactly, and its inverse depth, affine in the pixel; scattering the maximum of a packed key
(inverse depth, then face number) into the image keeps the nearest. The few triangles that have no finite
projection, because they cross the near plane, are drawn one by one from homogeneous coordinates (``crossing``).

Rules. A pixel is covered when its centre (+0.5) lies inside the snapped triangle; on an edge the top-left
rule decides, so triangles that share an edge never both draw, nor both miss, a pixel. Nearest wins; between depths
that are equal within a share of ``DEPTH_TIE`` either may win, and of exactly equal ones the lower face number.

Budgets. None drops a triangle: a queue that is too short is filled again, and where a 32-bit key cannot hold both
depth and face number finely enough (a scene of great depth range, or hundreds of thousands of faces), depth and
face number are resolved in two passes instead.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from n2f_jax.render.compaction import prefix_sum
from n2f_jax.render.crossing import draw_crossing
from n2f_jax.render.snapping import MAX_SIZE, snap_faces
from n2f_jax.render.tiles import TILE_SIZE, Tiles, draw_queue, queue_faces, tile_counts

# Two depths z that differ by no more than this share of z may be resolved either way.
DEPTH_TIE = 2.0**-17
# Two passes resolve depths down to this share, float32's rounding of the plane.
_FLOAT_TIE = 2.0**-21
_KEY_BITS = 32
_MAX_DEPTH_BITS = 22
_EMPTY = jnp.iinfo(jnp.int32).min


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Fragments:
    """What is seen at each pixel. Integers; nothing here is differentiable.

    Attributes:
        face: ``(H, W)`` int32 number of the nearest front-facing triangle, −1 where there is none.
        overflow: ``()`` int32 number of triangles that may be in view but were not drawn. 0 unless all triangles
            together cover more than 2³⁰ tiles of 8 × 16 pixels: then those beyond are left out.
    """

    face: Int[Array, "H W"]
    overflow: Int[Array, ""]


def rasterize(
    vertices_cam: Float[Array, "V 3"],
    faces: Int[Array, "F 3"],
    focal: Float[Array, ""],
    principal_point: Float[Array, "2"],
    size: tuple[int, int],
    *,
    near: float = 0.01,
    cull_backfaces: bool = True,
    queue_length: int | None = None,
    packed_key: bool | None = None,
) -> Fragments:
    """The nearest front-facing triangle at every pixel centre. One mesh; use ``jax.vmap`` for batches.

    On CPUs a batch is worked off one mesh after the other, which keeps to the cache; elsewhere all at once.

    Triangles with a NaN or infinite vertex, of zero area, or wholly nearer than ``near`` are not drawn; of
    those that cross the near plane the part beyond it is.

    Args:
        vertices_cam: camera frame, x right, y down, z forward.
        faces: counter-clockwise seen from outside.
        focal: focal length in pixels.
        principal_point: (c_u, c_v) in pixels, u = 0 at the left edge.
        size: (H, W) of the image, each at most 16384.
        near: depth below which nothing is drawn, in the unit of the vertices.
        cull_backfaces: if False, triangles seen from inside are drawn too.
        queue_length: tiles in the queue at once; the default suits meshes that fill the image. It changes speed,
            not results.
        packed_key: True resolves depth and face in one pass, whatever the loss of depth; False in two; None
            decides by the scene on CPUs, and takes two passes elsewhere.

    Raises:
        ValueError: an image size out of range.
    """
    height, width = size
    if not (0 < height <= MAX_SIZE and 0 < width <= MAX_SIZE):
        raise ValueError(f"image sizes from 1 to {MAX_SIZE} are supported, got {size}")
    num_faces = faces.shape[0]
    if num_faces == 0:
        return Fragments(jnp.full(size, -1, jnp.int32), jnp.zeros((), jnp.int32))
    if queue_length is None:
        queue_length = default_queue_length(num_faces, size)
    on_cpu = jax.default_backend() == "cpu"
    if packed_key is None and not on_cpu:
        packed_key = False  # a choice made at run time would make a batch do both

    vertices_cam, focal, principal_point = jax.lax.stop_gradient((vertices_cam, focal, principal_point))
    draw = functools.partial(
        _rasterize,
        size=size,
        near=near,
        cull_backfaces=cull_backfaces,
        queue_length=queue_length,
        chunk_length=min(512, queue_length // 2) if on_cpu else queue_length,
        packed_key=packed_key,
    )
    if on_cpu:
        draw = jax.custom_batching.sequential_vmap(draw)
    return Fragments(*draw(vertices_cam, faces, focal, principal_point))


def default_queue_length(num_faces: int, size: tuple[int, int]) -> int:
    """Tiles in the queue: enough for a head that fills the image, so that it is filled once."""
    area = size[0] * size[1] // (TILE_SIZE[0] * TILE_SIZE[1])
    return -(-max(1024, (6 * num_faces) // 10 + 5 * area) // 512) * 512


@functools.partial(
    jax.jit,
    static_argnames=("size", "near", "cull_backfaces", "queue_length", "chunk_length", "packed_key"),
)
def _rasterize(
    vertices_cam: Float[Array, "V 3"],
    faces: Int[Array, "F 3"],
    focal: Float[Array, ""],
    principal_point: Float[Array, "2"],
    *,
    size: tuple[int, int],
    near: float,
    cull_backfaces: bool,
    queue_length: int,
    chunk_length: int,
    packed_key: bool | None,
) -> tuple[Int[Array, "H W"], Int[Array, ""]]:
    num_faces = faces.shape[0]
    # Tiles are moved to lie within the image, which is at least one tile large.
    canvas = (max(size[0], TILE_SIZE[0]), max(size[1], TILE_SIZE[1]))
    snapped = snap_faces(vertices_cam, faces, focal, principal_point, near)
    count, crosses, overflow = tile_counts(snapped, size, cull_backfaces)
    most_tiles = -(-size[0] // TILE_SIZE[0]) * -(-size[1] // TILE_SIZE[1])
    end = prefix_sum(count, most_tiles)
    queue = queue_faces(snapped, end - count, cull_backfaces)

    def draw(paint: Callable[[Tiles, Array], Array], canvas_image: Array) -> Array:
        """Every tile of every triangle into the image, a queue after the other."""

        def fill_and_draw(state: tuple[Int[Array, ""], Array]) -> tuple[Int[Array, ""], Array]:
            first, image = state
            return first + queue_length, draw_queue(
                queue, count, end, first, queue_length, chunk_length, size, canvas, paint, image
            )

        return jax.lax.while_loop(
            lambda state: state[0] < end[-1], fill_and_draw, (jnp.zeros((), jnp.int32), canvas_image)
        )[1]

    id_bits = max(1, (num_faces - 1).bit_length())
    id_mask = (1 << id_bits) - 1
    nearest, farthest = snapped.largest_inverse_depth, snapped.least_inverse_depth
    depth_range = nearest - farthest

    def one_pass() -> Int[Array, "H W"]:
        levels = 1 << min(_KEY_BITS - id_bits, _MAX_DEPTH_BITS)
        scale = (levels - 2) / jnp.maximum(depth_range, 1e-30)

        def paint(tile: Tiles, image: Array) -> Array:
            # From 1, so that no key is the empty one.
            level = 1 + ((tile.inverse_depth - farthest) * scale).astype(jnp.int32)
            key = ((level - levels // 2) << id_bits) | (id_mask - tile.face)
            return tile.scatter_max(image, jnp.where(tile.inside, key, _EMPTY))

        image = draw(paint, jnp.full(canvas, _EMPTY, jnp.int32))
        return jnp.where(image == _EMPTY, -1, id_mask - (image & id_mask))

    def two_passes() -> Int[Array, "H W"]:
        def paint_depth(tile: Tiles, image: Array) -> Array:
            return tile.scatter_max(image, jnp.where(tile.inside, tile.inverse_depth, 0.0))

        depth = draw(paint_depth, jnp.zeros(canvas, jnp.float32))

        def paint_face(tile: Tiles, image: Array) -> Array:
            # XLA may compute the depth twice, fused differently: the tolerance makes both agree on the winner.
            won = tile.inside & (tile.inverse_depth >= tile.gather(depth) * (1.0 - _FLOAT_TIE))
            return tile.scatter_max(image, jnp.where(won, num_faces - tile.face, 0))

        image = draw(paint_face, jnp.zeros(canvas, jnp.int32))
        return jnp.where(image == 0, -1, num_faces - image)

    if packed_key is None:
        levels = 2.0 ** min(_KEY_BITS - id_bits, _MAX_DEPTH_BITS)
        fine_enough = depth_range <= farthest * (DEPTH_TIE * levels)
        face = jax.lax.cond(fine_enough, one_pass, two_passes)
    else:
        face = one_pass() if packed_key else two_passes()
    face = face[: size[0], : size[1]]
    face = draw_crossing(face, crosses, vertices_cam, faces, focal, principal_point, near, cull_backfaces)
    return face, overflow
