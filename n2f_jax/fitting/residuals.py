"""Residuals of one head against one image, and their derivatives.

Three kinds, each robust by Geman and McClure's bounded kernel ``ρ(s) = s / (1 + s/c²)`` of the squared length s:

- *normals*, two numbers at each sampled pixel of the observed mask: the drawn normal in the tangent plane of the
  observed one, scaled so that their length is the chord between the two. A pixel where no face is drawn counts as an
  outlier, ρ = c²; so leaving the mask never pays.
- *points*, two numbers each: reprojection error of the anchors in units of the crop's side.
- *border*, one number at each sampled border pixel of the *drawn* face region: its distance from the observed mask's
  border (a distance field) in units of the crop's side. What is cut from the observed mask attracts nothing.

Everything depends on the vertices under the samples and, for normals, on those around them.
"""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from flame_jax import points_on_mesh
from n2f_jax.face_mesh.error_model import PointErrors
from n2f_jax.fitting.head_tables import HeadTables, Posed, pull_back
from n2f_jax.fitting.observations import (
    Anchors,
    Observation,
    first_pixels,
    sample_field,
    signed_distance,
    spread_order,
)
from n2f_jax.geometry.camera import Camera
from n2f_jax.geometry.pose import moved_pose
from n2f_jax.render import normalize, rasterize

MIN_DEPTH = 1e-2  # metres; nothing nearer counts
# Samples whose derivatives are taken at once on a CPU: their basis rows then stay in the cache.
_CHUNK = 32


@dataclasses.dataclass(frozen=True)
class ResidualConfig:
    """How residuals are weighed against each other and against the prior (which has weight one).

    Each kind weighs ``count / σ²``: σ is its noise, estimated from the residuals themselves (``term_weights``), and
    count how many independent observations it is worth, far fewer than pixels, since neighbours err alike. While the
    fit is poor the data weigh little and the prior holds; as it improves they take over.

    Attributes:
        normals, points, border: count of each.
        normal_noise: least σ of the normals, a chord (radians, nearly).
        point_noise, border_noise: least σ of the others, units of the crop's side.
        normal_scale: c of the normals' kernel, a chord: 0.4 is 23°.
        point_scale: c of the points', units of the crop's side.
        border_scale: c of the border's, units of the crop's side.
        num_border: how many border pixels are sampled.
    """

    normals: float = 200.0
    points: float = 20.0
    border: float = 20.0
    normal_noise: float = 0.02
    point_noise: float = 0.02
    border_noise: float = 0.004
    normal_scale: float = 0.4
    point_scale: float = 0.1
    border_scale: float = 0.02
    num_border: int = 256


# The free front end's normals are those of its own points, smooth and wrong by regions: they hardly add to these.
FACE_MESH = ResidualConfig(normals=10.0, points=40.0)


def with_measured_points(config: ResidualConfig, errors: PointErrors) -> ResidualConfig:
    """The same with the count and the least σ of the points as they were measured, in place of guessed ones.

    Args:
        config: what else is weighed how.
        errors: of the network that finds the points; their anchors are ``Anchors.photograph`` with the same errors.
    """
    # The σ with which the anchors' relative weights 1/σ² are those of the points.
    noise = 1.0 / math.sqrt(float(np.mean(1.0 / np.asarray(errors.image_rms, np.float64) ** 2)))
    return dataclasses.replace(config, points=float(errors.effective_posed), point_noise=noise)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Target:
    """One image, prepared once for a fit, or several along leading axes. A pytree.

    Attributes:
        pixels: ``(P,)`` sampled pixels of the observed mask, row-major.
        normals: ``(P, 3)`` observed there.
        there: ``(P,)`` 1, or 0 where the mask had no more pixels.
        field: ``(S, S)`` signed distance from the observed mask's border, pixels.
        points: ``(N, 2)`` anchors' places, 0 where not found.
        point_weights: ``(N,)`` sum to one, or all zero.
        order: ``(S²,)`` the order in which pixels are sampled.
    """

    pixels: Int[Array, "*images P"]
    normals: Float[Array, "*images P 3"]
    there: Float[Array, "*images P"]
    field: Float[Array, "*images S S"]
    points: Float[Array, "*images N 2"]
    point_weights: Float[Array, "*images N"]
    order: Int[Array, "*images S2"]

    def first(self, count: int) -> Target:
        """The same with the first ``count`` pixels only; any leading batch axes."""
        return dataclasses.replace(
            self,
            pixels=self.pixels[..., :count],
            normals=self.normals[..., :count, :],
            there=self.there[..., :count],
        )


