"""The stages that can be trained, as configs: the paper's and small ones, fine-tuning, ablations.

``configs/*.py`` hold the commands and what to expect of each; the bodies lie here, where the installed command finds
them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import ml_collections
from ml_collections import ConfigDict

from n2f_jax.data.degradation_presets import ESTIMATED, FRONT_END, FRONT_END_MEASURED
from n2f_jax.data.sampler import EITHER, SyntheticConfig
from n2f_jax.models.correction import CorrectionConfig
from n2f_jax.models.n2fnet import n2fnet_config
from n2f_jax.training.losses import ParameterLossConfig, RenderLossConfig
from n2f_jax.training.stored import StoredConfig


def as_config_dict(config: Any) -> ConfigDict:
    """A dataclass (nested ones too) as a ``ConfigDict``."""
    return ConfigDict(
        {
            field.name: _config_value(field, getattr(config, field.name))
            for field in dataclasses.fields(config)
        }
    )


def _config_value(field: dataclasses.Field[Any], value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return as_config_dict(value)
    # A number that is None by default (a spread that the head model states) can be set on the command line, which asks
    # for its type.
    if value is None and field.type == "float | None":
        return ml_collections.config_dict.placeholder(float)
    return value


def common(variant: str = "paper") -> ConfigDict:
    """What the stages share: model, sampler, Adam, validation, checkpoints. A stage adds objective, loss and rates.

    Args:
        variant: ``'paper'`` (ViT-L/16, batch 16, for one large GPU) or ``'small'`` (two CPU cores).

    Raises:
        ValueError: another variant.
    """
    if variant not in ("paper", "small"):
        raise ValueError(f"there are the variants paper and small, not {variant!r}")
    small = variant == "small"
    config = ConfigDict()
    config.head_model = ""  # an .npz of FLAME's arrays; empty is the open head
    config.backbone_weights = ""
    config.init_from = ""  # a saved network (<workdir>/best) to start from instead

    # The sampler's defaults are the paper's table. β's and ψ's σ are the head model's: with FLAME's files the paper's
    # 0.8 and 0.5; with the open head 1 and 1, since its coefficients are N(0, 1) over people.
    config.data = as_config_dict(SyntheticConfig())
    config.model = as_config_dict(n2fnet_config("tiny" if small else "L"))
    size = ml_collections.FieldReference(config.model.input_size)
    config.model.input_size = size
    config.data.image_size = size

    config.batch_size = 16
    config.total_steps = 200_000  # of both stages

    config.optimizer = ConfigDict()
    config.optimizer.name = "adam"
    config.optimizer.b1 = 0.9
    config.optimizer.b2 = 0.999
    config.optimizer.eps = 1e-8
    config.optimizer.weight_decay = 0.0
    config.optimizer.clip_norm = 0.0
    config.optimizer.final_fraction = 0.0

    config.parallel = ConfigDict()
    config.parallel.devices = 0  # all there are
    config.parallel.fsdp = False  # split large parameters over the devices
    config.parallel.accumulation_steps = 1
    config.not_finite = "stop"  # or "skip" such a step
    config.average_decay = 0.0  # above 0, a moving average of the parameters is validated and kept

    config.log_every = 50
    # Of the matrices in <workdir>/best; bfloat16 only where no matrix that the stage leaves frozen loses a bit by it.
    config.save_dtype = "float32"
    config.validation = ConfigDict()
    config.validation.every = 2500
    config.validation.num_heads = 512
    config.validation.batch_size = 16
    config.validation.seed = 1
    config.checkpoint = ConfigDict({"every": 1000, "keep": 2})

    if small:
        config.data.crop_centre_jitter = 0.03
        config.data.crop_scale_jitter = 0.05
        config.data.closed_eyes_share = 0.1
        config.data.update(FRONT_END)
        # Per sample it learnt about 1.6 times as fast as Adam here (at batches of 64).
        config.optimizer.name = "muon"
        config.optimizer.b2 = 0.99
        config.optimizer.clip_norm = 1.0
        config.validation.num_heads = 256
        config.checkpoint.every = 100
    return config


def stage1(variant: str = "paper") -> ConfigDict:
    """Backbone and FLAME module, L_param on synthetic heads (N2FNet, IV.1)."""
    config = common(variant)
    small = variant == "small"
    config.seed = 0
    config.objective = "parameters"
    config.from_scratch = small
    config.loss = as_config_dict(ParameterLossConfig())
    # The split is open in the paper. Regressing 408 numbers from scratch needs most of it; nine numbers of a camera
    # on a frozen backbone settle soon.
    config.stage_share = 0.75
    config.optimizer.groups = (
        ("backbone/rope/.*", "frozen"),  # constants
        ("backbone/patch_embedding/.*", "patch_embedding"),
        ("backbone/.*", "backbone"),
        ("flame/.*", "flame"),
        ("camera/.*", "frozen"),
    )
    config.optimizer.rates = ConfigDict({"backbone": 1e-6, "patch_embedding": 1e-3, "flame": 1e-3})
    config.optimizer.warmup_steps = 2000  # open in the paper
    config.validation.best_by = "face_mm"
    if small:
        config.data.front_end_share = 0.3
        config.loss.shape_loss = "vertices"
        # Each term by the millimetres that it moves the face (shape 2.8, jaw 3.0, expression 1.5 at the sampler's
        # spreads): with the paper's weights, meant for FLAME and for the plain coefficients, four fifths of the
        # loss is expression and 0.5 % the jaw.
        config.loss.lambda_theta = 600.0
        config.loss.lambda_psi = 2.25
        config.batch_size = 128
        config.save_dtype = "bfloat16"  # what ships, and what stage 2 then starts from
        config.total_steps = 6000
        config.optimizer.rates = {"backbone": 1.5e-3, "patch_embedding": 1.5e-3, "flame": 1.5e-3}
        config.optimizer.warmup_steps = 50
        config.validation.every = 200
        config.validation.batch_size = 64
    return config


def stage2(variant: str = "paper") -> ConfigDict:
    """The camera module, L_render on synthetic heads; backbone and FLAME module frozen (N2FNet, IV.1)."""
    config = common(variant)
    config.seed = 0x5A6E2
    config.objective = "render"
    config.from_scratch = False
    config.loss = as_config_dict(RenderLossConfig())
    config.stage_share = 0.25
    config.optimizer.groups = (
        ("backbone/.*", "frozen"),
        ("flame/.*", "frozen"),
        ("camera/.*", "camera"),
    )
    config.optimizer.rates = ConfigDict({"camera": 1e-4})
    config.optimizer.warmup_steps = 1000  # open in the paper
    config.validation.best_by = "loss"
    if variant == "small":
        config.data.front_end_share = 0.5
        # The camera is what the landmarks say; mask and normals also answer for errors of the frozen shape.
        config.loss.lambda_lmk = 1000.0
        config.batch_size = 32
        config.save_dtype = "bfloat16"
        config.total_steps = 2000
        config.optimizer.rates.camera = 1e-3
        config.optimizer.warmup_steps = 50
        config.validation.every = 100
        config.validation.batch_size = 32
    return config


def correction(variant: str = "small") -> ConfigDict:
    """Network and correction on the surface, trained together: L_param of every pass, the camera's parameters too.

    Not in the paper. Inputs err as they do outside: the free front end's points as measured of both its networks, and
    normal maps from clean to what a network's paper reports.
    """
    config = stage1(variant)
    small = variant == "small"
    config.from_scratch = False
    config.init_from = "default" if small else ""
    config.model.correction = as_config_dict(CorrectionConfig())
    config.data.update(ESTIMATED)
    config.data.update({"normal_noise_deg": 6.0, "errors_vary": True})
    config.data.update(FRONT_END_MEASURED["v1"] | {"point_errors": EITHER})
    config.data.update({"front_end_share": 0.5, "point_share": 0.3, "drop_maps": 0.1, "drop_points": 0.1})
    config.data.unmasked_share = 0.2
    config.average_decay = 0.998
    config.data.update({"crop_centre_jitter": 0.03, "crop_scale_jitter": 0.05, "closed_eyes_share": 0.1})
    config.loss.lambda_camera = 20.0
    config.stage_share = 1.0
    groups = [group for group in config.optimizer.groups if group[0] != "camera/.*"]
    config.optimizer.groups = (*groups, ("camera/.*", "flame"), ("correction/.*", "correction"))
    config.optimizer.rates.correction = config.optimizer.rates.flame
    return config


def joint(variant: str = "paper") -> ConfigDict:
    """The paper's baseline (table 1): everything trained at once, by L_param + L_render."""
    config, second = stage1(variant), stage2(variant)
    config.objective = "joint"
    config.loss = ConfigDict({"parameters": config.loss, "render": second.loss})
    config.stage_share = 1.0  # all steps of both stages
    config.optimizer.groups = (*config.optimizer.groups[:-1], ("camera/.*", "camera"))
    config.optimizer.rates.camera = second.optimizer.rates.camera
    return config


