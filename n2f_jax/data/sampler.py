"""Synthetic training data: sample a head and a camera, crop on its landmarks, draw its normal map.

N2FNet, section III.4 (sampling, landmark box, crop) and IV.1 (the distributions). Everything here is pure JAX
and meant to run inside the jitted training step, from a key derived by ``jax.random.fold_in(key, step)``:
a fresh batch each step, nothing stored, and the same numbers again after a restart.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, PRNGKeyArray

import flame_jax
from flame_jax import FlameParams, HeadModel
from flame_jax.rotations import euler_to_matrix, matrix_to_rotation_6d
from n2f_jax.data import degrade
from n2f_jax.face_mesh.coarse_mesh import CoarseMesh, coarse_maps, head_rotation, load_coarse_mesh
from n2f_jax.face_mesh.error_model import CROP_SCALE, VERSIONS, load_point_errors
from n2f_jax.geometry.camera import Camera, frontal_rotation, project, to_camera
from n2f_jax.geometry.crop import Crop, crop_camera, landmark_crop, to_crop
from n2f_jax.models.input_channels import CHANNELS, join_maps, maps_of
from n2f_jax.render import HeadTopology, render_head

Batch = dict[str, Any]


# Evaluations draw from a stream of their own, so a training run never sees a held-out head, whatever its seed.
_HELD_OUT_STREAM = 0x4E32464E
# What a sample loses is drawn from a stream of its own: the rest of the sample is the same with it and without.
_DROP_STREAM = 0x44524F50

# ``point_errors`` of one face mesh or the other.
EITHER = "+".join(VERSIONS)

_ON_THE_MASK = ("mask_erosion", "occluder_share", "bar_share", "hair_share", "lower_face_share")


@dataclasses.dataclass(frozen=True)
class SyntheticConfig:
    """The sampler's numbers. The defaults are the paper's; what the paper leaves open says why it is so.

    Angles are degrees here (as the paper's table has them) and radians everywhere else; lengths are metres.

    Attributes:
        image_size: ``S_out``, side of the crop in pixels.
        beta_std: shape coefficients, N(0, ·²). None: what the head model says of people (``HeadModel.shape_std``): the
            paper's 0.8 for FLAME's files, 1 for the open head.
        jaw_std_deg: jaw Euler angles x, y, z, N(0, ·²), composed ``R_x·R_y·R_z``.
        psi_std: expression coefficients. None: ``HeadModel.expression_std``, the paper's 0.5 for FLAME's files, 1 for
            the open head.
        gamma_std: eyelid closures.
        phi_std_deg: camera Euler angles x, y, z, composed ``R_x·R_y·R_z``.
        t_xy_std: translation across the view.
        t_z_mean, t_z_std: distance.
        t_z_range: the distance is truncated to this. At the paper's spread 3 σ to either side; without it one
            head in 3 million would stand behind the camera.
        s_orig: ``S_orig``, side of the uncropped image in pixels (open). Only ratios to it matter: the crop is
            drawn straight from the moved camera, never resampled.
        focal_mean, focal_std: ``f_orig`` in units of ``s_orig`` (open). 1.2 is what this project assumes for a
            photograph of unknown focal length (45° across); the spread covers phone front cameras
            (0.8) to portrait lenses (1.6 and more).
        focal_min: the focal length is truncated from below here, 80° across.
        principal_std: spread of ``c_orig`` about the image centre in units of ``s_orig`` (open). Photographs
            are mostly uncropped, so a few per cent.
        crop_scale: ``α`` (open): the crop's side over the longer side of the landmark box. 1.4 is what SMIRK
            takes, and next to DECA's 1.1·1.25.
        normal_frame: ``'head'`` as Pixel3DMM's maps, or ``'camera'``.
        channels: what the network is shown: ``'normals'``, ``'uv'`` or ``'uv+normals'`` (the paper's input
            ablation; both in [−1, 1], channels concatenated in this order).
        masked: the network is shown the face region alone, as the paper has it. If not ("without segmentation"),
            the normals of all that is seen of the head, and no mask.
        front_end_share: share of samples (rounded to whole samples, the first of the batch) whose *input* is
            what the free front end would have seen. 0 in the paper, which has no such front end.
        crop_centre_jitter: σ of the crop's centre in units of its side. 0 in the paper.
        crop_scale_jitter: σ of the log of the crop's side. 0 in the paper.
        closed_eyes_share: share of samples whose eyelids are drawn uniformly from 0 … 1.1 instead, both by the
            same number; N(0, 0.3²) hardly ever closes an eye. 0 in the paper.
        point_noise: σ of the smooth error of the front end's 468 points in units of the crop's side.
        point_z_scale: σ of the log of the scale error of their depth.
        point_errors: ``'v1'`` or ``'v2'``: the points have the errors that were measured of that face mesh, as on
            photographs (``face_mesh.error_model``), and in ``make_batch`` the crop is cut on their landmarks as it will
            be; instead of ``point_noise`` and ``point_z_scale``. ``'v1+v2'``: one or the other, half of the samples
            each. ``''``: they have not.
        point_share: share of the samples with a full render that come with the front end's points too. Above 0, batches
            hold ``points``: of these, and of all samples of the front end.
        drop_maps: share of the samples with ``points`` whose normals and mask are blank: points alone are then seen.
        drop_points: share of the front end's samples that come without ``points``: their maps alone are then seen.
        mask_erosion: largest erosion of the mask, in units of the crop's side; drawn uniformly from 0.
        occluder_share: share of samples with one elliptical hole cut from normals and mask.
        mask_dilation: largest dilation of the mask over the rest of the head, in units of the crop's side;
            drawn uniformly from 0. A face parser errs to either side: with ``mask_erosion`` given too, half of
            the samples are eroded and the others dilated.
        bar_share: share of samples with one straight bar cut from the mask, from outside to a point on the face.
        hair_share: share of samples with locks of hair cut from the mask, from its upper border.
        lower_face_share: share of samples whose face is missing below a line between the nose's bridge and the
            chin (a medical mask, a scarf, a hand).
        unmasked_share: share of samples that nobody segmented: their mask is one everywhere, and what hides the face,
            the rest of the head and the background have normals too.
        normal_blur: largest σ of a Gaussian blur of the normals, in units of the crop's side; drawn uniformly
            from 0. A network's normals are smoother than a mesh's, and are resized on the way.
        normal_noise_deg: σ of a smooth random rotation of the normals about each axis, wavelengths from a third
            of the crop to twice its side: a network errs by regions, and in the head's rotation.
        mirror_shift: above 0, the normals are the mean of two estimates with errors of their own, as where a
            network sees the photograph and its mirror image; σ of the displacement between the two in units of
            the crop's side.
        eight_bit: round the normals as an 8-bit file of ``(n + 1)/2`` does.
        errors_vary: normals' noise and displacement are from none to what is said above, uniformly over samples.

    What starts at ``mask_dilation`` imitates a network's normal map and a face parser's mask, so it is done to
    samples that show the full render; the front end's have errors of their own (``point_noise``). The paper
    has none of it. ``docs/training_data.md`` shows each and says why it has its form.
    """

    image_size: int = 256
    beta_std: float | None = None
    jaw_std_deg: tuple[float, float, float] = (15.0, 5.0, 5.0)
    psi_std: float | None = None
    gamma_std: float = 0.3
    phi_std_deg: tuple[float, float, float] = (15.0, 20.0, 10.0)
    t_xy_std: float = 0.02
    t_z_mean: float = 1.0
    t_z_std: float = 0.2
    t_z_range: tuple[float, float] = (0.4, 1.6)
    s_orig: int = 1024
    focal_mean: float = 1.2
    focal_std: float = 0.2
    focal_min: float = 0.6
    principal_std: float = 0.02
    crop_scale: float = 1.4
    normal_frame: Literal["head", "camera"] = "head"
    channels: Literal["normals", "uv", "uv+normals"] = "normals"
    masked: bool = True
    front_end_share: float = 0.0
    crop_centre_jitter: float = 0.0
    crop_scale_jitter: float = 0.0
    closed_eyes_share: float = 0.0
    point_noise: float = 0.0
    point_z_scale: float = 0.0
    point_errors: str = ""
    point_share: float = 0.0
    drop_maps: float = 0.0
    drop_points: float = 0.0
    mask_erosion: float = 0.0
    occluder_share: float = 0.0
    mask_dilation: float = 0.0
    bar_share: float = 0.0
    hair_share: float = 0.0
    lower_face_share: float = 0.0
    unmasked_share: float = 0.0
    normal_blur: float = 0.0
    normal_noise_deg: float = 0.0
    mirror_shift: float = 0.0
    eight_bit: bool = False
    errors_vary: bool = False

    def __post_init__(self) -> None:
        if self.channels not in CHANNELS:
            raise ValueError(f"channels is {self.channels!r}; there are {', '.join(CHANNELS)}")
        if not self.masked and self.channels != "normals":
            raise ValueError(f"masked = False does not go with channels = {self.channels!r}")
        if self.point_errors not in ("", *VERSIONS, EITHER):
            known = ", ".join((*VERSIONS, EITHER))
            raise ValueError(f"point_errors is {self.point_errors!r}; there are '', {known}")
        if self.point_errors and (self.point_noise > 0.0 or self.point_z_scale > 0.0):
            raise ValueError(
                f"point_errors = {self.point_errors!r} takes the place of point_noise and point_z_scale: set them to 0"
            )
        if self.point_share == 0.0 and (self.drop_maps > 0.0 or self.drop_points > 0.0):
            raise ValueError(
                "drop_maps and drop_points are shares of what has points: set point_share above 0"
            )
        # The front end has no UV and sees nothing but the face; what degrades a mask needs one.
        what = f"channels = {self.channels!r}" if self.masked else "masked = False"
        excluded = (
            "front_end_share",
            "mask_dilation",
            "unmasked_share",
            *(() if self.masked else _ON_THE_MASK),
        )
        if self.channels != "normals" or not self.masked:
            for name in excluded:
                if getattr(self, name) > 0.0:
                    raise ValueError(f"{what} does not go with {name} = {getattr(self, name)}")

    def shape_std(self, model: HeadModel) -> float:
        """Of the shape coefficients of a head model."""
        return model.shape_std if self.beta_std is None else self.beta_std

    def expression_std(self, model: HeadModel) -> float:
        """Of the expression coefficients of a head model."""
        return model.expression_std if self.psi_std is None else self.psi_std

    def num_front_end(self, batch_size: int) -> int:
        """How many samples of a batch show the front end's map (they come first)."""
        return round(self.front_end_share * batch_size)


def held_out_key(seed: int, index: int | Array) -> PRNGKeyArray:
    """Key of one batch of the held-out set."""
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), _HELD_OUT_STREAM), index)


