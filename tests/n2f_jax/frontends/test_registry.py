"""Front ends by name, on one image or many, and what is missing said with its remedy."""

import sys

import numpy as np
import pytest

from n2f_jax.frontends import FRONTENDS
from n2f_jax.frontends.base import Frontend
from n2f_jax.frontends.files import FrontendFileError, record, require_file
from n2f_jax.frontends.registry import FrontendOptions, make_frontend

IMAGES = [np.zeros((8, 6, 3), np.uint8), np.zeros((5, 7, 3), np.uint8)]


class Echo(Frontend):
    """Finds, as its only face, what it was given."""

    name = "echo"

    def detect(self, images, sources):
        return [[(image.shape, source)] for image, source in zip(images, sources, strict=True)]


def test_one_image_or_many():
    frontend = Echo()
    assert frontend(IMAGES[0]) == [((8, 6, 3), None)]
    assert frontend(IMAGES[1], "b.png") == [((5, 7, 3), "b.png")]
    assert frontend(IMAGES, ["a", "b"]) == [[((8, 6, 3), "a")], [((5, 7, 3), "b")]]
    assert frontend([]) == []
    assert frontend(np.stack([IMAGES[0]] * 2)) == [[((8, 6, 3), None)]] * 2


@pytest.mark.parametrize(
    ("images", "sources", "message"),
    [
        (IMAGES, ["a"], "2 images and 1 sources"),
        (IMAGES[0].astype(np.float32), None, "uint8"),
        ([IMAGES[0][..., 0]], None, "H, W, 3"),
    ],
)
def test_wrong_images_are_refused(images, sources, message):
    with pytest.raises(ValueError, match=message):
        Echo()(images, sources)


def test_unknown_names():
    with pytest.raises(ValueError, match=f"'magic'; there are {', '.join(FRONTENDS)}"):
        make_frontend("magic", FrontendOptions())


def test_without_pytorch(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    for name in [name for name in sys.modules if name.startswith("n2f_jax.frontends.pixel3dmm")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ImportError, match=r"needs PyTorch: pip install 'n2f-jax\[bridge\]'"):
        make_frontend("pixel3dmm", FrontendOptions())


def test_files_are_asked_for_with_the_remedy(tmp_path):
    def ask(path):
        return require_file(path, "the network", "--network", "download it there")

    for path, words in (
        (None, "is needed"),
        (tmp_path / "no.pt", "is missing at"),
        (tmp_path, "is a folder at"),
    ):
        with pytest.raises(
            FrontendFileError, match=f"the network {words}.*download it there.*--network=FILE"
        ):
            ask(path)
    file = tmp_path / "network.pt"
    for content, words in (
        (b"", "is empty"),
        (b"\n<!DOCTYPE html><p>log in", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "is a Git LFS pointer"),
    ):
        file.write_bytes(content)
        with pytest.raises(FrontendFileError, match=words):
            ask(file)
    file.write_bytes(b"abc")
    assert ask(str(file)) == file
    assert record({"network": file})["network"].startswith("ba7816bf8f01cfea")