def _either_stage(variant: str) -> ConfigDict:
    """``stage1``, ``stage2``, ``stage1-small`` or ``stage2-small``, without the free front end's samples."""
    stage, _, size = variant.partition("-")
    if stage not in ("stage1", "stage2"):
        raise ValueError(f"there are the variants stage1, stage2 and -small of both, not {variant!r}")
    config = PRESETS[stage](size or "paper")
    config.data.front_end_share = 0.0
    return config


def uv(variant: str = "stage1") -> ConfigDict:
    """The paper's input ablation: UV maps in place of normals."""
    config = _either_stage(variant)
    config.data.channels = "uv"
    config.model.backbone.channels = 2
    return config


def uv_normals(variant: str = "stage1") -> ConfigDict:
    """The paper's input ablation: UV maps beside normals, five channels."""
    config = _either_stage(variant)
    config.data.channels = "uv+normals"
    config.model.backbone.channels = 5
    return config


def no_segmentation(variant: str = "stage1") -> ConfigDict:
    """The paper's network without segmentation: normals of the whole head, no face mask."""
    config = _either_stage(variant)
    config.data.masked = False
    return config


def finetune_stage1(variant: str = "paper") -> ConfigDict:
    """Backbone and FLAME module, L_param on faces with pseudo ground truth (N2FNet, IV.1)."""
    config = stage1(variant)
    small = variant == "small"
    config.from_scratch = False
    config.init_from = "default" if small else ""  # the checkpoint that ships, or stage 2's <workdir>/best

    config.stored = as_config_dict(StoredConfig(kind="pseudo_truth"))
    # What is trained on is what the files hold.
    config.data.front_end_share = 0.0

    # Steps and rates are open in the paper. 20,000 steps see CelebA-HQ's 24,000 training faces 13 times; the new
    # layers learn at a tenth of what they were trained with, since they are to move and not to forget.
    config.total_steps = 20_000
    config.stage_share = 1.0
    config.optimizer.rates = {"backbone": 1e-6, "patch_embedding": 1e-4, "flame": 1e-4}
    config.optimizer.warmup_steps = 500
    config.validation.every = 1000
    config.checkpoint.every = 500
    if small:
        config.batch_size = 32
        config.total_steps = 200
        config.optimizer.rates = {"backbone": 1e-4, "patch_embedding": 1e-4, "flame": 1e-4}
        config.optimizer.warmup_steps = 20
        config.validation.every = 50
        config.validation.batch_size = 32
        config.checkpoint.every = 50
    return config


