"""``benchmark.py train``: one training step, taken apart.

Data, forward, backward and update are compiled and timed apart, and then the step as it is run; besides, that the step
moves nothing between host and device, compiles once, and gives its state's memory back. Memory of a larger batch is
XLA's own count for the compiled step, which is not run.
"""

from __future__ import annotations

import dataclasses
import resource
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import optax

    from n2f_jax.data.assets import Assets
    from n2f_jax.models.n2fnet import N2FNetConfig
    from n2f_jax.models.parameters import Tree
    from n2f_jax.training.step import Objective


def _median_seconds(call, repeats: int) -> float:
    call()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


@dataclasses.dataclass(frozen=True)
class Prepared:
    """What a stage's steps are made of.

    Attributes:
        network: its sizes.
        assets: head model and what drawing needs.
        groups: path → group of each parameter.
        optimizer: of the stage.
        objective_of: batch size → ``Objective``.
        initial_params: the network's random parameters.
    """

    network: N2FNetConfig
    assets: Assets
    groups: dict[str, str]
    optimizer: optax.GradientTransformation
    objective_of: Callable[[int], Objective]
    initial_params: Callable[[], Tree]


def prepared(variant: str, batch_size: int, remat: bool, stage: str, dtype: str | None = None) -> Prepared:
    """A stage of ``training.presets`` from random weights; no array of the network is made yet.

    Args:
        variant, batch_size, remat, stage: as in ``take_apart``.
        dtype: what the network computes in; None for the preset's.
    """
    import jax

    from n2f_jax.models.parameters import flatten
    from n2f_jax.training import setup
    from n2f_jax.training.optimizers import assign_groups, build_optimizer
    from n2f_jax.training.presets import PRESETS
    from n2f_jax.training.step import Objective

    config = PRESETS[stage](variant)
    config.from_scratch = True
    config.batch_size = batch_size
    config.data.front_end_share = round(config.data.front_end_share * batch_size) / batch_size
    config.model.backbone.remat = remat
    config.model.backbone.dtype = dtype or config.model.backbone.dtype
    model = setup.load_model(config)
    shapes = jax.eval_shape(lambda: setup.initial_params(config, model))
    groups = assign_groups([tuple(row) for row in config.optimizer.groups], list(flatten(shapes)))
    optimizer, _ = build_optimizer(config.optimizer, groups, setup.num_steps(config))
    # Operation by operation, each of which a GPU would compile for itself.
    with jax.default_device(jax.devices("cpu")[0]):
        assets = jax.device_get(setup.build_assets(config, model))
    network = setup.model_config(config.model)
    sampler, loss = setup.sampler_config(config.data), setup.loss_config(config)
    return Prepared(
        network,
        jax.device_put(assets),
        groups,
        optimizer,
        lambda size: Objective(network, sampler, loss, size),
        lambda: setup.initial_params(config, model),
    )


def take_apart(
    variant: str, batch_size: int, repeats: int, remat: bool, stage: str, memory_batch: int
) -> None:
    """Prints the table for one config.

    Args:
        variant: of ``configs/<stage>.py``: ``paper`` (ViT-L/16 from random weights: speed does not depend on them) or
            ``small``.
        batch_size: samples a step.
        repeats: of each part.
        remat: compute activations again in the backward pass.
        stage: ``stage1`` or ``joint``.
        memory_batch: batch size whose memory is only counted; 0: none.
    """
    import jax

    from n2f_jax.training.optimizers import merge_frozen, split_frozen
    from n2f_jax.training.step import initial_state, make_train_step, step_key

    parts = prepared(variant, batch_size, remat, stage)
    assets, groups, optimizer, objective_of = parts.assets, parts.groups, parts.optimizer, parts.objective_of
    params = parts.initial_params()

    objective = objective_of(batch_size)
    data = jax.jit(lambda assets, step: objective.batch(step_key(0, step), assets))
    trained, frozen = split_frozen(params, groups)

    def loss_of(trained, frozen, batch, assets):
        output = objective.predict(merge_frozen(trained, frozen), batch, assets)
        return objective.loss(output, batch, assets)[0]

    forward, backward = jax.jit(loss_of), jax.jit(jax.grad(loss_of))
    batch = jax.block_until_ready(data(assets, np.int32(0)))
    state = initial_state(params, optimizer, groups)
    del params
    step = make_train_step(objective, optimizer, groups, seed=0)
    state, _ = step(state, assets)
    state, _ = step(state, assets)
    compiled_before = step._cache_size()

    def run_step():
        nonlocal state
        old = jax.tree.leaves(state["params"])[0]
        with jax.transfer_guard("disallow"):  # the step itself moves nothing
            state, metrics = step(state, assets)
        jax.block_until_ready(metrics)
        if not old.is_deleted():
            raise SystemExit("the state's buffers are not given back")

    seconds = {
        "data": _median_seconds(lambda: jax.block_until_ready(data(assets, np.int32(1))), repeats),
        "forward": _median_seconds(
            lambda: jax.block_until_ready(forward(trained, frozen, batch, assets)), repeats
        ),
        "both": _median_seconds(
            lambda: jax.block_until_ready(backward(trained, frozen, batch, assets)), repeats
        ),
        "step": _median_seconds(run_step, repeats),
    }
    if step._cache_size() != compiled_before:
        raise SystemExit("the step was compiled again after its second call")
    rest = seconds["step"] - seconds["data"] - seconds["both"]
    device = jax.devices()[0]
    print(
        f"{device.device_kind}, jax {jax.__version__}; {stage} {variant}, batch {batch_size}"
        f"{', rematerialised' if remat else ''}"
    )
    for name, value in (
        ("data", seconds["data"]),
        ("forward", seconds["forward"]),
        ("backward", seconds["both"] - seconds["forward"]),
        ("update and the rest", rest),
        ("step", seconds["step"]),
    ):
        print(f"{name:<20} {1e3 * value:>10.1f} ms  {100 * value / seconds['step']:>6.1f} %")
    print(f"{batch_size / seconds['step']:.2f} images/s; no transfers, compiled once, state donated")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform != "darwin" else 1e9)
    print(f"peak memory of the process so far: {peak:.1f} GB")
    if memory_batch:
        larger = make_train_step(objective_of(memory_batch), optimizer, groups, seed=0)
        analysis = larger.lower(state, assets).compile().memory_analysis()
        total = analysis.argument_size_in_bytes + analysis.temp_size_in_bytes
        print(
            f"batch {memory_batch}, as compiled: {total / 1e9:.1f} GB "
            f"({analysis.argument_size_in_bytes / 1e9:.1f} state and head model, "
            f"{analysis.temp_size_in_bytes / 1e9:.1f} scratch)"
        )
