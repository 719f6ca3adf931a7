"""A network's errors on held-out synthetic heads: vertices after rigid alignment, camera, maps, parameters."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

import flame_jax
from n2f_jax.data.assets import Assets
from n2f_jax.data.degradation_presets import FRONT_END_MEASURED
from n2f_jax.data.sampler import SyntheticConfig, held_out_key, make_batch, network_inputs
from n2f_jax.face_mesh.embedding import coarse_mesh_on, face_mesh_embedding, places_of_correction
from n2f_jax.frontends import DEFAULT_LANDMARKS
from n2f_jax.metrics.batch_errors import batch_errors
from n2f_jax.metrics.head_errors import REGIONS
from n2f_jax.models.correction import Scene
from n2f_jax.models.n2fnet import N2FOutput
from n2f_jax.models.parameters import functional
from n2f_jax.models.pretrained import from_pretrained
from n2f_jax.render import HeadTopology

Forward = Callable[[Any, Array, Array, Scene | None], N2FOutput]


@dataclasses.dataclass(frozen=True)
class Condition:
    """What a network is shown.

    Attributes:
        title: of its column.
        maps: fields of the sampler's ``SyntheticConfig``.
    """

    title: str
    maps: Mapping[str, Any]


# What a user of the free front end gets comes first. Without the error of its points there is no such front end: that
# column says what its coarse mesh alone costs.
_FRONT_END = {"front_end_share": 1.0, "point_share": 1.0}
CONDITIONS = {
    "front_end": Condition("front end", _FRONT_END | FRONT_END_MEASURED[DEFAULT_LANDMARKS]),
    "full": Condition("full normals", {}),
    "front_end_without_error": Condition("front end without error", _FRONT_END),
}


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

    ``face_ratio`` is the face region's mean error over that of predicting the mean head.

    Args:
        forward: ``forward(params, normals, mask, scene) -> N2FOutput``.
        params: the network's parameters.
        assets: head model and what drawing needs.
        config: the sampler, which also says what the inputs are.
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
        camera = batch["camera"]
        scene = Scene.of_crops(assets.places, camera.focal, camera.principal_point, batch.get("points"))
        output = forward(params, *network_inputs(batch, config), scene)
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
    """A saved network on the paper's sampler, by what it is shown (``CONDITIONS``).

    Args:
        folder: written by ``save_pretrained``.
        head_model: path of the head model it was trained for; the open head if empty.
        num_heads, batch_size, seed: of the held-out set (``evaluate``).

    Returns:
        Condition → the means of ``evaluate``; those of the front end only where its points on the head model are known,
        and of a network that takes masked normals.
    """
    model = flame_jax.load_head_model(head_model) if head_model else flame_jax.load_open_head()
    saved = from_pretrained(folder, head_model=model)
    coarse_mesh = None
    if face_mesh_embedding(model, saved.face_mesh) is not None:
        coarse_mesh = jax.tree.map(jnp.asarray, coarse_mesh_on(saved.face_mesh))
    assets = Assets(model=model, topology=HeadTopology.from_model(model), coarse_mesh=coarse_mesh)
    assets = dataclasses.replace(
        assets, places=places_of_correction(model, saved.config.correction, saved.face_mesh)
    )
    forward, params = functional(saved.network)
    sampler = SyntheticConfig(
        image_size=saved.inputs.size,
        crop_scale=saved.inputs.crop_scale,
        normal_frame=saved.inputs.normal_frame,
        channels=saved.inputs.channels,
        masked=saved.inputs.masked,
    )
    takes_front_end = coarse_mesh is not None and saved.inputs.channels == "normals" and saved.inputs.masked
    return {
        name: evaluate(
            forward,
            params,
            assets,
            dataclasses.replace(sampler, **condition.maps),
            num_heads=num_heads,
            batch_size=min(batch_size, num_heads),
            seed=seed,
        )
        for name, condition in CONDITIONS.items()
        if takes_front_end or not condition.maps
    }


def format_report(results: Mapping[str, Mapping[str, float]]) -> str:
    """The table that ``scripts/benchmarks/evaluate_synthetic.py`` prints: the mean head, then a column a condition.

    Args:
        results: of ``evaluate_pretrained``.
    """
    columns = [("mean head", results["full"], "mean_head_")]
    columns += [(CONDITIONS[name].title, values, "") for name, values in results.items()]
    full = results["full"]
    lines = ["vertex error, mm (rigid)" + "".join(f"{name:>26}" for name, _, _ in columns)]
    for region in REGIONS:
        if f"{region}_mm" in full:
            values = "".join(f"{values[f'{prefix}{region}_mm']:>26.3f}" for _, values, prefix in columns)
            lines.append(f"  {region:<22}{values}")
    ratios = "".join(f"{values['face_ratio']:>26.3f}" for _, values, _ in columns[1:])
    lines.append(f"{'face, over mean head':<24}{1.0:>26.3f}{ratios}")
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
        values = "".join(f"{values[name]:>26.3f}" for _, values, _ in columns[1:])
        lines.append(f"{label:<24}{'—':>26}{values}")
    return "\n".join(lines)
