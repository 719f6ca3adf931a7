"""One training step: draw a batch, answer it, compare, update. All of it inside one jitted function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Float, PRNGKeyArray

import flame_jax
from n2f_jax.data.synthetic import Batch, SyntheticConfig, make_batch
from n2f_jax.evaluation.synthetic import Assets, batch_errors, held_out_key
from n2f_jax.geometry.camera import project
from n2f_jax.models.n2fnet import N2FNet, N2FNetConfig, N2FOutput, camera_from_output
from n2f_jax.models.parameters import Tree, functional
from n2f_jax.render import render_head
from n2f_jax.training.losses import (
    ParameterLossConfig,
    RenderLossConfig,
    Terms,
    parameter_loss,
    render_loss,
)
from n2f_jax.training.optimizers import Flat, apply_gradients, merge_frozen, split_frozen

State = dict[str, Any]


def network_forward(config: N2FNetConfig) -> Callable[[Tree, Array, Array], N2FOutput]:
    """``forward(params, normals, mask)`` of a network of these sizes; holds no arrays."""
    apply, _ = functional(nnx.eval_shape(lambda: N2FNet(config, rngs=nnx.Rngs(0))))
    return apply


class Objective:
    """What a stage minimises: the sampler, the network, and the loss between its answer and the truth.

    Args:
        network: sizes of the network.
        sampler: the synthetic data.
        loss: ``ParameterLossConfig`` for ``L_param``, ``RenderLossConfig`` for ``L_render``.
        batch_size: samples a step.
    """

    def __init__(
        self,
        network: N2FNetConfig,
        sampler: SyntheticConfig,
        loss: ParameterLossConfig | RenderLossConfig,
        batch_size: int,
    ):
        self.sampler = sampler
        self.loss_config = loss
        self.batch_size = batch_size
        self.forward = network_forward(network)
        self.renders = isinstance(loss, RenderLossConfig)

    def batch(self, key: PRNGKeyArray, assets: Assets, batch_size: int | None = None) -> Batch:
        """A fresh batch, with full renders to compare with where the loss needs them."""
        return make_batch(
            key,
            assets.model,
            assets.topology,
            self.sampler,
            batch_size or self.batch_size,
            coarse_mesh=assets.coarse_mesh,
            targets=self.renders,
        )

    def loss(self, output: N2FOutput, batch: Batch, assets: Assets) -> tuple[Float[Array, ""], Terms]:
        """The stage's loss and its terms."""
        if not self.renders:
            return parameter_loss(output, batch["params"], self.loss_config, assets.metric)
        size = self.sampler.image_size
        vertices, _ = flame_jax.decode(assets.model, output.flame_params())
        truth = batch["camera"]
        camera = camera_from_output(output, truth.focal, truth.principal_point, size)
        landmarks = project(flame_jax.landmarks68(assets.model, vertices), camera)
        maps = render_head(
            assets.topology, vertices, camera, size, normal_frame=self.sampler.normal_frame, antialias=True
        )
        return render_loss(
            maps.normals,
            maps.mask,
            landmarks,
            batch["target_normals"],
            batch["target_mask"],
            batch["landmarks_2d"],
            self.loss_config,
        )


def initial_state(
    params: Tree,
    optimizer: optax.GradientTransformation,
    groups: dict[str, str],
) -> State:
    """The training state: a dict whose every entry is saved and resumed.

    ``best`` holds the trained leaves of the best validation so far; ``stopped_at`` is the first step whose loss
    or gradient was not finite, or −1: nothing is updated from then on.
    """
    trained, frozen = split_frozen(params, groups)
    copy = lambda tree: jax.tree.map(jnp.array, tree)  # noqa: E731  (the state is donated: no shared buffers)
    flat = trained | frozen
    return {
        "step": jnp.zeros((), jnp.int32),
        "params": copy(params),
        "opt_state": optimizer.init(dict(sorted(flat.items()))),
        "best": {
            "metric": jnp.asarray(jnp.inf, jnp.float32),
            "step": jnp.asarray(-1, jnp.int32),
            "trained": copy(trained),
        },
        "stopped_at": jnp.asarray(-1, jnp.int32),
    }


