"""``scripts/fit.py --compare`` as a command."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from n2f_jax.fitting.comparison import CONDITIONS, METHODS

pytestmark = pytest.mark.medium

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.slow
def test_compare(tmp_path):
    """Two heads of each condition, one of them by Adam; the same command again measures nothing."""
    arguments = [sys.executable, "scripts/fit.py", "--compare", "--heads", "2", "--adam-heads", "1"]
    # With a head model by path, as one's own FLAME: no photographs, whose mesh is embedded in the open head.
    arguments += ["--head-model", "flame_jax/assets/open_head.npz", "--out", str(tmp_path)]
    # Without what makes tests compile fast and run slowly: Adam takes 1,300 steps.
    plain = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    run = lambda: subprocess.run(  # noqa: E731
        arguments, cwd=ROOT, capture_output=True, text=True, timeout=3000, env=plain
    )
    first = run()
    assert first.returncode == 0, first.stderr
    results = json.loads((tmp_path / "comparison.json").read_text())
    assert set(results["heads"]) == set(CONDITIONS)
    for rows in results["heads"].values():
        assert set(rows[0]["errors"]) == {"mean head", *METHODS}
        assert "Adam from mean" not in rows[1]["errors"]
        assert (
            rows[0]["errors"]["GN from network"]["normals_deg"]
            < rows[0]["errors"]["mean head"]["normals_deg"]
        )
    stored = (tmp_path / "comparison.json").read_bytes()
    again = run()
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "comparison.json").read_bytes() == stored
    assert "**noisy**" not in again.stdout and "**blurred, noisy**, 2 heads" in again.stdout
    assert (tmp_path / "comparison.png").stat().st_size > 10_000
