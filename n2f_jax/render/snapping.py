"""Projects triangles and snaps their corners to the sub-pixel grid."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from n2f_jax.render.columns import columns_of, float_bits, tie

# Sub-pixel grid: positions are multiples of 2^-8 pixel.
SUBPIXEL_BITS = 8
ONE_PIXEL = 1 << SUBPIXEL_BITS
HALF_PIXEL = ONE_PIXEL // 2
# Guard band. With |u|, |v| below the one and triangles no larger than the other, pixels, every integer of ``tiles``
# stays exact.
MAX_COORDINATE = 32768.0
MAX_EXTENT = 16384
MAX_SIZE = MAX_EXTENT

# Marks of a vertex without a usable projection, in place of its inverse depth (which is positive).
NOT_FINITE, TOO_NEAR, OFF_GRID = 0.0, -1.0, -2.0


@dataclasses.dataclass(frozen=True)
class SnappedFaces:
    """Corners of every triangle.

    Attributes:
        rows: ``(F, 9)`` int32: x, y in sub-pixels and the bits of the inverse depth (or of a mark), corner by corner.
        largest_inverse_depth: ``()`` over all vertices with a projection; so is the least one.
        least_inverse_depth: ``()``; infinite where no vertex has a projection.
    """

    rows: Int[Array, "F 9"]
    largest_inverse_depth: Float[Array, ""]
    least_inverse_depth: Float[Array, ""]


def snap_faces(
    vertices_cam: Float[Array, "V 3"],
    faces: Int[Array, "F 3"],
    focal: Float[Array, ""],
    principal_point: Float[Array, "2"],
    near: float,
) -> SnappedFaces:
    """Projects the vertices and snaps them; see ``rasterize`` for the arguments."""
    z = vertices_cam[:, 2]
    finite = jnp.isfinite(vertices_cam).all(axis=-1)
    in_front = finite & (z >= near)
    depth = jnp.where(in_front, z, 1.0)
    # Multiply before dividing, as ``project`` does, so that both round alike.
    pixels = focal * vertices_cam[:, :2] / depth[:, None] + jnp.broadcast_to(principal_point, (z.shape[0], 2))
    on_grid = in_front & (jnp.abs(pixels) < MAX_COORDINATE).all(axis=-1)
    snapped = jnp.floor(jnp.where(on_grid[:, None], pixels, 0.0) * ONE_PIXEL + 0.5).astype(jnp.int32)
    inverse_depth = 1.0 / depth
    mark = jnp.where(finite, jnp.where(in_front, OFF_GRID, TOO_NEAR), NOT_FINITE)
    marked = jnp.where(on_grid, inverse_depth, mark)
    per_vertex = jnp.concatenate([snapped, float_bits(marked)[:, None]], axis=-1)
    rows = per_vertex.at[tie(faces, vertices_cam)].get(mode="promise_in_bounds").reshape(-1, 9)
    return SnappedFaces(
        rows=rows,
        largest_inverse_depth=jnp.max(jnp.where(on_grid, inverse_depth, 0.0)),
        least_inverse_depth=jnp.min(jnp.where(on_grid, inverse_depth, jnp.inf)),
    )


@dataclasses.dataclass(frozen=True)
class Corners:
    """The nine columns of ``SnappedFaces.rows`` (or of some rows of it), one vector each.

    Attributes:
        x, y: of the three corners, sub-pixels.
        w: of the three corners, inverse depth or a mark.
    """

    x: tuple[Int[Array, " n"], ...]
    y: tuple[Int[Array, " n"], ...]
    w: tuple[Float[Array, " n"], ...]

    @classmethod
    def of(cls, rows: Int[Array, "n C"]) -> Corners:
        """Splits rows; further columns are left alone."""
        columns = columns_of(rows)[:9]
        return cls(
            x=tuple(columns[0::3]),
            y=tuple(columns[1::3]),
            w=tuple(jax.lax.bitcast_convert_type(column, jnp.float32) for column in columns[2::3]),
        )

    def pixel_box(self, size: tuple[int, int]) -> tuple[Int[Array, " n"], ...]:
        """First and last column, first and last row of the image's pixels whose centres the bounding box holds."""
        height, width = size
        low_x, high_x = least(self.x), largest(self.x)
        low_y, high_y = least(self.y), largest(self.y)
        return (
            jnp.maximum((low_x + HALF_PIXEL - 1) >> SUBPIXEL_BITS, 0),
            jnp.minimum((high_x - HALF_PIXEL) >> SUBPIXEL_BITS, width - 1),
            jnp.maximum((low_y + HALF_PIXEL - 1) >> SUBPIXEL_BITS, 0),
            jnp.minimum((high_y - HALF_PIXEL) >> SUBPIXEL_BITS, height - 1),
        )

    def orientation(self) -> Int[Array, " n"]:
        """Sign of the area: with y down, −1 where the corners run counter-clockwise seen from outside, 0: no area."""
        dx1, dy1, dx2, dy2 = self.sides()
        exact = dx1 * dy2 - dy1 * dx2
        # The products may wrap around; where they could, the float32 value, off by far less, has the sign.
        rough = dx1.astype(jnp.float32) * dy2.astype(jnp.float32)
        rough = rough - dy1.astype(jnp.float32) * dx2.astype(jnp.float32)
        return jnp.where(jnp.abs(rough) > 2.0**30, jnp.sign(rough).astype(jnp.int32), jnp.sign(exact))

    def sides(self) -> tuple[Int[Array, " n"], ...]:
        """x and y of corner 1 from corner 0, then of corner 2, sub-pixels."""
        return (
            self.x[1] - self.x[0],
            self.y[1] - self.y[0],
            self.x[2] - self.x[0],
            self.y[2] - self.y[0],
        )

    def fits(self) -> Array:
        """Whether all corners have a projection and the triangle is not too large."""
        limit = MAX_EXTENT * ONE_PIXEL
        small = (largest(self.x) - least(self.x) <= limit) & (largest(self.y) - least(self.y) <= limit)
        return (least(self.w) > 0.0) & small


def least(parts: tuple[Array, ...]) -> Array:
    """Of three corners' values, element by element."""
    return jnp.minimum(jnp.minimum(parts[0], parts[1]), parts[2])


def largest(parts: tuple[Array, ...]) -> Array:
    """Of three corners' values, element by element."""
    return jnp.maximum(jnp.maximum(parts[0], parts[1]), parts[2])
