"""How good a network is on held-out synthetic heads: vertex errors after rigid alignment, camera errors."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

import flame_jax
from flame_jax import FlameParams, HeadModel
from flame_jax.rotations import rotation_6d_to_matrix
from n2f_jax.data.synthetic import Batch, SyntheticConfig, make_batch, network_inputs
from n2f_jax.evaluation.alignment import apply_rigid, rigid_transform
from n2f_jax.frontends.coarse_mesh import CoarseMesh, load_coarse_mesh
from n2f_jax.geometry.camera import Camera, project
from n2f_jax.models.n2fnet import N2FOutput, camera_from_output
from n2f_jax.models.parameters import functional
from n2f_jax.models.pretrained import from_pretrained
from n2f_jax.render import HeadTopology, render_head

# Regions reported where the head model has them; the first is what heads are aligned on.
REGIONS = ("face", "eyes", "nose", "mouth", "left_ear", "right_ear", "neck", "scalp")

# Every evaluation draws from its own stream, so a training run never sees a held-out head, whatever its seed.
_HELD_OUT_STREAM = 0x4E32464E

Forward = Callable[[Any, Array, Array], N2FOutput]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Assets:
    """The arrays that sampling and losses need beside the parameters; handed to jitted functions as arguments.

    As arguments and not as constants, which would be copied into every compiled program.
    """

    model: HeadModel
    topology: HeadTopology
    coarse_mesh: CoarseMesh | None
    metric: Any = None


def held_out_key(seed: int, index: int | Array) -> PRNGKeyArray:
    """Key of one batch of the held-out set."""
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), _HELD_OUT_STREAM), index)


def vertex_errors(
    model: HeadModel, answer: Float[Array, "... V 3"], truth: Float[Array, "... V 3"]
) -> dict[str, Float[Array, "..."]]:
    """Mean vertex-to-vertex distance of each region in millimetres, the heads aligned rigidly on the face.

    Rotation and translation only: a head that is too large is wrong. Any leading batch axes.
    """
    face = model.masks[REGIONS[0]]
    rotation, translation = rigid_transform(answer[..., face, :], truth[..., face, :])
    aligned = apply_rigid(answer, rotation, translation)
    distance = 1000.0 * jnp.sqrt(jnp.sum((aligned - truth) ** 2, axis=-1))
    return {
        region: jnp.mean(distance[..., model.masks[region]], axis=-1)
        for region in REGIONS
        if region in model.masks
    }


def rotation_error_degrees(a: Float[Array, "... 3 3"], b: Float[Array, "... 3 3"]) -> Float[Array, "..."]:
    """Angle between two rotations; from the chord ``‖A − B‖``, which keeps its digits at small angles."""
    chord = jnp.sqrt(jnp.sum((a - b) ** 2, axis=(-2, -1)))
    return (180.0 / math.pi) * 2.0 * jnp.arcsin(jnp.clip(chord / math.sqrt(8.0), 0.0, 1.0))


def head_errors(
    answered: Float[Array, "B V 3"], truth: FlameParams, model: HeadModel
) -> dict[str, Float[Array, "B"]]:
    """``<region>_mm`` and ``mean_head_<region>_mm`` of every sample.

    ``mean_head_…`` is the error of answering the mean head at rest to everything.
    """
    true, _ = flame_jax.decode(model, truth)
    mean, _ = flame_jax.decode(model, FlameParams.neutral(model, (1,)))
    mean = jnp.broadcast_to(mean, true.shape)
    errors = {f"{region}_mm": value for region, value in vertex_errors(model, answered, true).items()}
    return errors | {f"mean_head_{r}_mm": value for r, value in vertex_errors(model, mean, true).items()}


def parameter_errors(output: N2FOutput, truth: FlameParams) -> dict[str, Float[Array, "B"]]:
    """Errors of each group of parameters: root mean square over the coefficients of shape and expression (in σ of the
    head model's directions), the jaw's angle in degrees, mean absolute error of the eyelids' closure.
    """
    rms = lambda x: jnp.sqrt(jnp.mean(x * x, axis=-1))  # noqa: E731
    return {
        "shape_rms": rms(output.shape - truth.shape),
        "expression_rms": rms(output.expression - truth.expression),
        "jaw_degrees": rotation_error_degrees(
            rotation_6d_to_matrix(output.jaw), rotation_6d_to_matrix(truth.jaw)
        ),
        "eyelids_error": jnp.mean(jnp.abs(output.eyelids - truth.eyelids), axis=-1),
    }


def draw_answer(
    answered: Float[Array, "B V 3"], camera: Camera, assets: Assets, config: SyntheticConfig
) -> tuple[Float[Array, "B S S 3"], Float[Array, "B S S"]]:
    """Normals and mask of the answered heads as this camera sees them."""
    maps = render_head(assets.topology, answered, camera, config.image_size, config.normal_frame)
    return maps.normals, maps.mask


def normal_angles(a: Float[Array, "... 3"], b: Float[Array, "... 3"]) -> Float[Array, "..."]:
    """Angles between unit normals in degrees, exact at both ends."""
    apart, together = (jnp.linalg.norm(x, axis=-1) for x in (a - b, a + b))
    return jnp.rad2deg(2.0 * jnp.arctan2(apart, together))


def mean_normal_angle(
    normals: Float[Array, "B S S 3"],
    mask: Float[Array, "B S S"],
    target_normals: Float[Array, "B S S 3"],
    target_mask: Float[Array, "B S S"],
    if_apart: float,
) -> Float[Array, "B"]:
    """Mean of ``normal_angles`` over the pixels in both masks; ``if_apart`` where they do not meet."""
    both = (mask > 0.5) & (target_mask > 0.5)
    count = jnp.sum(both.astype(jnp.float32), axis=(-2, -1))
    total = jnp.sum(jnp.where(both, normal_angles(normals, target_normals), 0.0), axis=(-2, -1))
    return jnp.where(count > 0, total / jnp.maximum(count, 1.0), if_apart)


def map_errors(
    normals: Float[Array, "B S S 3"],
    mask: Float[Array, "B S S"],
    target_normals: Float[Array, "B S S 3"],
    target_mask: Float[Array, "B S S"],
) -> dict[str, Float[Array, "B"]]:
    """How a drawn answer differs from the true head's maps.

    ``normals_degrees`` is the mean angle over the pixels in both masks, 90 where they do not meet;
    ``mask_iou`` is intersection over union, 1 where both are empty.
    """
    a, b = mask > 0.5, target_mask > 0.5
    both, either = (jnp.sum(x.astype(jnp.float32), axis=(-2, -1)) for x in (a & b, a | b))
    return {
        "normals_degrees": mean_normal_angle(normals, mask, target_normals, target_mask, if_apart=90.0),
        "mask_iou": jnp.where(either > 0, both / jnp.maximum(either, 1.0), 1.0),
    }


def batch_errors(
    output: N2FOutput,
    batch: Batch,
    assets: Assets,
    config: SyntheticConfig,
    drawn: tuple[Float[Array, "B S S 3"], Float[Array, "B S S"]] | None = None,
) -> dict[str, Float[Array, "B"]]:
    """Every error of every sample that the batch's truths allow.

    ``head_errors``, ``parameter_errors`` and ``rotation_degrees`` where there are ``params``; ``landmarks_percent``,
    the mean distance of the 68 landmarks in per cent of the crop's side; ``map_errors`` where there are
    ``target_normals``.

    Args:
        output: the network's answer.
        batch: of ``make_batch``.
        assets: head model and what drawing needs.
        config: the sampler.
        drawn: normals and mask of the answered heads, if they are to be those of another camera than the answered
            one, or are there already.
    """
    size, truth = config.image_size, batch["camera"]
    camera = camera_from_output(output, truth.focal, truth.principal_point, size)
    answered, _ = flame_jax.decode(assets.model, output.flame_params())
    errors: dict[str, Array] = {}
    if "params" in batch:
        errors |= head_errors(answered, batch["params"], assets.model)
        errors |= parameter_errors(output, batch["params"])
        errors["rotation_degrees"] = rotation_error_degrees(camera.rotation, truth.rotation)
    landmarks = project(flame_jax.landmarks68(assets.model, answered), camera)
    distance = jnp.sqrt(jnp.sum((landmarks - batch["landmarks_2d"]) ** 2, axis=-1))
    errors["landmarks_percent"] = jnp.mean(distance, axis=-1) * (100.0 / size)
    if "target_normals" in batch:
        drawn = drawn or draw_answer(answered, camera, assets, config)
        errors |= map_errors(*drawn, batch["target_normals"], batch["target_mask"])
    return errors


def evaluate(
    forward: Forward,
    params: Any,
    assets: Assets,
    config: SyntheticConfig,
    *,
    num_heads: int = 1000,
    batch_size: int = 50,
    seed: int = 0,
) -> dict[str, float]:
    """Means over ``num_heads`` held-out heads of everything that ``batch_errors`` names, and ``face_ratio``.

    ``face_ratio`` is the face region's mean error over that of answering the mean head.

    Args:
        forward: ``forward(params, normals, mask) -> N2FOutput``.
        params: the network's parameters.
        assets: head model and what drawing needs.
        config: the sampler; its ``front_end_share`` decides what the inputs are (0: full normals, 1: front end).
        num_heads: at least 1; the last batch is cut.
        batch_size: heads drawn at once.
        seed: of the held-out set.
    """

    @jax.jit
    def errors_of(params: Any, assets: Assets, index: Array) -> dict[str, Array]:
        batch = make_batch(
            held_out_key(seed, index),
            assets.model,
            assets.topology,
            config,
            batch_size,
            coarse_mesh=assets.coarse_mesh,
            targets=True,
        )
        output = forward(params, *network_inputs(batch, config))
        return batch_errors(output, batch, assets, config)

    parts = [
        jax.device_get(errors_of(params, assets, jnp.asarray(index)))
        for index in range(-(-num_heads // batch_size))
    ]
    result = {
        name: float(np.mean(np.concatenate([part[name] for part in parts])[:num_heads])) for name in parts[0]
    }
    result["face_ratio"] = result["face_mm"] / result["mean_head_face_mm"]
    return result


def evaluate_pretrained(
    folder: str | Path,
    *,
    head_model: str = "",
    num_heads: int = 1000,
    batch_size: int = 50,
    seed: int = 0,
) -> dict[str, dict[str, float]]:
    """A saved network on the paper's sampler, from full normals and from the free front end's.

    Args:
        folder: written by ``save_pretrained``.
        head_model: path of the head model it was trained for; the open head if empty.
        num_heads, batch_size, seed: of the held-out set (``evaluate``).

    Returns:
        ``full`` and, with the open head and a network that takes masked normals, ``front_end``: each the means
        of ``evaluate``.
    """
    model = flame_jax.load_head_model(head_model) if head_model else flame_jax.load_open_head()
    saved = from_pretrained(folder, head_model=model)
    coarse_mesh = None if head_model else jax.tree.map(jnp.asarray, load_coarse_mesh())
    assets = Assets(model=model, topology=HeadTopology.from_model(model), coarse_mesh=coarse_mesh)
    forward, params = functional(saved.network)
    sampler = SyntheticConfig(
        image_size=saved.inputs.size,
        crop_scale=saved.inputs.crop_scale,
        normal_frame=saved.inputs.normal_frame,
        channels=saved.inputs.channels,
        masked=saved.inputs.masked,
    )
    shares = {"full": 0.0}
    if coarse_mesh is not None and saved.inputs.channels == "normals" and saved.inputs.masked:
        shares["front_end"] = 1.0
    return {
        name: evaluate(
            forward,
            params,
            assets,
            dataclasses.replace(sampler, front_end_share=share),
            num_heads=num_heads,
            batch_size=min(batch_size, num_heads),
            seed=seed,
        )
        for name, share in shares.items()
    }


def format_report(full: Mapping[str, float], front_end: Mapping[str, float] | None) -> str:
    """The table that ``scripts/evaluate_synthetic.py`` prints."""
    columns = [("mean head", full, "mean_head_"), ("full normals", full, "")]
    if front_end is not None:
        columns.append(("front-end normals", front_end, ""))
    lines = ["vertex error, mm (rigid)" + "".join(f"{name:>20}" for name, _, _ in columns)]
    for region in REGIONS:
        if f"{region}_mm" in full:
            values = "".join(f"{values[f'{prefix}{region}_mm']:>20.3f}" for _, values, prefix in columns)
            lines.append(f"  {region:<22}{values}")
    ratios = "".join(f"{values['face_ratio']:>20.3f}" for _, values, _ in columns[1:])
    lines.append(f"{'face, over mean head':<24}{1.0:>20.3f}{ratios}")
    for name, label in (
        ("landmarks_percent", "landmarks, % of crop"),
        ("rotation_degrees", "rotation, degrees"),
        ("normals_degrees", "normals, degrees"),
        ("mask_iou", "mask, IoU"),
        ("shape_rms", "shape, RMS in σ"),
        ("expression_rms", "expression, RMS in σ"),
        ("jaw_degrees", "jaw, degrees"),
        ("eyelids_error", "eyelids, closure"),
    ):
        values = "".join(f"{values[name]:>20.3f}" for _, values, _ in columns[1:])
        lines.append(f"{label:<24}{'—':>20}{values}")
    return "\n".join(lines)
