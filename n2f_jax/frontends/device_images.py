"""Squares cut out of images that lie on the device, in shapes known beforehand: the counterpart of
``geometry.squares`` and of the detector's cutting, pixel by pixel as OpenCV does it.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, UInt8, UInt32

# Of ``geometry.squares.cut_square``: samples a pixel and direction where a square is shrunk.
_MAX_SAMPLES = 8


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ImageLevels:
    """B images of one size with their halves, quarters and so on.

    Attributes:
        pixels: ``(B, N)`` red, green and blue in the low bytes; level after level, row after row.
        sizes: rows and columns of each level.
    """

    pixels: UInt32[Array, "B N"]
    sizes: tuple[tuple[int, int], ...] = dataclasses.field(metadata={"static": True})

    @classmethod
    def of(cls, images: UInt8[Array, "B H W 3"], count: int) -> ImageLevels:
        """At most so many levels: as many as have two pixels to halve."""
        levels = [images]
        while len(levels) < count and min(levels[-1].shape[1:3]) > 1:
            levels.append(_halved(levels[-1]))
        pixels = [_packed(level).reshape(len(images), -1) for level in levels]
        return cls(jnp.concatenate(pixels, axis=1), tuple(level.shape[1:3] for level in levels))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Squares:
    """n rotated squares as ``geometry.squares.Square`` has them.

    Attributes:
        centre: ``(n, 2)``.
        side: ``(n,)``.
        angle: ``(n,)``.
    """

    centre: Float[Array, "n 2"]
    side: Float[Array, "n"]
    angle: Float[Array, "n"]

    @classmethod
    def around(cls, points: Float[Array, "n N 2"], angle: Float[Array, "n"], scale: float) -> Squares:
        """As ``Square.around``."""
        axes = cls(points[:, 0], angle, angle).axes()
        turned = _times(points, axes)
        low, high = turned.min(axis=1), turned.max(axis=1)
        centre = _times(((low + high) / 2)[:, None], axes.swapaxes(1, 2))[:, 0]
        return cls(centre, jnp.maximum((high - low).max(axis=1) * scale, 1.0), angle)

    def axes(self) -> Float[Array, "n 2 2"]:
        """Columns: image directions of the square's axes."""
        cos, sin = jnp.cos(self.angle), jnp.sin(self.angle)
        return jnp.stack([jnp.stack([cos, -sin], -1), jnp.stack([sin, cos], -1)], -2)

    def to_image(self, points: Float[Array, "n N D"]) -> Float[Array, "n N D"]:
        """As ``Square.to_image``; D is 2 or 3."""
        scaled = points * self.side[:, None, None]
        offset = scaled[..., :2] - (self.side / 2)[:, None, None]
        plane = self.centre[:, None] + _times(offset, self.axes().swapaxes(1, 2))
        return jnp.concatenate([plane, scaled[..., 2:]], axis=-1)

    def from_image(self, points: Float[Array, "n N D"]) -> Float[Array, "n N D"]:
        """As ``Square.from_image``."""
        side = self.side[:, None, None]
        plane = _times(points[..., :2] - self.centre[:, None], self.axes()) / side + 0.5
        return jnp.concatenate([plane, points[..., 2:] / side], axis=-1)


def cut_squares(
    levels: ImageLevels, image: Int[Array, "n"], squares: Squares, size: int
) -> Float[Array, "n S S 3"]:
    """As ``geometry.squares.cut_square``: whole numbers 0 … 255 of squares of the images as they are.

    Args:
        levels: the images.
        image: which of them each square is cut from.
        squares: in pixels of the images.
        size: S.
    """
    samples = jnp.clip(jnp.round(squares.side / size), 1, _MAX_SAMPLES).astype(jnp.int32)
    whole, many = jnp.zeros_like(image), samples.astype(jnp.float32)
    axes = squares.axes()

    def step(k, total):
        down, across = k // samples, k % samples
        grid = jnp.arange(size, dtype=jnp.float32)[None]
        v, u = (
            ((grid + ((part.astype(jnp.float32) + 0.5) / many)[:, None]) / size - 0.5) * squares.side[:, None]
            for part in (down, across)
        )
        u, v = u[:, None, :, None], v[:, :, None, None]
        place = squares.centre[:, None, None] + u * axes[:, None, None, :, 0] + v * axes[:, None, None, :, 1]
        place = place - 0.5
        seen = sample(levels, image, whole, place[..., 0], place[..., 1], "edge")
        return total + jnp.where((k < samples**2)[:, None, None, None], seen, 0.0)

    start = jnp.zeros((len(image), size, size, 3), jnp.float32)
    total = lax.fori_loop(0, samples.max() ** 2, step, start)
    mean = total / (many**2)[:, None, None, None]
    # OpenCV rounds halves up where it averages four, to even elsewhere.
    return jnp.where((samples == 2)[:, None, None, None], jnp.floor(mean + 0.5), jnp.round(mean))


