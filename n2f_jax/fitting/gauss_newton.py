"""Damped Gauss–Newton (Levenberg–Marquardt) over a head's shape, expression, jaw, eyelids and camera.

The cost of one person seen in F images is, with one shape and everything else by image,

    Σ_f ½ Σ weight · mean ρ(residuals of f)  +  ½ (x_f − mean_f)ᵀ P (x_f − mean_f)

(``residuals`` for the first part, ``prior.HeadPrior`` for the second: the population, and a network's answer with its
own error; the camera's prior is about where the fit starts). A step linearises the
residuals with visibility and robust weights as they are, damps by Marquardt's scaled diagonal, and eliminates each
image's own unknowns first (a Schur complement), so that joint fits cost F small systems and one of the shape's size.
It is taken only if the cost, with visibility drawn anew, falls. After a step that was taken the noise of each kind of
residual is estimated anew, and with it their weights. Pure JAX: jit; one call a person, ``fit_images`` for more.

Why no library solves this: Levenberg–Marquardt of optimistix or jaxopt takes a function and forms its Jacobian by
forward mode over all of it, here 411 tangents through decoder and renderer; what makes a step fast, the gathered
basis rows and the Schur complement, and visibility that is fixed within a step and renewed between steps, have no
place there.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from flame_jax import FlameParams, points_on_mesh
from flame_jax.rotations import (
    IDENTITY_6D,
    axis_angle_to_rotation_6d,
    rotation_6d_to_axis_angle,
)
from n2f_jax.fitting.head_tables import HeadTables, Posed, pose
from n2f_jax.fitting.linear_solve import solve_positive
from n2f_jax.fitting.observations import Anchors, Observation, usable
from n2f_jax.fitting.prior import HeadPrior
from n2f_jax.fitting.residuals import (
    FACE_MESH,
    ResidualConfig,
    Samples,
    Target,
    Values,
    data_cost,
    normal_equations,
    place_samples,
    residual_values,
    term_weights,
    whole_target,
)
from n2f_jax.geometry.camera import Camera
from n2f_jax.geometry.pose import align_camera, move_camera

_DAMPING_DOWN, _DAMPING_UP = 0.2, 6.0
_DAMPING_MIN, _DAMPING_MAX = 1e-5, 1e4


@dataclasses.dataclass(frozen=True)
class Stage:
    """One leg of a fit.

    Attributes:
        pixels: how many pixels of the mask are sampled.
        steps: attempted steps, at most.
        prior: what the head's prior is multiplied with. Large at first, so that the camera takes up
            what it can before the shape does.
    """

    pixels: int
    steps: int
    prior: float


@dataclasses.dataclass(frozen=True)
class GaussNewtonConfig:
    """How to fit.

    Attributes:
        stages: from coarse to fine; the last one's cost decides whether the result is better than the start.
        residuals: weights and scales of the residuals.
        size_std: how far a fit may move the face's size (``HeadTables.size``) from what its prior expects, a share. A
            view tells size from distance by perspective alone, and what the head model lacks of a person's shape is
            taken for perspective: heads shrink by some percent.
        camera_std: of the camera's turn (radians) and of x/z and y/z of the face's centre; wide.
        depth_std: of its log z. Normals and landmarks hardly tell a large head from a near one, and what they seem
            to say of it is mostly noise; the start knows better.
        tolerance: a stage ends when an accepted step lowers the cost by less than this share.
        damping: at the start of a stage, share of the normal equations' diagonal.
        align: whether the camera is first moved onto the points in closed form.
    """

    stages: tuple[Stage, ...] = (Stage(192, 4, 10.0), Stage(384, 8, 1.0))
    residuals: ResidualConfig = dataclasses.field(default_factory=ResidualConfig)
    size_std: float = 0.002
    camera_std: float = 1.0
    depth_std: float = 0.05
    tolerance: float = 5e-3
    damping: float = 1e-2
    align: bool = True


def gauss_newton_steps(steps: int, of_face_mesh: bool = False) -> GaussNewtonConfig:
    """The default configuration with so many steps in all, a third of them coarse ones.

    Args:
        steps: at most.
        of_face_mesh: normals and points are the free front end's (``residuals.FACE_MESH``).

    Raises:
        ValueError: fewer than one.
    """
    if steps < 1:
        raise ValueError(f"a fit takes at least one step, not {steps}")
    coarse, fine = GaussNewtonConfig().stages
    first = steps // 3
    stages = (dataclasses.replace(coarse, steps=first), dataclasses.replace(fine, steps=steps - first))
    residuals = FACE_MESH if of_face_mesh else ResidualConfig()
    return GaussNewtonConfig(stages=stages if first else stages[1:], residuals=residuals)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Report:
    """What a fit did, or several along leading axes. A pytree.

    Attributes:
        start_cost: by the last stage's measure; inf where the start was of no use.
        cost: of the result; never above ``start_cost``.
        attempts: ``(stages,)`` steps tried.
        accepted: ``(stages,)`` steps taken.
    """

    start_cost: Float[Array, "*images"]
    cost: Float[Array, "*images"]
    attempts: Int[Array, "*images stages"]
    accepted: Int[Array, "*images stages"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _State:
    shape: Float[Array, " S"]
    expression: Float[Array, "F E"]
    jaw: Float[Array, "F 3"]  # axis times angle
    eyelids: Float[Array, "F 2"]
    camera: Camera


def fit_person(
    tables: HeadTables,
    anchors: Anchors,
    observations: Observation,
    start: FlameParams,
    camera: Camera,
    config: GaussNewtonConfig,
    prior: HeadPrior | None = None,
) -> tuple[FlameParams, Camera, Report]:
    """Fits one person seen in F images: one shape, an expression, jaw, eyelids and camera for each image.

    F = 1 is the ordinary single photograph.

    Args:
        tables: ``HeadTables.from_model(model)``.
        anchors: points of the mesh that ``observations.points`` are the images of.
        observations: (F, …).
        start: (F, …); the person's shape starts from the mean of the F. What is not finite starts from the mean
            head. Its neck and eyes are given back at rest.
        camera: (F, …), of the crops; its intrinsics stay.
        config: static.
        prior: (F, …), what is known of the heads; None: that they are people.

    Returns:
        Parameters (F, …) with the same shape in each, the cameras, and the report. Finite whatever the input, and
        never of higher cost than the start, or than the start with its camera aligned where that is lower.
    """
    if prior is None:
        prior = HeadPrior.of_population(tables, start.jaw.shape[:1])
    observations = usable(observations)
    targets = jax.vmap(whole_target, in_axes=(0, None))(observations, anchors.weights)
    first = _first_state(tables, start, camera)
    last = _Problem.make(tables, anchors, targets, prior, first, config, config.stages[-1])
    if config.align:
        aligned = _aligned(tables, anchors, observations, first)
        # Both in one loop: the renderer is compiled once.
        both = jax.tree.map(lambda *x: jnp.stack(x), aligned, first)
        values = _over_images(lambda state: last.evaluate(state).values, both)
        after, before = (jax.tree.map(lambda x, i=i: x[i], values) for i in (0, 1))
        weights = last.weights(after)
        better = last.cost(aligned, after, weights) < last.cost(first, before, weights)
        first, values = _choose(better, aligned, first), _choose(better, after, before)
    else:
        values = last.evaluate(first).values

    state, attempts, accepted = first, [], []
    for stage in config.stages:
        problem = _Problem.make(tables, anchors, targets, prior, first, config, stage)
        state, (cost, weights), tried, taken = _run_stage(problem, state, config, stage)
        attempts.append(tried)
        accepted.append(taken)
    start_cost = problem.cost(first, values, weights)
    state = _choose(cost < start_cost, state, first)
    params = _to_params(state)
    report = Report(start_cost, jnp.minimum(cost, start_cost), jnp.stack(attempts), jnp.stack(accepted))
    return params, state.camera, report


def fit_images(
    tables: HeadTables,
    anchors: Anchors,
    observations: Observation,
    start: FlameParams,
    camera: Camera,
    config: GaussNewtonConfig,
    prior: HeadPrior | None = None,
) -> tuple[FlameParams, Camera, Report]:
    """``fit_person`` for B images of different people: (B, …) in and out, one after the other on a CPU."""

    if prior is None:
        prior = HeadPrior.of_population(tables, start.jaw.shape[:1])

    def one(args):
        observation, params, camera, mean = jax.tree.map(lambda x: x[None], args)
        own = dataclasses.replace(prior, mean=mean)
        params, camera, report = fit_person(tables, anchors, observation, params, camera, config, own)
        return *jax.tree.map(lambda x: x[0], (params, camera)), report

    return _over_images(one, (observations, start, camera, prior.mean))


def _first_state(tables, start, camera):
    def finite(x, otherwise):
        axes = tuple(range(1, x.ndim))
        good = jnp.isfinite(x).all(axis=axes, keepdims=True)
        return jnp.where(good, x, jnp.broadcast_to(jnp.asarray(otherwise, x.dtype), x.shape))

    shape = finite(start.shape, 0.0).mean(axis=0)
    jaw = rotation_6d_to_axis_angle(finite(start.jaw, IDENTITY_6D))
    camera = dataclasses.replace(
        camera,
        rotation=finite(camera.rotation, jnp.diag(jnp.asarray([1.0, -1.0, -1.0]))),
        translation=finite(camera.translation, jnp.asarray([0.0, 0.0, 1.0])),
    )
    return _State(shape, finite(start.expression, 0.0), jaw, finite(start.eyelids, 0.0), camera)


def _posed(tables, state) -> Posed:
    """(F, …)."""
    coefficients = jnp.concatenate(
        [jnp.broadcast_to(state.shape[None], (state.jaw.shape[0], state.shape.shape[0])), state.expression],
        axis=-1,
    )
    return jax.vmap(pose, in_axes=(None, 0, 0, 0))(tables, coefficients, state.jaw, state.eyelids)


def _aligned(tables, anchors, observations, state):
    """The camera on the points, where there are some and it helps."""
    vertices = _posed(tables, state).vertices
    points = points_on_mesh(vertices, tables.topology.faces, anchors.faces, anchors.barycentric)
    camera = jax.vmap(align_camera, in_axes=(0, 0, 0, None))(
        points, observations.points, state.camera, anchors.weights
    )
    return dataclasses.replace(state, camera=camera)


def _to_params(state) -> FlameParams:
    frames = state.jaw.shape[0]
    return FlameParams.resting(
        shape=jnp.broadcast_to(state.shape[None], (frames, state.shape.shape[0])),
        expression=state.expression,
        jaw=axis_angle_to_rotation_6d(state.jaw),
        eyelids=state.eyelids,
    )


def _choose(condition: Bool[Array, ""], yes, no):
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), yes, no)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _View:
    """A state drawn, with its residuals; leading axis F."""

    posed: Posed
    samples: Samples
    values: Values


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Problem:
    """One stage's cost. Unknowns of an image are ordered expression, jaw, eyelids, camera."""

    tables: HeadTables
    anchors: Anchors
    targets: Target  # (F, …)
    prior: HeadPrior
    again: Float[Array, " S"]  # precision of the shape's population that the images' priors count too often
    start: Camera
    camera_precision: Float[Array, "6"]
    config: ResidualConfig = dataclasses.field(metadata={"static": True})

    @classmethod
    def make(cls, tables, anchors, targets, prior, start, config, stage):
        frames, count = start.jaw.shape[0], start.shape.shape[0]
        # Jaw and eyelids do not count.
        size = jnp.pad(tables.size, (0, 5)) / config.size_std
        camera = jnp.asarray([1.0 / config.camera_std**2] * 5 + [1.0 / config.depth_std**2])
        return cls(
            tables,
            anchors,
            targets.first(stage.pixels),
            dataclasses.replace(prior, precision=stage.prior * prior.precision + jnp.outer(size, size)),
            (frames - 1) * stage.prior * prior.population[:count],
            start.camera,
            camera,
            config.residuals,
        )

    def evaluate(self, state: _State) -> _View:
        """Draws the heads of a state and takes their residuals."""
        posed = _posed(self.tables, state)

        def one(args):
            one_posed, camera, target = args
            samples = place_samples(self.tables, one_posed.vertices, camera, target, self.config.num_border)
            values = residual_values(
                self.tables, one_posed, camera, samples, target, self.anchors, self.config
            )
            return samples, values

        return _View(posed, *_over_images(one, (posed, state.camera, self.targets)))

    def weights(self, values: Values) -> Float[Array, "F 3"]:
        return jax.vmap(term_weights, in_axes=(0, None))(values, self.config)

    def cost(self, state: _State, values: Values, weights: Float[Array, "F 3"]) -> Float[Array, ""]:
        """Of a state whose residuals are ``values``."""
        cost = jax.vmap(data_cost)(values, weights).sum() + self.prior_cost(state)
        return jnp.where(jnp.isfinite(cost), cost, jnp.inf)

    def offsets(self, state: _State) -> tuple[Float[Array, "F U"], Float[Array, "F 6"]]:
        """Of heads from their priors' means; of cameras from the start, the first-order turn and shift."""
        pivot = self.tables.pivot

        def of_camera(camera, centre):
            turn = camera.rotation @ centre.rotation.T
            axis = 0.5 * jnp.stack(
                [turn[2, 1] - turn[1, 2], turn[0, 2] - turn[2, 0], turn[1, 0] - turn[0, 1]]
            )
            here, there = (c.rotation @ pivot + c.translation for c in (camera, centre))
            shift = here[:2] / here[2] - there[:2] / there[2]
            return jnp.concatenate([axis, shift, jnp.log(here[2] / there[2])[None]])

        frames, count = state.jaw.shape[0], state.shape.shape[0]
        shape = jnp.broadcast_to(state.shape[None], (frames, count))
        heads = jnp.concatenate([shape, state.expression, state.jaw, state.eyelids], axis=-1)
        return heads - self.prior.mean, jax.vmap(of_camera)(state.camera, self.start)

    def prior_cost(self, state):
        heads, cameras = self.offsets(state)
        cost = jnp.sum(heads * (heads @ self.prior.precision)) + jnp.sum(cameras**2 @ self.camera_precision)
        return 0.5 * (cost - self.again @ state.shape**2)

    def linearize(self, state: _State, view: _View, weights: Float[Array, "F 3"]) -> tuple[Array, ...]:
        """Normal equations: of the shape, between shape and each image's own unknowns, of those; and the gradients."""

        def one(args):
            posed, camera, samples, values, target, weights = args
            return normal_equations(
                self.tables, posed, camera, samples, target, self.anchors, values, weights
            )

        args = (view.posed, state.camera, view.samples, view.values, self.targets, weights)
        hessians, gradients = _over_images(one, args)
        count = self.tables.num_shape
        heads, cameras = self.offsets(state)
        precision = jnp.zeros(hessians.shape[1:])
        unknowns = heads.shape[1]
        precision = precision.at[:unknowns, :unknowns].set(self.prior.precision)
        precision = precision.at[unknowns:, unknowns:].set(jnp.diag(self.camera_precision))
        pull = jnp.concatenate([heads @ self.prior.precision, cameras * self.camera_precision[None]], axis=-1)
        hessians, gradients = hessians + precision[None], gradients + pull
        return (
            hessians[:, :count, :count].sum(axis=0) - jnp.diag(self.again),
            hessians[:, :count, count:],
            hessians[:, count:, count:],
            gradients[:, :count].sum(axis=0) - self.again * state.shape,
            gradients[:, count:],
        )

    def moved(self, state: _State, shape, own) -> _State:
        num = state.expression.shape[-1]
        expression, jaw, eyelids, camera = jnp.split(own, [num, num + 3, num + 5], axis=-1)
        # A turn beyond half a radian is no step of a linearisation; shorter it keeps its direction.
        length = jnp.sqrt(jnp.sum(camera[:, :3] ** 2, axis=-1, keepdims=True))
        turn = camera[:, :3] * jnp.minimum(1.0, 0.5 / jnp.maximum(length, 1e-9))
        camera = jnp.concatenate([turn, camera[:, 3:]], axis=-1)
        return _State(
            state.shape + shape,
            state.expression + expression,
            state.jaw + jaw,
            state.eyelids + eyelids,
            jax.vmap(move_camera, in_axes=(0, None, 0))(state.camera, self.tables.pivot, camera),
        )


