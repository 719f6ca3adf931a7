"""One training step: draw a batch, predict, compare, update. All of it inside one jitted function."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float, Int, PRNGKeyArray

import flame_jax
from n2f_jax.data.assets import Assets
from n2f_jax.data.sampler import Batch, SyntheticConfig, make_batch, network_inputs
from n2f_jax.models.correction import Scene
from n2f_jax.models.n2fnet import N2FNet, N2FNetConfig, N2FOutput, camera_from_output, camera_to_output
from n2f_jax.models.parameters import Tree, flatten, functional
from n2f_jax.render import render_head
from n2f_jax.training.contour import Contour, projected_landmarks
from n2f_jax.training.losses import (
    JointLossConfig,
    LossConfig,
    ParameterLossConfig,
    RenderLossConfig,
    Terms,
    parameter_loss,
    render_loss,
)
from n2f_jax.training.optimizers import Flat, apply_gradients, merge_frozen, split_frozen
from n2f_jax.training.parallel import AXIS, Layout, Parts, gather, mean_gradients
from n2f_jax.training.stored import stored_batch

State = dict[str, Any]
Data = Mapping[str, Array] | None


def network_forward(config: N2FNetConfig) -> Callable[..., N2FOutput]:
    """``forward(params, normals, mask, scene)`` of a network of these sizes; holds no arrays."""
    apply, _ = functional(nnx.eval_shape(lambda: N2FNet(config, rngs=nnx.Rngs(0))))
    return apply


class Objective:
    """What a stage minimises: the sampler, the network, and the loss between its output and the truth.

    Args:
        network: sizes of the network.
        sampler: the synthetic data.
        loss: ``ParameterLossConfig`` for ``L_param``, ``RenderLossConfig`` for ``L_render``, ``JointLossConfig`` for
            their sum.
        batch_size: samples a step.
        contour: which jaw line ``L_render``'s landmarks have: ``'static'`` for sampled heads, as in the paper,
            ``'dynamic'`` for whatever is compared with a photograph.
    """

    def __init__(
        self,
        network: N2FNetConfig,
        sampler: SyntheticConfig,
        loss: LossConfig,
        batch_size: int,
        contour: Contour = "static",
    ):
        self.sampler = sampler
        self.contour: Contour = contour
        if isinstance(loss, JointLossConfig):
            self.parameter_loss: ParameterLossConfig | None = loss.parameters
            self.render_loss: RenderLossConfig | None = loss.render
        else:
            self.parameter_loss = loss if isinstance(loss, ParameterLossConfig) else None
            self.render_loss = loss if isinstance(loss, RenderLossConfig) else None
        self.batch_size = batch_size
        self.network = network
        self.forward = network_forward(network)

    def batch(
        self,
        key: PRNGKeyArray,
        assets: Assets,
        batch_size: int | None = None,
        indices: Int[Array, " B"] | None = None,
        targets: bool = False,
    ) -> Batch:
        """A fresh batch (or the samples ``indices`` of it), with full renders to compare with where the loss needs
        them or ``targets`` asks for them."""
        return make_batch(
            key,
            assets.model,
            assets.topology,
            self.sampler,
            indices.shape[0] if indices is not None else batch_size or self.batch_size,
            coarse_mesh=assets.coarse_mesh,
            targets=targets or self.render_loss is not None,
            indices=indices,
        )

    def predict(self, params: Tree, batch: Batch, assets: Assets) -> N2FOutput:
        """The network's output for its inputs of a batch, corrected where the network has a correction."""
        camera = batch["camera"]
        scene = Scene.of_crops(assets.places, camera.focal, camera.principal_point, batch.get("points"))
        return self.forward(params, *network_inputs(batch, self.sampler), scene)

    def loss(self, output: N2FOutput, batch: Batch, assets: Assets) -> tuple[Float[Array, ""], Terms]:
        """The stage's loss and its terms."""
        total = jnp.zeros(())
        terms: Terms = {}
        if self.parameter_loss is not None:
            camera = None
            if self.parameter_loss.lambda_camera > 0.0:
                camera = camera_to_output(
                    batch["camera"], self.sampler.image_size, self.network.camera_parameterization
                )
            # Every pass of a correction answers for itself; the terms are the last one's.
            for answer in (*output.earlier, output):
                loss, found = parameter_loss(
                    answer, batch["params"], self.parameter_loss, assets.metric, camera
                )
                total, terms = total + loss, terms | found
        if self.render_loss is not None:
            loss, found = self._render_loss(output, batch, assets, self.render_loss)
            total, terms = total + loss, terms | found
        return total, terms

    def _render_loss(
        self, output: N2FOutput, batch: Batch, assets: Assets, config: RenderLossConfig
    ) -> tuple[Float[Array, ""], Terms]:
        size = self.sampler.image_size
        vertices, _ = flame_jax.decode(assets.model, output.flame_params())
        truth = batch["camera"]
        camera = camera_from_output(output, truth.focal, truth.principal_point, size)
        landmarks = projected_landmarks(assets.model, vertices, camera, self.contour)
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
            config,
        )


