"""Interpolates vertex attributes over the visible triangles, differentiably.

Visibility (``rasterizer``) is a constant to every derivative; what is drawn is recomputed here from the
vertices.

With r_i = z_i · (projection of vertex i − pixel), barycentric i is proportional to a_i = r_j × r_k: the
screen-space area over the depth of its vertex, hence perspective-correct without a division, and defined
behind the camera too. a_i is affine in the pixel, and so is the numerator Σ a_i · attribute_i of every
interpolated attribute. So each face gets three coefficients a channel, relative to a pixel near it (which
keeps float32 well-conditioned), each pixel gathers the row of its face, and the work per pixel is two
multiplications a channel and one division; unit vectors need not even that, since the divisor cancels. Arrays are
split into components, one contiguous vector each, which is what compilers vectorise, forward and backward.
"""

from __future__ import annotations

import dataclasses
import functools
import operator
from collections.abc import Iterable, Sequence
from typing import overload

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from n2f_jax.render.columns import add_rows, columns_of, float_bits, take_rows, tie

# A homogeneous area (pixels² · depth²) below this makes no barycentrics; the attribute is zero there.
_MIN_AREA = 1e-12
# Numbers gathered at once, at most (8 MB).
_MOST_GATHERED = 1 << 21

# An affine function of the pixel for each face: value at the face's reference pixel, slope by u, slope by v.
_Plane = Sequence[Float[Array, " F"]]


def face_normals(vertices: Float[Array, "... V 3"], faces: Int[Array, "F 3"]) -> Float[Array, "... F 3"]:
    """Cross products of the edges: normals of length twice the area, outward for counter-clockwise faces."""
    return jnp.stack(_face_normal_components(vertices, faces), axis=-1)


def vertex_normals(vertices: Float[Array, "... V 3"], faces: Int[Array, "F 3"]) -> Float[Array, "... V 3"]:
    """Unit vertex normals: area-weighted means of the normals of the faces around a vertex.

    Vertices without a face of positive area get zero (and no NaN in the gradient).
    """
    if vertices.ndim > 2:
        return jax.vmap(vertex_normals, in_axes=(0, None))(vertices, faces)
    normals = face_normals(vertices, faces)
    # One update a corner, in one scatter.
    updates = jnp.broadcast_to(normals[:, None, :], (faces.shape[0], 3, 3)).reshape(-1, 3)
    return normalize(add_rows(updates, tie(faces, vertices).reshape(-1), vertices.shape[0]))


def normalize(x: Float[Array, "... C"]) -> Float[Array, "... C"]:
    """``x / ‖x‖`` over the last axis; zero, with zero gradient, where x is (next to) zero."""
    squared = jnp.sum(x * x, axis=-1, keepdims=True)
    tiny = squared < 1e-24
    inverse = jax.lax.rsqrt(jnp.where(tiny, 1.0, squared))
    return x * jnp.broadcast_to(jnp.where(tiny, 0.0, inverse), x.shape)


@overload
def shade(
    face: Int[Array, "H W"],
    vertices_cam: Float[Array, "V 3"],
    faces: Int[Array, "F 3"],
    focal: Float[Array, ""],
    principal_point: Float[Array, "2"],
    attributes: Float[Array, "F 3 C"],
    drawn: Bool[Array, "H W"] | None = None,
) -> tuple[Float[Array, "H W C"], Float[Array, "H W"], Float[Array, "H W 3"]]: ...


@overload
def shade(
    face: Int[Array, "H W"],
    vertices_cam: Float[Array, "V 3"],
    faces: Int[Array, "F 3"],
    focal: Float[Array, ""],
    principal_point: Float[Array, "2"],
    attributes: tuple[Float[Array, "F 3 _"], ...] = (),
    drawn: Bool[Array, "H W"] | None = None,
) -> tuple[tuple[Float[Array, "H W _"], ...], Float[Array, "H W"], Float[Array, "H W 3"]]: ...