def _over_images(function, args):
    return jax.lax.map(function, args) if jax.default_backend() == "cpu" else jax.vmap(function)(args)


def damped_step(equations, damping):
    """Solves the normal equations with Marquardt's damping, each image's own unknowns eliminated first."""
    shape_block, cross, own_blocks, shape_gradient, own_gradients = equations

    def damped(block):
        return block + damping * jnp.diag(jnp.diagonal(block))

    both = jnp.concatenate([jnp.swapaxes(cross, -1, -2), own_gradients[..., None]], axis=-1)
    solved = jax.vmap(solve_positive)(jax.vmap(damped)(own_blocks), both)
    by_shape, by_gradient = solved[..., :-1], solved[..., -1]
    reduced = damped(shape_block) - jnp.einsum("fso,fot->st", cross, by_shape)
    right = shape_gradient - jnp.einsum("fso,fo->s", cross, by_gradient)
    shape = -solve_positive(reduced, right[:, None])[:, 0]
    own = -by_gradient - jnp.einsum("fos,s->fo", by_shape, shape)
    return shape, own


def _run_stage(problem: _Problem, state: _State, config: GaussNewtonConfig, stage: Stage):
    """Steps until one gains too little, or as many as there are: the state, its cost and weights, and how many were
    tried and taken."""
    frames, own = state.jaw.shape[0], state.expression.shape[-1] + 11
    count = state.shape.shape[0]
    empty = (
        jnp.zeros((count, count)),
        jnp.zeros((frames, count, own)),
        jnp.zeros((frames, own, own)),
        jnp.zeros(count),
        jnp.zeros((frames, own)),
    )

    def attempt(carry):
        number, accepted, state, trial, (cost, weights), equations, damping, _ = carry
        view = problem.evaluate(trial)
        trial_cost = problem.cost(trial, view.values, weights)
        # At first there is nothing to compare with, and no weights.
        better = (trial_cost < cost) | (number == 0)
        gain = jnp.where(number == 0, jnp.inf, (cost - trial_cost) / cost)
        # The noise is estimated anew, and the same state's cost with it.
        weights = jnp.where(better, problem.weights(view.values), weights)
        cost = jnp.where(better, problem.cost(trial, view.values, weights), cost)
        state = _choose(better, trial, state)
        damping = jnp.where(number == 0, damping, damping * jnp.where(better, _DAMPING_DOWN, _DAMPING_UP))
        damping = jnp.clip(damping, _DAMPING_MIN, _DAMPING_MAX)
        continues = jnp.where(better, gain > config.tolerance, damping < _DAMPING_MAX) & jnp.isfinite(cost)
        continues = continues & (number < stage.steps)
        # What no step is taken from is not linearised.
        equations = jax.lax.cond(
            better & continues, lambda: problem.linearize(trial, view, weights), lambda: equations
        )
        trial = jax.lax.cond(
            continues,
            lambda: problem.moved(state, *damped_step(equations, damping)),
            lambda: state,
        )
        return (
            *(number + 1, accepted + better.astype(jnp.int32), state, trial),
            *((cost, weights), equations, damping, continues),
        )

    # The first trial is the start itself: one evaluation of the cost in the program serves all.
    zero = jnp.zeros((), jnp.int32)
    carry = (
        *(zero, zero, state, state),
        (jnp.asarray(jnp.inf), jnp.ones((frames, 3))),
        *(empty, jnp.asarray(config.damping), jnp.asarray(True)),
    )
    number, accepted, state, _, measured, *_ = jax.lax.while_loop(lambda carry: carry[-1], attempt, carry)
    return state, measured, number - 1, accepted - 1
