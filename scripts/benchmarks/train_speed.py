"""``benchmark.py train``: one training step, taken apart.

Data, forward, backward and update are compiled and timed apart, and then the step as it is run; besides, that the step
moves nothing between host and device, compiles once, and gives its state's memory back. Memory of a larger batch is
XLA's own count for the compiled step, which is not run.
"""

from __future__ import annotations

import resource
import sys
import time

import numpy as np


def _median_seconds(call, repeats: int) -> float:
    call()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


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

    from n2f_jax.models.parameters import flatten
    from n2f_jax.training import setup
    from n2f_jax.training.optimizers import assign_groups, build_optimizer, merge_frozen, split_frozen
    from n2f_jax.training.presets import PRESETS
    from n2f_jax.training.step import Objective, initial_state, make_train_step, step_key

    config = PRESETS[stage](variant)
    config.from_scratch = True
    config.batch_size = batch_size
    config.data.front_end_share = round(config.data.front_end_share * batch_size) / batch_size
    config.model.backbone.remat = remat
    model = setup.load_model(config)
    params = setup.initial_params(config, model)
    groups = assign_groups([tuple(row) for row in config.optimizer.groups], list(flatten(params)))
    optimizer, _ = build_optimizer(config.optimizer, groups, setup.num_steps(config))
    assets = setup.build_assets(config, model)
    network = setup.model_config(config.model)
    sampler, loss = setup.sampler_config(config.data), setup.loss_config(config)

    def objective_of(size: int) -> Objective:
        return Objective(network, sampler, loss, size)

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
