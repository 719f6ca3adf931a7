"""What a network's answers are worth: measured on heads, stored with the checkpoint, checked when it is read."""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest

from n2f_jax.models.calibration import (
    Calibration,
    calibrate,
    calibrations_from_arrays,
    calibrations_to_arrays,
    from_unknowns,
    recalibrate_expression,
    recalibrate_shape,
    to_unknowns,
)
from n2f_jax.models.pretrained import (
    CALIBRATION_FILE,
    DEFAULT_CHECKPOINT,
    PretrainedError,
    from_pretrained,
    save_pretrained,
)


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


def test_unknowns_are_parameters_and_back():
    rng = np.random.default_rng(1)
    unknowns = jnp.asarray(0.3 * rng.standard_normal((4, 12)), jnp.float32)
    params = from_unknowns(unknowns, num_shape=5)
    assert (params.shape.shape, params.expression.shape, params.jaw.shape) == ((4, 5), (4, 2), (4, 6))
    np.testing.assert_allclose(to_unknowns(params), unknowns, atol=1e-6)


def test_stored_calibrations_are_checked():
    covariance = jnp.asarray([[4.0, 1.0, 0.5], [1.0, 3.0, 0.2], [0.5, 0.2, 2.0]])
    one = Calibration(jnp.zeros(3), jnp.eye(3), covariance)
    arrays = calibrations_to_arrays({"normals": one})
    back = calibrations_from_arrays({k: v.astype(jnp.float32) for k, v in arrays.items()}, 3)["normals"]
    np.testing.assert_array_equal(back.covariance, one.covariance)
    whole = {k: v.astype(jnp.float32) for k, v in arrays.items()} | {"normals/covariance": covariance}
    np.testing.assert_array_equal(calibrations_from_arrays(whole, 3)["normals"].covariance, covariance)
    for damage, message in (
        ({"normals/matrix": jnp.eye(4)}, "normals/matrix has shape"),
        ({"normals/offset": jnp.full(3, jnp.nan)}, "finite"),
        ({"portraits/offset": jnp.zeros(3)}, "portraits/offset: no field"),
    ):
        with pytest.raises(ValueError, match=message):
            calibrations_from_arrays(arrays | damage, 3)
    arrays.pop("normals/covariance")
    with pytest.raises(ValueError, match="normals lacks covariance"):
        calibrations_from_arrays(arrays, 3)


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
