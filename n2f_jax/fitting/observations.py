"""What a fit is fitted to: a normal map, its mask, and points of the mesh that were found in the image."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Shaped

from flame_jax import HeadModel
from flame_jax.landmarks import NUM_CONTOUR, NUM_LANDMARKS
from n2f_jax.face_mesh.coarse_mesh import load_coarse_mesh
from n2f_jax.face_mesh.error_model import PointErrors


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Anchors:
    """Points on the mesh whose places in the image are known. A pytree, the same for all images of a fit.

    Attributes:
        faces: ``(N,)`` triangle of each.
        barycentric: ``(N, 3)``.
        weights: ``(N,)`` relative ones; a fit scales them to sum to one.
    """

    faces: Int[Array, " N"]
    barycentric: Float[Array, "N 3"]
    weights: Float[Array, " N"]

    @classmethod
    def landmarks68(cls, model: HeadModel) -> Anchors:
        """The 68 landmarks, the contour fixed on the mesh.

        Raises:
            ValueError: the model has no landmark embedding.
        """
        if model.landmarks is None:
            raise ValueError(f"head model {model.name!r} has no landmark embedding")
        return cls(model.landmarks.static_faces, model.landmarks.static_barycentric, jnp.ones(NUM_LANDMARKS))

    @classmethod
    def photograph(
        cls,
        model: HeadModel,
        face_mesh: tuple[Int[Array, " n"], Float[Array, "n 3"]] | None = None,
        errors: PointErrors | None = None,
    ) -> Anchors:
        """The 68 landmarks of which the contour counts nothing, since in a photograph it is that of the view; and the
        face mesh's points where they are embedded in the model. Both sets weigh alike.

        Args:
            model: with a landmark embedding.
            face_mesh: triangles and barycentrics of the face mesh's points (``face_mesh.embedding``).
            errors: measured ones of the network that finds them: within each set a point weighs ``1/σ²``. None: all
                points weigh alike.

        Raises:
            ValueError: the model has no landmark embedding.
        """
        landmarks = cls.landmarks68(model)
        inner = jnp.arange(NUM_LANDMARKS) >= NUM_CONTOUR
        weights = inner.astype(jnp.float32) / (NUM_LANDMARKS - NUM_CONTOUR)
        precision = None if errors is None else 1.0 / jnp.asarray(errors.image_rms) ** 2
        if precision is not None:
            weights = jnp.where(inner, precision[load_coarse_mesh().ibug68], 0.0)
            weights = weights / weights.sum()
        if face_mesh is None:
            return dataclasses.replace(landmarks, weights=weights)
        faces, barycentric = face_mesh
        of_mesh = jnp.ones(faces.shape[0]) if precision is None else precision
        return cls(
            jnp.concatenate([landmarks.faces, faces]),
            jnp.concatenate([landmarks.barycentric, barycentric]),
            jnp.concatenate([weights, of_mesh / of_mesh.sum()]),
        )


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Observation:
    """One image's crop. A pytree; batch axes come first.

    Attributes:
        normals: ``(..., S, S, 3)`` unit normals in the head frame; what lies outside the mask does not count.
        mask: ``(..., S, S)`` 1 on the face.
        points: ``(..., N, 2)`` where the anchors are, pixels of the crop; NaN where one was not found.
    """

    normals: Float[Array, "... S S 3"]
    mask: Float[Array, "... S S"]
    points: Float[Array, "... N 2"]


def usable(observation: Observation) -> Observation:
    """The same with a mask of 0 and 1 that leaves out pixels whose normal is not finite or has no length."""
    length = jnp.sum(observation.normals**2, axis=-1)
    valid = (observation.mask > 0.5) & (length > 0.25) & jnp.isfinite(length)
    unit = observation.normals * jax.lax.rsqrt(jnp.where(valid, length, 1.0))[..., None]
    return Observation(jnp.where(valid[..., None], unit, 0.0), valid.astype(jnp.float32), observation.points)


def spread_order(size: int) -> Int[np.ndarray, " P"]:
    """The pixels of a ``size``² image in an order of which every beginning covers the image evenly.

    By the additive recurrence of the plastic number over columns and rows (Roberts's R2 sequence as a dither mask).
    """
    row, column = np.mgrid[:size, :size]
    value = (0.7548776662466927 * column + 0.5698402909980532 * row) % 1.0
    return np.argsort(value.reshape(-1), kind="stable").astype(np.int32)


def first_pixels(
    mask: Shaped[Array, "S S"], order: Int[Array, " P"], count: int
) -> tuple[Int[Array, " count"], Float[Array, " count"]]:
    """The first ``count`` pixels of the mask in ``order``, and which of them there are (1, or 0 beyond the last)."""
    inside = mask.reshape(-1)[order].astype(bool)
    (places,) = jnp.nonzero(inside, size=count, fill_value=order.shape[0])
    there = places < order.shape[0]
    return order[jnp.where(there, places, 0)], there.astype(jnp.float32)


def signed_distance(mask: Float[Array, "S S"]) -> Float[Array, "S S"]:
    """Distance of every pixel from the mask's border in pixels, negative inside: exact, between pixel centres.

    Half a pixel from the border on either side of it. The image's side where the mask is empty or full.
    """
    inside = mask > 0.5
    size = mask.shape[-1]
    return _distance_to(inside, size) - _distance_to(~inside, size) + jnp.where(inside, 0.5, -0.5)


def _distance_to(target, size):
    """Euclidean distance to the nearest pixel of ``target``, at most ``size``: columns first, then rows."""
    place = jnp.arange(size, dtype=jnp.float32)
    square = (place[:, None] - place[None, :]) ** 2
    far = float(size * size)
    down = jnp.min(jnp.where(target[None], square[:, :, None], far), axis=1)
    both = jnp.min(down[:, None, :] + square[None], axis=-1)
    return jnp.sqrt(jnp.minimum(both, far))


def sample_field(
    field: Float[Array, "S S"], pixels: Float[Array, "N 2"]
) -> tuple[Float[Array, " N"], Float[Array, "N 2"]]:
    """Bilinear values of an image at pixels (u, v), and their slopes by u and v; beyond the border its edge values."""
    size = field.shape[-1]
    place = jnp.clip(pixels - 0.5, 0.0, size - 1.0)
    place = jnp.where(jnp.isfinite(place), place, 0.0)
    corner = jnp.minimum(place.astype(jnp.int32), size - 2)
    share = place - corner.astype(jnp.float32)
    u, v = corner[:, 0], corner[:, 1]
    a, b, c, d = field[v, u], field[v, u + 1], field[v + 1, u], field[v + 1, u + 1]
    top, bottom = a + (b - a) * share[:, 0], c + (d - c) * share[:, 0]
    by_u = (b - a) + ((d - c) - (b - a)) * share[:, 1]
    slopes = jnp.stack([by_u, bottom - top], axis=-1)
    return top + (bottom - top) * share[:, 1], slopes