def whole_target(observation: Observation, weights: Float[Array, " N"]) -> Target:
    """All pixels of one ``usable`` image's mask, in an order of which every beginning covers it evenly."""
    size = observation.mask.shape[-1]
    order = jnp.asarray(spread_order(size))
    pixels, there = first_pixels(observation.mask, order, size * size)
    found = jnp.isfinite(observation.points).all(axis=-1)
    weights = jnp.where(found, weights, 0.0)
    return Target(
        pixels,
        observation.normals.reshape(-1, 3)[pixels],
        there,
        signed_distance(observation.mask),
        jnp.where(found[:, None], observation.points, 0.0),
        weights / jnp.maximum(weights.sum(), 1e-9),
        order,
    )


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Samples:
    """Where on the mesh the samples lie, for one state of head and camera: what is held fixed within a step.

    Attributes:
        faces: ``(P,)`` triangle drawn at each sampled pixel, −1 where none of the face region is.
        border_faces: ``(M,)`` triangle of each border sample.
        border_barycentric: ``(M, 3)``.
        border_there: ``(M,)`` 1, or 0 where the border had no more pixels.
    """

    faces: Int[Array, " P"]
    border_faces: Int[Array, " M"]
    border_barycentric: Float[Array, "M 3"]
    border_there: Float[Array, " M"]


def place_samples(
    tables: HeadTables, vertices: Float[Array, "V 3"], camera: Camera, target: Target, num_border: int
) -> Samples:
    """Visibility: which triangle is under which sample."""
    size = target.field.shape[-1]
    in_camera = vertices @ camera.rotation.T + camera.translation[None]
    topology = tables.topology
    face = rasterize(in_camera, topology.faces, camera.focal, camera.principal_point, (size, size)).face
    drawn = (face >= 0) & topology.region[jnp.maximum(face, 0)]
    # Inside is what has all four neighbours inside; the image's own border bounds nothing.
    padded = jnp.pad(drawn, 1, constant_values=True)
    inside = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    face = jnp.where(drawn, face, -1).reshape(-1)
    border, there = first_pixels(drawn & ~inside, target.order, num_border)
    border_faces = jnp.maximum(face[border], 0)
    corners = in_camera[topology.faces[border_faces]]
    areas = jax.vmap(_areas)(corners, _centres(border, size), *_intrinsics(camera, num_border))
    total = areas.sum(axis=-1, keepdims=True)
    usable = jnp.abs(total[:, 0]) > 1e-12
    barycentric = areas / jnp.where(usable, total[:, 0], 1.0)[:, None]
    return Samples(face[target.pixels], border_faces, barycentric, jnp.where(usable, there, 0.0))


def _centres(pixels, size):
    """(u, v) of the centres of row-major pixels."""
    row = pixels // size
    return jnp.stack([pixels - row * size, row], axis=-1).astype(jnp.float32) + 0.5


def _intrinsics(camera, count):
    return (
        jnp.broadcast_to(camera.focal, (count,)),
        jnp.broadcast_to(camera.principal_point, (count, 2)),
    )


def _areas(corners, pixel, focal, principal_point):
    """Homogeneous areas of a triangle's corners at a pixel (``render.shading``); negative where it faces the camera."""
    rays = focal * corners[:, :2] - (pixel - principal_point)[None] * corners[:, 2:]
    x, y = rays[:, 0], rays[:, 1]
    return jnp.stack([x[j] * y[k] - y[j] * x[k] for j, k in ((1, 2), (2, 0), (0, 1))])


def drawn_normal(
    ring: Float[Array, "R 3"],
    fans: Int[Array, "3 T 2"],
    pixel: Float[Array, "2"],
    rotation: Float[Array, "3 3"],
    translation: Float[Array, "3"],
    focal: Float[Array, ""],
    principal_point: Float[Array, "2"],
) -> Float[Array, "3"]:
    """The renderer's head-frame normal at one pixel of a known triangle, from the vertices around it."""
    others = ring[fans]  # (3, T, 2, 3)
    spokes = others - ring[:3, None, None, :]
    corner_normals = normalize(jnp.cross(spokes[:, :, 0], spokes[:, :, 1]).sum(axis=1))
    areas = _areas(ring[:3] @ rotation.T + translation[None], pixel, focal, principal_point)
    return normalize(-areas @ corner_normals)


def _chord(normal, observed):
    """Two coordinates in the observed normal's tangent plane, of length ``‖normal − observed‖``."""
    # The axis least along the observed normal gives a frame that never degenerates.
    axis = jax.nn.one_hot(jnp.argmin(jnp.abs(observed)), 3, dtype=observed.dtype)
    first = normalize(jnp.cross(observed, axis))
    frame = jnp.stack([first, jnp.cross(observed, first)])
    # Lambert's azimuthal equal-area projection; held short of the antipode, where it has no limit.
    scale = jax.lax.rsqrt(0.5 * jnp.maximum(1.0 + normal @ observed, 0.02))
    return scale * (frame @ normal)


