"""The ``n2f`` command: finding a subcommand, flags, errors, configs."""

import argparse
import importlib
import subprocess
import sys

import numpy as np
import pytest
import trimesh

from n2f_jax.cli import configs
from n2f_jax.cli.command import Command, shard_of
from n2f_jax.cli.main import COMMANDS, main


@pytest.mark.parametrize("words", COMMANDS)
def test_every_command_is_there_and_explains_itself(words, capsys):
    module, name, line = COMMANDS[words]
    command = getattr(importlib.import_module(f"n2f_jax.cli.{module}"), name)
    assert isinstance(command, Command)
    with pytest.raises(SystemExit) as stop:
        main([*words.split(), "--help"])
    assert stop.value.code == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"usage: n2f {words}")
    assert f"n2f {words} " in command.description or words == "fetch"
    assert len(line) < 80


def test_help_is_quick():
    """No JAX, no OpenCV: the list of commands and a command's help import neither."""
    code = """
import sys
from n2f_jax.cli.main import main
main(["--help"])
try:
    main(["reconstruct", "--help"])
except SystemExit:
    pass
assert not {"jax", "cv2", "numpy", "torch"} & set(sys.modules), sorted(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_wrong_words(capsys):
    assert main(["--help"]) == 0
    assert main([]) == 2
    assert main(["reconstrukt"]) == 2
    assert "no command 'reconstrukt'" in capsys.readouterr().err
    assert main(["convert"]) == 2
    assert "convert head-model" in capsys.readouterr().err
    assert main(["convert", "--help"]) == 0
    assert main(["--version"]) == 0


def one_flag(run):
    return Command("", lambda parser: parser.add_argument("--batch-size", type=int, default=1), run)


def test_underscores_are_taken_too():
    seen = []
    command = one_flag(lambda flags: seen.append(flags.batch_size) or 0)
    assert [command(["--batch-size=3"]), command(["--batch_size", "4"]), command(["--batch_size=5"])] == [
        0,
        0,
        0,
    ]
    assert seen == [3, 4, 5]


def test_errors_of_the_user_are_one_line_and_bugs_keep_their_traceback(capsys):
    def fail(error):
        def run(flags):
            raise error

        return one_flag(run)

    assert fail(FileNotFoundError("no file x"))([]) == 2
    assert capsys.readouterr().err == "error: no file x\n"
    assert fail(KeyboardInterrupt())([]) == 130
    with pytest.raises(TypeError):
        fail(TypeError("a bug"))([])
    with pytest.raises(SystemExit) as stop:
        fail(ValueError())(["--nonsense"])
    assert stop.value.code == 2


def test_shards():
    assert shard_of("3/16") == (3, 16)
    for wrong in ("16/16", "3", "-1/2", "a/b"):
        with pytest.raises(ValueError, match="--shard"):
            shard_of(wrong)


def config_of(*arguments):
    found = []
    command = Command("", configs.add_config, lambda flags: found.append(configs.read_config(flags)) or 0)
    assert command(list(arguments)) == 0
    return found[0]


def test_a_preset_is_the_file_of_its_name(request):
    path = request.config.rootpath / "configs" / "stage1.py"
    preset = config_of("--config=stage1:small", "--config.batch_size=7", "--config.optimizer.rates.flame=0.5")
    assert preset.batch_size == 7 and preset.optimizer.rates.flame == 0.5
    from_file = config_of(
        "--config", f"{path}:small", "--config.batch_size", "7", "--config.optimizer.rates.flame=0.5"
    )
    assert preset.to_dict() == from_file.to_dict()
    assert config_of("--config=stage1").batch_size == 16


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--config=stage1:smal"], "paper and small"),
        (["--config=stage9"], "no preset of that name"),
        (["--config=stage1", "--config.batchsize=3"], "batchsize"),
        (["--config=stage1", "--config.batch_size=many"], "batch_size"),
        (["--config=stage1", "--batch=3"], "'batch'"),
        (["--config=stage1", "stray"], "stray"),
    ],
)
def test_configs_that_cannot_be(arguments, words, capsys):
    command = Command("", configs.add_config, lambda flags: configs.read_config(flags) and 0)
    assert command(arguments) == 2
    assert words in capsys.readouterr().err


def test_heads_become_meshes(open_head, tmp_path, capsys):
    from n2f_jax.reconstruction.head_file import KEYS, save_parameters

    sizes = {"V": open_head.num_vertices, "F": open_head.num_faces, "S": 3, "E": 2, "P": 0, "I": 0}
    values = {key: np.zeros([sizes.get(n, n) for n in shape], np.float32) for key, (shape, _) in KEYS.items()}
    vertices = np.asarray(open_head.v_template)
    values |= {"vertices": vertices, "faces": np.asarray(open_head.faces)}
    values |= {"rotation": np.diag([1.0, -1.0, -1.0]), "translation": np.array([0.0, 0.1, 0.8])}
    save_parameters(tmp_path / "head.npz", values)
    out = tmp_path / "meshes"
    assert (
        main(["convert", "heads", str(tmp_path / "head.npz"), "--out", str(out), "--formats", "obj,ply"]) == 0
    )
    for kind in ("obj", "ply"):
        mesh = trimesh.load(out / f"head.{kind}", process=False, force="mesh")
        np.testing.assert_allclose(mesh.bounds, [vertices.min(0), vertices.max(0)], atol=1e-5)
    posed = ["convert", "heads", str(tmp_path / "head.npz"), "--out", str(out), "--formats", "ply", "--posed"]
    assert main(posed) == 0
    mesh = trimesh.load(out / "head.ply", process=False)
    np.testing.assert_allclose(mesh.vertices, vertices * [1, -1, -1] + [0, 0.1, 0.8], atol=1e-6)
    assert main(["convert", "heads", str(tmp_path / "head.npz"), "--out", str(out), "--formats", "stl"]) == 2
    assert "stl" in capsys.readouterr().err


def test_flags_of_every_command_are_spelt_with_hyphens():
    for module, name, _ in COMMANDS.values():
        parser = argparse.ArgumentParser()
        getattr(importlib.import_module(f"n2f_jax.cli.{module}"), name).add_arguments(parser)
        assert not [option for action in parser._actions for option in action.option_strings if "_" in option]
