"""``n2f reconstruct --frontend``: from what Pixel3DMM wrote of a photograph to the head in it."""

import copy
import dataclasses
import json
import shutil

import numpy as np
import pytest

from n2f_jax.cli.reconstruct import main as reconstruct
from n2f_jax.geometry.focal import Focal

from ..frontends.pixel3dmm.written_folder import write_folder
from ..frontends.rendered_head import RenderedHead
from .conftest import SIZE, FakeFrontend, place_head

pytestmark = pytest.mark.medium


def script(*arguments) -> int:
    """``n2f reconstruct`` as a function of its arguments."""
    return reconstruct([str(argument) for argument in arguments])


def test_precomputed(checkpoint, open_head, tmp_path):
    """The untrained network says the mean head, which is the one drawn; landmarks then give its camera."""
    head = RenderedHead(open_head)
    folder = write_folder(tmp_path / "data" / "anna", head, size=160, uv=False)
    shutil.copy(folder / "rgb" / "00000.jpg", tmp_path / "anna.jpg")
    shutil.copy(folder / "rgb" / "00000.jpg", tmp_path / "bob.jpg")  # which Pixel3DMM has not seen
    code = script(
        tmp_path / "bob.jpg", tmp_path / "anna.jpg", "--out", tmp_path / "out", "--frontend", "precomputed",
        "--precomputed", tmp_path / "data", "--checkpoint", checkpoint, "--focal", 700,
        "--formats", "npz", "--no-picture", "--refine", 0,
    )  # fmt: skip
    assert code == 1
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
    ],
)
def test_wrong_use_says_why(checkpoint, tmp_path, capsys, arguments, words):
    (tmp_path / "photo.jpg").touch()
    arguments = [argument.format(here=tmp_path) for argument in arguments]
    assert (
        script(tmp_path / "photo.jpg", "--out", tmp_path / "out", "--checkpoint", checkpoint, *arguments) == 2
    )
    assert words in capsys.readouterr().err


def test_uv_reaches_a_network_that_wants_it(load, open_head):
    """In the order of ``inputs.channels``; a front end without UV is told so."""

    class Seen(Exception):
        pass

    def predict(maps, *_):
        raise Seen(maps)

    reconstructor = copy.copy(load("landmarks"))
    reconstructor.inputs = dataclasses.replace(reconstructor.inputs, channels="uv+normals")
    reconstructor.predict = predict
    face, _ = place_head(open_head, (480, 640))
    uv = np.random.default_rng(0).uniform(-1, 1, (SIZE, SIZE, 2)).astype(np.float32)
    with pytest.raises(Seen) as seen:
        reconstructor.from_faces([dataclasses.replace(face, uv=uv)], [(480, 640)], [Focal(700.0, "given")])
    (maps,) = seen.value.args
    assert np.array_equal(maps[0], np.concatenate([uv, face.normals], axis=-1))
    with pytest.raises(ValueError, match="front end gives no UV: pixel3dmm does with --pixel3dmm-uv"):
        reconstructor.from_faces([face], [(480, 640)], [Focal(700.0, "given")])


def test_photographs_reach_the_front_end_together(load, open_head):
    calls = []

    class Counting(FakeFrontend):
        def detect(self, images, sources):
            calls.append(len(images))
            return super().detect(images, sources)

    reconstructor = copy.copy(load("landmarks"))
    reconstructor.frontend = Counting(open_head)
    images = [np.full((60, 80, 3), value, np.uint8) for value in (100, 0, 200)]
    heads = reconstructor.reconstruct(images)
    assert calls == [3] and [len(of_image) for of_image in heads] == [1, 0, 2]