def sample_keys(key: PRNGKeyArray, samples: int | Int[Array, " B"]) -> Key[Array, " B"]:
    """One key a sample, by its index: sample i is the same whatever the batch size or its sharding.

    Args:
        key: of the batch.
        samples: how many, or their indices.
    """
    indices = jnp.arange(samples) if isinstance(samples, int) else samples
    return jax.vmap(lambda index: jax.random.fold_in(key, index))(indices)


def _truncated_normal(
    key: PRNGKeyArray, mean: float, std: float, low: float, high: float
) -> Float[Array, ""]:
    if std == 0.0:
        return jnp.asarray(min(max(mean, low), high), jnp.float32)
    return mean + std * jax.random.truncated_normal(key, (low - mean) / std, (high - mean) / std)


def sample_params(key: PRNGKeyArray, model: HeadModel, config: SyntheticConfig) -> FlameParams:
    """FLAME parameters of one head (no batch axis). Neck and eyes stay at rest: the network has none."""
    shape_key, jaw_key, expression_key, lid_key, closed_key, closure_key = jax.random.split(key, 6)
    jaw_std = jnp.asarray(config.jaw_std_deg, jnp.float32) * (math.pi / 180.0)
    jaw = euler_to_matrix(jaw_std * jax.random.normal(jaw_key, (3,)))
    eyelids = config.gamma_std * jax.random.normal(lid_key, (2,))
    if config.closed_eyes_share > 0.0:
        closure = jnp.broadcast_to(1.1 * jax.random.uniform(closure_key), (2,))
        eyelids = jnp.where(jax.random.bernoulli(closed_key, config.closed_eyes_share), closure, eyelids)
    return FlameParams.resting(
        shape=config.shape_std(model) * jax.random.normal(shape_key, (model.num_shape,)),
        expression=config.expression_std(model) * jax.random.normal(expression_key, (model.num_expression,)),
        jaw=matrix_to_rotation_6d(jaw),
        eyelids=eyelids,
    )