def initial_state(
    params: Tree,
    optimizer: optax.GradientTransformation,
    groups: dict[str, str],
    layout: Layout | None = None,
    *,
    averaged: bool = False,
) -> State:
    """The training state: a dict whose every entry is saved and resumed.

    ``average`` is there if ``averaged``: the moving average of the trained leaves, which is then what is validated and
    kept; ``best`` holds the trained leaves (or their average) of the best validation so far; ``stopped_at`` is the
    first step whose loss or gradient was not finite, or −1: nothing is updated from then on; ``skipped`` counts such
    steps where they are skipped instead.
    """
    layout = layout or Layout.of_devices(1)
    trained, frozen = split_frozen(params, groups)
    flat = trained | frozen
    state = {
        "step": jnp.zeros((), jnp.int32),
        "params": params,
        "opt_state": optimizer.init(dict(sorted(flat.items()))),
        "best": {
            "metric": jnp.asarray(jnp.inf, jnp.float32),
            "step": jnp.asarray(-1, jnp.int32),
            "trained": trained,
        },
        "stopped_at": jnp.asarray(-1, jnp.int32),
        "skipped": jnp.zeros((), jnp.int32),
    }
    if averaged:
        state["average"] = dict(trained)
    return layout.place(state, parameter_shapes(params))  # copies: the state is donated


def parameter_shapes(params: Tree) -> dict[str, tuple[int, ...]]:
    """Path → shape."""
    return {path: tuple(leaf.shape) for path, leaf in flatten(params).items()}


def step_key(seed: int, step: int | Array) -> PRNGKeyArray:
    """Key of a training step; the same after a restart."""
    return jax.random.fold_in(jax.random.key(seed), step)


