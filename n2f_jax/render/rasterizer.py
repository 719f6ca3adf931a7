"""Which triangle is seen at which pixel: an exact, integer, tile-queued rasteriser in pure JAX.

How it works. Vertices are projected and snapped to 1/256 pixel. The bounding box of every front-facing
triangle is cut into small tiles; a prefix sum over the tile counts lays all tiles into one queue, which is
worked off in passes of a static length (one pass nearly always; a loop takes what is left, so nothing is ever
dropped). Each tile evaluates the triangle's three edge functions in integers, exactly, and its inverse depth,
affine in the pixel; a scatter-max keeps the nearest inverse depth, a scatter-min the lowest face number among
equals.

Rules. A pixel is covered when its centre (+0.5) lies inside the snapped triangle; on an edge the top-left
rule decides, so triangles that share an edge never both draw, nor both miss, a pixel. Nearest wins; of depths
equal within float32 rounding (a share of 2^-21) the lower face number wins.
"""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from n2f_jax.render.shading import tie

# Sub-pixel grid: positions are multiples of 2^-8 pixel.
SUBPIXEL_BITS = 8
_ONE = 1 << SUBPIXEL_BITS
# Guard band: with |u|, |v| below it and boxes no larger than _MAX_EXTENT, every integer below stays exact.
_MAX_COORDINATE = 32768.0
_MAX_EXTENT = 2040.0
_TILE = 4
# Inverse depths that differ by no more than this share are a tie.
TIE = 2.0**-21


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Fragments:
    """What is seen at each pixel. Integers; nothing here is differentiable.

    Attributes:
        face: ``(H, W)`` int32 number of the nearest front-facing triangle, −1 where there is none.
        overflow: ``()`` int32 number of triangles that may be in view but could not be drawn: they cross the
            near plane, reach beyond ±32768 pixels or are wider than 2040 pixels. 0 in every ordinary view.
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
) -> Fragments:
    """The nearest front-facing triangle at every pixel centre. One mesh; use ``jax.vmap`` for batches.

    On CPUs a batch is worked off one mesh after the other, which keeps to the cache; elsewhere all at once.

    Triangles with a NaN or infinite vertex, of zero area, or wholly nearer than ``near`` are not drawn.

    Args:
        vertices_cam: camera frame, x right, y down, z forward.
        faces: counter-clockwise seen from outside.
        focal: focal length in pixels.
        principal_point: (c_u, c_v) in pixels, u = 0 at the left edge.
        size: (H, W) of the image, each at most 2040.
        near: depth below which nothing is drawn, in the unit of the vertices.
        cull_backfaces: if False, triangles seen from inside are drawn too.
        queue_length: tiles per pass; the default suits meshes that fill the image. It changes speed, not
            results.
    """
    height, width = size
    if not (0 < height <= _MAX_EXTENT and 0 < width <= _MAX_EXTENT):
        raise ValueError(f"image sizes from 1 to {int(_MAX_EXTENT)} are supported, got {size}")
    num_faces = faces.shape[0]
    if num_faces == 0:
        return Fragments(jnp.full(size, -1, jnp.int32), jnp.zeros((), jnp.int32))
    if queue_length is None:
        queue_length = default_queue_length(num_faces, size)

    vertices_cam, focal, principal_point = jax.lax.stop_gradient((vertices_cam, focal, principal_point))
    draw = functools.partial(
        _rasterize, size=size, near=near, cull_backfaces=cull_backfaces, queue_length=queue_length
    )
    if jax.default_backend() == "cpu":
        draw = jax.custom_batching.sequential_vmap(draw)
    return Fragments(*draw(vertices_cam, faces, focal, principal_point))


@functools.partial(jax.jit, static_argnames=("size", "near", "cull_backfaces", "queue_length"))
def _rasterize(vertices_cam, faces, focal, principal_point, *, size, near, cull_backfaces, queue_length):
    height, width = size
    num_faces = faces.shape[0]
    table, count, overflow = _setup_faces(
        vertices_cam, faces, focal, principal_point, size, near, cull_backfaces
    )
    end = jnp.cumsum(count)
    start = end - count
    total = end[-1]
    # One row a face: the queue gathers whole rows, which is what a CPU's cache likes.
    table = jnp.concatenate([table, start[:, None]], axis=-1)

    # A margin takes the parts of tiles that hang over the right and lower border.
    padded = (height + _TILE, width + _TILE)
    buffers = (jnp.zeros(padded, jnp.float32), jnp.full(padded, num_faces, jnp.int32))
    _, (_, face) = jax.lax.while_loop(
        lambda state: state[0] < total,
        lambda state: (
            state[0] + queue_length,
            _draw_pass(table, start, count, state[0], queue_length, state[1]),
        ),
        (jnp.zeros((), jnp.int32), buffers),
    )
    face = face[:height, :width]
    return jnp.where(face < num_faces, face, -1), overflow


def default_queue_length(num_faces: int, size: tuple[int, int]) -> int:
    """Tiles in one pass: enough for a closed mesh that fills the image, half of it facing the camera."""
    area = size[0] * size[1] // (_TILE * _TILE)
    return max(256, num_faces // 2 + 2 * area)


def _setup_faces(vertices, faces, focal, center, size, near, cull_backfaces):
    """Per face: a row of int32 (floats by their bits) that serves all its tiles, and its number of tiles."""
    height, width = size
    z = vertices[:, 2]
    in_front = z >= near
    inverse_depth = 1.0 / jnp.where(in_front, z, 1.0)
    # Multiply before dividing, as ``project`` does, so that both round alike.
    depth = jnp.where(in_front, z, 1.0)[:, None]
    pixels = focal * vertices[:, :2] / depth + jnp.broadcast_to(center, (vertices.shape[0], 2))
    inside_guard = in_front & (jnp.abs(pixels) < _MAX_COORDINATE).all(axis=-1)  # False for NaN
    snapped = jnp.floor(jnp.where(inside_guard[:, None], pixels, 0.0) * _ONE + 0.5).astype(jnp.int32)
    finite = jnp.isfinite(vertices).all(axis=-1)

    per_vertex = jnp.concatenate(
        [
            snapped,
            _bits(inverse_depth)[:, None],
            _pack_flags(inside_guard, in_front, finite)[:, None],
        ],
        axis=-1,
    )
    corners = per_vertex[tie(faces, vertices)]  # (F, 3, 4)
    x, y = corners[..., 0], corners[..., 1]
    w = _floats(corners[..., 2])
    flags = corners[..., 3]
    all_flags = flags[:, 0] & flags[:, 1] & flags[:, 2]
    any_in_front = ((flags[:, 0] | flags[:, 1] | flags[:, 2]) & 2) > 0
    x_min, x_max, y_min, y_max = x.min(-1), x.max(-1), y.min(-1), y.max(-1)
    limit = int(_MAX_EXTENT) * _ONE
    # Not overflowing: both ends are within ±2^23.
    drawable = ((all_flags & 1) > 0) & (x_max - x_min <= limit) & (y_max - y_min <= limit)
    overflow = ((all_flags & 4) > 0) & any_in_front & ~drawable

    # Twice the area. The products may wrap around; where they could, the float32 value, off by far less, has
    # the sign.
    (dx1, dy1), (dx2, dy2) = ((x[:, i] - x[:, 0], y[:, i] - y[:, 0]) for i in (1, 2))
    area_float = dx1.astype(jnp.float32) * dy2.astype(jnp.float32) - dy1.astype(jnp.float32) * dx2.astype(
        jnp.float32
    )
    area = dx1 * dy2 - dy1 * dx2
    sign = jnp.where(jnp.abs(area_float) > 2.0**30, jnp.sign(area_float).astype(jnp.int32), jnp.sign(area))
    # With y down, counter-clockwise seen from outside means a negative area.
    visible = drawable & ((sign < 0) if cull_backfaces else (sign != 0))

    # Pixels whose centres the bounding box holds.
    half = _ONE // 2
    column0 = jnp.maximum((x_min + half - 1) >> SUBPIXEL_BITS, 0)
    column1 = jnp.minimum((x_max - half) >> SUBPIXEL_BITS, width - 1)
    row0 = jnp.maximum((y_min + half - 1) >> SUBPIXEL_BITS, 0)
    row1 = jnp.minimum((y_max - half) >> SUBPIXEL_BITS, height - 1)
    tiles_x = jnp.maximum(column1 - column0 + _TILE, 0) // _TILE
    tiles_y = jnp.maximum(row1 - row0 + _TILE, 0) // _TILE
    count = jnp.where(visible, tiles_x * tiles_y, 0)

    # Edge functions E(p) of the snapped triangle, positive inside. All arithmetic is modulo 2^32; results
    # that are used lie in range. Between pixel centres E changes by multiples of 256, so floor(E / 256) has
    # the same sign and fits int32 for boxes up to 2040 pixels.
    columns = []
    for k in range(3):
        ax, ay = x[:, k], y[:, k]
        bx, by = x[:, (k + 1) % 3], y[:, (k + 1) % 3]
        step_x, step_y = sign * (ay - by), sign * (bx - ax)
        # A pixel on a left or top edge belongs to the triangle: there E = 0 counts as inside.
        top_left = (step_x > 0) | ((step_x == 0) & (step_y > 0))
        ref_column, ref_row = ax >> SUBPIXEL_BITS, ay >> SUBPIXEL_BITS  # the pixel that holds vertex a
        at_ref = step_x * (ref_column * _ONE + half - ax) + step_y * (ref_row * _ONE + half - ay)
        at_ref = (at_ref + top_left.astype(jnp.int32) - 1) >> SUBPIXEL_BITS
        columns += [at_ref + step_x * (column0 - ref_column) + step_y * (row0 - ref_row), step_x, step_y]

    # Inverse depth, affine in the pixel: value at the first pixel's centre and slopes per pixel.
    area_px = jnp.where(visible, area_float, 1.0) / (_ONE * _ONE)
    fx1, fy1, fx2, fy2 = (d.astype(jnp.float32) / _ONE for d in (dx1, dy1, dx2, dy2))
    dw1, dw2 = w[:, 1] - w[:, 0], w[:, 2] - w[:, 0]
    slope_x = (dw1 * fy2 - dw2 * fy1) / area_px
    slope_y = (dw2 * fx1 - dw1 * fx2) / area_px
    offset_x = (column0 * _ONE + half - x[:, 0]).astype(jnp.float32) / _ONE
    offset_y = (row0 * _ONE + half - y[:, 0]).astype(jnp.float32) / _ONE
    w_first = w[:, 0] + slope_x * offset_x + slope_y * offset_y
    columns += [_bits(c) for c in (w_first, slope_x, slope_y, w.min(-1), w.max(-1))]
    columns += [column0, row0, jnp.maximum(tiles_x, 1)]
    return jnp.stack(columns, axis=-1), count, overflow.astype(jnp.int32).sum()


def _draw_pass(table, start, count, first_item, queue_length, buffers):
    """Draws ``queue_length`` tiles from ``first_item`` on into the buffers (inverse depth, face)."""
    best, face = buffers
    num_faces = table.shape[0]

    # The face of each item: faces write their number at their first item, the running maximum fills the rest.
    relative = start - first_item
    begins_before_pass = (relative < 0) & (relative + count > 0)
    position = jnp.where(begins_before_pass, 0, relative)
    position = jnp.where((count > 0) & (position >= 0), position, queue_length)
    numbers = jnp.arange(num_faces, dtype=jnp.int32)
    item_face = jnp.zeros(queue_length, jnp.int32).at[position].max(numbers, mode="drop")
    item_face = jax.lax.cummax(item_face)

    item = first_item + jnp.arange(queue_length, dtype=jnp.int32)
    row = table[item_face]
    local = item - row[:, 17]
    in_queue = item < start[-1] + count[-1]
    tile_y = local // row[:, 16]
    tile_x = local - tile_y * row[:, 16]
    dx, dy = tile_x * _TILE, tile_y * _TILE
    edges = [row[:, 3 * k] + row[:, 3 * k + 1] * dx + row[:, 3 * k + 2] * dy for k in range(3)]
    edges[0] = jnp.where(in_queue, edges[0], jnp.iinfo(jnp.int32).min // 2)
    fdx, fdy = dx.astype(jnp.float32), dy.astype(jnp.float32)
    slope_x, slope_y, w_min, w_max = (_floats(row[:, i]) for i in (10, 11, 12, 13))
    w_tile = _floats(row[:, 9]) + slope_x * fdx + slope_y * fdy
    corner = jnp.stack(
        [jnp.where(in_queue, row[:, 15] + dy, 0), jnp.where(in_queue, row[:, 14] + dx, 0)], axis=-1
    )

    # Every pixel of every tile: (queue, 4, 4).
    ix = jnp.arange(_TILE, dtype=jnp.int32).reshape(1, 1, _TILE)
    iy = jnp.arange(_TILE, dtype=jnp.int32).reshape(1, _TILE, 1)

    def spread(column):
        return jnp.broadcast_to(column[:, None, None], (queue_length, _TILE, _TILE))

    inside = jnp.zeros((queue_length, _TILE, _TILE), jnp.int32)
    for k in range(3):
        value = spread(edges[k]) + spread(row[:, 3 * k + 1]) * ix + spread(row[:, 3 * k + 2]) * iy
        inside = inside | value  # the sign bit is set where any edge function is negative
    w = spread(w_tile) + spread(slope_x) * ix.astype(jnp.float32) + spread(slope_y) * iy.astype(jnp.float32)
    # Rounding must not carry a sliver's depth beyond its vertices'.
    w = jnp.clip(w, spread(w_min), spread(w_max))
    w = jnp.where(inside >= 0, w, 0.0)

    window = jax.lax.ScatterDimensionNumbers(
        update_window_dims=(1, 2), inserted_window_dims=(), scatter_dims_to_operand_dims=(0, 1)
    )
    in_bounds = jax.lax.GatherScatterMode.PROMISE_IN_BOUNDS
    nearer = jax.lax.scatter_max(best, corner, w, window, mode=in_bounds)
    face = jnp.where(nearer > best, num_faces, face)
    winner = jax.lax.gather(
        nearer,
        corner,
        jax.lax.GatherDimensionNumbers(offset_dims=(1, 2), collapsed_slice_dims=(), start_index_map=(0, 1)),
        slice_sizes=(_TILE, _TILE),
        mode=in_bounds,
    )
    # XLA may compute w twice, fused differently: the tolerance makes both agree on the winner.
    won = (inside >= 0) & (w >= winner * (1.0 - TIE))
    face = jax.lax.scatter_min(
        face, corner, jnp.where(won, spread(item_face), num_faces), window, mode=in_bounds
    )
    return nearer, face


def _pack_flags(*flags):
    return sum(flag.astype(jnp.int32) << i for i, flag in enumerate(flags))


def _bits(x):
    return jax.lax.bitcast_convert_type(x, jnp.int32)


def _floats(x):
    return jax.lax.bitcast_convert_type(x, jnp.float32)
