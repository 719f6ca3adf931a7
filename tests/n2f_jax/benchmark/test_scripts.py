"""The benchmark's two commands, end to end on a few heads."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import trimesh

from n2f_jax.benchmark.files import (
    CONDITIONS,
    BenchmarkError,
    read_settings,
    read_stored_head,
    write_benchmark,
)

pytestmark = pytest.mark.medium

ROOT = Path(__file__).resolve().parents[3]


def run(*arguments, code=0):
    finished = subprocess.run(
        [sys.executable, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True, timeout=3000
    )
    assert finished.returncode == code, finished.stdout + finished.stderr
    return finished.stdout + finished.stderr


def test_wrong_folders_are_named(tmp_path):
    with pytest.raises(BenchmarkError, match="make_benchmark"):
        read_settings(tmp_path)
    (tmp_path / "benchmark.json").write_text('{"heads": 3}')
    with pytest.raises(BenchmarkError, match="damaged"):
        read_settings(tmp_path)
    settings = {"heads": 3, "seed": 0, "size": 128, "crop_scale": 1.4, "controlled": []}
    (tmp_path / "benchmark.json").write_text(json.dumps(settings))
    with pytest.raises(BenchmarkError, match="other settings"):
        write_benchmark(tmp_path, 4)


@pytest.mark.slow
def test_a_small_benchmark(tmp_path):
    folder, out = tmp_path / "benchmark", tmp_path / "results"
    run("scripts/make_benchmark.py", "--out", folder, "--heads", 3)
    mesh = trimesh.load(folder / "heads/head001.ply", process=False)
    assert len(mesh.vertices) > 10_000
    seven = np.load(folder / "heads/head001.npy")
    assert mesh.nearest.on_surface(seven)[1].max() < 1e-3
    for condition in CONDITIONS:
        stored = read_stored_head(folder / f"inputs/{condition}/head001.npz")
        length = np.linalg.norm(stored.normals, axis=-1)[stored.mask > 0]
        np.testing.assert_allclose(length, 1.0, atol=1e-5)
        assert 0.1 < stored.mask.mean() < 0.6 if CONDITIONS[condition].segmented else stored.mask.all()
        # The truth projects to its landmarks.
        pixels = (seven @ stored.rotation.T + stored.translation) @ stored.intrinsics.T
        assert (
            np.abs(
                pixels[:, :2] / pixels[:, 2:] - stored.true_landmarks_2d[[36, 39, 42, 45, 33, 48, 54]]
            ).max()
            < 0.01
        )
    before = (folder / "inputs/noisy/head002.npz").stat().st_mtime_ns
    run("scripts/make_benchmark.py", "--out", folder, "--heads", 3)
    assert (folder / "inputs/noisy/head002.npz").stat().st_mtime_ns == before

    arguments = ("scripts/run_benchmark.py", folder, "--out", out, "--fits", "Gauss-Newton from network")
    arguments += ("--uv-places",)
    text = run(*arguments)
    figures = json.loads((out / "figures.json").read_text())
    cd = {name: one["face/cd_mm"] for name, one in figures["clean"].items()}
    cd = {name: np.mean(values) for name, values in cd.items()}
    assert cd["nearest head of the model"] < cd["Gauss-Newton from network"] < cd["mean head"]
    assert set(figures) == {name for name, what in CONDITIONS.items() if what.segmented}
    assert "| Gauss-Newton from network |" in text
    assert text.count("| network, UV as places |") == 2  # of clean maps alone, and its time
    shutil.rmtree(out / "predictions" / "network" / "clean")
    assert run(*arguments).count("| network |") == text.count(
        "| network |"
    )  # only what is missing is made again
    assert "no condition dark" in run(*arguments, "--conditions", "dark", code=2)
