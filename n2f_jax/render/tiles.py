"""Draws triangles through a queue of tiles, each 8 × 16 pixels of one triangle.

Rows of 16 pixels are what XLA's CPU compiler turns into whole vector registers, in the evaluation and in the scatter:
tiles of 8 × 8 take three times as long as these.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from n2f_jax.render.columns import columns_of
from n2f_jax.render.snapping import (
    HALF_PIXEL,
    NOT_FINITE,
    ONE_PIXEL,
    SUBPIXEL_BITS,
    TOO_NEAR,
    Corners,
    SnappedFaces,
    largest,
    least,
)

TILE_SIZE = (8, 16)
# More tiles than this are not counted on in int32.
_MOST_TILES = 1 << 30
# Edge functions beyond this, sub-pixels times pixels, keep their sign all over a tile.
_FAR = 2.0**29


@dataclasses.dataclass(frozen=True)
class Tiles:
    """Some tiles, evaluated at all their pixels.

    Attributes:
        corner: ``(n, 2)`` first row and column.
        inside: ``(n, 8, 16)`` whether the triangle covers the pixel.
        inverse_depth: ``(n, 8, 16)`` of the triangle's plane, within the range of its corners.
        face: ``(n, 8, 16)`` number of the triangle.
    """

    corner: Int[Array, "n 2"]
    inside: Bool[Array, "n 8 16"]
    inverse_depth: Float[Array, "n 8 16"]
    face: Int[Array, "n 8 16"]

    def scatter_max(self, image: Array, values: Array) -> Array:
        """The image with larger values taken over."""
        window = jax.lax.ScatterDimensionNumbers(
            update_window_dims=(1, 2), inserted_window_dims=(), scatter_dims_to_operand_dims=(0, 1)
        )
        return jax.lax.scatter_max(
            image, self.corner, values, window, mode=jax.lax.GatherScatterMode.PROMISE_IN_BOUNDS
        )

    def gather(self, image: Array) -> Array:
        """``(n, 8, 16)`` what the image holds there."""
        window = jax.lax.GatherDimensionNumbers(
            offset_dims=(1, 2), collapsed_slice_dims=(), start_index_map=(0, 1)
        )
        return jax.lax.gather(
            image, self.corner, window, TILE_SIZE, mode=jax.lax.GatherScatterMode.PROMISE_IN_BOUNDS
        )


def tile_counts(
    snapped: SnappedFaces, size: tuple[int, int], cull_backfaces: bool
) -> tuple[Int[Array, " F"], Bool[Array, " F"], Int[Array, ""]]:
    """How many tiles each triangle has; which have no usable projection though they may be seen; how many
    are left out for want of room."""
    corners = Corners.of(snapped.rows)
    fits = corners.fits()
    sign = corners.orientation()
    first_column, last_column, first_row, last_row = corners.pixel_box(size)
    across = jnp.maximum(last_column - first_column + TILE_SIZE[1], 0) // TILE_SIZE[1]
    down = jnp.maximum(last_row - first_row + TILE_SIZE[0], 0) // TILE_SIZE[0]
    count = jnp.where(fits & ((sign < 0) if cull_backfaces else (sign != 0)), across * down, 0)

    w0, w1, w2 = corners.w
    finite = (w0 != NOT_FINITE) & (w1 != NOT_FINITE) & (w2 != NOT_FINITE)
    in_front = (w0 != TOO_NEAR) | (w1 != TOO_NEAR) | (w2 != TOO_NEAR)
    crosses = finite & in_front & ~fits

    most = snapped.rows.shape[0] * (-(-size[0] // TILE_SIZE[0])) * (-(-size[1] // TILE_SIZE[1]))
    if most < _MOST_TILES:
        return count, crosses, jnp.zeros((), jnp.int32)
    kept = jnp.cumsum(count.astype(jnp.float32)) < _MOST_TILES
    return jnp.where(kept, count, 0), crosses, ((count > 0) & ~kept).astype(jnp.int32).sum()


@dataclasses.dataclass(frozen=True)
class Queue:
    """What drawing needs of every triangle.

    Attributes:
        rows: ``(F, 10)`` int32: ``SnappedFaces.rows`` and the number of the first tile.
        turned: whether triangles may be turned away.
    """

    rows: Int[Array, "F 10"]
    turned: bool


def queue_faces(snapped: SnappedFaces, start: Int[Array, " F"], cull_backfaces: bool) -> Queue:
    """The queue of triangles whose tiles begin at ``start``."""
    return Queue(jnp.concatenate([snapped.rows, start[:, None]], axis=-1), not cull_backfaces)


def draw_queue(
    queue: Queue,
    count: Int[Array, " F"],
    end: Int[Array, " F"],
    first: Int[Array, ""],
    queue_length: int,
    chunk_length: int,
    size: tuple[int, int],
    canvas: tuple[int, int],
    paint: Callable[[Tiles, Array], Array],
    image: Array,
) -> Array:
    """Paints ``queue_length`` tiles from number ``first`` on, a chunk after the other.

    Args:
        queue: the triangles.
        count, end: tiles of each triangle, and their running total.
        first: number of the first tile.
        queue_length: a static length.
        chunk_length: tiles worked on at once.
        size: of the image, where boxes are cut off.
        canvas: of the array painted on, at least one tile.
        paint: takes tiles and image, returns the image.
        image: where to paint.
    """
    num_faces = count.shape[0]
    # The face of each tile: faces write their number at their first tile, the running maximum fills the rest.
    relative = end - count - first
    begins_before = (relative < 0) & (relative + count > 0)
    position = jnp.where(begins_before, 0, relative)
    position = jnp.where((count > 0) & (position >= 0), position, queue_length)
    numbers = jnp.arange(num_faces, dtype=jnp.int32)
    tile_face = jnp.zeros(queue_length, jnp.int32).at[position].max(numbers, mode="drop")
    tile_face = jax.lax.cummax(tile_face)
    total = jnp.minimum(end[-1] - first, queue_length)

    def draw_chunk(state: tuple[Int[Array, ""], Array]) -> tuple[Int[Array, ""], Array]:
        begin, image = state
        face = jax.lax.dynamic_slice(tile_face, (begin,), (chunk_length,))
        # The last chunk begins earlier where the queue ends; a tile painted twice changes nothing.
        begin = jnp.minimum(begin, queue_length - chunk_length)
        number = begin + jnp.arange(chunk_length, dtype=jnp.int32)
        tiles = _evaluate(queue, face, first + number, number < total, size, canvas)
        return begin + chunk_length, paint(tiles, image)

    if chunk_length == queue_length:
        return draw_chunk((jnp.zeros((), jnp.int32), image))[1]
    return jax.lax.while_loop(lambda state: state[0] < total, draw_chunk, (jnp.zeros((), jnp.int32), image))[
        1
    ]


def _evaluate(
    queue: Queue,
    face: Int[Array, " n"],
    number: Int[Array, " n"],
    in_use: Bool[Array, " n"],
    size: tuple[int, int],
    canvas: tuple[int, int],
) -> Tiles:
    """Tiles by their triangle and number; those not in use cover nothing."""
    rows = queue.rows.at[face].get(mode="promise_in_bounds")
    corners = Corners.of(rows)
    start = columns_of(rows)[9]
    length = face.shape[0]

    first_column, last_column, first_row, _ = corners.pixel_box(size)
    across = jnp.maximum((last_column - first_column + TILE_SIZE[1]) // TILE_SIZE[1], 1)
    local = number - start
    down = local // across
    column = first_column + (local - down * across) * TILE_SIZE[1]
    row = first_row + down * TILE_SIZE[0]
    # Within the canvas: a tile that hangs over covers more of the triangle to the left or above instead.
    column = jnp.where(in_use, jnp.minimum(column, canvas[1] - TILE_SIZE[1]), 0)
    row = jnp.where(in_use, jnp.minimum(row, canvas[0] - TILE_SIZE[0]), 0)

    shape = (length, *TILE_SIZE)
    x = jax.lax.broadcasted_iota(jnp.int32, shape, 2)
    y = jax.lax.broadcasted_iota(jnp.int32, shape, 1)

    def spread(values: Array) -> Array:
        return jnp.broadcast_to(values[:, None, None], shape)

    sign = corners.orientation() if queue.turned else -1
    outside = jnp.zeros(shape, jnp.int32)
    for k in range(3):
        value, step_x, step_y = _edge(corners, k, sign, column, row)
        if k == 0:
            value = jnp.where(in_use, value, -(1 << 30))
        # The sign bit is set where any edge function is negative.
        outside = outside | (spread(value) + spread(step_x) * x + spread(step_y) * y)

    w, slope_x, slope_y = _plane(corners, column, row)
    inverse_depth = spread(w) + spread(slope_x) * x.astype(jnp.float32)
    inverse_depth = inverse_depth + spread(slope_y) * y.astype(jnp.float32)
    # Rounding must not carry a sliver's depth beyond its corners'.
    low, high = least(corners.w), largest(corners.w)
    return Tiles(
        corner=jnp.stack([row, column], axis=-1),
        inside=outside >= 0,
        inverse_depth=jnp.clip(inverse_depth, spread(low), spread(high)),
        face=spread(face),
    )


def _edge(
    corners: Corners, k: int, sign: int | Int[Array, " n"], column: Int[Array, " n"], row: Int[Array, " n"]
) -> tuple[Int[Array, " n"], Int[Array, " n"], Int[Array, " n"]]:
    """Edge function of edge k at the centre of pixel (row, column), over 256, and its steps per pixel.

    Zero or more where the pixel is covered. Between pixel centres the function of a snapped triangle changes by
    multiples of 256, so the floor of a 256th of it has the same sign; a pixel on a left or top edge belongs to the
    triangle, which the one added before dividing sees to. All arithmetic is modulo 2³²; where the value would not
    fit it is so far from zero that the tile's pixels all share its sign.
    """
    ax, ay = corners.x[k], corners.y[k]
    bx, by = corners.x[(k + 1) % 3], corners.y[(k + 1) % 3]
    step_x, step_y = sign * (ay - by), sign * (bx - ax)
    top_left = (step_x > 0) | ((step_x == 0) & (step_y > 0))
    near_column, near_row = ax >> SUBPIXEL_BITS, ay >> SUBPIXEL_BITS  # the pixel that holds corner a
    value = step_x * (near_column * ONE_PIXEL + HALF_PIXEL - ax)
    value = value + step_y * (near_row * ONE_PIXEL + HALF_PIXEL - ay)
    value = (value + top_left.astype(jnp.int32) - 1) >> SUBPIXEL_BITS
    value = value + step_x * (column - near_column) + step_y * (row - near_row)
    rough = step_x.astype(jnp.float32) * (column - near_column).astype(jnp.float32)
    rough = rough + step_y.astype(jnp.float32) * (row - near_row).astype(jnp.float32)
    far = jnp.where(rough > 0.0, 1 << 30, -(1 << 30))
    return jnp.where(jnp.abs(rough) > _FAR, far, value), step_x, step_y


def _plane(
    corners: Corners, column: Int[Array, " n"], row: Int[Array, " n"]
) -> tuple[Float[Array, " n"], Float[Array, " n"], Float[Array, " n"]]:
    """Inverse depth at the centre of pixel (row, column) and its slopes per pixel."""
    dx1, dy1, dx2, dy2 = (side.astype(jnp.float32) / ONE_PIXEL for side in corners.sides())
    area = dx1 * dy2 - dy1 * dx2
    inverse_area = 1.0 / jnp.where(area == 0.0, 1.0, area)
    w0, w1, w2 = corners.w
    slope_x = ((w1 - w0) * dy2 - (w2 - w0) * dy1) * inverse_area
    slope_y = ((w2 - w0) * dx1 - (w1 - w0) * dx2) * inverse_area
    offset_x = (column * ONE_PIXEL + HALF_PIXEL - corners.x[0]).astype(jnp.float32) / ONE_PIXEL
    offset_y = (row * ONE_PIXEL + HALF_PIXEL - corners.y[0]).astype(jnp.float32) / ONE_PIXEL
    return w0 + slope_x * offset_x + slope_y * offset_y, slope_x, slope_y