def _normal_residual(ring, turn, shift, fans, pixel, observed, camera, pivot):
    """At one pixel. ``turn`` and ``shift`` move the camera about the pivot (``move_camera``)."""
    rotation, translation = moved_pose(camera.rotation, camera.translation, pivot, turn, shift)
    normal = drawn_normal(ring, fans, pixel, rotation, translation, camera.focal, camera.principal_point)
    # The second, for the kernel, is right at the antipode too.
    return _chord(normal, observed), 2.0 * (1.0 - normal @ observed)


def _project(point, turn, shift, camera, pivot):
    rotation, translation = moved_pose(camera.rotation, camera.translation, pivot, turn, shift)
    in_camera = rotation @ point + translation
    depth = jnp.maximum(in_camera[2], MIN_DEPTH)
    return camera.focal * in_camera[:2] / depth + camera.principal_point


def _kernel(squared, scale):
    """Geman and McClure's ρ and the weight ρ' of iteratively reweighted least squares."""
    share = 1.0 / (1.0 + squared / scale**2)
    return squared * share, share * share


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Values:
    """Residuals of one head and image. Weights are those of each residual within its kind, kernel included.

    Attributes:
        normals, points: two numbers each; the border's are one.
        border_slopes: of the border's residual by the pixel's u and v.
        means: ``(3,)`` mean ρ of normals, points and border.
        noise: ``(3,)`` σ of each by the median.
        in_front: whether the whole head lies before the camera.
    """

    normals: Float[Array, "P 2"]
    normal_weights: Float[Array, " P"]
    points: Float[Array, "N 2"]
    point_weights: Float[Array, " N"]
    border: Float[Array, " M"]
    border_slopes: Float[Array, "M 2"]
    border_weights: Float[Array, " M"]
    means: Float[Array, "3"]
    noise: Float[Array, "3"]
    in_front: Bool[Array, ""]


def term_weights(values: Values, config: ResidualConfig) -> Float[Array, "3"]:
    """``count / max(σ, least σ)²`` of normals, points and border."""
    least = jnp.asarray([config.normal_noise, config.point_noise, config.border_noise])
    count = jnp.asarray([config.normals, config.points, config.border])
    # Not finite where a residual is not: then the cost is not either, whatever the weight.
    noise = jnp.where(jnp.isfinite(values.noise), values.noise, 1.0)
    return count / jnp.maximum(noise, least) ** 2


def data_cost(values: Values, weights: Float[Array, "3"]) -> Float[Array, ""]:
    """``½ Σ weight · mean ρ``; inf where it is not finite or the head not before the camera."""
    cost = 0.5 * weights @ values.means
    return jnp.where(jnp.isfinite(cost) & values.in_front, cost, jnp.inf)


def residual_values(
    tables: HeadTables,
    posed: Posed,
    camera: Camera,
    samples: Samples,
    target: Target,
    anchors: Anchors,
    config: ResidualConfig,
) -> Values:
    """Residuals and their weights."""
    size = target.field.shape[-1]
    still = jnp.zeros(3)
    vertices, pivot = posed.vertices, tables.pivot

    covered = samples.faces >= 0
    face = jnp.maximum(samples.faces, 0)
    normals, squared = jax.vmap(_normal_residual, in_axes=(0, None, None, 0, 0, 0, None, None))(
        *(vertices[tables.ring[face]], still, still, tables.fans[face]),
        *(_centres(target.pixels, size), target.normals, camera, pivot),
    )
    rho, kernel = _kernel(squared, config.normal_scale)
    rho = jnp.where(covered, rho, config.normal_scale**2)
    normal_mean, share = _mean(rho, target.there)
    normal_weights = share * jnp.where(covered, kernel, 0.0)
    # Two coordinates of one σ have a squared length of median 2 ln 2 σ², one coordinate of 0.455 σ².
    normal_noise = _median(jnp.where(covered, squared, 4.0), target.there) / (2.0 * math.log(2.0))

    def pixels_of(faces, barycentric):
        points = points_on_mesh(vertices, tables.topology.faces, faces, barycentric)
        return jax.vmap(_project, in_axes=(0, None, None, None, None))(points, still, still, camera, pivot)

    points = (pixels_of(anchors.faces, anchors.barycentric) - target.points) / size
    squared = jnp.sum(points**2, axis=-1)
    rho, kernel = _kernel(squared, config.point_scale)
    point_mean, share = _mean(rho, target.point_weights)
    point_noise = _median(squared, target.point_weights) / (2.0 * math.log(2.0))
    point_weights = share * kernel

    border, slopes = sample_field(target.field, pixels_of(samples.border_faces, samples.border_barycentric))
    # The centres of border pixels lie half a pixel inside.
    border = (border + 0.5) / size
    rho, kernel = _kernel(border**2, config.border_scale)
    border_mean, share = _mean(rho, samples.border_there)
    border_noise = _median(border**2, samples.border_there) / 0.455
    border_weights = share * kernel

    depth = vertices @ camera.rotation[2] + camera.translation[2]
    return Values(
        *(normals, normal_weights, points, point_weights, border, slopes / size, border_weights),
        means=jnp.stack([normal_mean, point_mean, border_mean]),
        noise=jnp.sqrt(jnp.stack([normal_noise, point_noise, border_noise])),
        in_front=jnp.min(depth) > MIN_DEPTH,
    )