def step_key(seed: int, step: int | Array) -> PRNGKeyArray:
    """Key of a training step; the same after a restart."""
    return jax.random.fold_in(jax.random.key(seed), step)


def make_train_step(
    objective: Objective,
    optimizer: optax.GradientTransformation,
    groups: dict[str, str],
    seed: int,
) -> Callable[[State, Assets], tuple[State, Terms]]:
    """``step(state, assets) -> (state, metrics)``, jitted, the state donated; a fresh batch every step."""

    def step(state: State, assets: Assets) -> tuple[State, Terms]:
        batch = objective.batch(step_key(seed, state["step"]), assets)
        trained, frozen = split_frozen(state["params"], groups)

        def loss_of(trained: Flat) -> tuple[Float[Array, ""], Terms]:
            output = objective.forward(merge_frozen(trained, frozen), batch["normals"], batch["mask"])
            return objective.loss(output, batch, assets)

        (loss, terms), gradients = jax.value_and_grad(loss_of, has_aux=True)(trained)
        norm = optax.global_norm(gradients)
        params, opt_state = apply_gradients(optimizer, gradients, state["opt_state"], state["params"], groups)
        sound = jnp.isfinite(loss) & jnp.isfinite(norm) & (state["stopped_at"] < 0)
        keep = lambda new, old: jnp.where(sound, new, old)  # noqa: E731
        new_state = {
            "step": state["step"] + 1,
            "params": jax.tree.map(keep, params, state["params"]),
            "opt_state": jax.tree.map(keep, opt_state, state["opt_state"]),
            "best": state["best"],
            "stopped_at": jnp.where(sound | (state["stopped_at"] >= 0), state["stopped_at"], state["step"]),
        }
        return new_state, {"loss": loss, **terms, "gradient_norm": norm}

    return jax.jit(step, donate_argnums=0)


def make_validation(
    objective: Objective, num_heads: int, batch_size: int, seed: int
) -> Callable[[Tree, Assets], dict[str, float]]:
    """``validate(params, assets)``: means over a fixed held-out set, drawn anew each time from the same keys."""

    @jax.jit
    def batch_metrics(params: Tree, assets: Assets, index: Array) -> dict[str, Array]:
        batch = objective.batch(held_out_key(seed, index), assets, batch_size)
        output = objective.forward(params, batch["normals"], batch["mask"])
        loss, terms = objective.loss(output, batch, assets)
        errors = batch_errors(output, batch, assets.model, objective.sampler.image_size)
        return {"loss": loss, **terms} | {name: jnp.mean(value) for name, value in errors.items()}

    num_batches = max(1, num_heads // batch_size)

    def validate(params: Tree, assets: Assets) -> dict[str, float]:
        parts = [
            jax.device_get(batch_metrics(params, assets, jnp.asarray(index))) for index in range(num_batches)
        ]
        means = {name: float(sum(float(part[name]) for part in parts) / num_batches) for name in parts[0]}
        means["face_ratio"] = means["face_mm"] / means["mean_head_face_mm"]
        return means

    return validate


@jax.jit
def _better(best: State, trained: Flat, metric: Array, step: Array) -> State:
    improved = metric < best["metric"]
    keep = lambda new, old: jnp.where(improved, new, old)  # noqa: E731
    return {
        "metric": keep(metric, best["metric"]),
        "step": keep(step, best["step"]),
        "trained": jax.tree.map(keep, trained, best["trained"]),
    }


def record_best(state: State, groups: dict[str, str], metric: float) -> State:
    """The state with ``best`` replaced if ``metric`` (smaller is better) improves on it; NaN never does."""
    trained, _ = split_frozen(state["params"], groups)
    best = _better(state["best"], trained, jnp.asarray(metric, jnp.float32), state["step"])
    return state | {"best": best}


def best_params(state: State, groups: dict[str, str]) -> Tree:
    """All parameters as they were at the best validation (or now, before any)."""
    _, frozen = split_frozen(state["params"], groups)
    return merge_frozen(state["best"]["trained"], frozen)