def shade(
    face: Int[Array, "H W"],
    vertices_cam: Float[Array, "V 3"],
    faces: Int[Array, "F 3"],
    focal: Float[Array, ""],
    principal_point: Float[Array, "2"],
    attributes: Float[Array, "F 3 C"] | tuple[Float[Array, "F 3 _"], ...] = (),
    drawn: Bool[Array, "H W"] | None = None,
) -> tuple[
    Float[Array, "H W C"] | tuple[Float[Array, "H W _"], ...], Float[Array, "H W"], Float[Array, "H W 3"]
]:
    """Interpolates attributes over the visible triangles, perspective-correct and differentiable.

    Gradients flow to the vertices, the intrinsics and the attributes. One mesh; use ``jax.vmap`` for batches.
    Inside ``jit``, results that are not used cost nothing.

    Args:
        face: visible triangles, −1 where empty (``Fragments.face``).
        vertices_cam: camera frame.
        faces: triangles.
        focal: pixels.
        principal_point: pixels.
        attributes: a value for each corner of each triangle (``attribute[faces]`` for vertex attributes), or
            several such arrays.
        drawn: pixels to draw; all covered ones by default.

    Returns:
        The image ``(H, W, C)`` of the attribute (or a tuple of images), depth z ``(H, W)`` and barycentrics
        ``(H, W, 3)``; all zero where nothing is drawn.
    """
    wanted = attributes if isinstance(attributes, tuple) else (attributes,)
    corners = jnp.broadcast_to(jnp.eye(3), (faces.shape[0], 3, 3))
    areas = _affine_areas(vertices_cam, faces, focal, principal_point, face.shape)
    drawn = face >= 0 if drawn is None else drawn & (face >= 0)
    total = [_sum(area[n] for area in areas.corners) for n in range(3)]

    def image_of(numerators: list[_Plane]) -> Float[Array, "H W _"]:
        """Numerators over the total area, where it is not zero."""
        values = _evaluate([*numerators, total], areas.reference, face)
        denominator = values[:, -1]
        usable = drawn.reshape(-1) & (jnp.abs(denominator) > _MIN_AREA)
        inverse = jnp.where(usable, 1.0 / jnp.where(usable, denominator, 1.0), 0.0)
        return (values[:, :-1] * inverse[:, None]).reshape(*face.shape, -1)

    images = [image_of(_numerators(areas, attribute)) for attribute in (*wanted, corners)]
    # The numerator of z, Σ a_i z_i, is the same all over the triangle.
    z_numerator = _sum(area[0] * z for area, z in zip(areas.corners, areas.z, strict=True))
    still = jnp.zeros_like(z_numerator)
    depth = image_of([[z_numerator, still, still]])[..., 0]
    barycentric = images.pop()
    return tuple(images) if isinstance(attributes, tuple) else images[0], depth, barycentric


def shade_directions(
    face: Int[Array, "H W"],
    vertices_cam: Float[Array, "V 3"],
    faces: Int[Array, "F 3"],
    focal: Float[Array, ""],
    principal_point: Float[Array, "2"],
    directions: Float[Array, "F 3 C"],
    drawn: Bool[Array, "H W"] | None = None,
) -> Float[Array, "H W C"]:
    """Interpolates vectors and gives them unit length: ``normalize(shade(…, directions)[0])`` for a third less.

    The perspective divisor cancels, so it is never computed. Arguments as in ``shade``; the triangles drawn must
    face the camera (in a triangle seen from inside the vectors come out negated).
    """
    areas = _affine_areas(vertices_cam, faces, focal, principal_point, face.shape)
    values = _evaluate(_numerators(areas, directions), areas.reference, face)
    drawn = (face >= 0 if drawn is None else drawn & (face >= 0)).reshape(-1)
    # Areas of triangles that face the camera are negative (y is down). Their size is that of the triangle in
    # pixels², far from under- and overflow.
    squared = jnp.sum(values * values, axis=-1)
    usable = drawn & (squared > _MIN_AREA * _MIN_AREA)
    inverse = jnp.where(usable, -jax.lax.rsqrt(jnp.where(usable, squared, 1.0)), 0.0)
    return (values * inverse[:, None]).reshape(*face.shape, -1)


@dataclasses.dataclass(frozen=True)
class _Areas:
    """Each corner's homogeneous area, affine in the pixel.

    Attributes:
        corners: for each corner value, slope by u, slope by v, about the face's reference pixel: ``(F,)`` each.
        z: depth of each corner, ``(F,)`` each.
        reference: ``(F,)`` the reference pixel, packed into the bits of a float (``_pack_pixel``).
    """

    corners: list[_Plane]
    z: list[Float[Array, " F"]]
    reference: Float[Array, " F"]


def _sum(parts: Iterable[Array]) -> Array:
    """Of one part or more, unlike ``sum``, whose type allows for none."""
    return functools.reduce(operator.add, parts)


def _numerators(areas: _Areas, attribute: Float[Array, "F 3 C"]) -> list[_Plane]:
    """``Σ_i a_i · attribute_i``, channel by channel: value and two slopes."""
    channels = attribute.shape[-1]
    values = columns_of(attribute.reshape(-1, 3 * channels))  # corner-major
    return [
        [_sum(areas.corners[i][n] * values[i * channels + c] for i in range(3)) for n in range(3)]
        for c in range(channels)
    ]


