"""What a network's answers are worth: measured on heads, stored with the checkpoint, checked when it is read."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from n2f_jax.face_mesh.arkit_names import UNITS
from n2f_jax.models.calibration import (
    NUM_SCORES,
    Calibration,
    ScoredExpression,
    calibrate,
    calibrations_from_arrays,
    calibrations_to_arrays,
    features,
    from_unknowns,
    recalibrate_expression,
    recalibrate_shape,
    recalibrate_with_scores,
    to_unknowns,
)
from n2f_jax.models.pretrained import (
    CALIBRATION_FILE,
    DEFAULT_CHECKPOINT,
    PretrainedError,
    from_pretrained,
    save_pretrained,
)
from n2f_jax.models.seen_shape import NUM_ACTIVATIONS, SeenShape


def test_a_linear_error_is_found_again():
    """Truth N(0, 1); the answer is a shrunk truth with noise of its own: what is expected follows by Bayes."""
    rng = np.random.default_rng(0)
    truths = rng.standard_normal((20_000, 3))
    noise = np.array([0.5, 1.0, 2.0])
    answers = 0.5 * truths + 0.3 + noise * rng.standard_normal(truths.shape)
    found = calibrate(answers, truths)
    gain = 0.5 / (0.25 + noise**2)
    np.testing.assert_allclose(np.asarray(found.matrix), np.diag(gain), atol=0.02)
    np.testing.assert_allclose(np.asarray(found.offset), -0.3 * gain, atol=0.02)
    np.testing.assert_allclose(np.asarray(found.covariance), np.diag(1 - 0.5 * gain), atol=0.03)
    with pytest.raises(ValueError, match="too few"):
        calibrate(answers[:5], truths[:5])


def test_a_simulation_that_is_too_kind_is_corrected():
    """Five shape coefficients and one more; real answers have three times the simulated noise, two of each person."""
    rng = np.random.default_rng(2)
    truths = rng.standard_normal((4000, 6))
    simulated = calibrate(truths + 0.5 * rng.standard_normal(truths.shape), truths)
    people = np.repeat(np.arange(400), 2)
    seen = rng.standard_normal((400, 6))[people]
    answers = seen + 1.5 * rng.standard_normal(seen.shape)
    found, figures = recalibrate_shape(simulated, answers, seen[:, :5], people, np.eye(5))

    def errors(one, count):
        fresh = rng.standard_normal((4000, 6))
        said = (fresh + 1.5 * rng.standard_normal(fresh.shape)) @ np.asarray(one.matrix).T + np.asarray(
            one.offset
        )
        return (fresh - said)[:, :count].std()

    best = np.sqrt(1 - 1 / (1 + 1.5**2))
    assert errors(simulated, 5) > 1.3 * best
    assert errors(found, 5) < 1.03 * best
    np.testing.assert_allclose(figures["after"], best, rtol=0.08)
    assert figures["before"] > 1.0 > figures["after"] and figures["optimism"] > 1.5
    np.testing.assert_array_equal(found.matrix[5], simulated.matrix[5])
    np.testing.assert_array_equal(found.covariance, simulated.covariance)
    with pytest.raises(ValueError, match="too few"):
        recalibrate_shape(simulated, answers[:8], seen[:8, :5], people[:8], np.eye(5))


def test_movements_that_real_inputs_do_not_show_count_less():
    """Four shape coefficients, three of expression in units of their own, two lids; real answers miss the third."""
    rng = np.random.default_rng(3)
    deviation = np.array([1.0, 1.0, 1.0, 1.0, 2.0, 0.1, 1.0, 0.3, 0.3])
    truths = deviation * rng.standard_normal((4000, 9))
    simulated = calibrate(truths + 0.5 * deviation * rng.standard_normal(truths.shape), truths)
    people = np.repeat(np.arange(300), 2)
    shown = np.array([1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 1.0, 1.0])

    def seen(count):
        moved = deviation * rng.standard_normal((count, 9))
        return moved, moved * shown + 0.5 * deviation * rng.standard_normal(moved.shape)

    moved, answers = seen(600)
    fresh, said = seen(4000)

    def errors(one):
        expected = said @ np.asarray(one.matrix).T + np.asarray(one.offset)
        return ((fresh - expected) / deviation)[:, 4:7].std(axis=0)

    def recalibrated(share):
        given = (simulated, answers, moved[:, 4:], people, np.eye(5), deviation[4:])
        return recalibrate_expression(*given, share=share)

    found, figures = recalibrated(1.0)
    np.testing.assert_allclose(errors(simulated), [0.45, 0.45, 1.08], rtol=0.05)
    np.testing.assert_allclose(errors(found), [0.45, 0.45, 1.0], rtol=0.05)
    assert figures["after"] < figures["before"]
    half, _ = recalibrated(0.5)
    np.testing.assert_allclose(half.matrix, 0.5 * (simulated.matrix + found.matrix), atol=1e-6)
    for rows in (slice(0, 4), slice(7, 9)):
        np.testing.assert_array_equal(found.matrix[rows], simulated.matrix[rows])
    np.testing.assert_array_equal(found.covariance, simulated.covariance)
    with pytest.raises(ValueError, match="too few"):
        recalibrate_expression(simulated, answers[:8], moved[:8, 4:], people[:8], np.eye(5), deviation[4:])


def test_what_answers_miss_and_scores_show_is_found_again():
    """Two shape coefficients, three of expression, two lids; answers miss the third, whose square is a score."""
    rng = np.random.default_rng(4)
    deviation = np.array([2.0, 0.1, 1.0, 0.3, 0.3])
    count = 1200
    people = np.repeat(np.arange(count // 2), 2)
    moved = deviation * np.concatenate(
        [rng.standard_normal((count, 2)), rng.uniform(0.1, 1, (count, 1)), rng.standard_normal((count, 2))],
        axis=1,
    )
    answers = np.concatenate([np.zeros((count, 2)), moved], axis=1)
    answers[:, 4] = 0.5
    answers += 0.1 * rng.standard_normal(answers.shape) * [1, 1, *deviation]
    scores = np.zeros((count, NUM_SCORES))
    scores[:, 7] = moved[:, 2] ** 2
    one = Calibration(jnp.zeros(7), jnp.eye(7), jnp.eye(7))
    given = answers, scores, moved, people, np.diag([0.25, 100, 1, 1, 1])
    found, figures = recalibrate_with_scores(one, *given)
    said = np.asarray(found.scored(jnp.asarray(answers[:, 2:]), jnp.asarray(scores)))
    assert np.std(moved[:, 2] - answers[:, 4]) > 0.25 and np.std(moved[:, 2] - said[:, 2]) < 0.02
    assert figures["after"] < 0.5 * figures["before"]
    np.testing.assert_allclose(said[:, 3:], answers[:, 5:], atol=1e-6)
    for name in ("offset", "matrix", "covariance"):
        np.testing.assert_array_equal(getattr(found, name), getattr(one, name))
    half, _ = recalibrate_with_scores(one, *given, share=0.5)
    halfway = half.scored(jnp.asarray(answers[:, 2:]), jnp.asarray(scores))
    np.testing.assert_allclose(halfway, 0.5 * (answers[:, 2:] + said), atol=1e-5)


def test_without_scores_the_answer_alone_counts():
    rng = np.random.default_rng(5)
    values = (rng.standard_normal(shape) for shape in (5, (5, 5), (5, 2 * NUM_SCORES), (3, 5)))
    offset, matrix, weights, expected = (jnp.asarray(value, jnp.float32) for value in values)
    scores = jnp.asarray(rng.uniform(0, 1, (3, NUM_SCORES)), jnp.float32)
    scores = scores.at[0, 4].set(jnp.nan).at[1].set(jnp.nan)
    found = ScoredExpression(offset, matrix, weights)(expected, scores)
    np.testing.assert_array_equal(found[:2], expected[:2])
    want = (
        offset
        + matrix @ expected[2]
        + weights @ jnp.concatenate([scores[2], jnp.sqrt(scores[2] + 0.01) - 0.1])
    )
    np.testing.assert_allclose(found[2], want, atol=1e-4)
    assert len(UNITS) == NUM_SCORES


def test_noise_of_units_at_rest_stays_noise():
    """Two programs of one network differ by some ten-thousandths, which roots would make hundredths."""
    apart = features(jnp.full(NUM_SCORES, 3e-4)) - features(jnp.zeros(NUM_SCORES))
    assert 0 < float(jnp.abs(apart).max()) < 2e-3
    assert float(features(jnp.ones(1))[1]) > 0.9


def test_unknowns_are_parameters_and_back():
    rng = np.random.default_rng(1)
    unknowns = jnp.asarray(0.3 * rng.standard_normal((4, 12)), jnp.float32)
    params = from_unknowns(unknowns, num_shape=5)
    assert (params.shape.shape, params.expression.shape, params.jaw.shape) == ((4, 5), (4, 2), (4, 6))
    np.testing.assert_allclose(to_unknowns(params), unknowns, atol=1e-6)


def test_stored_calibrations_are_checked():
    covariance = jnp.asarray([[4.0, 1.0, 0.5], [1.0, 3.0, 0.2], [0.5, 0.2, 2.0]])
    scored = ScoredExpression(jnp.ones(2), 2 * jnp.eye(2), jnp.full((2, 2 * NUM_SCORES), 0.5))
    numbers = jnp.ones(NUM_ACTIVATIONS)
    seen = SeenShape(
        jnp.ones(1), jnp.eye(1), 2 * numbers, numbers, jnp.ones((NUM_ACTIVATIONS, 2)), jnp.ones((2, 2, 1))
    )
    one = Calibration(jnp.zeros(3), jnp.eye(3), covariance, scored, seen)
    arrays = calibrations_to_arrays({"normals": one})
    back = calibrations_from_arrays({k: v.astype(jnp.float32) for k, v in arrays.items()}, 1, 2)["normals"]
    for ours, theirs in zip(jax.tree.leaves(back), jax.tree.leaves(one), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    whole = {k: v.astype(jnp.float32) for k, v in arrays.items()} | {"normals/covariance": covariance}
    np.testing.assert_array_equal(calibrations_from_arrays(whole, 1, 2)["normals"].covariance, covariance)
    for damage, message in (
        ({"normals/matrix": jnp.eye(4)}, "normals/matrix has shape"),
        ({"normals/offset": jnp.full(3, jnp.nan)}, "finite"),
        ({"portraits/offset": jnp.zeros(3)}, "portraits/offset: no field"),
        ({"normals/scored_scores": jnp.zeros((2, NUM_SCORES))}, "normals/scored_scores has shape"),
        ({"normals/seen_few": jnp.zeros((7, 2))}, "normals/seen_few has shape"),
        (
            {"normals/seen_shapes": jnp.zeros((2, 3, 1))},
            "seen_few and normals/seen_shapes do not fit each other",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            calibrations_from_arrays(arrays | damage, 1, 2)
    arrays.pop("normals/scored_matrix")
    with pytest.raises(ValueError, match="normals lacks scored_matrix"):
        calibrations_from_arrays(arrays, 1, 2)
    older = {name: value for name, value in arrays.items() if "scored" not in name}
    assert calibrations_from_arrays(older, 1, 2)["normals"].scored is None
    older = {name: value for name, value in older.items() if "seen" not in name}
    assert calibrations_from_arrays(older, 1, 2)["normals"].seen is None
    older.pop("normals/covariance")
    with pytest.raises(ValueError, match="normals lacks covariance"):
        calibrations_from_arrays(older, 1, 2)


def test_it_travels_with_the_checkpoint(tmp_path, open_head):
    saved = from_pretrained(DEFAULT_CHECKPOINT, open_head)
    assert set(saved.calibration) == {"normals", "face_mesh_v1", "face_mesh_v2"}
    save_pretrained(
        tmp_path,
        saved.network,
        saved.config,
        head_model=saved.head_model,
        inputs=saved.inputs,
        dtype="bfloat16",
        calibration={"normals": saved.calibration["normals"]},
    )
    again = from_pretrained(tmp_path, open_head)
    for field in dataclasses.fields(Calibration):
        ours, theirs = (getattr(one.calibration["normals"], field.name) for one in (again, saved))
        np.testing.assert_array_equal(ours, theirs)
    data = (tmp_path / CALIBRATION_FILE).read_bytes()
    (tmp_path / CALIBRATION_FILE).write_bytes(data[:-100])
    with pytest.raises(PretrainedError, match="truncated"):
        from_pretrained(tmp_path, open_head)
    (tmp_path / CALIBRATION_FILE).unlink()
    with pytest.raises(FileNotFoundError, match=CALIBRATION_FILE):
        from_pretrained(tmp_path, open_head)
    assert "calibration" in json.loads((tmp_path / "config.json").read_text())
