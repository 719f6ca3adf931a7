"""What can be opened, where its pictures are found, and what is said of what cannot."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from n2f_jax.cli.main import main
from n2f_jax.reconstruction.summary import Entry, Summary, describe_head
from n2f_jax.viewer.sources import PhotoHeads, TrackFrames, ViewError, open_source

from .conftest import SIZE, make_head, photograph


def test_a_folder_of_heads_with_their_photograph(heads):
    source = open_source(heads)
    assert isinstance(source, PhotoHeads) and source.names == ["left", "right"] and source.seconds is None
    np.testing.assert_array_equal(source.picture(1), photograph())
    assert source.note(0) == "" and source.head(0).image_size == SIZE
    assert source.head(0).points.shape == (468, 3)


def test_the_summary_says_which_photograph_is_whose(heads, open_head, tmp_path):
    """Photographs lie where the run found them; files that no run made are not heads."""
    out, photos = tmp_path / "out", tmp_path / "photos"
    out.mkdir(), photos.mkdir()
    shutil.copy(heads / "left.npz", out / "renamed.npz")
    shutil.copy(heads / "right.npz", out / "stray.npz")
    shutil.copy(heads / "both.png", photos / "other name.png")
    face = describe_head(make_head(open_head), {"npz": "renamed.npz"})
    entry = Entry(str(photos / "other name.png"), "renamed", "done", faces=[face])
    (out / "summary.json").write_text(Summary([entry], {}).to_json())
    source = open_source(out)
    assert source.names == ["renamed"] and source.photos == [photos / "other name.png"]
    assert open_source(out / "stray.npz").names == ["stray"]


def test_a_photograph_that_moved(heads, tmp_path):
    shutil.copy(heads / "left.npz", tmp_path / "left.npz")
    source = open_source(tmp_path)
    assert source.picture(0) is None and "--photo" in source.note(0)
    for place in (heads, heads / "both.png"):
        np.testing.assert_array_equal(open_source(tmp_path, place).picture(0), photograph())
    Image.fromarray(photograph()[:50]).save(tmp_path / "cut.png")
    cut = open_source(tmp_path, tmp_path / "cut.png")
    assert cut.picture(0) is None and "160 × 50" in cut.note(0)


def test_a_track_with_its_frames(track):
    source = open_source(track)
    assert isinstance(source, TrackFrames) and len(source.names) == 6
    source.pictures.join(10)
    # As JPEG they are near.
    assert np.abs(source.picture(4).astype(int) - photograph(4)).mean() < 6
    assert source.head(2) is None and source.head(4).status == "doubtful"
    assert open_source(track / "track.npz").names == source.names


def test_a_track_whose_clip_is_gone(track, tmp_path):
    shutil.copy(track / "track.npz", tmp_path / "track.npz")
    source = open_source(tmp_path)
    assert source.picture(0) is None and "--photo" in source.note(0)
    # Where its summary says, it is.
    (tmp_path / "summary.json").write_text(json.dumps({"clip": str(track / "clip")}))
    assert open_source(tmp_path).pictures is not None
    (tmp_path / "small").mkdir()
    Image.fromarray(photograph()[:50]).save(tmp_path / "small" / "0.png")
    with pytest.raises(ViewError, match="size"):
        open_source(tmp_path, tmp_path / "small")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("rotation", np.full((3, 3), np.nan, np.float32)),
        ("rotation", np.zeros((3, 3), np.float32)),
        ("translation", np.array([0.0, 0.0, -1.0], np.float32)),
        ("intrinsics", np.zeros((3, 3), np.float32)),
        ("image_size", np.array([1e30, 4.0])),
        ("shape", np.array(["a"] * 300)),
    ],
)
def test_a_head_that_cannot_be_is_refused_in_one_line(heads, tmp_path, key, value):
    with np.load(heads / "left.npz") as data:
        values = dict(data)
    np.savez(tmp_path / "bad.npz", **(values | {key: value}))
    with pytest.raises(ValueError, match=r"bad\.npz") as caught:
        open_source(tmp_path).head(0)
    assert "\n" not in str(caught.value)


def test_nothing_to_look_at_is_said(tmp_path, capsys):
    (tmp_path / "text.txt").write_text("no head")
    (tmp_path / "bad.npz").write_text("no archive")
    empty = tmp_path / "empty"
    empty.mkdir()
    for name in ("text.txt", "bad.npz", "empty", "missing"):
        assert main(["view", str(tmp_path / name)]) == 2
        said = capsys.readouterr().err
        assert said.startswith("error: ") and said.count("\n") == 1 and name in said
