"""The temporal prior against a Kalman smoother, and on signals whose noise is known."""

import numpy as np
import pytest

from n2f_jax.tracking import smoothing
from n2f_jax.tracking.smoothing import Noise, measure_noise, runs, second_differences, smooth


def motion(frames, rng, noise):
    time = np.arange(frames) / 25.0
    truth = np.sin(2 * np.pi * 0.7 * time) + 0.3 * np.sin(2 * np.pi * 1.9 * time + 1)
    return truth, truth + noise * rng.standard_normal(frames)


@pytest.mark.parametrize("noise", [0.01, 0.03, 0.1])
def test_the_noise_of_a_signal_is_found(noise):
    rng = np.random.default_rng(0)
    found = measure_noise([motion(400, rng, noise)[1][:, None]], np.array([1.0]))
    assert 0.8 < np.sqrt(found.seen[0]) / noise < 1.25


def test_noise_is_at_most_the_front_ends():
    rng = np.random.default_rng(0)
    found = measure_noise([motion(200, rng, 0.1)[1][:, None]], np.array([0.02**2]))
    assert found.seen[0] == pytest.approx(0.02**2)


def test_smoothing_takes_noise_and_leaves_motion():
    rng = np.random.default_rng(1)
    truth, seen = motion(200, rng, 0.03)
    noise = measure_noise([seen[:, None]], np.array([1.0]))
    track = smooth(seen[:, None], np.arange(200) / 25, np.ones((200, 1)), noise, 1 / 25)[:, 0]
    before, after = (np.sqrt(np.mean((x - truth) ** 2)) for x in (seen, track))
    assert after < 0.75 * before
    jitter = [np.sqrt(np.mean(np.diff(x, 2) ** 2)) for x in (seen, track, truth)]
    assert jitter[1] < 0.75 * jitter[0] and jitter[1] < 1.25 * jitter[2]


def test_a_jump_is_not_smoothed_away():
    rng = np.random.default_rng(2)
    truth = np.repeat([0.0, 1.0, 0.2], 40)
    seen = truth + 0.02 * rng.standard_normal(120)
    noise = measure_noise([seen[:, None]], np.array([1.0]))
    track = smooth(seen[:, None], np.arange(120) / 25, np.ones((120, 1)), noise, 1 / 25)[:, 0]
    assert np.abs(track - truth)[[39, 40, 79, 80]].max() < 0.15
    assert np.std((track - truth)[5:35]) < 0.02


def test_it_is_the_kalman_smoothers_answer(monkeypatch):
    """Of an integrated random walk with Gaussian noise: the posterior mean by dense algebra."""
    monkeypatch.setattr(smoothing, "_REWEIGHTED", 1)
    rng = np.random.default_rng(3)
    seconds = np.cumsum(rng.uniform(0.5, 2.0, 30))
    seen, trust = rng.standard_normal((30, 1)), rng.uniform(0.2, 2.0, (30, 1))
    trust[10:14] = 0.0
    noise = Noise(np.array([0.5]), np.array([0.1]))
    track = smooth(seen, seconds, trust, noise, 1.0)[:, 0]
    rows, spread = second_differences(seconds, 1.0)
    D = np.zeros((28, 30))
    for k in range(28):
        D[k, k : k + 3] = rows[k]
    H = np.diag(trust[:, 0] / 0.5) + D.T @ np.diag(1 / (0.1 * spread)) @ D
    np.testing.assert_allclose(
        track, np.linalg.solve(H, trust[:, 0] / 0.5 * seen[:, 0]), rtol=1e-6, atol=1e-8
    )


def test_few_frames_are_solved_together_as_one_by_one(monkeypatch):
    rng = np.random.default_rng(4)
    seen, seconds = rng.standard_normal((20, 6)), np.cumsum(rng.uniform(0.5, 2.0, 20))
    trust = np.where(rng.random((20, 6)) < 0.2, 0.0, rng.uniform(0.2, 1.0, (20, 6)))
    trust[:, 4], trust[:18, 5] = 0.0, 0.0
    noise = Noise(rng.uniform(0.1, 1.0, 6), rng.uniform(0.01, 1.0, 6))
    together = smooth(seen, seconds, trust, noise, 1.0)
    monkeypatch.setattr(smoothing, "_SHORT", 0)
    np.testing.assert_allclose(together, smooth(seen, seconds, trust, noise, 1.0), rtol=1e-7, atol=1e-9)


def test_a_straight_line_and_a_parabola_have_their_second_differences():
    t = np.array([0.0, 1.0, 1.5, 4.0])
    rows, _ = second_differences(t, 1.0)
    for values, expected in ((3 * t + 1, 0.0), (t**2, 2.0)):
        np.testing.assert_allclose(
            (rows * np.stack([values[:-2], values[1:-1], values[2:]], 1)).sum(1), expected, atol=1e-9
        )


def test_gaps_are_bridged():
    time = np.arange(60) / 25
    truth = np.sin(2 * np.pi * time)
    trust = np.ones((60, 1))
    trust[25:31] = 0
    seen = np.where(trust[:, 0] > 0, truth, np.nan)
    track = smooth(seen[:, None], time, trust, Noise(np.array([1e-6]), np.array([1e-4])), 1 / 25)[:, 0]
    assert np.abs(track - truth).max() < 0.03


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_few_frames_are_as_seen(frames):
    seen = np.arange(float(frames))[:, None] ** 2
    trust = np.ones((frames, 1))
    noise = measure_noise([seen], np.array([1.0]))
    assert np.isfinite(smooth(seen, np.arange(frames) / 25, trust, noise, 1 / 25)).all()
    if frames == 2:
        trust[0] = 0
        np.testing.assert_allclose(smooth(seen, np.arange(2) / 25, trust, noise, 1 / 25), 1.0)


def test_runs():
    assert runs(np.array([1, 1, 0, 0, 1, 0, 1], bool)) == [(0, 2), (4, 5), (6, 7)]
    assert runs(np.zeros(3, bool)) == []
