"""What the page makes of a photograph, and what it says of one that gives nothing."""

import csv

import numpy as np
import pytest
import trimesh
from PIL import Image

from n2f_jax.app import photo_answers
from n2f_jax.app.photo_answers import PhotoError
from n2f_jax.reconstruction.head_file import load_parameters

pytestmark = pytest.mark.medium


def test_a_photograph_gives_pictures_and_files(answers, photo):
    answer = answers(photo(100))
    (head,) = answer.heads
    assert [path.name for path in answer.files] == ["head.npz", "head.glb", "head.obj", "head_arkit.csv"]
    values = load_parameters(answer.files[0])
    np.testing.assert_array_equal(values["vertices"], head.vertices)
    assert values["source"] == "somebody's photo.png"
    for path in answer.files[1:3]:
        assert trimesh.load(path, force="mesh").bounds == pytest.approx(
            np.array([head.vertices.min(axis=0), head.vertices.max(axis=0)]), abs=1e-5
        )
    with answer.files[3].open() as table:
        rows = list(csv.DictReader(table))
    assert len(rows) == 1 and rows[0]["name"] == "head" and 0 <= float(rows[0]["jawOpen"]) <= 1
    # The overlay is the grey photograph with a mesh in the middle.
    overlay = np.asarray(Image.open(answer.overlay)).astype(int)
    assert overlay.shape == (120, 160, 3) and 0.02 < (np.abs(overlay - 100).max(axis=-1) > 30).mean() < 0.9
    assert Image.open(answer.picture).width > Image.open(answer.picture).height
    assert answer.mesh == answer.files[1] and "Pitch" in answer.text


def test_several_faces(answers, photo):
    answer = answers(photo(200))
    assert len(answer.heads) == 2 and answer.text.startswith("2 faces")
    assert {"head.npz", "head_face2.npz", "head_face2.glb"} <= {path.name for path in answer.files}


def test_what_gives_no_head_is_said_without_the_servers_paths(answers, photo, tmp_path, monkeypatch):
    text, cut = tmp_path / "letter.txt", tmp_path / "cut.jpg"
    text.write_text("no picture")
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(cut)
    cut.write_bytes(cut.read_bytes()[:900])
    (tmp_path / "empty.png").touch()
    for path, words in (
        (None, "Drop a photograph"),
        (photo(0), "No face"),
        (text, r"letter\.txt cannot be read: not an image"),
        (cut, r"cut\.jpg cannot be read"),
        (tmp_path / "empty.png", "empty"),
        (tmp_path / "gone.png", r"gone\.png cannot be read"),
    ):
        with pytest.raises(PhotoError, match=words) as caught:
            answers(path)
        assert str(tmp_path) not in str(caught.value) and "\n" not in str(caught.value)
    monkeypatch.setattr(photo_answers, "MAX_BYTES", 100)
    with pytest.raises(PhotoError, match="at most"):
        answers(photo(100))


def test_a_photograph_of_too_many_pixels_is_not_unpacked(answers, photo, monkeypatch):
    monkeypatch.setattr(photo_answers, "MAX_PIXELS", 1000)
    monkeypatch.setattr(photo_answers, "read_image", lambda path: pytest.fail("it was read"))
    with pytest.raises(PhotoError, match="160 × 120 pixels"):
        answers(photo(100))


def test_files_of_old_answers_go(answers, photo, monkeypatch):
    monkeypatch.setattr(photo_answers, "KEPT", 1)
    first = answers(photo(100))
    second = answers(photo(100))
    assert not any(path.exists() for path in first.files)
    assert all(path.exists() for path in (*second.files, second.overlay, second.picture))
