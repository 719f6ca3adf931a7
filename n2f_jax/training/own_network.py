"""A network for a head model of one's own: which stages, how long they take, and from first to last.

Stage 1 and stage 2 as everywhere; for the small variant then the correction on the surface, as what ships was trained;
then what its answers are worth is measured (``calibrating``). Every stage is a run of ``loop.train`` in a folder of its
own, and the finished network lies beside them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import ml_collections

from flame_jax import HeadModel
from n2f_jax.models.face_mesh_places import FaceMeshPlaces
from n2f_jax.models.folders import PretrainedError
from n2f_jax.models.pretrained import Pretrained, from_pretrained, save_pretrained
from n2f_jax.training import presets, setup
from n2f_jax.training.calibrating import calibrations
from n2f_jax.training.loop import BEST, prepare, train
from n2f_jax.training.step import initial_state

Variant = Literal["small", "paper"]
# What stage 1 of the paper's at its batch of 16 takes: 27.6 GB (RESULTS.md), activations computed again.
PAPER_BYTES = 28_000_000_000
# Heads of each kind of input for the calibration; more where a model has more than so many coefficients.
CALIBRATION_HEADS = 10_000
_HEADS_PER_UNKNOWN = 20
# The recipe of the correction that ships: the network is trained already, so its rates are lower than from scratch.
_CORRECTION = {
    "total_steps": 1300,
    "validation.every": 260,
    "optimizer.rates.backbone": 1e-3,
    "optimizer.rates.patch_embedding": 1e-3,
    "optimizer.rates.flame": 1e-3,
    "optimizer.rates.correction": 1.5e-3,
}


@dataclasses.dataclass(frozen=True)
class StagePlan:
    """One stage.

    Attributes:
        name: of its folder.
        preset: ``stage1:small``; of ``presets.PRESETS``.
        settings: fields that differ from the preset's, by their paths.
    """

    name: str
    preset: str
    settings: Mapping[str, Any]


def choose_variant(has_weights: bool) -> tuple[Variant, str]:
    """Which variant the hardware is for, and why, in words.

    Args:
        has_weights: whether DINOv3's weights are given, from which the paper's network starts.
    """
    device = jax.devices()[0]
    memory = 0
    if device.platform == "gpu":
        memory = int((device.memory_stats() or {}).get("bytes_limit", 0))
    if not memory:
        return "small", f"{device.platform}, no GPU"
    room = f"{device.device_kind}, {memory / 1e9:.0f} GB to be had"
    if memory < PAPER_BYTES:
        return "small", f"{room}; the paper's takes {PAPER_BYTES / 1e9:.0f}"
    if not has_weights:
        return (
            "small",
            f"{room}, enough for the paper's, which starts from DINOv3's weights: --backbone-weights",
        )
    return "paper", room


def plan_stages(
    variant: Variant,
    model: HeadModel,
    head_model: str | Path,
    out: Path,
    *,
    backbone_weights: str | Path = "",
    share: float = 1.0,
) -> list[StagePlan]:
    """The stages of a variant.

    Args:
        variant: which.
        model: the head model.
        head_model: its file or folder.
        out: the whole run's folder.
        backbone_weights: DINOv3's, which the paper's needs.
        share: of the steps of every stage.

    Raises:
        SetupError: the paper's without weights; or no share.
    """
    if not 0.0 < share <= 10.0:
        raise setup.SetupError(f"the share of the steps is above 0 and at most 10, not {share:g}")
    if variant == "paper" and not backbone_weights:
        raise setup.SetupError(
            "the paper's variant starts from DINOv3's weights: --backbone-weights PATH (docs/training.md)"
        )
    common: dict[str, Any] = {
        "head_model": str(head_model),
        "model.num_shape": model.num_shape,
        "model.num_expression": model.num_expression,
    }
    special: dict[str, dict[str, Any]] = {"stage1": {}, "stage2": {"init_from": str(out / "stage1" / BEST)}}
    if variant == "small":
        special["correction"] = {"init_from": str(out / "stage2" / BEST), **_CORRECTION}
    else:
        special["stage1"] = {"backbone_weights": str(backbone_weights), "model.backbone.remat": True}
        special["stage2"]["model.backbone.remat"] = True
    stages = []
    for name, settings in special.items():
        preset = presets.PRESETS[name](variant)
        steps = max(round(share * settings.get("total_steps", preset.total_steps)), 8)
        warmup = min(preset.optimizer.warmup_steps, round(steps * preset.stage_share) // 4)
        scaled = {"total_steps": steps, "optimizer.warmup_steps": warmup} if share != 1.0 else {}
        stages.append(StagePlan(name, f"{name}:{variant}", {**common, **settings, **scaled}))
    return stages


@dataclasses.dataclass(frozen=True)
class StepTime:
    """What a stage's steps take here, measured: seconds to compile the first, seconds of each."""

    compiling: float
    step: float


