"""From a config to what a run needs: checked settings, head model, network, learning-rate groups."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import ml_collections
from flax import nnx

import flame_jax
from flame_jax import HeadModel
from n2f_jax.data.assets import Assets
from n2f_jax.data.celeba_hq import PseudoTruthFaces
from n2f_jax.data.face_views import View
from n2f_jax.data.manifest import ManifestError
from n2f_jax.data.pipeline import make_pipeline
from n2f_jax.data.sampler import SyntheticConfig
from n2f_jax.data.w300 import AnnotatedFaces
from n2f_jax.face_mesh.embedding import coarse_mesh_on, face_mesh_embedding, places_of_correction
from n2f_jax.face_mesh.map_frames import map_rotations
from n2f_jax.models.conversion import ConversionError
from n2f_jax.models.correction import CorrectionConfig
from n2f_jax.models.dinov3 import DinoV3Config
from n2f_jax.models.dinov3_files import load_dinov3
from n2f_jax.models.face_mesh_places import FaceMeshPlaces
from n2f_jax.models.folders import PretrainedError
from n2f_jax.models.input_channels import CHANNELS, maps_of
from n2f_jax.models.n2fnet import N2FNet, N2FNetConfig
from n2f_jax.models.parameters import Tree, to_dict
from n2f_jax.models.pretrained import DEFAULT_CHECKPOINT, from_pretrained
from n2f_jax.render import HeadTopology
from n2f_jax.training.losses import (
    JointLossConfig,
    LossConfig,
    ParameterLossConfig,
    RenderLossConfig,
    coefficient_metric,
)
from n2f_jax.training.parallel import Layout, Parts, is_main_process
from n2f_jax.training.step import Objective
from n2f_jax.training.stored import StoredConfig, StoredFaces
from n2f_jax.training.validation import Validation

RESOLVED_CONFIG = "config.json"


class SetupError(ValueError):
    """A run that cannot start as asked; the message says what to change."""


def _fields(section: ml_collections.ConfigDict) -> dict[str, Any]:
    """The section's values, lists as tuples (dataclasses here are hashable)."""
    return {k: tuple(v) if isinstance(v, list) else v for k, v in section.items()}


def model_config(section: ml_collections.ConfigDict) -> N2FNetConfig:
    values = _fields(section)
    values["backbone"] = DinoV3Config(**_fields(section.backbone))
    if values.get("correction") is not None:
        values["correction"] = CorrectionConfig(**_fields(section.correction))
    return N2FNetConfig(**values)


def sampler_config(section: ml_collections.ConfigDict) -> SyntheticConfig:
    """The sampler.

    Raises:
        SetupError: fields that do not go together.
    """
    try:
        return SyntheticConfig(**_fields(section))
    except ValueError as error:
        raise SetupError(f"data: {error}") from error


def loss_config(config: ml_collections.ConfigDict) -> LossConfig:
    """``L_param`` for the objective ``parameters``, ``L_render`` for ``render``, their sum for ``joint``.

    Raises:
        SetupError: another objective.
    """
    kinds = {"parameters": ParameterLossConfig, "render": RenderLossConfig}
    if config.objective == "joint":
        return JointLossConfig(**{name: kind(**_fields(config.loss[name])) for name, kind in kinds.items()})
    if config.objective not in kinds:
        raise SetupError(f"objective is {config.objective!r}; there are {', '.join(kinds)} and joint")
    return kinds[config.objective](**_fields(config.loss))


def objective(config: ml_collections.ConfigDict) -> Objective:
    """What the config minimises: its sampler, its network and its loss.

    Stored faces are photographs, whose landmarks follow the jaw line that is seen; sampled heads have the paper's
    fixed points.

    Raises:
        SetupError: sampler or loss are not as they should be.
    """
    return Objective(
        model_config(config.model),
        sampler_config(config.data),
        loss_config(config),
        config.batch_size,
        contour="dynamic" if "stored" in config else "static",
    )


def num_steps(config: ml_collections.ConfigDict) -> int:
    """This stage's steps: its share of the total."""
    return round(config.total_steps * config.stage_share)


def load_model(config: ml_collections.ConfigDict) -> HeadModel:
    """The head model that the config names; the open head for an empty path."""
    return flame_jax.load_head_model(config.head_model) if config.head_model else flame_jax.load_open_head()


