"""What is drawn at the visible triangles: differentiable interpolation of vertex attributes.

Visibility (``rasterizer``) is a constant to every derivative; what is drawn is recomputed here from the
vertices.

With r_i = z_i · (projection of vertex i − pixel), barycentric i is proportional to a_i = r_j × r_k: the
screen-space area over the depth of its vertex, hence perspective-correct without a division, and defined
behind the camera too. a_i is affine in the pixel, and so is the numerator Σ a_i · attribute_i of every
interpolated attribute. So each face gets three coefficients a channel, relative to a pixel near it (which
keeps float32 well-conditioned), each pixel gathers the row of its face, and the work per pixel is two
multiplications a channel and one division. Arrays are split into components, one contiguous vector each,
which is what compilers vectorise, forward and backward.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

# A homogeneous area (pixels² · depth²) below this makes no barycentrics; the attribute is zero there.
_MIN_AREA = 1e-12


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
    total = jnp.zeros_like(vertices).at[tie(faces, vertices).reshape(-1)].add(updates)
    return normalize(total)


def normalize(x: Float[Array, "... C"]) -> Float[Array, "... C"]:
    """``x / ‖x‖`` over the last axis; zero, with zero gradient, where x is (next to) zero."""
    squared = jnp.sum(x * x, axis=-1, keepdims=True)
    tiny = squared < 1e-24
    inverse = jax.lax.rsqrt(jnp.where(tiny, 1.0, squared))
    return x * jnp.broadcast_to(jnp.where(tiny, 0.0, inverse), x.shape)


def pixel_centers(size: tuple[int, int]) -> tuple[Float[Array, "H W"], Float[Array, "H W"]]:
    """(u, v) of the pixel centres of an (H, W) image: column + 0.5, row + 0.5."""
    u = jax.lax.broadcasted_iota(jnp.float32, size, 1) + 0.5
    v = jax.lax.broadcasted_iota(jnp.float32, size, 0) + 0.5
    return u, v


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
    several = isinstance(attributes, tuple)
    corners = jnp.broadcast_to(jnp.eye(3), (faces.shape[0], 3, 3))
    attributes = (*(attributes if several else (attributes,)), corners)
    size = face.shape
    drawn = (face >= 0 if drawn is None else drawn & (face >= 0)).reshape(-1)
    # Empty pixels look at face 0, whose numbers they do not use: `select` keeps them out of values and
    # gradients.
    index = jnp.where(drawn, face.reshape(-1), 0)

    area, z, reference = _affine_areas(vertices_cam, faces, focal, principal_point, size)
    total = [sum(a[n] for a in area) for n in range(3)]
    z_numerator = sum(a[0] * z_i for a, z_i in zip(area, z, strict=True))  # its slopes vanish
    geometry = _gather_split([*total, z_numerator, *reference], index)
    total_pixel, z_pixel = geometry[:3], geometry[3]
    u, v = (x.reshape(-1) for x in pixel_centers(size))
    du, dv = u - jax.lax.stop_gradient(geometry[4]), v - jax.lax.stop_gradient(geometry[5])
    denominator = total_pixel[0] + total_pixel[1] * du + total_pixel[2] * dv
    usable = drawn & (jnp.abs(denominator) > _MIN_AREA)
    inverse = 1.0 / jnp.where(usable, denominator, 1.0)

    def select(x):
        return jnp.where(usable, x, 0.0)

    images = []
    for attribute in attributes:
        channels = attribute.shape[-1]
        values = jax.lax.split(attribute.reshape(-1, 3 * channels).T, (1,) * (3 * channels))
        values = [x[0] for x in values]  # corner-major
        numerators = [
            sum(area[i][n] * values[i * channels + c] for i in range(3))
            for c in range(channels)
            for n in range(3)
        ]
        rows = _gather_split(numerators, index)
        pixels = [
            select((rows[3 * c] + rows[3 * c + 1] * du + rows[3 * c + 2] * dv) * inverse)
            for c in range(channels)
        ]
        images.append(jnp.stack(pixels, axis=-1).reshape(*size, channels))
    barycentric = images.pop()
    depth = select(z_pixel * inverse).reshape(size)
    return tuple(images) if several else images[0], depth, barycentric


def tie(index: Int[Array, "..."], array: Float[Array, "..."]) -> Int[Array, "..."]:
    """``index`` itself, made to depend on ``array``: under ``vmap`` it then carries the same batch axis.

    A gather with one index for the whole batch would put the batch axis last in memory, several times slower
    on CPUs.
    """
    bits = jax.lax.bitcast_convert_type(jax.lax.stop_gradient(array).reshape(-1)[0], jnp.int32)
    return index + jnp.broadcast_to(bits & 0, index.shape)


def _gather_split(columns, index):
    """``[column[index] for column in columns]`` by one gather of rows; its transpose is one scatter."""
    rows = jnp.stack(columns, axis=-1)[index]
    return [x[0] for x in jax.lax.split(rows.T, (1,) * len(columns))]


def _corner_components(vertices, faces):
    """x, y, z of corner 0, then of corners 1 and 2: nine vectors (..., F)."""
    corners = vertices[tie(faces, vertices)].reshape(-1, 9)
    return [x[0] for x in jax.lax.split(corners.T, (1,) * 9)]


def _face_normal_components(vertices, faces):
    if vertices.ndim > 2:
        return jax.vmap(_face_normal_components, in_axes=(0, None))(vertices, faces)
    x0, y0, z0, x1, y1, z1, x2, y2, z2 = _corner_components(vertices, faces)
    ax, ay, az, bx, by, bz = x1 - x0, y1 - y0, z1 - z0, x2 - x0, y2 - y0, z2 - z0
    return [ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx]


def _affine_areas(vertices_cam, faces, focal, principal_point, size):
    """Each corner's homogeneous area (value, slope u, slope v) about a reference pixel, z, and that pixel."""
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
        reference.append(jnp.floor(jnp.clip(place, 0.0, float(extent))) + 0.5)
    x = [f * c[3 * i] - (reference[0] - center[0]) * z[i] for i in range(3)]
    y = [f * c[3 * i + 1] - (reference[1] - center[1]) * z[i] for i in range(3)]
    # (p − δ z_j) × (q − δ z_k) = p × q + δ × (z_k p − z_j q)
    area = [
        (x[j] * y[k] - y[j] * x[k], z[k] * y[j] - z[j] * y[k], z[j] * x[k] - z[k] * x[j])
        for j, k in ((1, 2), (2, 0), (0, 1))
    ]
    return area, z, reference
