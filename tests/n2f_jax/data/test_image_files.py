"""What a search of a folder finds, in which order of names, and what it passes over."""

import contextlib
import os
import random

from PIL import Image

from n2f_jax.data import image_files
from n2f_jax.data.image_files import SkippedFiles, is_image_file, walk_files


def write(path, content=b"x"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def found(root, **options):
    return sorted("/".join(item.within) for item in walk_files(root, **options) if not item.problem)


def test_images_by_suffix_and_by_content(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    picture = (tmp_path / "a.png").read_bytes()
    for name in ("IMG_0001", "photo.dat", "Mr. Smith", "x.2"):
        assert is_image_file(write(tmp_path / name, picture)), name
        assert not is_image_file(write(tmp_path / name, b"text")), name
    for name in ("a.jfif", "a.jpe", "a.HEIC", "a.heif", "a.avif", "a.JPG"):
        assert is_image_file(write(tmp_path / name, b"text")), name  # the run says that it is none
    for name in ("a.npz", "a.obj", "a.txt", "a.json", "a.py", "a.pts", "a.cr2", "a.thm", "a.jpg.part"):
        assert not is_image_file(write(tmp_path / name, picture)), name


def test_only_files_of_unknown_suffix_are_opened(tmp_path, monkeypatch):
    files = [tmp_path / name for name in ("a.jpg", "a.txt", "a.npz", "a.heic", "unknown.xyz", "none")]
    for file in files:
        write(file)
    opened = []
    monkeypatch.setattr(image_files.Path, "open", lambda self, *_, **__: opened.append(self.name) or 1 / 0)
    for file in files:
        with contextlib.suppress(ZeroDivisionError):
            is_image_file(file)
    assert opened == ["unknown.xyz", "none"]


def test_a_folder_is_entered_once_and_by_its_own_path(tmp_path):
    write(tmp_path / "root/z/a.jpg")
    write(tmp_path / "outside/deep/b.jpg")
    (tmp_path / "root/link").symlink_to(tmp_path / "root/z")  # before z in any listing by name
    (tmp_path / "root/m").symlink_to(tmp_path / "outside")
    (tmp_path / "root/n").symlink_to(tmp_path / "outside")
    (tmp_path / "root/up").symlink_to(tmp_path)
    (tmp_path / "outside/round").symlink_to(tmp_path / "root")
    assert found(tmp_path / "root") == ["m/deep/b.jpg", "z/a.jpg"]
    assert found(tmp_path / "root/link") == ["a.jpg"]  # the argument itself may be a link


def test_names_do_not_depend_on_the_order_of_listings(tmp_path, monkeypatch):
    for name in "abcd":
        write(tmp_path / "root" / name / "x.jpg")
        (tmp_path / "root" / name / "to_b").symlink_to(tmp_path / "far")
    write(tmp_path / "far/sub/y.jpg")
    (tmp_path / "root/e").symlink_to(tmp_path / "far/sub")
    expected = found(tmp_path / "root")
    real = os.scandir

    class Shuffled:
        def __init__(self, folder):
            with real(folder) as listing:
                self.entries = list(listing)
            random.shuffle(self.entries)

        def __enter__(self):
            return iter(self.entries)

        def __exit__(self, *_):
            pass

        def __iter__(self):
            return iter(self.entries)

    monkeypatch.setattr(image_files.os, "scandir", Shuffled)
    for seed in range(10):
        random.seed(seed)
        assert found(tmp_path / "root") == expected
    assert sum(name.endswith("y.jpg") for name in expected) == 1


def test_hidden_and_excluded_folders(tmp_path):
    for name in ("a.jpg", ".b.jpg", ".c/d.jpg", "out/e.jpg", "out/f/g.jpg"):
        write(tmp_path / "root" / name)
    (tmp_path / "root/again").symlink_to(tmp_path / "root/out")
    assert found(tmp_path / "root", exclude=tmp_path / "root/out") == ["a.jpg"]
    assert len(found(tmp_path / "root", exclude=tmp_path / "nowhere")) == 3
    assert found(tmp_path / "root/out", exclude=tmp_path / "root") == ["e.jpg", "f/g.jpg"]


def test_links_in_a_circle_pipes_and_broken_links(tmp_path):
    (tmp_path / "a.jpg").symlink_to("b.jpg")
    (tmp_path / "b.jpg").symlink_to("a.jpg")
    (tmp_path / "broken.jpg").symlink_to("nothing")
    os.mkfifo(tmp_path / "pipe")
    assert not is_image_file(tmp_path / "pipe")  # and does not wait for what comes out of it
    items = {item.path.name: item.problem for item in walk_files(tmp_path)}
    assert "cannot be followed" in items["a.jpg"] and "cannot be followed" in items["b.jpg"]
    assert "neither" in items["pipe"] and items["broken.jpg"] == ""


def test_a_folder_that_may_not_be_listed(tmp_path, monkeypatch):
    (tmp_path / "locked").mkdir()
    real = os.scandir

    def scandir(folder):
        if folder.name == "locked":
            raise PermissionError(13, "Permission denied")
        return real(folder)

    monkeypatch.setattr(image_files.os, "scandir", scandir)
    (item,) = walk_files(tmp_path)
    assert item.is_folder and item.problem == "this folder cannot be listed: Permission denied"


def test_skipped_files_in_one_line():
    skipped = SkippedFiles()
    assert skipped.text() == ""
    skipped.add("notes.txt")
    assert skipped.text() == "skipped 1 file: notes.txt"
    for i in range(200):
        skipped.add(f"{i}\n\udcff.txt")
    skipped.add("locked", "this folder cannot be listed")
    assert skipped.text() == (
        "skipped 202 files: locked (this folder cannot be listed), notes.txt, "
        r"0\n\udcff.txt, 1\n\udcff.txt, 2\n\udcff.txt and 197 more"
    )
    assert len(skipped.names) == 100