def check(config: ml_collections.ConfigDict, model: HeadModel) -> None:
    """Refuses settings that contradict each other or the head model.

    Raises:
        SetupError: naming the fields.
    """
    network = config.model
    if (network.num_shape, network.num_expression) != (model.num_shape, model.num_expression):
        raise SetupError(
            f"the head model {model.name!r} has {model.num_shape} shape and {model.num_expression} expression "
            f"directions; model.num_shape is {network.num_shape}, model.num_expression {network.num_expression}: add "
            f"--config.model.num_shape={model.num_shape} --config.model.num_expression={model.num_expression}"
        )
    if network.input_size != config.data.image_size:
        raise SetupError(
            f"model.input_size is {network.input_size} and data.image_size {config.data.image_size}; "
            "set model.input_size alone, the other follows"
        )
    if not 0.0 <= config.data.front_end_share <= 1.0:
        raise SetupError(f"data.front_end_share is {config.data.front_end_share}; it is a share, 0 … 1")
    if config.optimizer.warmup_steps >= num_steps(config):
        raise SetupError(
            f"optimizer.warmup_steps is {config.optimizer.warmup_steps} of {num_steps(config)} steps; "
            "it must be shorter than the run"
        )
    sampler = sampler_config(config.data)
    if network.backbone.channels != CHANNELS[sampler.channels]:
        raise SetupError(
            f"data.channels {sampler.channels!r} are {CHANNELS[sampler.channels]}, model.backbone.channels is "
            f"{network.backbone.channels}; configs/ablations/ sets both"
        )
    if "uv" in maps_of(sampler.channels) and not len(model.uv):
        raise SetupError(
            f"the head model {model.name!r} has no texture coordinates, which data.channels asks for"
        )
    if model.landmarks is None:
        raise SetupError(f"the head model {model.name!r} has no landmark embedding, which the crop needs")


def layout(config: ml_collections.ConfigDict, sampler: SyntheticConfig) -> Layout:
    """The devices that the config asks for.

    Raises:
        SetupError: there are not so many, or the batch does not divide evenly among them.
    """
    section = config.parallel
    if config.not_finite not in ("stop", "skip"):
        raise SetupError(f"not_finite is {config.not_finite!r}; there are stop and skip")
    if section.accumulation_steps < 1:
        raise SetupError(f"parallel.accumulation_steps is {section.accumulation_steps}; at least 1")
    try:
        found = Layout.of_devices(section.devices, section.fsdp)
    except ValueError as error:
        raise SetupError(f"parallel.devices: {error}") from error
    try:
        num_first = sampler.num_front_end(config.batch_size)
        Parts.of(found, section.accumulation_steps, config.batch_size, num_first)
    except ValueError as error:
        raise SetupError(str(error)) from error
    return found


def wants_face_mesh(config: ml_collections.ConfigDict) -> bool:
    """Whether the config's samples or its network need the face mesh's points on the head model."""
    in_samples = config.data.front_end_share > 0.0 or config.data.point_share > 0.0
    return in_samples or config.model.get("correction") is not None


def build_assets(
    config: ml_collections.ConfigDict, model: HeadModel, places: FaceMeshPlaces | None = None
) -> Assets:
    """Head model and what sampling, drawing and losses precompute of it, on the default device.

    Args:
        config: the stage's.
        model: its head model.
        places: of the face mesh's points on it, where it is not the open head.

    Raises:
        SetupError: the config wants the points and they are not known.
    """
    coarse_mesh = None
    asking = [name for name in ("front_end_share", "point_share") if config.data[name] > 0.0]
    if asking:
        if face_mesh_embedding(model, places) is None:
            raise SetupError(
                f"data.{asking[0]} needs the face mesh's 468 points on the head model {model.name!r}: they are known "
                "of the open head, and of others by their correspondence (n2f train)"
            )
        coarse_mesh = coarse_mesh_on(places)
    loss = loss_config(config)
    loss = loss.parameters if isinstance(loss, JointLossConfig) else loss
    metric = None
    if isinstance(loss, ParameterLossConfig) and loss.shape_loss == "vertices":
        metric = coefficient_metric(model, loss.rest_weight)
    surface = places_of_correction(model, model_config(config.model).correction, places)
    assets = Assets(model, HeadTopology.from_model(model), coarse_mesh, metric, surface)
    return jax.tree.map(jax.numpy.asarray, assets)