def sample_camera(key: PRNGKeyArray, config: SyntheticConfig) -> Camera:
    """The camera of one uncropped ``S_orig²`` image (no batch axis)."""
    angle_key, xy_key, z_key, focal_key, principal_key = jax.random.split(key, 5)
    phi_std = jnp.asarray(config.phi_std_deg, jnp.float32) * (math.pi / 180.0)
    phi = phi_std * jax.random.normal(angle_key, (3,))
    xy = config.t_xy_std * jax.random.normal(xy_key, (2,))
    z = _truncated_normal(z_key, config.t_z_mean, config.t_z_std, *config.t_z_range)
    focal = _truncated_normal(focal_key, config.focal_mean, config.focal_std, config.focal_min, math.inf)
    centre = 0.5 + config.principal_std * jax.random.normal(principal_key, (2,))
    return Camera(
        rotation=frontal_rotation(euler_to_matrix(phi)),
        translation=jnp.concatenate([xy, z[None]]),
        focal=config.s_orig * focal,
        principal_point=config.s_orig * centre,
    )


def jitter_crop(key: PRNGKeyArray, crop: Crop, config: SyntheticConfig) -> Crop:
    """Moves and scales one crop about its centre. The camera is moved with it, so nothing gets inconsistent."""
    if config.crop_centre_jitter == 0.0 and config.crop_scale_jitter == 0.0:
        return crop
    centre_key, scale_key = jax.random.split(key)
    side = crop.side * jnp.exp(config.crop_scale_jitter * jax.random.normal(scale_key))
    shift = config.crop_centre_jitter * crop.side * jax.random.normal(centre_key, (2,))
    return Crop(x0y0=crop.x0y0 + 0.5 * (crop.side - side) + shift, side=side)


