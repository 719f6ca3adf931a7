"""The training loop: resume, step, validate, save, stop when asked, write the best network."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import ml_collections
import optax
from tqdm import tqdm

from flame_jax import HeadModel
from n2f_jax.data.assets import Assets
from n2f_jax.data.sampler import SyntheticConfig
from n2f_jax.models.face_mesh_places import FaceMeshPlaces
from n2f_jax.models.n2fnet import N2FNetConfig
from n2f_jax.models.parameters import Tree, flatten
from n2f_jax.models.pretrained import InputSpec, save_pretrained
from n2f_jax.training import setup
from n2f_jax.training.checkpoints import Checkpoints
from n2f_jax.training.metric_log import MetricLog, NoLog
from n2f_jax.training.not_finite import NotFiniteError, stop_if_not_finite
from n2f_jax.training.optimizers import FROZEN, assign_groups, build_optimizer, group_table
from n2f_jax.training.parallel import Layout, any_process, is_main_process
from n2f_jax.training.report import heads_page, measure_heads, write_report
from n2f_jax.training.step import (
    Objective,
    State,
    best_params,
    current_params,
    initial_state,
    make_train_step,
    record_best,
)

# EX_TEMPFAIL of sysexits.h: stopped by a signal with everything saved; start the same command again to go on.
EXIT_RESUME_ME = 75
__all__ = ["EXIT_RESUME_ME", "NotFiniteError", "train"]

_WORST_SHOWN = 12
CHECKPOINTS = "checkpoints"
BEST = "best"

_log = logging.getLogger(__name__)


class _StopRequest:
    """Remembers SIGTERM or SIGINT, so that the loop ends between two steps."""

    def __init__(self) -> None:
        self.name = ""

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        def handle(number: int, _frame: object) -> None:
            self.name = signal.Signals(number).name

        previous = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)


@dataclasses.dataclass(frozen=True)
class Prepared:
    """What a stage's steps are made of.

    Attributes:
        params: before the first step.
        groups: path → group.
        optimizer, schedules: of the groups.
        layout, assets: devices, and what steps need beside the parameters, placed on them.
        objective: what is minimised.
        step: ``make_train_step``'s.
    """

    params: Tree
    groups: dict[str, str]
    optimizer: optax.GradientTransformation
    schedules: dict[str, Callable[[int], Any]]
    layout: Layout
    assets: Assets
    objective: Objective
    step: Callable[..., tuple[State, Any]]


def prepare(
    config: ml_collections.ConfigDict, model: HeadModel, places: FaceMeshPlaces | None, params: Tree
) -> Prepared:
    """The step of a stage, from these parameters on; nothing is compiled yet.

    Raises:
        SetupError: the settings contradict each other.
    """
    groups = assign_groups([tuple(row) for row in config.optimizer.groups], list(flatten(params)))
    optimizer, schedules = build_optimizer(config.optimizer, groups, setup.num_steps(config))
    layout = setup.layout(config, setup.sampler_config(config.data))
    objective = setup.objective(config)
    step = make_train_step(
        objective,
        optimizer,
        groups,
        config.seed,
        layout,
        accumulation_steps=config.parallel.accumulation_steps,
        skip_not_finite=config.not_finite == "skip",
        average_decay=config.average_decay,
    )
    assets = layout.place(setup.build_assets(config, model, places))
    return Prepared(params, groups, optimizer, schedules, layout, assets, objective, step)


def train(
    config: ml_collections.ConfigDict,
    workdir: str | Path,
    model: HeadModel | None = None,
    places: FaceMeshPlaces | None = None,
) -> int:
    """Runs one stage to its end, from where the run's folder says it is.

    The folder holds ``config.json`` (as resolved), ``checkpoints/``, ``metrics.jsonl``, ``tensorboard/`` and, at
    the end, ``best/``, the network of the best validation as ``n2f_jax.models.pretrained`` reads it, and
    ``report.html``.

    Args:
        config: of a file under ``configs/``.
        workdir: the run's folder; made if missing, gone on with if it holds a run of the same config.
        model: the head model that the config names, where it is loaded already.
        places: of the face mesh's points on it, where it is not the open head (saved with the network).

    Returns:
        0, or ``EXIT_RESUME_ME`` if a signal stopped the run.

    Raises:
        SetupError: the settings contradict each other, or a file is missing.
        NotFiniteError: a loss or gradient was not finite.
    """
    workdir = Path(workdir)
    model = setup.load_model(config) if model is None else model
    setup.check(config, model)
    network, sampler = setup.model_config(config.model), setup.sampler_config(config.data)
    steps = setup.num_steps(config)
    ready = prepare(config, model, places, setup.initial_params(config, model))
    params, groups, layout, assets = ready.params, ready.groups, ready.layout, ready.assets
    objective, train_step, schedules = ready.objective, ready.step, ready.schedules
    stored = setup.stored_faces(config, model, places)
    workdir.mkdir(parents=True, exist_ok=True)
    if is_main_process():
        setup.save_resolved(config, workdir)
        print(group_table(groups, params, dict(config.optimizer.rates)), flush=True)
        print(f"{layout.count} × {layout.mesh.devices.flat[0].device_kind}", flush=True)

    validate = setup.validation(config, objective, layout, stored)
    state = initial_state(params, ready.optimizer, groups, layout, averaged=config.average_decay > 0.0)
    del params, ready  # the state is donated, and the parameters would stay beside it
    checkpoints = Checkpoints(
        workdir / CHECKPOINTS, save_every=config.checkpoint.every, keep=config.checkpoint.keep
    )
    start = 0
    restored = checkpoints.restore(state)
    if restored is not None:
        start, state = restored
        print(f"resumes at step {start} of {steps}", flush=True)
    log = MetricLog(workdir, start if restored else -1) if is_main_process() else NoLog()
    stop = _StopRequest()
    quiet = not is_main_process()

    def validated(state: State, step: int) -> State:
        values, heads = validate(current_params(state, groups), assets)
        log.write(step, "validation", values)
        log.image(step, "validation/heads", heads_page(heads))
        if not quiet:
            tqdm.write(_validation_line(step, values), file=sys.stdout)
        return record_best(state, groups, values[config.validation.best_by])

    try:
        with (
            stop.listening(),
            tqdm(total=steps, initial=start, unit="step", dynamic_ncols=True, disable=quiet) as bar,
        ):
            if start == 0 and config.init_from:
                state = validated(state, 0)  # what the steps have to improve on
            feed = stored.feed(start, layout) if stored else None
            ticks, tick_step = time.perf_counter(), start
            for step in range(start + 1, steps + 1):
                state, metrics = train_step(state, assets, next(feed) if feed else None)
                bar.update()
                if step % config.log_every == 0 or step == steps:
                    values = {name: float(value) for name, value in jax.device_get(metrics).items()}
                    stop_if_not_finite(state, objective, assets, config.seed, workdir, stored)
                    log.write(step, "train", values)
                    now = time.perf_counter()
                    rate = (step - tick_step) * config.batch_size / (now - ticks)
                    ticks, tick_step = now, step
                    rates = {
                        f"rate/{group}": float(schedule(step - 1)) for group, schedule in schedules.items()
                    }
                    log.scalars(step, {"images_per_second": rate, **rates})
                    bar.set_postfix_str(f"loss {values['loss']:.4g}, {rate:.0f} images/s", refresh=False)
                if step % config.validation.every == 0 or step == steps:
                    state = validated(state, step)
                    ticks, tick_step = time.perf_counter(), step  # validation is not training time
                checkpoints.save(step, state, force=step == steps)
                # Every process must stop at the same step; asking the others costs a round of messages.
                asks = jax.process_count() == 1 or step % config.log_every == 0
                if asks and step < steps and any_process(bool(stop.name)):
                    checkpoints.save(step, state, force=True)
                    checkpoints.wait()
                    print(
                        f"{stop.name or 'another process'}: saved at step {step}; "
                        "the same command resumes there",
                        flush=True,
                    )
                    return EXIT_RESUME_ME
    finally:
        checkpoints.close()
        log.close()
    best = best_params(state, groups)
    measured = measure_heads(
        lambda index: validate.heads(best, assets, index),
        validate.num_batches,
        "landmarks_percent" if config.objective == "render" else "face_mm",
        worst=_WORST_SHOWN,
    )
    best = layout.whole(best)
    if is_main_process():
        _write_best(config, state, best, groups, network, sampler, model, places, workdir)
        try:
            title = f"{workdir.name}, step {int(state['best']['step'])}"
            print(f"report: {write_report(workdir, title, *measured)}", flush=True)
        except OSError as error:  # the network is written; only its report is not
            _log.warning("no report: %s", error)
    return 0


def _validation_line(step: int, values: dict[str, float]) -> str:
    parts = [f"loss {values['loss']:.4g}"]
    if "face_mm" in values:
        parts += [f"face {values['face_mm']:.3f} mm ({values['face_ratio']:.3f} of the mean head's)"]
    parts += [f"landmarks {values['landmarks_percent']:.2f} %"]
    if "rotation_degrees" in values:
        parts += [f"rotation {values['rotation_degrees']:.2f}°"]
    parts += [f"normals {values['normals_degrees']:.2f}°", f"mask IoU {values['mask_iou']:.3f}"]
    return f"step {step}: validation {', '.join(parts)}"


def _write_best(
    config: ml_collections.ConfigDict,
    state: State,
    params: Tree,
    groups: dict[str, str],
    network: N2FNetConfig,
    sampler: SyntheticConfig,
    model: HeadModel,
    places: FaceMeshPlaces | None,
    workdir: Path,
) -> None:
    best = state["best"]
    path = workdir / BEST
    # What a stage leaves alone is saved as it was found, bit for bit.
    dtype = config.save_dtype
    if config.init_from and (changed := _frozen_that_rounding_changes(params, groups, dtype)):
        print(
            f"saved in float32, not in {dtype}: that would change {len(changed)} matrices that this stage leaves as "
            f"they are in {config.init_from}",
            flush=True,
        )
        dtype = "float32"
    save_pretrained(
        path,
        params,
        network,
        head_model=model,
        inputs=InputSpec(
            size=network.input_size,
            crop_scale=sampler.crop_scale,
            normal_frame=sampler.normal_frame,
            channels=sampler.channels,
            masked=sampler.masked,
        ),
        notes={
            "objective": config.objective,
            "steps": setup.num_steps(config),
            "batch_size": config.batch_size,
            "front_end_share": sampler.front_end_share,
            "best_step": int(best["step"]),
            f"best_{config.validation.best_by}": float(best["metric"]),
        },
        dtype=dtype,
        face_mesh=places,
    )
    print(
        f"best: step {int(best['step'])}, {config.validation.best_by} {float(best['metric']):.4g} → {path}",
        flush=True,
    )


def _frozen_that_rounding_changes(params: Tree, groups: dict[str, str], dtype: str) -> list[str]:
    """Paths of frozen matrices (the rest is saved in float32 anyway) that a round trip through ``dtype`` changes."""
    return [
        path
        for path, leaf in flatten(params).items()
        if groups[path] == FROZEN
        and path.endswith("/kernel")
        and (leaf.astype(dtype).astype(leaf.dtype) != leaf).any()
    ]