STORED_KINDS = ("pseudo_truth", "annotated")


def stored_faces(
    config: ml_collections.ConfigDict, model: HeadModel, places: FaceMeshPlaces | None = None
) -> StoredFaces | None:
    """The stored faces that a fine-tuning config trains and is validated on; None where heads are sampled.

    Args:
        config: of a stage.
        model: the head model.
        places: of the face mesh's points on it, where it is not the open head and they are known.

    Raises:
        SetupError: a folder is missing or holds nothing of what is asked for.
    """
    if "stored" not in config:
        return None
    section = StoredConfig(**config.stored)
    if section.kind not in STORED_KINDS:
        raise SetupError(f"stored.kind is {section.kind!r}; there are {', '.join(STORED_KINDS)}")
    if not section.folder:
        raise SetupError(STORED_HELP.format(kind=section.kind))
    size, scale = config.data.image_size, config.data.crop_scale
    turns = map_rotations(model, places)

    def dataset(folder: str, annotations: str, part: Any) -> Sequence[View]:
        if section.kind == "pseudo_truth":
            return PseudoTruthFaces(folder, size, scale, model, part, section.celeba or None, turns)
        return AnnotatedFaces(folder, annotations, size, scale, part, is_main_process(), turns)

    try:
        train = dataset(section.folder, section.annotations, section.part)
        held_out = dataset(
            section.validation_folder or section.folder,
            section.validation_annotations or section.annotations,
            section.validation_part,
        )
        pipeline = make_pipeline(
            train, config.batch_size, config.seed, jax.process_index(), jax.process_count()
        )
    except (ImportError, ManifestError, OSError, ValueError) as error:
        raise SetupError(f"stored: {error}") from error
    if "uv" in maps_of(config.data.channels) and "uv" not in train[0]:
        raise SetupError(f"data.channels is {config.data.channels!r} and {section.folder} has no UV maps")
    return StoredFaces(pipeline, held_out)


def validation(
    config: ml_collections.ConfigDict, objective: Objective, layout: Layout, stored: StoredFaces | None
) -> Validation:
    """On sampled heads from a stream of their own, or on the stored faces that are not trained on."""
    section = config.validation
    if stored is None:
        return Validation(objective, section.num_heads, section.batch_size, section.seed, layout)
    batch_size = min(section.batch_size, len(stored.validation))
    return Validation(
        objective,
        min(section.num_heads, len(stored.validation)),
        batch_size,
        section.seed,
        layout,
        held_out=lambda index: stored.held_out(batch_size, index),
    )


STORED_HELP = """\
This config trains on faces that a front end has seen and no folder is given.
  Make one:  python scripts/preprocess.py IMAGES --out FOLDER   (docs/preprocessing.md), or
             python scripts/build/make_finetune_data.py for a small free one
  Flag:      --config.stored.folder=FOLDER (kind {kind!r})"""
BACKBONE_HELP = """\
This config starts from DINOv3's pretrained weights and none are given.
  File:  model.safetensors of {name} (LVD-1689M), from https://huggingface.co/facebook/{name}
         (gated: accept Meta's DINOv3 licence there), or Meta's own .pth of the same network.
  Flag:  --config.backbone_weights=PATH
To train from random weights on purpose: --config.from_scratch=True (at a far higher backbone rate than 1e-6;
the variant that is meant for it is --config=configs/stage1.py:small)."""

_HUGGING_FACE_NAMES = {
    (384, 12, False): "dinov3-vits16-pretrain-lvd1689m",
    (384, 12, True): "dinov3-vits16plus-pretrain-lvd1689m",
    (768, 12, False): "dinov3-vitb16-pretrain-lvd1689m",
    (1024, 24, False): "dinov3-vitl16-pretrain-lvd1689m",
    (1280, 32, True): "dinov3-vith16plus-pretrain-lvd1689m",
}