def coarse_points(
    coarse_mesh: CoarseMesh,
    model: HeadModel,
    vertices: Float[Array, "V 3"],
    camera: Camera,
) -> Float[Array, "468 3"]:
    """The front end's 468 points of one head: pixels, and weak-perspective depth in the same scale.

    ``z = (z_cam − mean z_cam)·f/mean z_cam``, growing away from the camera, as the face mesh gives it.
    """
    on_head = flame_jax.points_on_mesh(
        vertices, model.faces, coarse_mesh.embedding_faces, coarse_mesh.embedding_barycentric
    )
    depth = to_camera(on_head, camera)[:, 2]
    mean = jnp.mean(depth)
    pixels = project(on_head, camera)
    return jnp.concatenate([pixels, ((depth - mean) * camera.focal / mean)[:, None]], axis=-1)


def seen_points(
    key: PRNGKeyArray, points: Float[Array, "468 3"], config: SyntheticConfig, size: int
) -> Float[Array, "468 3"]:
    """``coarse_points`` of a crop with the errors that ``config`` gives the front end; ``size`` is the crop's side."""
    if config.point_errors:
        rotation = head_rotation(points, load_coarse_mesh())
        unit = size * CROP_SCALE / config.crop_scale
        if config.point_errors != EITHER:
            return load_point_errors(config.point_errors).draw(key, points, rotation, unit)
        which_key, key = jax.random.split(key)
        drawn = jnp.stack([load_point_errors(v).draw(key, points, rotation, unit) for v in VERSIONS])
        return drawn[jax.random.randint(which_key, (), 0, len(VERSIONS))]
    return degrade.perturb_points(
        key, points, noise=config.point_noise, z_scale=config.point_z_scale, size=size
    )


def render_beyond_the_face(
    topology: HeadTopology, vertices: Float[Array, "B V 3"], camera: Camera, size: int, normal_frame: str
) -> tuple[Float[Array, "B S S 3"], Float[Array, "B S S"]]:
    """Normals of the whole head, and the mask of its face region alone, in one pass of the rasteriser.

    The texture coordinates are what carries the region to the pixels: one where all corners of a triangle are.
    """
    flag = jnp.broadcast_to(topology.region[:, None, None].astype(jnp.float32), topology.corner_uv.shape)
    whole = dataclasses.replace(topology, region=jnp.ones_like(topology.region), corner_uv=flag)
    maps = render_head(whole, vertices, camera, size, normal_frame)
    return maps.normals, (maps.uv[..., 0] > 0.5).astype(jnp.float32)