def _mean(values, weights):
    """Weighted mean, and the weights scaled to sum to one; zeros where all are zero."""
    share = weights / jnp.maximum(weights.sum(), 1e-9)
    return share @ values, share


def _median(values, weights):
    """Of the values whose weight is not zero; 0 of none."""
    used = weights > 0
    ordered = jnp.sort(jnp.where(used, values, jnp.inf))
    count = used.sum()
    return jnp.where(count > 0, ordered[count // 2], 0.0)


def normal_equations(
    tables: HeadTables,
    posed: Posed,
    camera: Camera,
    samples: Samples,
    target: Target,
    anchors: Anchors,
    values: Values,
    weights: Float[Array, "3"],
) -> tuple[Float[Array, "U U"], Float[Array, " U"]]:
    """``JᵀWJ`` and ``JᵀWr`` of one image, U = K + 3 (jaw) + 2 (eyelids) + 6 (camera).

    Args:
        weights: of normals, points and border (``term_weights``); the others as in ``residual_values``.
    """
    rows, residual, row_weights = jacobian(tables, posed, camera, samples, target, anchors, values, weights)
    scaled = rows * jnp.sqrt(row_weights)[:, None]
    return scaled.T @ scaled, (row_weights * residual) @ rows


def jacobian(
    tables: HeadTables,
    posed: Posed,
    camera: Camera,
    samples: Samples,
    target: Target,
    anchors: Anchors,
    values: Values,
    weights: Float[Array, "3"],
) -> tuple[Float[Array, "rows U"], Float[Array, " rows"], Float[Array, " rows"]]:
    """Jacobian, residuals and weights of the rows: normals (2 P), points (2 N), border (M)."""
    size = target.field.shape[-1]
    still = jnp.zeros(3)
    vertices, pivot = posed.vertices, tables.pivot

    def normal_rows(face, pixel, observed):
        ring = tables.ring[face]
        by_ring, by_turn, by_shift = jax.jacrev(lambda *x: _normal_residual(*x)[0], argnums=(0, 1, 2))(
            vertices[ring], still, still, tables.fans[face], pixel, observed, camera, pivot
        )
        by_head = pull_back(tables, posed, ring, by_ring)
        return jnp.concatenate([by_head, by_turn, by_shift], axis=-1)

    def point_rows(face, barycentric):
        corners = tables.topology.faces[face]
        point = barycentric @ vertices[corners]
        by_point, by_turn, by_shift = jax.jacrev(_project, argnums=(0, 1, 2))(
            point, still, still, camera, pivot
        )
        by_head = pull_back(tables, posed, corners, by_point[:, None, :] * barycentric[None, :, None])
        return jnp.concatenate([by_head, by_turn, by_shift], axis=-1) / size

    normals = _each(normal_rows, jnp.maximum(samples.faces, 0), _centres(target.pixels, size), target.normals)
    points = _each(point_rows, anchors.faces, anchors.barycentric)
    border = _each(point_rows, samples.border_faces, samples.border_barycentric)
    # Slopes are of the field in units of the side by pixels; the rows are pixels over the side.
    border = jnp.einsum("mi,mij->mj", values.border_slopes * size, border)
    width = border.shape[-1]
    rows = jnp.concatenate([normals.reshape(-1, width), points.reshape(-1, width), border])
    residual = jnp.concatenate([values.normals.reshape(-1), values.points.reshape(-1), values.border])
    row_weights = jnp.concatenate(
        [
            weights[0] * jnp.repeat(values.normal_weights, 2),
            weights[1] * jnp.repeat(values.point_weights, 2),
            weights[2] * values.border_weights,
        ]
    )
    return rows, residual, row_weights


def _each(function, *arrays):
    """``vmap``, on a CPU some at a time."""
    if jax.default_backend() != "cpu":
        return jax.vmap(function)(*arrays)
    return jax.lax.map(lambda row: function(*row), arrays, batch_size=_CHUNK)
