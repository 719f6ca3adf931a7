"""``speed.py memory``: what a training step needs, as XLA counts its compiled program, which is not run."""

from __future__ import annotations

import jax
import numpy as np

from n2f_jax.models.parameters import flatten
from n2f_jax.training import setup
from n2f_jax.training.optimizers import assign_groups, build_optimizer
from n2f_jax.training.presets import PRESETS
from n2f_jax.training.step import Objective, initial_state, make_train_step


def step_memory(preset: str, variant: str, batch_size: int, remat: bool, dtype: str) -> tuple[float, float]:
    """GB of the state with head model, and of the step's scratch.

    Args:
        preset, variant: of ``n2f_jax.training.presets``.
        batch_size: samples a step.
        remat: compute activations again in the backward pass.
        dtype: that the network computes in.
    """
    config = PRESETS[preset](variant)
    config.from_scratch = True
    config.batch_size = batch_size
    config.data.front_end_share = round(config.data.front_end_share * batch_size) / batch_size
    config.model.backbone.remat = remat
    config.model.backbone.dtype = dtype
    model = setup.load_model(config)
    assets = setup.build_assets(config, model)
    network = setup.model_config(config.model)
    # Stage 2 starts from a saved network: only the shapes matter here.
    start = PRESETS["stage1"](variant)
    start.from_scratch = True
    params = jax.eval_shape(lambda: setup.initial_params(start, model))
    groups = assign_groups([tuple(row) for row in config.optimizer.groups], list(flatten(params)))
    optimizer, _ = build_optimizer(config.optimizer, groups, setup.num_steps(config))
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), params)
    state = initial_state(zeros, optimizer, groups)
    objective = Objective(network, setup.sampler_config(config.data), setup.loss_config(config), batch_size)
    step = make_train_step(objective, optimizer, groups, seed=0)
    counted = step.lower(state, assets).compile().memory_analysis()
    return counted.argument_size_in_bytes / 1e9, counted.temp_size_in_bytes / 1e9


def table(rows: list[tuple[str, str, int, bool, str]]) -> None:
    """Prints a Markdown row as soon as it is known."""
    print(
        "| config | batch | computes in | rematerialised | state | scratch | together |\n|---|---|---|---|---|---|---|"
    )
    for preset, variant, batch_size, remat, dtype in rows:
        state, scratch = step_memory(preset, variant, batch_size, remat, dtype)
        again = "yes" if remat else "no"
        print(
            f"| `{preset}:{variant}` | {batch_size} | {dtype} | {again} | {state:.1f} GB | {scratch:.1f} GB | "
            f"{state + scratch:.1f} GB |",
            flush=True,
        )


# Buffers are assigned before LLVM comes, so XLA_FLAGS=--xla_backend_optimization_level=0 gives the same figures sooner.
ROWS = [
    ("stage1", "small", 16, False, "float32"),
    ("stage1", "small", 128, False, "float32"),
    ("stage2", "small", 32, False, "float32"),
    ("stage1", "paper", 1, False, "float32"),
    ("stage1", "paper", 1, True, "float32"),
    ("stage1", "paper", 2, False, "float32"),
    ("stage1", "paper", 2, True, "float32"),
    ("stage1", "paper", 16, False, "float32"),
    ("stage1", "paper", 16, True, "float32"),
    ("stage1", "paper", 16, True, "bfloat16"),
    ("stage2", "paper", 16, False, "float32"),
]
