"""The hybrid baseline: a single photograph's head by Adam through the renderer, as Pixel3DMM's tracker does it.

Giebenhain et al., "Pixel3DMM" (2025), and its tracker (commit 98b5d79): two phases of Adam, the camera on landmarks and
then on UV correspondences, then everything on normals, UV, silhouette, landmarks and regularisers. Terms, weights,
rates and iteration counts are the tracker's, written here anew. What differs, because of what is known here:

- focal length and principal point are given (the tracker also finds those);
- neck and eyes are at rest: there are no iris points, and ``N2FNet`` has neither;
- the shape's regulariser towards MICA's shape pulls to where the fit starts: the mean head, or a network's prediction;
- the foreground is the face mask, and background what lies outside it;
- UV terms are left out where there is no UV map;
- maps keep their size (the tracker works at 256²); pixel distances are scaled.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int
from scipy.spatial import cKDTree

import flame_jax
from flame_jax import FlameParams, HeadModel
from flame_jax.rotations import IDENTITY_6D, matrix_to_rotation_6d, rotation_6d_to_matrix
from n2f_jax.fitting.observations import Observation, usable
from n2f_jax.geometry.camera import Camera, frontal_rotation, project, to_camera
from n2f_jax.render import HeadTopology, render_head

_UPPER_LIDS, _LOWER_LIDS = (37, 38, 43, 44), (41, 40, 47, 46)
_EYES = slice(36, 48)
_TRACKER_SIZE = 256


@dataclasses.dataclass(frozen=True)
class AdamConfig:
    """The tracker's numbers for one image.

    Attributes:
        camera_steps: of the first phase: landmarks for its first half, UV correspondences for the second; the rates
            fall to a tenth at three quarters. Without UV the landmarks serve throughout.
        steps: of the second phase; the tracker's authors advise 500 to 800 for one image.
        rate_shape, rate_expression, rate_jaw, rate_eyelids, rate_rotation, rate_translation: Adam's, by unknown.
        camera_landmarks, camera_uv: weights of the first phase.
        normals: L1, mean over pixels and channels; pixels off by more than ``normal_outlier`` (mean over channels)
            do not count, nor do eyeballs and their surroundings of ``eye_margin`` 256ths of the side.
        silhouette: L1 of the drawn mask outside the observed one; of the first frame a tenth of the tracker's 500.
        uv: of both UV terms, squared and times 100; correspondences of vertices must be as near as ``uv_nearest``
            in UV (squared) and lie within ``uv_distance`` 256ths of the side.
        eye_landmarks, lids: of the landmarks' mean squares, in units of the side.
        mirror: of the mean squared distance from the mirrored head, metres.
        keep_shape: towards the start's shape; shape, expression, jaw: towards zero.
    """

    camera_steps: int = 500
    steps: int = 800
    rate_shape: float = 0.002
    rate_expression: float = 0.005
    rate_jaw: float = 0.005
    rate_eyelids: float = 0.002
    rate_rotation: float = 0.005
    rate_translation: float = 0.001
    camera_landmarks: float = 3000.0
    camera_uv: float = 1000.0
    normals: float = 1000.0
    normal_outlier: float = 0.33
    eye_margin: float = 6.0
    silhouette: float = 50.0
    uv: float = 2000.0
    uv_nearest: float = 5e-5
    uv_distance: float = 20.0
    eye_landmarks: float = 5000.0
    lids: float = 5e5
    mirror: float = 5000.0
    keep_shape: float = 0.2
    shape: float = 0.05
    expression: float = 0.05
    jaw: float = 0.01


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class AdamTables:
    """What the baseline needs beside the head model. A pytree.

    Attributes:
        topology: of the head; its region is the face, its corners carry UV.
        mirrored: ``(V,)`` the vertex on the other side.
        eyes: ``(F,)`` the triangles of the eyeballs; all False where the model has none.
        uv_vertices: ``(n,)`` vertices of the face region that have a texture coordinate.
        uv: ``(n, 2)`` theirs.
    """

    topology: HeadTopology
    mirrored: Int[Array, " V"]
    eyes: Bool[Array, " F"]
    uv_vertices: Int[Array, " n"]
    uv: Float[Array, "n 2"]

    @classmethod
    def from_model(cls, model: HeadModel) -> AdamTables:
        """Mirrored vertices are the nearest ones of the mirrored mean head."""
        topology = HeadTopology.from_model(model)
        template, faces = np.asarray(model.v_template), np.asarray(model.faces)
        mirrored = cKDTree(template).query(template * [-1.0, 1.0, 1.0])[1]
        inside = np.zeros(model.num_vertices, bool)
        for name in ("eyeballs", "left_eyeball", "right_eyeball"):
            if name in model.masks:
                inside[np.asarray(model.masks[name])] = True
        corners = faces[np.asarray(topology.region)].reshape(-1)
        corner_uv = np.asarray(topology.corner_uv)[np.asarray(topology.region)].reshape(-1, 2)
        vertices, first = np.unique(corners, return_index=True)
        has_uv = np.asarray(model.uv).shape[0] > 0
        return cls(
            topology=topology,
            mirrored=jnp.asarray(mirrored.astype(np.int32)),
            eyes=jnp.asarray(inside[faces].all(axis=1)),
            uv_vertices=jnp.asarray(vertices[: None if has_uv else 0].astype(np.int32)),
            uv=jnp.asarray(corner_uv[first][: None if has_uv else 0]),
        )


Unknowns = dict[str, Float[Array, "..."]]


def fit_adam(
    model: HeadModel,
    tables: AdamTables,
    observations: Observation,
    start: FlameParams,
    camera: Camera,
    config: AdamConfig,
    uv: Float[Array, "B S S 2"] | None = None,
) -> tuple[FlameParams, Camera, Float[Array, "steps B"]]:
    """Fits B images of different people.

    Args:
        model, tables: of the head.
        observations: (B, …); ``points`` are the 68 landmarks (the contour fixed on the mesh), NaN where unknown.
        start: (B, …).
        camera: (B, …) of the crops; its intrinsics stay.
        config: static.
        uv: texture coordinates at the mask's pixels, where a front end gives them.

    Returns:
        Parameters, cameras, and the loss of every image before each step of the second phase.
    """
    observations = usable(observations)
    size = observations.mask.shape[-1]
    if uv is not None:
        uv = jnp.where(observations.mask[..., None] > 0, uv, 0.0)
    known = jnp.isfinite(observations.points).all(axis=-1)
    landmarks = jnp.where(known[..., None], observations.points, 0.0) / size
    known = known.astype(jnp.float32)
    targets, trusted = _correspondences(tables, observations.mask, uv, config)

    def camera_of(x: Unknowns) -> Camera:
        rotation = frontal_rotation(rotation_6d_to_matrix(x["rotation"]))
        return dataclasses.replace(camera, rotation=rotation, translation=x["translation"])

    def decoded(x: Unknowns):
        params = dataclasses.replace(
            start, shape=x["shape"], expression=x["expression"], jaw=x["jaw"], eyelids=x["eyelids"]
        )
        return flame_jax.decode(model, params)[0]

    def drawn_landmarks(vertices, view):
        return project(flame_jax.landmarks68(model, vertices), view) / size

    def mean_square(off, weight):
        """Over points and both coordinates, absent points counting as zero, as the tracker does; by image."""
        return jnp.mean(off**2 * weight[..., None], axis=(-2, -1))

    def uv_points(vertices, view, weight):
        off = targets - project(vertices[:, tables.uv_vertices], view)
        near = jnp.sum(jnp.abs(off), axis=-1) < config.uv_distance * size / _TRACKER_SIZE
        return 100.0 * mean_square(off / size, jax.lax.stop_gradient(jnp.where(near, weight, 0.0)))

    x = {
        "rotation": matrix_to_rotation_6d(frontal_rotation(camera.rotation)),
        "translation": camera.translation,
        "shape": start.shape,
        "expression": start.expression,
        "jaw": start.jaw,
        "eyelids": start.eyelids,
    }
    still = decoded(x)
    pose_rates = {"rotation": config.rate_rotation, "translation": config.rate_translation}

    def camera_loss(pose, share):
        view = camera_of(pose)
        by_landmarks = config.camera_landmarks * mean_square(drawn_landmarks(still, view) - landmarks, known)
        if uv is None:
            return by_landmarks
        by_uv = config.camera_uv * uv_points(still, view, trusted)
        return jnp.where(share <= 0.5, by_landmarks, by_uv)

    pose = {name: x[name] for name in pose_rates}
    pose, _ = _descend(camera_loss, pose, pose_rates, config.camera_steps, drop=0.75)
    x = x | pose

    # Where there is no UV map to compare with, the texture coordinates carry the eyeballs to the pixels.
    flag = jnp.broadcast_to(tables.eyes[:, None, None].astype(jnp.float32), tables.topology.corner_uv.shape)
    with_eyes = dataclasses.replace(tables.topology, corner_uv=flag)
    topology = with_eyes if uv is None else tables.topology
    identity = jnp.asarray(IDENTITY_6D)
    background = 1.0 - observations.mask
    margin = max(1, round(config.eye_margin * size / _TRACKER_SIZE))

    def loss(x, _):
        vertices, view = decoded(x), camera_of(x)
        maps = render_head(topology, vertices, view, size, antialias=True)
        terms = config.silhouette * jnp.mean(background * maps.mask, axis=(-2, -1))

        # The tracker masks dilated eyeballs by drawing them.
        eyes = maps.uv
        if uv is not None:
            eyes = render_head(with_eyes, *jax.lax.stop_gradient((vertices, view)), size).uv
        eyes = (jax.lax.stop_gradient(eyes[..., 0]) > 0.5).astype(jnp.float32)
        eyes = jax.lax.reduce_window(
            eyes, 0.0, jax.lax.max, (1, 2 * margin + 1, 2 * margin + 1), (1, 1, 1), "SAME"
        )
        off = observations.normals - maps.normals
        valid = jnp.mean(jnp.abs(off), axis=-1) < config.normal_outlier
        weight = jax.lax.stop_gradient(jnp.where(valid, observations.mask * (1.0 - eyes), 0.0))
        terms += config.normals * jnp.mean(jnp.abs(off) * weight[..., None], axis=(-3, -2, -1))

        found = drawn_landmarks(vertices, view)
        terms += config.eye_landmarks * mean_square((found - landmarks)[:, _EYES], known[:, _EYES])
        upper, lower = jnp.asarray(_UPPER_LIDS), jnp.asarray(_LOWER_LIDS)
        opening = (found[:, upper] - found[:, lower]) - (landmarks[:, upper] - landmarks[:, lower])
        terms += config.lids * mean_square(opening, known[:, upper] * known[:, lower])

        if uv is not None:
            painted = observations.mask[..., None] * (uv - maps.uv)
            terms += 100.0 * config.uv * jnp.mean(painted**2, axis=(-3, -2, -1))
            visible = _visible(vertices[:, tables.uv_vertices], view, maps.depth)
            terms += config.uv * uv_points(vertices, view, trusted * visible)

        reflected = vertices[:, tables.mirrored] * jnp.asarray([-1.0, 1.0, 1.0])[None, None]
        terms += config.mirror * jnp.mean(jnp.sum((reflected - vertices) ** 2, axis=-1), axis=-1)
        terms += config.keep_shape * jnp.sum((x["shape"] - start.shape) ** 2, axis=-1)
        terms += config.shape * jnp.sum(x["shape"] ** 2, axis=-1)
        terms += config.expression * jnp.sum(x["expression"] ** 2, axis=-1)
        return terms + config.jaw * jnp.sum((x["jaw"] - identity[None]) ** 2, axis=-1)

    rates = pose_rates | {
        "shape": config.rate_shape,
        "expression": config.rate_expression,
        "jaw": config.rate_jaw,
        "eyelids": config.rate_eyelids,
    }
    x, losses = _descend(loss, x, rates, config.steps)
    params = dataclasses.replace(
        start,
        shape=x["shape"],
        expression=x["expression"],
        jaw=matrix_to_rotation_6d(rotation_6d_to_matrix(x["jaw"])),
        eyelids=x["eyelids"],
    )
    return params, camera_of(x), losses


def _descend(loss_of, x: Unknowns, rates: dict[str, float], steps: int, drop: float | None = None):
    """Adam with a rate by unknown, divided by ten after the share ``drop`` of the steps. Images do not mix: the sum of
    their losses has each one's own gradient, and Adam works number by number."""

    def schedule(rate):
        if drop is None:
            return rate
        return optax.piecewise_constant_schedule(rate, {int(steps * drop): 0.1})

    optimizer = optax.partition(
        {name: optax.adam(schedule(rate)) for name, rate in rates.items()}, {name: name for name in rates}
    )

    def step(state, number):
        x, moments = state

        def total(x):
            losses = loss_of(x, number.astype(jnp.float32) / steps)
            return losses.sum(), losses

        gradient, losses = jax.grad(total, has_aux=True)(x)
        # optax raises a Python float to the power of an integer counter, which strict promotion forbids.
        with jax.numpy_dtype_promotion("standard"):
            updates, moments = optimizer.update(gradient, moments)
        return (optax.apply_updates(x, updates), moments), losses

    (x, _), losses = jax.lax.scan(step, (x, optimizer.init(x)), jnp.arange(steps))
    return x, losses


