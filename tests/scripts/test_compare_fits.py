"""What the comparison makes of its measurements, and the command; the methods have tests of their own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import compare_fits
import numpy as np
import pytest
from compared_heads import front_end, held_out

from n2f_jax.benchmark.methods import make_methods
from n2f_jax.models.pretrained import DEFAULT_CHECKPOINT, from_pretrained

ROOT = Path(__file__).resolve().parents[2]
METHODS = ("mean head", *compare_fits.PLOTTED)


def figures(value, yaw):
    return {
        "cd_mm": value,
        "face_mm": 2 * value,
        "normals_deg": 10 * value,
        "landmarks_percent": value,
        "yaw_deg": yaw,
    }


@pytest.fixture
def rows():
    """Four heads of each condition, of which Adam did two; the last is beyond 30° of yaw."""
    rows = []
    for of in held_out.CONDITIONS:
        for head, yaw in enumerate((0.0, -20.0, 29.0, 45.0)):
            values = {"mean head": 4.0, "network": 2.0, "Gauss-Newton from network": 1.0}
            values["Gauss-Newton from mean"] = 1.05 if head else 1.2
            if head < 2:
                values |= {"Adam from network": 1.0 + head, "Adam from mean": 3.0}
            for method, value in values.items():
                slow = method.startswith("Adam")
                seconds = 8.0 * (head == 0) if slow else 0.1 * (head + 1)
                one = {"of": of, "head": head, "method": method, "seconds": seconds}
                rows.append({**one, "figures": figures(value, yaw)})
    return rows


def test_figures(rows):
    table = compare_fits.by_method(rows, "clean")
    assert compare_fits.every_methods_heads(table) == [0, 1]
    values = [1.2, 1.05, 1.05, 1.05]
    expected = np.mean(values), np.std(values, ddof=1) / 2
    own = table["Gauss-Newton from mean"]
    np.testing.assert_allclose(compare_fits.statistics(own, range(4), "cd_mm"), expected)
    # Three heads within 30°; the first is 2° of normals off the best, the others half a degree.
    assert compare_fits.converged(table, "Gauss-Newton from mean") == (2, 3)
    assert compare_fits.converged(table, "Adam from network") == (1, 2)
    assert compare_fits.converged(table, "network") == (0, 3)
    assert np.median(compare_fits.seconds_of(rows)["Gauss-Newton from network"]) == pytest.approx(0.25)


def test_tables_and_picture(rows, tmp_path):
    text = compare_fits.format_tables(rows, held_out.COLUMNS)
    assert text.count("| Gauss-Newton from network |") == 2 * len(held_out.CONDITIONS)
    assert text.count("| Adam from mean |") == len(held_out.CONDITIONS)
    assert "**clean**, 2 heads that every method did" in text and "**clean**, 4 heads\n" in text
    assert "| Gauss-Newton from mean | 1.125 ± 0.075 |" in text
    medians = compare_fits.format_tables(rows, {"CD, mm": "cd_mm"}, medians=True)
    assert "| Gauss-Newton from mean | 1.050 | 2 of 3 |" in medians
    assert "| Adam from mean | 8.000 | 8.000 … 8.000 | 3 |" in compare_fits.format_seconds(rows)
    compare_fits.draw_tradeoff(rows, tmp_path / "tradeoff.png")
    assert (tmp_path / "tradeoff.png").stat().st_size > 10_000


def test_what_a_killed_run_left_is_cut_off(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"seed": 0}\n{"head": 1}\n{"hea')
    assert compare_fits._lines(path) == [{"seed": 0}, {"head": 1}]
    assert path.read_text() == '{"seed": 0}\n{"head": 1}\n'


@pytest.mark.slow
def test_held_out_heads(tmp_path):
    """Two heads of each condition, one of them by Adam; the same command again measures nothing."""
    arguments = [sys.executable, "scripts/benchmarks/compare_fits.py", "held-out", "--out", str(tmp_path)]
    arguments += ["--heads", "2", "--adam-heads", "1", "--head-model", "flame_jax/assets/open_head.npz"]
    # Without what makes tests compile fast and run slowly: Adam takes 1,300 steps.
    plain = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    run = lambda: subprocess.run(  # noqa: E731
        arguments, cwd=ROOT, capture_output=True, text=True, timeout=3000, env=plain
    )
    first = run()
    assert first.returncode == 0, first.stderr
    _, *rows = map(json.loads, (tmp_path / "held-out.jsonl").read_text().splitlines())
    assert {row["of"] for row in rows} == set(held_out.CONDITIONS)
    for of in held_out.CONDITIONS:
        table = compare_fits.by_method(rows, of)
        assert set(table) == set(METHODS)
        assert set(table["Adam from mean"]) == {0} and set(table["network"]) == {0, 1}
        normals = {name: heads[0]["normals_deg"] for name, heads in table.items()}
        assert normals["Gauss-Newton from network"] < normals["mean head"]
    stored = (tmp_path / "held-out.jsonl").read_bytes()
    again = run()
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "held-out.jsonl").read_bytes() == stored
    assert "**noisy**, 2 heads" in again.stdout
    assert (tmp_path / "held-out.png").stat().st_size > 10_000


@pytest.mark.slow
def test_two_steps_pay_on_the_free_front_ends_maps(open_head, tmp_path):
    saved = from_pretrained(DEFAULT_CHECKPOINT, open_head)
    methods = make_methods(open_head, {"network": saved}, photographs=True, steps=(2,))
    refined = "Gauss-Newton from network, 2 steps"
    methods = {name: methods[name] for name in ("network", refined)}
    heads = front_end.FrontEndHeads(open_head, saved.inputs, 12)
    rows = compare_fits.measure({"sampled": heads}, methods, tmp_path / "rows.jsonl", {}, progress=False)
    table = compare_fits.by_method(rows, "sampled")
    better = [table["network"][i]["face_mm"] - table[refined][i]["face_mm"] for i in range(12)]
    assert np.mean(better) > 0.2
