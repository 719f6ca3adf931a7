"""What the comparison makes of its measurements; the methods themselves have tests of their own."""

import json

import numpy as np
import pytest

from n2f_jax.fitting.comparison import (
    CONDITIONS,
    draw_tradeoff,
    format_table,
    seconds_of,
    summarize,
)
from n2f_jax.fitting.photo_comparison import format_photo_table

pytestmark = pytest.mark.medium


def errors(value):
    return {"cd_mm": value, "face_mm": 2 * value, "normals_deg": 10 * value, "landmarks_percent": value}


@pytest.fixture
def results():
    """Four heads of each condition, of which Adam did two; the last is beyond 30° of yaw."""
    rows = []
    for i, yaw in enumerate((0.0, -20.0, 29.0, 45.0)):
        row = {
            "yaw": yaw,
            "seconds": {"network": 0.01, "GN from network": 0.1 * (i + 1), "GN from mean": 0.5},
            "errors": {
                "mean head": errors(4.0),
                "network": errors(2.0),
                "GN from network": errors(1.0),
                "GN from mean": errors(1.05 if i else 1.2),
            },
        }
        if i < 2:
            row["errors"] |= {"Adam from network": errors(1.0 + i), "Adam from mean": errors(3.0)}
            row["seconds"]["Adam from network"] = 8.0
        rows.append(row)
    return {"config": {}, "heads": {condition: rows for condition in CONDITIONS}}


def test_figures(results):
    figures = summarize(results)["clean"]
    mean, error, count = figures["GN from mean"]["all"]["cd_mm"]
    np.testing.assert_allclose((mean, count), (np.mean([1.2, 1.05, 1.05, 1.05]), 4))
    np.testing.assert_allclose(error, np.std([1.2, 1.05, 1.05, 1.05], ddof=1) / 2)
    assert figures["GN from mean"]["paired"]["cd_mm"][0] == pytest.approx(1.125)
    assert figures["Adam from network"]["paired"]["cd_mm"][::2] == (1.5, 2)
    assert "all" not in figures["Adam from network"]
    # Three heads within 30°; the first is 2° of normals off the best, the others half a degree.
    assert figures["GN from mean"]["converged"] == (2, 3)
    assert figures["Adam from network"]["converged"] == (1, 2)
    assert figures["network"]["converged"] == (0, 3)
    assert seconds_of(results)["GN from network"][0] == pytest.approx(0.25)


def test_tables_and_picture(results, tmp_path):
    table = format_table(json.loads(json.dumps(results)))
    assert table.count("| GN from network |") == 2 * len(CONDITIONS) + 1
    assert "**clean**, 2 heads that Adam did too" in table
    assert "| GN from mean | 1.125 ± 0.075 |" in table
    draw_tradeoff(results, tmp_path / "tradeoff.png")
    assert (tmp_path / "tradeoff.png").stat().st_size > 10_000
    rows = [
        {"photo": name, "method": method, "normals_deg": 5.0, "all": error, "inner": 3.0, "seconds": 0.1}
        for name, error in (("a", 4.0), ("b", 6.0))
        for method in ("network", "GN from network", "GN from mean", "Adam from network", "Adam from mean")
    ]
    assert "| network | 5.00 | 5.00 | 3.00 | 0.10 |" in format_photo_table(rows)