def initial_params(config: ml_collections.ConfigDict, model: HeadModel) -> Tree:
    """The network's parameters before the first step: random, pretrained backbone, or an earlier run's.

    Raises:
        SetupError: nothing says where the backbone comes from, or a file does not fit.
    """
    network = model_config(config.model)
    if config.init_from:
        return params_from_run(config.init_from, network, model, config.seed)
    if config.objective == "render":
        raise SetupError(
            "stage 2 trains the camera module on a network that stage 1 has trained; say which with "
            "--config.init_from=<stage 1's workdir>/best"
        )
    if not config.from_scratch and not config.backbone_weights:
        backbone = network.backbone
        name = _HUGGING_FACE_NAMES.get((backbone.width, backbone.depth, backbone.gated_mlp))
        if name is None:
            raise SetupError(
                "no pretrained weights exist for this backbone; train it with --config.from_scratch=True"
            )
        raise SetupError(BACKBONE_HELP.format(name=name))
    params = random_params(network, config.seed)
    if config.backbone_weights:
        try:
            loaded = load_dinov3(config.backbone_weights, network.backbone)
        except (OSError, ConversionError, PretrainedError) as error:
            raise SetupError(f"backbone_weights: {error}") from error
        params["backbone"] = jax.tree.map(jax.numpy.asarray, loaded)
    return params


def random_params(network: N2FNetConfig, seed: int) -> Tree:
    """A network's parameters before any training."""
    return jax.jit(lambda key: to_dict(N2FNet(network, rngs=nnx.Rngs(key))))(jax.random.key(seed))


def params_from_run(folder: str | Path, network: N2FNetConfig, model: HeadModel, seed: int = 0) -> Tree:
    """Parameters of a saved network of the same sizes, trained for the same head model.

    A saved network without a correction may be given one: it starts untrained, and corrects nothing.

    Args:
        folder: ``runs/stage1/best``, or ``default`` for the checkpoint that ships.
        network: the config's sizes.
        model: the config's head model.
        seed: of what starts untrained.

    Raises:
        SetupError: the folder is missing or damaged, or holds another network or head model's.
    """
    try:
        saved = from_pretrained(DEFAULT_CHECKPOINT if folder == "default" else folder, head_model=model)
    except (FileNotFoundError, PretrainedError) as error:
        raise SetupError(f"init_from: {error}") from error
    # What is computed in may change between stages; sizes may not.
    backbone = dataclasses.replace(
        saved.config.backbone, dtype=network.backbone.dtype, remat=network.backbone.remat
    )
    saved_config = dataclasses.replace(saved.config, backbone=backbone)
    fresh = network.correction is not None and saved_config.correction is None
    if fresh:
        saved_config = dataclasses.replace(saved_config, correction=network.correction)
    if saved_config != network:
        raise SetupError(f"init_from: {folder} holds another network: {difference(saved_config, network)}")
    params = to_dict(saved.network)
    if fresh:
        params["correction"] = random_params(network, seed)["correction"]
    return params


def difference(saved: Any, wanted: Any) -> str:
    """The fields in which two dataclasses differ."""
    a, b = dataclasses.asdict(saved), dataclasses.asdict(wanted)
    return "; ".join(f"{key} is {a[key]}, the config says {b[key]}" for key in a if a[key] != b[key])


# Settings that change what is written when, and on which devices, and not what is computed.
_FREE_ON_RESUME = ("checkpoint", "parallel")


def save_resolved(config: ml_collections.ConfigDict, workdir: Path) -> None:
    """Writes the config as resolved; on a resumed run, refuses one that computes something else.

    Raises:
        SetupError: the folder holds a run of another config; the fields are named.
    """
    text = json.dumps(config.to_dict(), indent=2, sort_keys=True, default=list)
    path = workdir / RESOLVED_CONFIG
    if path.is_file():
        old, new = json.loads(path.read_text(encoding="utf-8")), json.loads(text)
        changed = _changes(
            {k: v for k, v in old.items() if k not in _FREE_ON_RESUME},
            {k: v for k, v in new.items() if k not in _FREE_ON_RESUME},
        )
        if changed:
            raise SetupError(
                f"{workdir} holds a run of another config; take another --workdir, or the same settings:\n  "
                + "\n  ".join(changed)
            )
    scratch = path.with_suffix(".tmp")
    scratch.write_text(text + "\n", encoding="utf-8")
    scratch.replace(path)


def _changes(old: Any, new: Any, name: str = "") -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        return [
            change
            for key in sorted(old.keys() | new.keys())
            for change in _changes(old.get(key), new.get(key), f"{name}.{key}" if name else key)
        ]
    return [] if old == new else [f"{name}: {old!r} there, {new!r} now"]