def make_batch(
    key: PRNGKeyArray,
    model: HeadModel,
    topology: HeadTopology,
    config: SyntheticConfig,
    batch_size: int,
    *,
    coarse_mesh: CoarseMesh | None = None,
    targets: bool = False,
    indices: Int[Array, " B"] | None = None,
) -> Batch:
    """A fresh batch of heads.

    The landmark box, and so the crop, is that of the *static* 68 landmarks in the uncropped image.

    Args:
        key: of this batch.
        model, topology: the head model and what the renderer precomputes of it.
        config: the sampler's numbers (static).
        batch_size: B (static).
        coarse_mesh: the front end's mesh; needed where ``config.front_end_share`` gives it a sample.
        targets: also draw the full render of every sample, which is what ``L_render`` compares with. Where a
            sample's input is the full render and no map is degraded, it is drawn once.
        indices: numbers of the samples within a larger batch, of which this is a part; 0 … B − 1 if None.

    Returns:
        A dict: ``normals`` (B, S, S, 3) and ``mask`` (B, S, S) in the crop, of which (and of ``uv`` (B, S, S, 2) in
        [−1, 1], where ``config.channels`` has it) ``network_inputs`` makes the network's input; ``params``,
        a ``FlameParams`` with B in front; ``camera``, the ``Camera`` of the crop (``R*, t*, f*, c*``);
        ``landmarks_2d`` (B, 68, 2), pixels of the crop; with ``targets`` also ``target_normals`` and
        ``target_mask``; where ``config.point_share`` is above 0, ``points`` (B, 468, 3) as the front end gives them,
        pixels of the crop, NaN where there are none.

    Raises:
        ValueError: front-end samples are asked for without a ``coarse_mesh``, or ``point_errors`` for a head model in
            which the front end's points are not embedded.
    """
    _check_mesh(config, batch_size, coarse_mesh, model)

    def scene(sample_key: PRNGKeyArray) -> tuple[FlameParams, Camera, PRNGKeyArray, PRNGKeyArray]:
        params_key, camera_key, crop_key, degrade_key = jax.random.split(sample_key, 4)
        return (
            sample_params(params_key, model, config),
            sample_camera(camera_key, config),
            crop_key,
            degrade_key,
        )

    keys = sample_keys(key, batch_size if indices is None else indices)
    params, camera_orig, crop_keys, degrade_keys = jax.vmap(scene)(keys)
    vertices, _ = flame_jax.decode(model, params)
    landmarks_orig = project(flame_jax.landmarks68(model, vertices), camera_orig)
    crop = landmark_crop(landmarks_orig, config.crop_scale)
    num_seen = config.num_front_end(batch_size) if config.point_errors else 0
    seen = None
    if num_seen:
        see = functools.partial(_seen_in_image, coarse_mesh=coarse_mesh, model=model, config=config)
        own_keys = jax.vmap(jax.random.split)(crop_keys[:num_seen])
        crop_keys = jnp.concatenate([own_keys[:, 0], crop_keys[num_seen:]])
        first = jax.tree.map(lambda x: x[:num_seen], (vertices, camera_orig, crop))
        seen_crop, seen = jax.vmap(see)(own_keys[:, 1], *first)
        crop = jax.tree.map(lambda a, b: jnp.concatenate([a, b[num_seen:]]), seen_crop, crop)
    crop = jax.vmap(lambda k, c: jitter_crop(k, c, config))(crop_keys, crop)
    camera = crop_camera(camera_orig, crop, config.image_size)
    if seen is not None:
        scale = (config.image_size / crop.side[:num_seen])[:, None, None]
        plane = to_crop(seen[..., :2], jax.tree.map(lambda x: x[:num_seen], crop), config.image_size)
        seen = jnp.concatenate([plane, seen[..., 2:] * scale], axis=-1)
    batch = draw_batch(
        degrade_keys,
        vertices,
        camera,
        model,
        topology,
        config,
        coarse_mesh=coarse_mesh,
        targets=targets,
        front_end_points=seen,
    )
    landmarks_2d = to_crop(landmarks_orig, crop, config.image_size)
    return batch | {"params": params, "camera": camera, "landmarks_2d": landmarks_2d}


