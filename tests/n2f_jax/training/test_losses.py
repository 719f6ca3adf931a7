"""Losses on cases worked out by hand, and their gradients."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flame_jax import FlameParams
from n2f_jax.models.n2fnet import N2FOutput
from n2f_jax.training import losses
from tests.runtime_types import unchecked


def _pair(batch=2, shape=4, expression=3):
    rng = np.random.default_rng(0)
    draw = lambda *size: jnp.asarray(rng.normal(size=size), jnp.float32)  # noqa: E731
    output = N2FOutput(
        draw(batch, shape),
        draw(batch, expression),
        draw(batch, 6),
        draw(batch, 2),
        draw(batch, 6),
        draw(batch, 3),
    )
    target = FlameParams(
        shape=draw(batch, shape),
        expression=draw(batch, expression),
        jaw=draw(batch, 6),
        eyelids=draw(batch, 2),
        neck=draw(batch, 6),
        eyes=draw(batch, 2, 6),
    )
    return output, target


def test_parameter_loss_is_the_papers_sum():
    output, target = _pair()
    total, terms = jax.jit(lambda o, t: losses.parameter_loss(o, t, losses.ParameterLossConfig()))(
        output, target
    )
    square = lambda a, b: float(np.mean((np.asarray(a, np.float64) - np.asarray(b, np.float64)) ** 2))  # noqa: E731
    expected = {
        "beta": square(output.shape, target.shape),
        "theta": square(output.jaw, target.jaw),
        "psi": square(output.expression, target.expression),
        "gamma": square(output.eyelids, target.eyelids),
    }
    assert {name: float(value) for name, value in terms.items()} == pytest.approx(expected, rel=1e-5)
    weighted = 10 * expected["beta"] + 10 * expected["theta"] + 100 * expected["psi"] + 10 * expected["gamma"]
    assert float(total) == pytest.approx(weighted, rel=1e-5)


def test_a_perfect_answer_costs_nothing():
    output, target = _pair()
    perfect = dataclasses.replace(
        output, shape=target.shape, expression=target.expression, jaw=target.jaw, eyelids=target.eyelids
    )
    total, _ = losses.parameter_loss(perfect, target, losses.ParameterLossConfig())
    assert float(total) == 0.0


def test_coefficient_metric_measures_the_surface(toy_head):
    """The form is the mean square displacement, rigid motions taken out, over that of unit-variance coefficients."""
    rest = 0.25
    metric = losses.coefficient_metric(toy_head, rest)
    rng = np.random.default_rng(1)
    template = np.asarray(toy_head.v_template, np.float64)
    weights = np.full(len(template), rest)
    weights[np.asarray(toy_head.masks["face"])] = 1.0
    directions = np.asarray(toy_head.shapedirs, np.float64)

    def residual(displacement):
        # Weighted least squares against the six infinitesimal rigid motions, written out.
        columns = [np.broadcast_to(np.eye(3)[i], template.shape) for i in range(3)]
        columns += [np.cross(np.eye(3)[i], template) for i in range(3)]
        root = np.sqrt(weights)[:, None]
        system = np.stack([(root * c).ravel() for c in columns], axis=1)
        target = (root * displacement).ravel()
        return np.sum((target - system @ np.linalg.lstsq(system, target, rcond=None)[0]) ** 2)

    per_direction = [residual(directions[..., k]) for k in range(directions.shape[-1])]
    delta = rng.normal(size=directions.shape[-1])
    expected = residual(directions @ delta) / np.sum(per_direction)
    found = float(jnp.mean((metric.shape @ jnp.asarray(delta, jnp.float32)) ** 2))
    assert found == pytest.approx(expected, rel=1e-4)


@unchecked()
def test_vertex_loss_ignores_what_moves_nothing(toy_head):
    """A direction without displacement costs nothing with 'vertices' and its full square with 'coefficients'."""
    model = dataclasses.replace(toy_head, shapedirs=toy_head.shapedirs.at[:, :, -1].set(0.0))
    metric = losses.coefficient_metric(model, 0.1)
    output, target = _pair(shape=model.num_shape, expression=model.num_expression)
    moved = dataclasses.replace(output, shape=target.shape.at[:, -1].add(3.0))
    by_vertices = losses.ParameterLossConfig(shape_loss="vertices")
    _, terms = losses.parameter_loss(moved, target, by_vertices, metric)
    assert float(terms["beta"]) == pytest.approx(0.0, abs=1e-5)
    _, terms = losses.parameter_loss(moved, target, losses.ParameterLossConfig())
    assert float(terms["beta"]) == pytest.approx(9.0 / model.num_shape, rel=1e-5)
    with pytest.raises(ValueError, match="metric"):
        losses.parameter_loss(moved, target, by_vertices)
    with pytest.raises(ValueError, match="'vertices'"):
        losses.parameter_loss(moved, target, losses.ParameterLossConfig(shape_loss="vertex"), metric)


def test_cosine_distance_by_hand():
    x = jnp.asarray([[1.0, 0, 0], [2.0, 0, 0], [0, 3.0, 0], [1.0, 1.0, 0], [0, 0, 0]])
    y = jnp.asarray([[1.0, 0, 0], [-1.0, 0, 0], [0, 0, 5.0], [1.0, 0, 0], [0, 1.0, 0]])
    np.testing.assert_allclose(
        losses.cosine_distance(x, y), [0.0, 2.0, 1.0, 1.0 - 1.0 / np.sqrt(2.0), 1.0], atol=1e-6
    )
    gradient = jax.grad(lambda x: losses.cosine_distance(x, y).sum())(x)
    assert np.isfinite(gradient).all()
    assert not np.any(gradient[-1])


def test_normal_loss_counts_the_intersection_alone():
    normals = jnp.zeros((2, 1, 4, 3)).at[..., 0].set(1.0)
    target = jnp.zeros((2, 1, 4, 3)).at[..., 1].set(1.0)  # at right angles everywhere: d_cos = 1
    target = target.at[0, 0, 1].set(jnp.asarray([1.0, 0.0, 0.0]))  # but equal at one pixel
    mask = jnp.asarray([[[1.0, 1.0, 0.0, 0.0]], [[1.0, 1.0, 0.0, 0.0]]])
    target_mask = jnp.asarray([[[0.0, 1.0, 1.0, 0.0]], [[1.0, 1.0, 1.0, 0.0]]])
    # Sample 0 meets in pixel 1 (equal), sample 1 in pixels 0 and 1 (both at right angles).
    assert float(losses.normal_loss(normals, mask, target, target_mask)) == pytest.approx(0.5, abs=1e-6)


def test_masks_that_do_not_meet_give_zero_and_a_finite_gradient():
    mask = jnp.zeros((1, 2, 2)).at[0, 0, 0].set(1.0)
    target_mask = jnp.zeros((1, 2, 2)).at[0, 1, 1].set(1.0)
    zeros = jnp.zeros((1, 2, 2, 3))
    landmarks = jnp.zeros((1, 68, 2))

    def total(normals, mask):
        return losses.render_loss(
            normals, mask, landmarks, zeros, target_mask, landmarks, losses.RenderLossConfig()
        )

    (value, terms), gradient = jax.value_and_grad(total, argnums=(0, 1), has_aux=True)(zeros, mask)
    assert float(terms["normals"]) == 0.0
    assert float(value) == pytest.approx(10.0 * 2 / 4)
    assert all(np.isfinite(g).all() for g in gradient)


def test_render_loss_units():
    """Landmarks 5 % of the crop's side off along u: the mean over both coordinates is 0.05²/2."""
    size = 20
    ones = jnp.ones((1, size, size))
    normals = jnp.zeros((1, size, size, 3)).at[..., 2].set(1.0)
    landmarks = jnp.zeros((1, 68, 2))
    total, terms = losses.render_loss(
        normals, ones, landmarks.at[..., 0].add(1.0), normals, ones, landmarks, losses.RenderLossConfig()
    )
    assert float(terms["landmarks"]) == pytest.approx(0.05**2 / 2, rel=1e-5)
    assert float(total) == pytest.approx(100 * 0.05**2 / 2, rel=1e-4)