def _evaluate(
    planes: list[_Plane], reference: Float[Array, " F"], face: Int[Array, "H W"]
) -> Float[Array, "pixels planes"]:
    """Planes over faces (value, slope by u, slope by v) at the pixels of an image of faces: ``(H·W, planes)``.

    By one gather of rows; its transpose is one scatter. Pixels without a face get those of face 0.
    """
    height, width = face.shape
    count = len(planes)
    table = jnp.stack([*(plane[n] for n in range(3) for plane in planes), reference], axis=-1)

    def evaluate_rows(
        face: Int[Array, "h W"], first_row: int | Int[Array, ""]
    ) -> Float[Array, "pixels planes"]:
        rows = table.at[jnp.maximum(face, 0).reshape(-1)].get(mode="promise_in_bounds")
        column, row = _unpack_pixel(rows[:, -1])
        u = jax.lax.broadcasted_iota(jnp.int32, face.shape, 1).reshape(-1)
        v = jax.lax.broadcasted_iota(jnp.int32, face.shape, 0).reshape(-1) + first_row
        du, dv = (u - column).astype(jnp.float32), (v - row).astype(jnp.float32)
        # Whole rows and not one channel after the other: XLA would compute all channels again for each when it
        # interleaves them.
        values, slopes_u, slopes_v = (rows[:, n * count : (n + 1) * count] for n in range(3))
        return values + slopes_u * du[:, None] + slopes_v * dv[:, None]

    # A large image in strips, so that the gathered rows stay small: memory taken anew from the system in every
    # call costs more than the arithmetic.
    strips = -(-face.size * table.shape[-1] // _MOST_GATHERED)
    strips = next((n for n in range(strips, height + 1) if height % n == 0), 1)
    if strips <= 1:
        return evaluate_rows(face, 0)
    strip_height = height // strips
    first_rows = strip_height * jnp.arange(strips, dtype=jnp.int32)
    parts = jax.lax.map(
        lambda strip: evaluate_rows(*strip), (face.reshape(strips, strip_height, width), first_rows)
    )
    return parts.reshape(height * width, count)


def _pack_pixel(column: Int[Array, " F"], row: Int[Array, " F"]) -> Float[Array, " F"]:
    """Two numbers below 2¹⁵ in the bits of an ordinary float32, neither subnormal nor NaN, so that they travel with
    floats."""
    return jax.lax.bitcast_convert_type((1 << 30) | (row << 15) | column, jnp.float32)


def _unpack_pixel(packed: Float[Array, " n"]) -> tuple[Int[Array, " n"], Int[Array, " n"]]:
    bits = float_bits(jax.lax.stop_gradient(packed))
    return bits & 0x7FFF, (bits >> 15) & 0x7FFF


def _corner_components(vertices: Float[Array, "V 3"], faces: Int[Array, "F 3"]) -> list[Float[Array, " F"]]:
    """x, y, z of corner 0, then of corners 1 and 2: nine vectors."""
    columns = columns_of(take_rows(vertices, tie(faces, vertices).reshape(-1)).reshape(-1, 12))
    return [column for k, column in enumerate(columns) if k % 4 < 3]


def _face_normal_components(
    vertices: Float[Array, "... V 3"], faces: Int[Array, "F 3"]
) -> list[Float[Array, "... F"]]:
    if vertices.ndim > 2:
        return jax.vmap(_face_normal_components, in_axes=(0, None))(vertices, faces)
    x0, y0, z0, x1, y1, z1, x2, y2, z2 = _corner_components(vertices, faces)
    ax, ay, az, bx, by, bz = x1 - x0, y1 - y0, z1 - z0, x2 - x0, y2 - y0, z2 - z0
    return [ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx]


def _affine_areas(
    vertices_cam: Float[Array, "V 3"],
    faces: Int[Array, "F 3"],
    focal: Float[Array, ""],
    principal_point: Float[Array, "2"],
    size: tuple[int, ...],
) -> _Areas:
    # A vertex that is not finite belongs to no visible face; zeros keep NaN out of the gradients of its
    # neighbours.
    finite = jnp.isfinite(vertices_cam).all(axis=-1, keepdims=True)
    vertices_cam = jnp.where(finite, vertices_cam, 0.0)
    c = _corner_components(vertices_cam, faces)
    z = [c[2], c[5], c[8]]
    count = faces.shape[0]
    f = jnp.broadcast_to(focal, count)
    center = [jnp.broadcast_to(principal_point[n], count) for n in range(2)]

    depth = jax.lax.stop_gradient((z[0] + z[1] + z[2]) / 3.0)
    inverse = 1.0 / jnp.where(depth > 1e-6, depth, 1.0)
    reference = []
    for n, extent in ((0, size[1]), (1, size[0])):
        mean = (c[n] + c[3 + n] + c[6 + n]) / 3.0
        place = jax.lax.stop_gradient(f * mean * inverse + center[n])
        reference.append(jnp.clip(place, 0.0, float(extent)).astype(jnp.int32))
    u, v = (number.astype(jnp.float32) + 0.5 for number in reference)
    x = [f * c[3 * i] - (u - center[0]) * z[i] for i in range(3)]
    y = [f * c[3 * i + 1] - (v - center[1]) * z[i] for i in range(3)]
    # (p − δ z_j) × (q − δ z_k) = p × q + δ × (z_k p − z_j q)
    corners: list[_Plane] = [
        (x[j] * y[k] - y[j] * x[k], z[k] * y[j] - z[j] * y[k], z[j] * x[k] - z[k] * x[j])
        for j, k in ((1, 2), (2, 0), (0, 1))
    ]
    return _Areas(corners, z, _pack_pixel(*reference))
