"""Places on a head's surface: where they lie, which way they face, and what an image says there.

Some hundred vertices of the face region carry normals; as many further places are those whose image position a front
end may know (the face mesh's points where they are embedded in the head model).
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from flame_jax import HeadModel
from flame_jax.rotations import axis_angle_to_matrix
from n2f_jax.geometry.camera import Camera, project_camera_points, to_camera
from n2f_jax.models.resting_head import RestingHead, decode_resting, resting_arrays

NUM_FACE_MESH_POINTS = 468
# A place counts from this cosine to the line of sight on, fully from twice that.
_GRAZING = 0.15
# Regions that are part of the face region and hardly ever seen, or that turn on their own.
_HIDDEN = ("mouth_cavity", "eye_sockets", "eyeballs", "left_eyeball", "right_eyeball", "teeth", "tongue")
_EXACT = jax.lax.Precision.HIGHEST


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SurfacePlaces(RestingHead):
    """A head model at P places with normals and Q with image positions. A pytree.

    Of the head only the W vertices that these depend on. T triangles around a vertex.

    Attributes:
        centres: ``(P,)`` vertices with normals.
        fans: ``(P, T, 2)`` the other two corners of each triangle around them; where there are fewer, twice the same.
        corners: ``(Q, 3)`` corners of the triangles under the points.
        barycentric: ``(Q, 3)``.
        numbers: ``(Q,)`` which of the face mesh's 468 points each is; 468 where it is none of them.
        pivot: ``(3,)`` about which a correction turns the head: the middle of the mean places.
    """

    centres: Int[Array, " P"]
    fans: Int[Array, "P T 2"]
    corners: Int[Array, "Q 3"]
    barycentric: Float[Array, "Q 3"]
    numbers: Int[Array, " Q"]
    pivot: Float[Array, "3"]

    @classmethod
    def of_model(
        cls,
        model: HeadModel,
        num_normals: int,
        num_points: int,
        embedding: tuple[np.ndarray | Array, np.ndarray | Array] | None = None,
    ) -> SurfacePlaces:
        """Places spread evenly over the face region of the mean head; the same ones for the same head model.

        Args:
            model: with a ``face`` mask.
            num_normals, num_points: P, Q.
            embedding: triangles ``(468,)`` and barycentrics ``(468, 3)`` of the face mesh's points on the head; without
                it the Q places are vertices of the face, of which no front end knows the image position.

        Raises:
            ValueError: there are fewer places than asked for.
        """
        template, faces = np.asarray(model.v_template, np.float64), np.asarray(model.faces, np.int64)
        region = np.unique(faces[np.isin(faces, np.asarray(model.masks["face"])).all(axis=1)])
        hidden = [np.asarray(model.masks[name]) for name in _HIDDEN if name in model.masks]
        region = np.setdiff1d(region, np.concatenate([*hidden, np.zeros(0, np.int64)]))
        centres = region[_spread(template[region], num_normals)]
        if embedding is None:
            chosen = region[_spread(template[region], num_points)]
            first = np.array([np.flatnonzero((faces == vertex).any(axis=1))[0] for vertex in chosen])
            corners, barycentric = faces[first], (faces[first] == chosen[:, None]).astype(np.float64)
            numbers = np.full(num_points, NUM_FACE_MESH_POINTS)
        else:
            triangles, weights = (np.asarray(one) for one in embedding)
            on_mean = np.einsum("nkc,nk->nc", template[faces[triangles]], weights)
            numbers = _spread(on_mean, num_points)
            corners, barycentric = faces[triangles[numbers]], weights[numbers]
        fans = _fans(faces, centres)
        used = np.unique(np.concatenate([centres, fans.ravel(), corners.ravel()]))
        at = np.zeros(len(template), np.int64)
        at[used] = np.arange(len(used))
        indices = {"centres": at[centres], "fans": at[fans], "corners": at[corners], "numbers": numbers}
        return cls(
            **resting_arrays(model, used),
            barycentric=jnp.asarray(barycentric, jnp.float32),
            pivot=jnp.asarray(template[centres].mean(axis=0), jnp.float32),
            **{name: jnp.asarray(value, jnp.int32) for name, value in indices.items()},
        )


def _spread(points: Float[np.ndarray, "N 3"], count: int) -> Int[np.ndarray, " count"]:
    """Farthest point sampling from the foremost one on."""
    if len(points) < count:
        raise ValueError(f"{count} places are asked for and there are {len(points)}")
    chosen = [int(points[:, 2].argmax())]
    distance = np.full(len(points), np.inf)
    while len(chosen) < count:
        distance = np.minimum(distance, ((points - points[chosen[-1]]) ** 2).sum(axis=1))
        # Mirror images are equally far up to rounding: the first of them.
        chosen.append(int(np.flatnonzero(distance >= distance.max() * (1.0 - 1e-9))[0]))
    return np.array(chosen)


def _fans(faces: Int[np.ndarray, "F 3"], centres: Int[np.ndarray, " P"]) -> Int[np.ndarray, "P T 2"]:
    rolled = np.concatenate([faces, np.roll(faces, -1, axis=1), np.roll(faces, -2, axis=1)])
    around = [rolled[rolled[:, 0] == centre, 1:] for centre in centres]
    fans = np.repeat(centres[:, None], 2 * max(map(len, around)), axis=1).reshape(len(centres), -1, 2)
    for row, fan in zip(fans, around, strict=True):
        row[: len(fan)] = fan
    return fans


def decode_places(places: SurfacePlaces, unknowns: Float[Array, "B U"]) -> Float[Array, "B W 3"]:
    """The W vertices of heads: ``flame_jax.decode`` with neck and eyes at rest.

    Args:
        places: of the head model.
        unknowns: shape, expression, jaw (axis times angle), eyelids (``models.calibration``).
    """
    count = places.basis.shape[-1]
    coefficients, jaw, eyelids = unknowns[:, :count], unknowns[:, count : count + 3], unknowns[:, count + 3 :]
    vertices, _ = jax.vmap(decode_resting, in_axes=(None, 0, 0, 0))(
        places, coefficients, jax.vmap(axis_angle_to_matrix)(jaw), eyelids
    )
    return vertices


def points_of_places(places: SurfacePlaces, vertices: Float[Array, "B W 3"]) -> Float[Array, "B Q 3"]:
    """The Q points, head frame."""
    return jnp.einsum("bqkc,qk->bqc", vertices[:, places.corners], places.barycentric, precision=_EXACT)


def normals_of_places(places: SurfacePlaces, vertices: Float[Array, "B W 3"]) -> Float[Array, "B P 3"]:
    """Unit normals at the P vertices, head frame: as the renderer interpolates them."""
    spokes = vertices[:, places.fans] - vertices[:, places.centres][:, :, None, None]
    total = jnp.cross(spokes[..., 0, :], spokes[..., 1, :]).sum(axis=2)
    return total * jax.lax.rsqrt(jnp.maximum(jnp.sum(total**2, axis=-1, keepdims=True), 1e-20))


def read_maps(maps: Float[Array, "B S S C"], pixels: Float[Array, "B P 2"]) -> Float[Array, "B P C"]:
    """Bilinear values at (u, v); zeros beyond the border."""
    size = maps.shape[1]
    corner = jnp.nan_to_num(pixels, nan=-9.0, posinf=-9.0, neginf=-9.0) - 0.5
    first = jnp.floor(corner)
    part = corner - first
    first = first.astype(jnp.int32)
    total = jnp.zeros((*pixels.shape[:-1], maps.shape[-1]), maps.dtype)
    flat = maps.reshape(maps.shape[0], size * size, maps.shape[-1])
    for right in (0, 1):
        for down in (0, 1):
            u, v = first[..., 0] + right, first[..., 1] + down
            inside = (u >= 0) & (u < size) & (v >= 0) & (v < size)
            index = jnp.where(inside, v * size + u, 0)
            weight = jnp.abs(1.0 - right - part[..., 0]) * jnp.abs(1.0 - down - part[..., 1])
            weight = jnp.where(inside, weight, 0.0)
            total = total + weight[..., None] * jnp.take_along_axis(flat, index[..., None], axis=1)
    return total


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Residuals:
    """What an image says at the places of a head, less what the head says. In the head frame.

    Attributes:
        normals: ``(B, P, 3)`` observed less predicted, 0 where not seen.
        seen: ``(B, P)`` 0 … 1: on the mask, and facing the camera.
        points: ``(B, Q, 3)`` observed less predicted place, metres at the head's depth, 0 where not known.
        known: ``(B, Q)`` 0 or 1.
    """

    normals: Float[Array, "B P 3"]
    seen: Float[Array, "B P"]
    points: Float[Array, "B Q 3"]
    known: Float[Array, "B Q"]


def observed_points(
    places: SurfacePlaces, points: Float[Array, "B 468 3"]
) -> tuple[Float[Array, "B Q 3"], Float[Array, "B Q"]]:
    """Of the face mesh's points those of the places, 0 where unknown, and which are known."""
    nowhere = jnp.full((points.shape[0], 1, 3), jnp.nan, points.dtype)
    chosen = jnp.concatenate([points, nowhere], axis=1)[:, places.numbers]
    known = jnp.isfinite(chosen).all(axis=-1)
    return jnp.where(known[..., None], chosen, 0.0), known.astype(jnp.float32)


