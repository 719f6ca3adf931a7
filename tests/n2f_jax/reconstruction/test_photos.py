"""Which photographs a run takes, and what it says of the others."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from n2f_jax.cli.reconstruct import main as reconstruct
from n2f_jax.data.image_files import SkippedFiles
from n2f_jax.reconstruction.batch_run import RunOptions, run
from n2f_jax.reconstruction.photos import find_photos
from n2f_jax.reconstruction.summary import Entry
from n2f_jax.reconstruction.summary_file import read_entries


def photo(path, **save):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((90, 120, 3), 100, np.uint8)).save(path, "PNG", **save)
    return path


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    photo(tmp_path / "photos/a.png")
    photo(tmp_path / "photos/sub/IMG_0001")
    photo(tmp_path / "photos/sub/wrong.dat")
    photo(tmp_path / "photos/out/made_before.png")
    photo(tmp_path / "photos/.hidden/b.png")
    for name in ("letter.jpg", "notes.txt", "b.cr2", "LICENSE", ".notes.txt", "out/a.obj"):
        (tmp_path / "photos" / name).write_text("text")
    return tmp_path / "photos"


def names(found):
    return [path.as_posix() for path in found]


def test_images_are_found_and_the_rest_is_listed(folder):
    skipped = SkippedFiles()
    found = find_photos(["photos"], folder / "out", skipped)
    assert names(found) == [
        f"photos/{name}" for name in ("a.png", "letter.jpg", "sub/IMG_0001", "sub/wrong.dat")
    ]
    assert skipped.text() == "skipped 3 files: photos/LICENSE, photos/b.cr2, photos/notes.txt"


def test_each_photo_once_and_each_folder(folder, tmp_path):
    (folder / "again").symlink_to(folder / "sub")
    (folder / "loop").symlink_to(folder)
    (folder / "file_link.png").symlink_to(folder / "a.png")
    photo(tmp_path / "elsewhere/c.png")
    (folder / "one").symlink_to(tmp_path / "elsewhere")
    (folder / "two").symlink_to(tmp_path / "elsewhere")
    skipped = SkippedFiles()
    found = find_photos(["photos/sub/wrong.dat", "photos", "photos/again", "photos"], folder / "out", skipped)
    assert names(found) == ["photos/sub/wrong.dat"] + [
        f"photos/{name}" for name in ("a.png", "letter.jpg", "one/c.png", "sub/IMG_0001")
    ]
    assert skipped.count == 3


def test_links_in_a_circle_are_listed(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    skipped = SkippedFiles()
    assert find_photos([tmp_path, tmp_path / "a"], skipped=skipped) == []
    assert skipped.count == 3 and "circle" in skipped.text() and "cannot be followed" in skipped.text()


class Blind:
    """A reconstructor that sees no face, and so needs no network."""

    batch_size, checkpoint, checkpoint_sha256, head_model_sha256 = 8, "", "", ""
    alignment, refine, frontend = "landmarks", 0, None
    inputs = SimpleNamespace(normal_frame="head")

    def __init__(self, head_model):
        self.head_model = head_model

    def reconstruct(self, images, focals, **options):
        self.focals = focals
        return [[] for _ in images]


def test_the_run_says_what_was_skipped_and_which_focal_lengths_cannot_be(folder, open_head):
    exif = Image.Exif()
    exif[0x0112] = 1
    exif.get_ifd(0x8769)[0xA405] = 65535
    photo(folder / "a.png", exif=exif)
    skipped, said, out, blind = SkippedFiles(), [], folder / "out", Blind(open_head)
    found = find_photos(["photos/a.png", "photos/sub/IMG_0001"], out)
    skipped.add("notes.txt")
    run(found, out, blind, RunOptions(picture=False), say=said.append, progress=False, skipped=skipped)
    assert said.count("photos/a.png: EXIF's 35 mm equivalent of 65535 mm cannot be and is ignored") == 1
    assert [focal.exif for focal in blind.focals] == [None, None]
    content = json.loads((out / "summary.json").read_text())
    assert content["skipped"] == {"count": 1, "names": ["notes.txt"], "problems": []}
    assert [entry["focal_note"] != "" for entry in content["photos"]] == [True, False]

    said.clear()  # the user's counts, and nothing was ignored
    summary = run(found, out, blind, RunOptions(picture=False, focal=200.0), say=said.append, progress=False)
    assert "EXIF" not in "".join(said) and summary.entries[0].focal_note == ""


def test_summaries_of_before_are_read(tmp_path):
    old = {
        key: value
        for key, value in vars(Entry("a.png", "a", status="no face")).items()
        if key != "focal_note"
    }
    (tmp_path / "summary.json").write_text(json.dumps({"photos": [old], "earlier": []}))
    (entry,) = read_entries(tmp_path / "summary.json").values()
    assert entry.status == "no face" and entry.focal_note == ""


def test_the_command_lists_what_it_skipped(folder, capsys):
    (folder / "letter.jpg").unlink()
    for name in ("a.png", "sub/IMG_0001", "sub/wrong.dat"):
        (folder / name).unlink()
    assert reconstruct(["photos", "--out", "photos/out"]) == 2  # nothing is left to do
    assert "skipped 3 files: photos/LICENSE, photos/b.cr2, photos/notes.txt" in capsys.readouterr().out
