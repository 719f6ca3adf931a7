"""What is known of a head before its image is looked at."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from n2f_jax.fitting.head_tables import HeadTables
from n2f_jax.fitting.prior import SIZE_SHARE, UNMEASURED_ERROR, AnswerModel, population_precision
from n2f_jax.models.calibration import (
    NUM_SCORES,
    Calibration,
    ScoredExpression,
    from_unknowns,
    to_unknowns,
)
from n2f_jax.models.seen_shape import NUM_ACTIVATIONS, SeenShape

pytestmark = pytest.mark.medium


@pytest.fixture(scope="module")
def tables(open_head):
    return HeadTables.from_model(open_head)


@pytest.fixture(scope="module")
def answer(tables):
    unknowns = 0.3 * np.random.default_rng(0).standard_normal((3, tables.basis.shape[-1] + 5))
    return from_unknowns(jnp.asarray(unknowns, jnp.float32), tables.num_shape)


def test_the_population_is_the_models(open_head, tables):
    precision = np.asarray(population_precision(tables))
    assert open_head.shape_std == open_head.expression_std == 1.0
    np.testing.assert_allclose(precision[:400], 1.0)
    flame_like = dataclasses.replace(tables, shape_std=0.8, expression_std=0.5)
    np.testing.assert_allclose(population_precision(flame_like)[:300], 1 / 0.64, rtol=1e-6)
    np.testing.assert_allclose(population_precision(flame_like)[300:400], 4.0, rtol=1e-6)


def test_scaling_scales_the_face(open_head, tables):
    """By one per cent, and its shape stays what it was to some hundredths of a millimetre."""
    assert float(tables.size @ tables.scaling) == pytest.approx(1.0, abs=1e-5)
    np.testing.assert_array_equal(tables.scaling[open_head.num_shape :], 0.0)
    moved = 0.01 * np.asarray(open_head.shapedirs) @ np.asarray(tables.scaling[: open_head.num_shape])
    face = np.asarray(open_head.masks["face"])
    wanted = 0.01 * np.asarray(open_head.v_template)[face]
    left = (moved[face] - moved[face].mean(axis=0)) - (wanted - wanted.mean(axis=0))
    assert np.sqrt((left**2).sum(axis=1).mean()) < 1e-4


def test_half_of_an_answers_size_is_believed_and_its_shape_kept(open_head, tables, answer):
    size = population_precision(tables).shape[0]
    sure = Calibration(jnp.zeros(size), jnp.eye(size), 0.01 * jnp.eye(size))
    prior = AnswerModel.make(tables, sure).prior(answer)
    grown = lambda params: np.asarray(params.shape @ tables.size[: open_head.num_shape])  # noqa: E731
    np.testing.assert_allclose(grown(prior.heads(open_head.num_shape)), SIZE_SHARE * grown(answer), atol=1e-5)
    away = np.asarray(prior.mean - to_unknowns(answer))[:, : open_head.num_shape]
    along = np.asarray(tables.scaling[: open_head.num_shape])
    cosine = np.abs(away @ along) / np.linalg.norm(away, axis=1) / np.linalg.norm(along)
    np.testing.assert_allclose(cosine, 1.0, atol=1e-4)
    np.testing.assert_allclose(prior.precision, 100.0 * np.eye(size), atol=0.1)


def test_an_answer_nobody_measured_is_drawn_to_the_mean(tables, answer):
    prior = AnswerModel.make(tables).prior(answer)
    share = 1.0 / (1.0 + UNMEASURED_ERROR**2)
    np.testing.assert_allclose(
        prior.mean[:, tables.num_shape :], share * to_unknowns(answer)[:, tables.num_shape :], atol=1e-5
    )
    assert np.all(np.diag(prior.precision) > np.asarray(prior.population))


def test_what_is_not_finite_is_the_mean_head(tables, answer):
    size = population_precision(tables).shape[0]
    broken = dataclasses.replace(answer, shape=answer.shape.at[1, 0].set(jnp.nan))
    some = Calibration(jnp.ones(size), jnp.eye(size), jnp.eye(size))
    for calibration in (None, some):
        prior = AnswerModel.make(tables, calibration).prior(broken)
        assert np.isfinite(np.asarray(prior.mean)).all()
        assert np.abs(np.asarray(prior.mean[0])).max() > 0.1
    np.testing.assert_array_equal(prior.mean[1], 0.0)


def test_expected_heads_are_the_linear_map_of_answers(tables, answer):
    """All but the shape, of which the size is treated apart."""
    size = population_precision(tables).shape[0]
    rng = np.random.default_rng(2)
    matrix, offset = (jnp.asarray(0.1 * rng.standard_normal(s), jnp.float32) for s in ((size, size), (size,)))
    prior = AnswerModel.make(tables, Calibration(offset, matrix, jnp.eye(size))).prior(answer)
    want = np.asarray(to_unknowns(answer)) @ np.asarray(matrix).T + np.asarray(offset)
    np.testing.assert_allclose(prior.mean[:, tables.num_shape :], want[:, tables.num_shape :], atol=1e-5)


def test_scores_move_expressions_where_they_were_calibrated(tables, answer):
    """And the shape never."""
    size, count = population_precision(tables).shape[0], tables.num_shape
    weights = jnp.zeros((size - count, 2 * NUM_SCORES)).at[3, 7].set(2.0)
    scored = ScoredExpression(jnp.zeros(size - count), jnp.eye(size - count), weights)
    plain = Calibration(jnp.zeros(size), jnp.eye(size), jnp.eye(size))
    model = AnswerModel.make(tables, dataclasses.replace(plain, scored=scored))
    scores = jnp.zeros((len(answer.shape), NUM_SCORES)).at[0, 7].set(0.5).at[1].set(jnp.nan)
    without, found = model.prior(answer).mean, model.prior(answer, scores).mean
    np.testing.assert_allclose(found - without, jnp.zeros_like(found).at[0, count + 3].set(1.0), atol=1e-6)
    # Where nobody has measured them they do not count.
    alone = AnswerModel.make(tables, plain)
    np.testing.assert_array_equal(alone.prior(answer, scores).mean, alone.prior(answer).mean)


def test_activations_move_shapes_where_they_were_calibrated(tables, answer):
    """And nothing else; of the size they tell, the same share is kept as of the answer's."""
    size, count = population_precision(tables).shape[0], tables.num_shape
    numbers = jnp.ones(NUM_ACTIVATIONS)
    few = jnp.zeros((NUM_ACTIVATIONS, 1)).at[5, 0].set(1.0)
    growth = jnp.asarray(tables.scaling)[:count]
    seen = SeenShape(
        jnp.zeros(count),
        jnp.eye(count),
        0 * numbers,
        numbers,
        few,
        jnp.stack([growth[None], 0 * growth[None]]),
    )
    plain = Calibration(jnp.zeros(size), jnp.eye(size), jnp.eye(size))
    model = AnswerModel.make(tables, dataclasses.replace(plain, seen=seen))
    shown = jnp.zeros((len(answer.shape), 2, NUM_ACTIVATIONS)).at[0, 0, 5].set(2.0).at[1].set(jnp.nan)
    without, found = model.prior(answer).mean, model.prior(answer, None, shown).mean
    moved = np.asarray(found - without)
    np.testing.assert_allclose(moved[0, :count], SIZE_SHARE * 2.0 * growth, rtol=0.02, atol=1e-4)
    np.testing.assert_allclose(moved[1:], 0.0, atol=1e-5)
    np.testing.assert_allclose(moved[0, count:], 0.0, atol=1e-6)
    alone = AnswerModel.make(tables, plain)
    np.testing.assert_array_equal(alone.prior(answer, None, shown).mean, alone.prior(answer).mean)
