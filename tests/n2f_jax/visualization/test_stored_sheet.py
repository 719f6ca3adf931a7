import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from n2f_jax.visualization.stored_sheet import stored_page
from tests.n2f_jax.data.stored import random_face, write_folder

ROOT = Path(__file__).parents[3]


def test_a_page_shows_landmarks_where_they_are(tmp_path):
    """A landmark is drawn at its own place: the photograph is black but for one white pixel, which it marks."""
    picture = np.zeros((80, 80, 3), np.uint8)
    picture[30, 50] = 255
    Image.fromarray(picture).save(tmp_path / "a.png")
    landmarks = np.tile(np.array([[50.5 - 20, 30.5 - 20]], np.float32), (68, 1))
    landmarks[0], landmarks[1] = (5, 5), (35, 35)
    crop = np.array([20.0, 20.0, 40.0])
    face = random_face(size=40, source=str(tmp_path / "a.png"), crop=crop, landmarks_68=landmarks)
    gone = random_face(size=40, source="/nowhere.png")
    ids = write_folder(tmp_path / "out", {"set/a.png": [face], "set/b.png": [gone]})
    page = stored_page(
        tmp_path / "out", [ids["set/a.png"][0], ids["set/b.png"][0]], crop_scale=1.2, size=32, tile=120
    )
    assert page.shape[1] == 4 * 120 + 5 * 10 and page.dtype == np.uint8
    green = (page[..., 1].astype(int) - page[..., 0] > 120)[:190, :130]
    v, u = np.nonzero(green[46:166, 10:130])
    # Its mark is the heaviest: 66 landmarks lie there; the panel begins at (10, 46) and is enlarged three times.
    near = np.hypot(u - 30.5 * 3, v - 10.5 * 3) < 6
    assert near.sum() > 3
    np.testing.assert_allclose((u[near].mean() + 0.5, v[near].mean() + 0.5), (30.5 * 3, 10.5 * 3), atol=0.5)


def test_the_script(tmp_path):
    write_folder(tmp_path / "out", {f"set/{i}.png": [random_face(i, source="")] for i in range(3)})
    script = [
        sys.executable,
        str(ROOT / "scripts" / "draw.py"),
        "preprocessed",
        "--out",
        str(tmp_path / "page.png"),
    ]
    done = subprocess.run([*script, "--folder", str(tmp_path / "out")], capture_output=True, text=True)
    assert done.returncode == 0 and "3 faces" in done.stdout, done.stderr
    assert np.asarray(Image.open(tmp_path / "page.png")).std() > 20
    for arguments, message in (
        (["--first=9"], "no face number 9"),
        (["--folder", str(tmp_path)], "preprocessed folder"),
    ):
        done = subprocess.run(
            [*script, "--folder", str(tmp_path / "out"), *arguments], capture_output=True, text=True
        )
        assert done.returncode == 2 and message in done.stderr, done.stderr