def measure_step(
    config: ml_collections.ConfigDict, model: HeadModel, places: FaceMeshPlaces | None, steps: int = 3
) -> StepTime:
    """Takes a few steps of a stage from random parameters, which are thrown away.

    The compiled program stays in JAX's persistent cache, where there is one.

    Raises:
        SetupError: the settings contradict each other.
    """
    setup.check(config, model)
    params = setup.random_params(setup.model_config(config.model), config.seed)
    ready = prepare(config, model, places, params)
    state = initial_state(
        params, ready.optimizer, ready.groups, ready.layout, averaged=config.average_decay > 0.0
    )
    ticks = [time.perf_counter()]
    for _ in range(steps + 1):
        state, metrics = ready.step(state, ready.assets, None)
        jax.block_until_ready((state, metrics))
        ticks.append(time.perf_counter())
    each = (ticks[-1] - ticks[1]) / steps
    return StepTime(ticks[1] - ticks[0] - each, each)


def trained(folder: Path, model: HeadModel) -> Pretrained | None:
    """A folder's network, if it is there, whole, and this head model's."""
    with contextlib.suppress(PretrainedError):
        return from_pretrained(folder, model)
    return None


def expected_time(
    stages: Sequence[tuple[str, ml_collections.ConfigDict]],
    out: Path,
    model: HeadModel,
    places: FaceMeshPlaces | None,
    heads: int,
    say: Callable[[str], None],
) -> None:
    """Says how long the stages that are not done will take, by a few measured steps of each.

    Args:
        stages, out, model, places, heads, say: as for ``train_stages``.
    """
    total = 0.0
    for name, config in stages:
        if trained(out / name / BEST, model):
            say(f"{name}: done")
            continue
        measured = measure_step(config, model, places)
        steps = setup.num_steps(config)
        seconds = measured.compiling + steps * measured.step
        total += seconds
        say(
            f"{name}: {steps} steps of {config.batch_size} heads, {measured.step:.2f} s each as measured: "
            f"{duration(seconds)}"
        )
        jax.clear_caches()  # what was measured with does not stay in memory beside what trains
    if total:
        say(
            f"expected: {duration(total)} for the steps; validation, compiling it, and calibration on {heads} heads of "
            "each kind of input come on top"
        )


def duration(seconds: float) -> str:
    """Hours and minutes, or minutes, or seconds."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def calibration_heads(model: HeadModel) -> int:
    """So many of each kind of input."""
    return max(CALIBRATION_HEADS, _HEADS_PER_UNKNOWN * (model.num_shape + model.num_expression + 5))


def train_stages(
    stages: Sequence[tuple[str, ml_collections.ConfigDict]],
    out: Path,
    model: HeadModel,
    places: FaceMeshPlaces | None,
    *,
    heads: int,
    say: Callable[[str], None] = print,
) -> int:
    """Trains every stage that is not done, then measures what the last one's answers are worth.

    Args:
        stages: name and config of each, in order.
        out: their folders' folder, which becomes the finished network's.
        model: the head model.
        places: of the face mesh's points on it, where it is not the open head.
        heads: for the calibration, of each kind of input (``calibration_heads``).
        say: told what is done.

    Returns:
        0, or ``loop.EXIT_RESUME_ME`` if a signal stopped a stage: called again, it goes on there.

    Raises:
        SetupError, NotFiniteError, CheckpointWriteError: of a stage.
        ValueError: too few heads.
    """
    for name, config in stages:
        folder = out / name
        if trained(folder / BEST, model):
            setup.save_resolved(config, folder)  # refuses other settings than it was trained with
            continue
        say(f"{name}, in {folder}")
        if code := train(config, folder, model, places):
            return code
    name, config = stages[-1]
    saved = from_pretrained(out / name / BEST, model)
    notes = {
        **saved.notes,
        "stages": {name: setup.num_steps(config) for name, config in stages},
        "calibrated_on": heads,
    }
    finished = trained(out, model)
    if finished is not None and finished.notes == notes and finished.calibration:
        return 0
    say(f"calibration, {heads} heads of each kind of input")
    # What draws every kind of input, whatever the last stage was shown.
    asking = ml_collections.ConfigDict(config)
    if places is not None or setup.wants_face_mesh(config):
        asking.data.point_share = 1.0
    assets = jax.tree.map(jnp.asarray, setup.build_assets(asking, model, places))
    save_pretrained(
        out,
        saved.network,
        saved.config,
        head_model=model,
        inputs=saved.inputs,
        notes=notes,
        dtype=config.save_dtype,
        calibration=calibrations(saved, assets, heads, batch_size=config.validation.batch_size),
        face_mesh=places,
    )
    return 0
