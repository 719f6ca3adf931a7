"""``scripts/reconstruct.py --frontend``: from what Pixel3DMM wrote of a photograph to the head in it."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ..frontends.pixel3dmm.written_folder import write_folder
from ..frontends.rendered_head import RenderedHead

SCRIPT = Path(__file__).parents[3] / "scripts" / "reconstruct.py"


def run(*arguments):
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def test_precomputed(checkpoint, open_head, tmp_path):
    """The untrained network says the mean head, which is the one drawn; landmarks then give its camera."""
    head = RenderedHead(open_head)
    folder = write_folder(tmp_path / "data" / "anna", head)
    shutil.copy(folder / "rgb" / "00000.jpg", tmp_path / "anna.jpg")
    shutil.copy(folder / "rgb" / "00000.jpg", tmp_path / "bob.jpg")  # which Pixel3DMM has not seen
    done = run(
        tmp_path / "bob.jpg", tmp_path / "anna.jpg", "--out", tmp_path / "out", "--frontend", "precomputed",
        "--precomputed", tmp_path / "data", "--checkpoint", checkpoint, "--focal", 700,
        "--formats", "npz", "--no-picture", "--refine", 0,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    bob, anna = json.loads((tmp_path / "out" / "summary.json").read_text())["photos"]
    assert bob["status"] == "failed" and "nothing of Pixel3DMM's for bob.jpg" in bob["message"]
    assert anna["status"] == "done"
    with np.load(tmp_path / "out" / "anna.npz") as found:
        assert found["frontend"] == "precomputed" and found["frontend_points"].shape == (0, 3)
        assert np.allclose(found["rotation"], head.camera.rotation, atol=2e-3)
        assert np.allclose(found["translation"], head.camera.translation, atol=2e-3)
        inner = found["landmarks_2d"][17:] - head.landmarks[17:]
        assert np.linalg.norm(inner, axis=1).max() < 0.2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--frontend", "precomputed"), "--precomputed=DIR"),
        (("--frontend", "precomputed", "--precomputed", "{here}/nowhere"), "is none"),
        (("--frontend", "telepathy"), "invalid choice"),
    ],
)
def test_wrong_use_says_why(checkpoint, tmp_path, arguments, words):
    (tmp_path / "photo.jpg").touch()
    arguments = [argument.format(here=tmp_path) for argument in arguments]
    done = run(tmp_path / "photo.jpg", "--out", tmp_path / "out", "--checkpoint", checkpoint, *arguments)
    assert done.returncode == 2 and words in done.stderr