def residuals_at_places(
    places: SurfacePlaces,
    vertices: Float[Array, "B W 3"],
    camera: Camera,
    maps: Float[Array, "B S S 3"],
    mask: Float[Array, "B S S"],
    given: Float[Array, "B Q 3"],
    known: Float[Array, "B Q"],
) -> Residuals:
    """Compares heads with what their images show.

    Args:
        places: of the head model.
        vertices: ``decode_places``.
        camera: of the crops.
        maps: normals in the head frame.
        mask: 1 where they count.
        given, known: ``observed_points``: crop pixels and depth in the same scale, growing away from the camera.
    """
    centres, normals = vertices[:, places.centres], normals_of_places(places, vertices)
    in_camera = to_camera(centres, camera)
    read = read_maps(
        jnp.concatenate([maps * mask[..., None], mask[..., None]], axis=-1),
        project_camera_points(in_camera, camera),
    )
    observed, cover = read[..., :3], read[..., 3]
    length = jnp.sqrt(jnp.sum(observed**2, axis=-1))
    towards = -jnp.einsum("bji,bpj->bpi", camera.rotation, in_camera, precision=_EXACT)
    towards = towards / jnp.maximum(jnp.linalg.norm(towards, axis=-1, keepdims=True), 1e-9)
    facing = jnp.sum(towards * normals, axis=-1)
    there = (cover > 0.5) & (length > 0.3) & (in_camera[..., 2] > 0.01)
    seen = jnp.where(there, jnp.clip(facing / _GRAZING - 1.0, 0.0, 1.0), 0.0)
    difference = observed / jnp.maximum(length, 0.3)[..., None] - normals

    ours = to_camera(points_of_places(places, vertices), camera)
    count = jnp.maximum(known.sum(axis=-1), 1.0)[:, None]
    ours_depth = jnp.sum(ours[..., 2] * known, axis=-1, keepdims=True) / count
    given_depth = jnp.sum(given[..., 2] * known, axis=-1, keepdims=True) / count
    metres = jnp.maximum(ours_depth, 0.01) / camera.focal[:, None]
    pixels = project_camera_points(ours, camera)
    apart = jnp.concatenate(
        [
            (given[..., :2] - pixels) * metres[..., None],
            ((given[..., 2] - given_depth) * metres - (ours[..., 2] - ours_depth))[..., None],
        ],
        axis=-1,
    )
    apart = jnp.einsum("bji,bqj->bqi", camera.rotation, apart, precision=_EXACT)
    apart = jnp.where((known > 0)[..., None] & jnp.isfinite(apart), apart, 0.0)
    return Residuals(jnp.where((seen > 0)[..., None], seen[..., None] * difference, 0.0), seen, apart, known)