def _correspondences(tables: AdamTables, mask, uv, config):
    """For each vertex with a UV the pixel whose UV is nearest, and whether it is near enough."""
    count = tables.uv_vertices.shape[0]
    batch, size = mask.shape[0], mask.shape[-1]
    if uv is None:
        return jnp.zeros((batch, count, 2)), jnp.zeros((batch, count))

    def one(args):
        image, inside = args
        flat = jnp.where(inside.reshape(-1, 1) > 0, image.reshape(-1, 2), 1e3)

        def nearest(point):
            square = jnp.sum((flat - point[None]) ** 2, axis=-1)
            best = jnp.argmin(square)
            return best, square[best]

        best, square = jax.lax.map(nearest, tables.uv, batch_size=64)
        row = best // size
        pixels = jnp.stack([best - row * size, row], axis=-1).astype(jnp.float32) + 0.5
        return pixels, (square < config.uv_nearest).astype(jnp.float32)

    return jax.lax.map(one, (uv, mask))


def _visible(points, view, depth):
    """Whether points lie no deeper than 1 cm behind what is drawn at their pixel; where nothing is, they do not."""
    size = depth.shape[-1]
    pixels = jnp.clip(jnp.nan_to_num(project(points, view)), 0, size - 1).astype(jnp.int32)
    there = jax.vmap(lambda image, place: image[place[:, 1], place[:, 0]])(depth, pixels)
    return jax.lax.stop_gradient((to_camera(points, view)[..., 2] < there + 0.01).astype(jnp.float32))