def make_train_step(
    objective: Objective,
    optimizer: optax.GradientTransformation,
    groups: dict[str, str],
    seed: int,
    layout: Layout | None = None,
    *,
    accumulation_steps: int = 1,
    skip_not_finite: bool = False,
    average_decay: float = 0.0,
) -> Callable[[State, Assets, Data], tuple[State, Terms]]:
    """``step(state, assets, data=None) -> (state, metrics)``, jitted, the state donated.

    Without ``data`` a fresh batch is drawn every step; ``data`` is a batch of stored faces, its rows split over the
    devices (``training.stored``).

    The batch is the same whatever the devices and the accumulation, and so, up to the order in which float32 sums
    are taken, are the numbers.

    Args:
        objective: what is minimised.
        optimizer: from ``build_optimizer``.
        groups: path → group.
        seed: of the batches.
        layout: over which devices; one if None.
        accumulation_steps: parts of a device's share of the batch that are worked off one after the other, in a
            fraction of the memory.
        skip_not_finite: leave a step out whose loss or gradient is not finite, instead of stopping there.
        average_decay: of the moving average of the trained parameters, for a state that has one; early steps, of which
            there are few, count as in a plain mean.

    Raises:
        ValueError: the batch does not divide evenly.
    """
    layout = layout or Layout.of_devices(1)
    num_first = objective.sampler.num_front_end(objective.batch_size)
    parts = Parts.of(layout, accumulation_steps, objective.batch_size, num_first)

    def mean_gradient(
        trained: Flat, frozen: Flat, axes: dict[str, int | None], step: Array, assets: Assets, data: Any
    ) -> tuple[Array, Terms, Flat]:
        """On one device: loss, terms and gradient of its samples, averaged over all devices."""
        whole_frozen = gather(frozen, axes)
        device = jax.lax.axis_index(AXIS).astype(jnp.int32)
        count = objective.batch_size // parts.count

        def rows_of_turn(turn: Array) -> dict[str, Array]:
            return {
                name: jax.lax.dynamic_slice_in_dim(value, turn * count, count) for name, value in data.items()
            }

        def loss_of(trained: Flat, turn: Array) -> tuple[Float[Array, ""], Terms]:
            if data is None:
                indices = parts.indices(turn * layout.count + device, objective.batch_size)
                batch = objective.batch(step_key(seed, step), assets, indices=indices)
            else:
                batch = stored_batch(rows_of_turn(turn))
            params = merge_frozen(gather(trained, axes), whole_frozen)
            output = objective.predict(params, batch, assets)
            return objective.loss(output, batch, assets)

        value_and_gradient = jax.value_and_grad(loss_of, has_aux=True)
        if accumulation_steps == 1:
            (loss, terms), gradients = value_and_gradient(trained, jnp.zeros((), jnp.int32))
        else:

            def add(total: Any, turn: Array) -> tuple[Any, None]:
                return jax.tree.map(jnp.add, total, value_and_gradient(trained, turn)), None

            shapes = jax.eval_shape(value_and_gradient, trained, jnp.zeros((), jnp.int32))
            zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
            total, _ = jax.lax.scan(add, zeros, jnp.arange(accumulation_steps, dtype=jnp.int32))
            (loss, terms), gradients = jax.tree.map(lambda leaf: leaf / accumulation_steps, total)
        loss, terms = jax.lax.pmean((loss, terms), AXIS)
        return loss, terms, mean_gradients(gradients, axes, layout.count)

    def step(state: State, assets: Assets, data: Data = None) -> tuple[State, Terms]:
        trained, frozen = split_frozen(state["params"], groups)
        axes, specs = layout.split(trained | frozen)
        trained_specs = {path: specs[path] for path in trained}
        frozen_specs = {path: specs[path] for path in frozen}
        loss, terms, gradients = layout.map(
            lambda trained, frozen, step, assets, data: mean_gradient(
                trained, frozen, axes, step, assets, data
            ),
            (trained_specs, frozen_specs, PartitionSpec(), PartitionSpec(), PartitionSpec(AXIS)),
            (PartitionSpec(), PartitionSpec(), trained_specs),
        )(trained, frozen, state["step"], assets, data)
        norm = jnp.sqrt(sum(jnp.sum(gradient * gradient) for gradient in gradients.values()))
        params, opt_state = apply_gradients(optimizer, gradients, state["opt_state"], state["params"], groups)
        finite = jnp.isfinite(loss) & jnp.isfinite(norm)
        sound = finite & (state["stopped_at"] < 0)
        keep = lambda new, old: jnp.where(sound, new, old)  # noqa: E731
        stops = ~finite & (state["stopped_at"] < 0) & (not skip_not_finite)
        new_state = {
            "step": state["step"] + 1,
            "params": jax.tree.map(keep, params, state["params"]),
            "opt_state": jax.tree.map(keep, opt_state, state["opt_state"]),
            "best": state["best"],
            "stopped_at": jnp.where(stops, state["step"], state["stopped_at"]),
            "skipped": state["skipped"] + (~finite).astype(jnp.int32),
        }
        if "average" in state:
            done = state["step"].astype(jnp.float32)
            decay = jnp.minimum(average_decay, (done + 1.0) / (done + 10.0))
            now, _ = split_frozen(new_state["params"], groups)
            new_state["average"] = jax.tree.map(
                lambda old, new: decay * old + (1.0 - decay) * new, state["average"], now
            )
        shardings = layout.shardings(new_state, parameter_shapes(state["params"]))
        new_state = jax.lax.with_sharding_constraint(new_state, shardings)
        return new_state, {"loss": loss, **terms, "gradient_norm": norm}

    return jax.jit(step, donate_argnums=0)


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
    trained = _latest(state, groups)
    best = _better(state["best"], trained, np.asarray(metric, np.float32), state["step"])
    return state | {"best": best}


def _latest(state: State, groups: dict[str, str]) -> Flat:
    """The trained leaves as they are, averaged where the state has an average."""
    return state["average"] if "average" in state else split_frozen(state["params"], groups)[0]


def current_params(state: State, groups: dict[str, str]) -> Tree:
    """All parameters as they are, averaged where the state has an average."""
    _, frozen = split_frozen(state["params"], groups)
    return merge_frozen(_latest(state, groups), frozen)


def best_params(state: State, groups: dict[str, str]) -> Tree:
    """All parameters as they were at the best validation (or now, before any)."""
    _, frozen = split_frozen(state["params"], groups)
    return merge_frozen(state["best"]["trained"], frozen)