def finetune_stage2(variant: str = "paper") -> ConfigDict:
    """The camera module, L_render with λ_lmk = 10000 on annotated photographs (N2FNet, IV.1)."""
    config = stage2(variant)
    small = variant == "small"
    config.init_from = ""  # fine-tuning stage 1's <workdir>/best

    # Of any folder the small one; neither reads a test part of 300W.
    own = "own-" if small else ""
    config.stored = as_config_dict(
        StoredConfig(kind="annotated", part=f"{own}train", validation_part=f"{own}validation")
    )
    config.data.front_end_share = 0.0

    config.loss.lambda_lmk = 10_000.0
    # Open in the paper. 4,000 steps see 19 of 20 of 300W's 3,148 training faces 21 times.
    config.total_steps = 4000
    config.stage_share = 1.0
    config.optimizer.warmup_steps = 200
    config.validation.every = 200
    config.checkpoint.every = 200
    if small:
        # The free front end's mask is that of its own mesh, not the face region that is drawn.
        config.loss.lambda_s = 0.0
        config.batch_size = 16
        config.total_steps = 200
        config.optimizer.rates.camera = 1e-4
        config.optimizer.warmup_steps = 20
        config.validation.every = 50
        config.validation.batch_size = 16
        config.checkpoint.every = 50
        config.save_dtype = "bfloat16"
    return config


PRESETS: dict[str, Callable[..., ConfigDict]] = {
    preset.__name__: preset
    for preset in (
        stage1,
        stage2,
        correction,
        joint,
        uv,
        uv_normals,
        no_segmentation,
        finetune_stage1,
        finetune_stage2,
    )
}


def get_config(name: str) -> ConfigDict:
    """A preset by name and variant, ``stage1:small``; this file is itself a config file for ``--config``.

    Raises:
        ValueError: no such preset or variant.
    """
    preset, _, variant = name.partition(":")
    if preset not in PRESETS:
        raise ValueError(f"no preset {preset!r}; there are {', '.join(PRESETS)}")
    return PRESETS[preset](variant) if variant else PRESETS[preset]()
