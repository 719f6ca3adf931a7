"""What is made of measurements, and the plots."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from n2f_jax.benchmark import robustness
from n2f_jax.benchmark.tables import (
    COLUMNS,
    format_by_setting,
    format_speed,
    format_tables,
    interval,
    write_figures,
)


def test_interval_covers_the_mean_as_often_as_it_says():
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(300):
        mean, low, high = interval(rng.normal(1.0, 2.0, 60))
        assert low < mean < high
        inside += low < 1.0 < high
    assert 270 <= inside <= 295  # 95 % of 300 is 285


def test_interval_of_nothing_and_of_holes():
    assert np.isnan(interval(np.full(3, np.nan))).all()
    assert interval(np.array([1.0, np.nan, 1.0])) == (1.0, 1.0, 1.0)


@pytest.fixture
def figures():
    heads = np.arange(6.0)
    one = lambda offset, known: {  # noqa: E731
        name: np.where(np.arange(6) < known, heads + offset, np.nan)
        for name in (*COLUMNS.values(), "seconds")
    }
    return {
        "clean": {
            "network": one(1.0, 6),
            "Adam from mean": one(0.5, 2),
            "nearest head of the model": one(0.0, 6),
        }
    }


def test_tables(figures):
    table = format_tables(figures, "network")
    assert "**clean**, 6 heads" in table
    assert "| network | 3.500 [" in table
    # Adam's two heads against the network's same two, not against the mean over six.
    (row,) = [line for line in table.splitlines() if line.startswith("| Adam")]
    assert row.startswith("| Adam from mean (2 heads) |")
    assert row.endswith("| -0.500 [-0.500, -0.500] |")
    paired = format_tables(figures, "network", paired_only=True)
    assert "2 heads that every method did" in paired
    assert "| network | 1.500 [" in paired


def test_by_setting_and_speed(figures):
    controlled = [{"yaw": 20.0 * (i % 2), "pitch": 0.0, "strength": 1.0, "crop_error": 0.0} for i in range(6)]
    table = format_by_setting(figures, controlled, "network")
    assert "0: 3.00 [" in table and "20: 4.00 [" in table
    assert "| network | 3.5000 |" in format_speed(figures)


def test_figures_file(figures, tmp_path):
    write_figures(figures, tmp_path / "figures.json")
    stored = json.loads((tmp_path / "figures.json").read_text())
    assert stored["clean"]["Adam from mean"]["face/cd_mm"] == [0.5, 1.5, None, None, None, None]


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6])
def test_a_line_hides_the_share_that_is_asked_for(share):
    y, x = np.mgrid[:64, :64]
    mask = jnp.asarray(((x - 30) ** 2 + (y - 34) ** 2 < 20**2).astype(np.float32))
    for seed in range(5):
        keep = robustness._beyond_a_line(jax.random.key(seed), mask, jnp.asarray(share))
        assert 1.0 - float((mask * keep).sum() / mask.sum()) == pytest.approx(share, abs=0.03)


def test_curves_are_drawn(tmp_path):
    sweeps = {
        name: {str(v): {m: [1.0 + abs(v) / 100, 2.0] for m in robustness.METHODS} for v in sweep.values}
        for name, sweep in robustness.SWEEPS.items()
    }
    curves = {"sweeps": sweeps}
    robustness.draw_curves(curves, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 20_000
    table = robustness.format_curves(curves)
    assert "| yaw, degrees | -75 |" in table
    assert "| network, mm | 1.88 |" in table