def _check_mesh(
    config: SyntheticConfig, batch_size: int, coarse_mesh: CoarseMesh | None, model: HeadModel | None
) -> None:
    if not config.num_front_end(batch_size) and config.point_share == 0.0:
        return
    if coarse_mesh is None:
        named = "front_end_share" if config.front_end_share else "point_share"
        raise ValueError(f"{named} = {getattr(config, named)} needs the front end's coarse mesh")
    if config.point_errors and model is not None and model.num_faces < coarse_mesh.head_triangles:
        raise ValueError(
            f"point_errors = {config.point_errors!r} needs the front end's 468 points on the head model, and those "
            f"given are another's; {model.name!r} has {model.num_faces} triangles"
        )


def _seen_in_image(
    key: PRNGKeyArray,
    vertices: Float[Array, "V 3"],
    camera: Camera,
    crop: Crop,
    *,
    coarse_mesh: CoarseMesh,
    model: HeadModel,
    config: SyntheticConfig,
) -> tuple[Crop, Float[Array, "468 3"]]:
    """The crop on the landmarks that the front end finds, and its points, both in pixels of the uncropped image."""
    size = config.image_size
    points = coarse_points(coarse_mesh, model, vertices, crop_camera(camera, crop, size))
    points = seen_points(key, points, config, size)
    scale = crop.side / size
    in_image = scale * points + jnp.append(crop.x0y0, 0.0)[None]
    return landmark_crop(in_image[coarse_mesh.ibug68, :2], config.crop_scale), in_image