def cut_upright(
    levels: ImageLevels, image: Int[Array, "n"], squares: Float[Array, "n 3"], size: int
) -> Float[Array, "n S S 3"]:
    """As the detector cuts: from the level whose pixels are nearest in size, black beyond the image; 0 … 255.

    Args:
        levels: the images.
        image: which of them each square is cut from.
        squares: u, v of the upper left corner and the side, pixels of the images.
        size: S.
    """
    corner, side = squares[:, :2], squares[:, 2]
    level = jnp.clip(jnp.round(jnp.log2(side / size)), 0, len(levels.sizes) - 1).astype(jnp.int32)
    shrunk = jnp.exp2(-level.astype(jnp.float32))
    step = (shrunk * side / size)[:, None]
    grid = jnp.arange(size, dtype=jnp.float32)[None]
    first = shrunk[:, None] * corner + 0.5 * step - 0.5
    u = step * grid + first[:, :1]
    # OpenCV multiplies and adds in one rounding along a row, and in two from row to row; so halves go the same way.
    v = lax.optimization_barrier(step * grid) + first[:, 1:]
    shape = (len(image), size, size)
    u, v = jnp.broadcast_to(u[:, None], shape), jnp.broadcast_to(v[:, :, None], shape)
    return sample(levels, image, level, u, v, "black")


def sample(
    levels: ImageLevels,
    image: Int[Array, "n"],
    level: Int[Array, "n"],
    u: Float[Array, "n h w"],
    v: Float[Array, "n h w"],
    border: Literal["edge", "black"],
) -> Float[Array, "n h w 3"]:
    """Bilinear, rounded to whole numbers 0 … 255.

    Args:
        levels: the images.
        image, level: from which of them.
        u, v: pixels of the level, whose centres are whole numbers (OpenCV's).
        border: what lies beyond.
    """
    heights, widths = (np.array([size[i] for size in levels.sizes], np.int32) for i in (0, 1))
    starts = np.concatenate([[0], np.cumsum(heights * widths)])[:-1].astype(np.int32)
    start, height, width = (jnp.asarray(x)[level][:, None, None] for x in (starts, heights, widths))
    start = start + image[:, None, None] * levels.pixels.shape[1]
    x = jnp.clip(u, -2.0, width.astype(jnp.float32) + 1)
    y = jnp.clip(v, -2.0, height.astype(jnp.float32) + 1)
    x0, y0 = jnp.floor(x), jnp.floor(y)
    right, below = x - x0, y - y0
    x0, y0 = x0.astype(jnp.int32), y0.astype(jnp.int32)
    flat = levels.pixels.reshape(-1)

    def neighbour(dy, dx):
        column, row = x0 + dx, y0 + dy
        index = start + jnp.clip(row, 0, height - 1) * width + jnp.clip(column, 0, width - 1)
        pixel = flat.at[index].get(mode="promise_in_bounds")
        if border == "black":
            inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
            pixel = jnp.where(inside, pixel, np.uint32(0))
        return [((pixel >> np.uint32(8 * i)) & np.uint32(255)).astype(jnp.float32) for i in range(3)]

    corners = zip(*(neighbour(dy, dx) for dy in (0, 1) for dx in (0, 1)), strict=True)
    found = []
    for a, b, c, d in corners:  # in OpenCV's order: a rounding error decides where halves go
        upper, lower = a + right * (b - a), c + right * (d - c)
        found.append(upper + below * (lower - upper))
    return jnp.round(jnp.stack(found, axis=-1))


def _halved(images: UInt8[Array, "B H W 3"]) -> UInt8[Array, "B h w 3"]:
    """Means of four, halves rounded up, as OpenCV's area interpolation has them."""
    batch, height, width, _ = images.shape
    even = images[:, : height // 2 * 2, : width // 2 * 2].astype(jnp.uint16)
    parts = even.reshape(batch, height // 2, 2, width // 2, 2, 3)
    return ((parts.sum(axis=(2, 4), dtype=jnp.uint16) + np.uint16(2)) // np.uint16(4)).astype(jnp.uint8)


def _packed(images: UInt8[Array, "B H W 3"]) -> UInt32[Array, "B H W"]:
    red, green, blue = (images[..., i].astype(jnp.uint32) for i in range(3))
    return red | (green << np.uint32(8)) | (blue << np.uint32(16))


def _times(points: Float[Array, "n N 2"], matrix: Float[Array, "n 2 2"]) -> Float[Array, "n N 2"]:
    return jnp.einsum("nki,nij->nkj", points, matrix, precision=lax.Precision.HIGHEST)
