"""``n2f export rig`` and ``n2f reconstruct``'s format, and what they refuse."""

import sys
import types

import numpy as np
import pytest
from PIL import Image

import flame_jax
from n2f_jax.cli.main import main
from n2f_jax.reconstruction import output_files
from n2f_jax.reconstruction.head_file import KEYS, save_parameters
from n2f_jax.reconstruction.output_files import OutputFiles
from n2f_jax.rig.from_head import RigOptions
from n2f_jax.rig.gltf import pygltflib
from n2f_jax.tracking.track_file import save_track

from .conftest import made_head, made_track
from .gltf_evaluation import Gltf

pytestmark = pytest.mark.medium


def save_head(path, model, person, **changes):
    sizes = {"F": 1, "P": 0, "I": 0}
    empty = {
        key: np.zeros([sizes.get(n, n) for n in size], np.float32) if size else "x"
        for key, (size, _) in KEYS.items()
        if all(n in sizes or isinstance(n, int) for n in size)
    }
    save_parameters(path, empty | made_head(model, person) | changes)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, open_head, model, shape):
    """Heads, a track of a smaller model, and photographs."""
    root = tmp_path_factory.mktemp("heads")
    rng = np.random.default_rng(0)
    whole = made_head(model, shape)
    save_head(
        root / "head.npz",
        open_head,
        shape,
        vertices=np.asarray(open_head.v_template),
        shape=rng.normal(size=open_head.num_shape).astype(np.float32),
        expression=rng.normal(size=open_head.num_expression).astype(np.float32),
        jaw_pose=whole["jaw_pose"],
    )
    save_head(root / "other.npz", model, shape, head_model_sha256="0" * 64, head_model="somebody's")
    save_track(root / "track.npz", made_track(model, shape))
    for name, size in (("photo.png", (160, 120)), ("large.png", (320, 240))):
        Image.fromarray(rng.integers(0, 255, (*size[::-1], 3), np.uint8)).save(root / name)
    return root


def test_a_head_with_its_photograph(folder, tmp_path, capsys):
    out = tmp_path / "head.glb"
    arguments = [folder / "head.npz", "--photo", folder / "photo.png", "--camera", "--targets", "expression"]
    arguments += ["--texture-size", 128, "--out", out]
    assert main(["export", "rig", *map(str, arguments)]) == 0
    said = capsys.readouterr().out
    assert "205 morph targets" in said and "head.glb" in said and "plain skin" not in said
    gltf = Gltf(out)
    assert gltf.texture()[:2] == b"\xff\xd8" and "cameras" in gltf.json
    assert len(gltf.names) == 1 + 2 * (flame_jax.load_open_head().num_expression + 2)
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["head.npz", "--out", "x.obj"], "a .glb file is written"),
        (["none.npz", "--out", "x.glb"], "none.npz"),
        (["photo.png", "--out", "x.glb"], "photo.png"),
        (["other.npz", "--out", "x.glb"], "name its own by --head-model"),
        (["track.npz", "--out", "x.glb"], "name its own by --head-model"),
        (["track.npz", "head.npz", "--out", "x.glb"], "one track at a time"),
        (["head.npz", "track.npz", "--out", "x.glb"], "track.npz"),
        (
            ["head.npz", "--photo", "large.png", "--out", "x.glb"],
            "320 × 240 pixels, its head is of one of 160 × 120",
        ),
        (["head.npz", "--photo", "photo.png", "photo.png", "--out", "x.glb"], "1 heads and 2 photographs"),
        (["head.npz", "--photo", "head.npz", "--out", "x.glb"], "head.npz"),
        (["head.npz", "--texture-size", "9", "--photo", "photo.png", "--out", "x.glb"], "64 to 8192"),
        (["head.npz", "--out", "none/x.glb"], "none"),
    ],
)
def test_what_the_command_does_not_take(folder, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(folder)
    assert main(["export", "rig", *arguments, "--targets", "expression"]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (folder / "x.glb").exists()


def test_without_pygltflib_the_message_says_what_to_install(folder, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "pygltflib", None)
    with pytest.raises(ImportError, match="n2f-jax\\[rig\\]"):
        pygltflib()
    assert main(["export", "rig", str(folder / "head.npz"), "--out", "x.glb"]) == 2
    assert "n2f-jax[rig]" in capsys.readouterr().err


def test_the_format_of_a_run(model, units, shape, tmp_path, monkeypatch):
    monkeypatch.setattr(output_files, "RigOptions", lambda: RigOptions("expression", texture_size=64))
    files = OutputFiles(tmp_path, model, ("rig",), picture=False)
    files.__dict__["_units"] = units  # found once a run
    head = types.SimpleNamespace(**made_head(model, shape))
    image = np.full((120, 160, 3), 128, np.uint8)
    assert files.write_head("a", "a.jpg", image, head) == {"rig": "a_rig.glb"}
    gltf = Gltf(tmp_path / "a_rig.glb")
    assert gltf.names[0] == "captured" and gltf.texture()