def draw_batch(
    degrade_keys: Key[Array, " B"],
    vertices: Float[Array, "B V 3"],
    camera: Camera,
    model: HeadModel | None,
    topology: HeadTopology,
    config: SyntheticConfig,
    *,
    coarse_mesh: CoarseMesh | None = None,
    targets: bool = False,
    front_end_points: Float[Array, "C 468 3"] | None = None,
) -> Batch:
    """The maps of given heads, as ``config`` degrades them.

    Args:
        degrade_keys: one for each head.
        vertices: decoded.
        camera: of the crops.
        model, topology, config, coarse_mesh, targets: as for ``make_batch``; the model is for the front end's samples.
        front_end_points: what the front end says of its C samples, pixels of the crop; None: drawn in the crop given.

    Returns:
        ``normals``, ``mask``, and ``uv``, ``target_normals``, ``target_mask``, ``points`` where they are asked for.

    Raises:
        ValueError: front-end samples are asked for without a ``coarse_mesh``, or ``point_errors`` for a head model in
            which the front end's points are not embedded.
    """
    _check_mesh(config, len(vertices), coarse_mesh, model)
    num_coarse, size = config.num_front_end(len(vertices)), config.image_size

    def found_points(verts: Float[Array, "V 3"], cam: Camera, noise_key: PRNGKeyArray) -> Array:
        return seen_points(noise_key, coarse_points(coarse_mesh, model, verts, cam), config, size)

    def some_points(verts: Float[Array, "V 3"], cam: Camera, own_key: PRNGKeyArray) -> Array:
        noise_key, share_key = jax.random.split(own_key)
        there = jax.random.bernoulli(share_key, config.point_share)
        return jnp.where(there, found_points(verts, cam, noise_key), jnp.nan)

    first = lambda tree: jax.tree.map(lambda x: x[:num_coarse], tree)  # noqa: E731
    rest = lambda tree: jax.tree.map(lambda x: x[num_coarse:], tree)  # noqa: E731
    full_from = 0 if targets else num_coarse
    # Not under vmap: handed the batch, the renderer draws one head after the other where that is faster.
    scenes = vertices[full_from:], jax.tree.map(lambda x: x[full_from:], camera)
    if config.mask_dilation > 0.0 or config.unmasked_share > 0.0 or not config.masked:
        shown_normals, full_mask = render_beyond_the_face(topology, *scenes, size, config.normal_frame)
        full_normals = shown_normals * full_mask[..., None]
    else:
        full = render_head(topology, *scenes, size, config.normal_frame)
        shown_normals = full_normals = full.normals
        full_mask = full.mask
    keep = rest if targets else (lambda tree: tree)

    def degraded(
        keys: Key[Array, "N 3"], normals: Float[Array, "N S S 3"], mask: Float[Array, "N S S"], full: bool
    ) -> tuple[Float[Array, "N S S 3"], Float[Array, "N S S"]]:
        def one(own_keys: Key[Array, "3"], n: Array, m: Array) -> tuple[Array, Array]:
            mask_settings = {"mask_erosion": config.mask_erosion, "occluder_share": config.occluder_share}
            if full:
                n = degrade.degrade_normals(
                    own_keys[2],
                    n,
                    blur=config.normal_blur,
                    noise_deg=config.normal_noise_deg,
                    mirror_shift=config.mirror_shift,
                    eight_bit=config.eight_bit,
                    vary=config.errors_vary,
                )
                mask_settings |= {
                    "mask_dilation": config.mask_dilation,
                    "bar_share": config.bar_share,
                    "hair_share": config.hair_share,
                    "lower_face_share": config.lower_face_share,
                    "unmasked_share": config.unmasked_share,
                }
            return degrade.degrade_maps(own_keys[1], n, m, **mask_settings)

        return jax.vmap(one)(keys, normals, mask)

    # Points, maps, normals: each has a key of its own, which nothing else is drawn from.
    keys = jax.vmap(lambda key: jax.random.split(key, 3))(degrade_keys)
    normals, mask = degraded(rest(keys), keep(shown_normals), keep(full_mask), full=True)
    if num_coarse:
        if front_end_points is None:
            front_end_points = jax.vmap(found_points)(first(vertices), first(camera), first(keys[:, 0]))
        assert coarse_mesh is not None
        # Its faces stay constants of the program; in which frame normals are is the head model's matter.
        drawn = dataclasses.replace(load_coarse_mesh(), reference=coarse_mesh.reference)
        coarse = jax.vmap(lambda points: coarse_maps(points, size, drawn))(front_end_points)
        coarse_normals, coarse_mask = degraded(first(keys), *coarse, full=False)
        normals = jnp.concatenate([coarse_normals, normals])
        mask = jnp.concatenate([coarse_mask, mask])

    batch = {"normals": normals, "mask": mask}
    if config.point_share > 0.0:
        found = [front_end_points] if num_coarse else []
        if num_coarse < len(vertices):
            found.append(jax.vmap(some_points)(rest(vertices), rest(camera), rest(keys[:, 0])))
        points = jnp.concatenate(found)
        batch |= _drop_observations(degrade_keys, normals, mask, points, num_coarse, config)
    if "uv" in maps_of(config.channels):
        batch["uv"] = (2.0 * full.uv - 1.0) * mask[..., None]
    if targets:
        batch |= {"target_normals": full_normals, "target_mask": full_mask}
    return batch


def _drop_observations(
    keys: Key[Array, " B"],
    normals: Float[Array, "B S S 3"],
    mask: Float[Array, "B S S"],
    points: Float[Array, "B 468 3"],
    num_front_end: int,
    config: SyntheticConfig,
) -> Batch:
    """``normals``, ``mask`` and ``points`` of which some samples have the one or the other no more; never both."""
    if config.drop_maps == 0.0 and config.drop_points == 0.0:
        return {"normals": normals, "mask": mask, "points": points}
    drawn = jax.vmap(lambda key: jax.random.uniform(jax.random.fold_in(key, _DROP_STREAM)))(keys)
    has_points = jnp.isfinite(points[:, 0, 0])
    shown = 1.0 - (has_points & (drawn < config.drop_maps)).astype(mask.dtype)[:, None, None]
    front_end = jnp.arange(len(points)) < num_front_end
    lost = front_end & (drawn > 1.0 - config.drop_points)
    return {
        "normals": normals * shown[..., None],
        "mask": mask * shown,
        "points": jnp.where(lost[:, None, None], jnp.nan, points),
    }


def network_inputs(
    batch: Batch, config: SyntheticConfig
) -> tuple[Float[Array, "B S S C"], Float[Array, "B S S"]]:
    """What the network is called with: the maps that ``config.channels`` names, and the mask.

    Where the network is to do without segmentation the mask is one everywhere.
    """
    mask = batch["mask"] if config.masked else jnp.ones_like(batch["mask"])
    return join_maps(batch, config.channels), mask
