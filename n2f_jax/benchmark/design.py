"""Which heads the benchmark has: every combination of yaw, pitch, strength of expression and error of the crop."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, PRNGKeyArray

import flame_jax
from flame_jax import FlameParams, HeadModel
from flame_jax.rotations import euler_to_matrix, matrix_to_rotation_6d
from n2f_jax.data.sampler import SyntheticConfig, sample_camera, sample_keys
from n2f_jax.geometry.camera import Camera, frontal_rotation, project
from n2f_jax.geometry.crop import Crop, crop_camera, landmark_crop, to_crop

YAWS = (-40.0, -20.0, 0.0, 20.0, 40.0)
PITCHES = (-20.0, 0.0, 20.0)
# Times the paper's spread of expressions, jaw and eyelids.
STRENGTHS = (0.0, 1.0, 1.5)
# Shift of the crop in units of its side, and the same as the log of its scale.
CROP_ERRORS = (0.0, 0.05)
CELLS = tuple(itertools.product(YAWS, PITCHES, STRENGTHS, CROP_ERRORS))
# Ground truth has a stream of its own: no training run and no held-out set draws these heads.
_STREAM = 0x42454E43


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Setting:
    """What is controlled of each head; all ``(B,)``.

    Attributes:
        yaw, pitch: degrees about the head's axes; yaw > 0 as the sampler's φ_y.
        strength: of the expression, times the paper's spread.
        crop_error: shift in units of the crop's side, and log of its scale.
        focal: factor on the focal length; the distance grows with it, so that the head keeps its size.
    """

    yaw: Float[Array, " B"]
    pitch: Float[Array, " B"]
    strength: Float[Array, " B"]
    crop_error: Float[Array, " B"]
    focal: Float[Array, " B"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Scene:
    """Heads and the crops that are drawn of them.

    Attributes:
        params: of the benchmark's head model.
        vertices: ``(B, V, 3)`` head frame, metres.
        camera: of the crop.
        landmarks_2d: ``(B, 68, 2)`` pixels of the crop.
        landmarks_3d: ``(B, 68, 3)`` head frame, metres.
        keys: ``(B,)`` for what is random in the maps.
    """

    params: FlameParams
    vertices: Float[Array, "B V 3"]
    camera: Camera
    landmarks_2d: Float[Array, "B 68 2"]
    landmarks_3d: Float[Array, "B 68 3"]
    keys: Key[Array, " B"]


def setting_of(indices: Int[Array, " B"]) -> Setting:
    """Of heads by number: the cells in turn, in an order that keeps neighbours apart."""
    table = jnp.asarray(CELLS, jnp.float32)
    # 37 shares no factor with the 90 cells: any first few heads spread over all settings.
    row = table[(37 * indices) % len(CELLS)]
    return Setting(row[:, 0], row[:, 1], row[:, 2], row[:, 3], jnp.ones_like(row[:, 0]))


def frontal(count: int) -> Setting:
    """Everything at rest, with the paper's spread of expressions: where robustness curves start."""
    zero, one = jnp.zeros(count), jnp.ones(count)
    return Setting(zero, zero, one, zero, one)


def draw_view(
    camera_key: PRNGKeyArray,
    angle_key: PRNGKeyArray,
    crop_key: PRNGKeyArray,
    at: Setting,
    config: SyntheticConfig,
) -> tuple[Camera, Float[Array, "2"], Float[Array, ""]]:
    """The camera of one uncropped image (no batch axis), and the error of its crop.

    Returns:
        The camera; the crop's shift in units of its side; the factor on its side.
    """
    degree = math.pi / 180.0
    camera = sample_camera(camera_key, config)
    roll = config.phi_std_deg[2] * jax.random.normal(angle_key)
    angles = degree * jnp.stack([at.pitch, at.yaw, roll])
    # The translation is the head's origin; focal length and distance grow together.
    camera = dataclasses.replace(
        camera,
        rotation=frontal_rotation(euler_to_matrix(angles)),
        translation=camera.translation * jnp.stack([jnp.ones(()), jnp.ones(()), at.focal]),
        focal=camera.focal * at.focal,
    )
    angle_key, sign_key = jax.random.split(crop_key)
    angle = 2.0 * math.pi * jax.random.uniform(angle_key)
    shift = at.crop_error * jnp.stack([jnp.cos(angle), jnp.sin(angle)])
    scale = jnp.exp(at.crop_error * jax.random.rademacher(sign_key, (), jnp.float32))
    return camera, shift, scale


def erroneous_crop(
    pixels: Float[Array, "B 68 2"], shift: Float[Array, "B 2"], scale: Float[Array, " B"], crop_scale: float
) -> Crop:
    """The landmarks' crop, shifted and scaled about its centre (``draw_view``)."""
    exact = landmark_crop(pixels, crop_scale)
    side = exact.side * scale
    return Crop(x0y0=exact.x0y0 + 0.5 * (exact.side - side)[:, None] + shift * exact.side[:, None], side=side)


@functools.partial(jax.jit, static_argnames=("size", "crop_scale"))
def draw_scene(
    model: HeadModel,
    indices: Int[Array, " B"],
    setting: Setting,
    *,
    seed: int | Int[Array, ""] = 0,
    size: int,
    crop_scale: float,
) -> Scene:
    """Heads by number: the same number is the same person and the same face, whatever the setting.

    Shape, expression, jaw, lids, roll, place and focal length come from the paper's distributions.

    Args:
        model: the benchmark's head model.
        indices: numbers of the heads.
        setting: what is controlled.
        seed: another benchmark of the same kind.
        size: side of the crop in pixels (static).
        crop_scale: its side over the longer side of the landmarks' box (static).
    """
    config = SyntheticConfig(image_size=size, crop_scale=crop_scale)
    degree = math.pi / 180.0

    def one(key: PRNGKeyArray, at: Setting) -> tuple[FlameParams, Camera, Array, Array, PRNGKeyArray]:
        shape_key, face_key, camera_key, angle_key, crop_key, map_key = jax.random.split(key, 6)
        expression_key, jaw_key, lid_key = jax.random.split(face_key, 3)
        jaw_std = degree * jnp.asarray(config.jaw_std_deg, jnp.float32)
        jaw = at.strength * jaw_std * jax.random.normal(jaw_key, (3,))
        # An open mouth, not one bitten through: half of the paper's jaws turn upwards.
        jaw = jaw.at[0].set(jnp.abs(jaw[0]))
        lids = at.strength * config.gamma_std * jnp.abs(jax.random.normal(lid_key, (2,)))
        params = FlameParams.resting(
            shape=config.shape_std(model) * jax.random.normal(shape_key, (model.num_shape,)),
            expression=at.strength
            * config.expression_std(model)
            * jax.random.normal(expression_key, (model.num_expression,)),
            jaw=matrix_to_rotation_6d(euler_to_matrix(jaw)),
            eyelids=lids,
        )
        view = draw_view(camera_key, angle_key, crop_key, at, config)
        return params, *view, map_key

    stream = jax.random.fold_in(jax.random.key(seed), _STREAM)
    params, camera, shift, scale, keys = jax.vmap(one)(sample_keys(stream, indices), setting)
    vertices, _ = flame_jax.decode(model, params)
    landmarks_3d = flame_jax.landmarks68(model, vertices)
    pixels = project(landmarks_3d, camera)
    crop = erroneous_crop(pixels, shift, scale, crop_scale)
    return Scene(
        params,
        vertices,
        crop_camera(camera, crop, size),
        to_crop(pixels, crop, size),
        landmarks_3d,
        keys,
    )
