"""The persistent compilation cache, in processes of their own."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from n2f_jax.runtime import compilation_cache

PROGRAM = """
from n2f_jax.runtime import compilation_cache
folder = compilation_cache.enable()
import jax, jax.numpy as jnp
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
hits = []
jax.monitoring.register_event_listener(lambda event, **_: hits.append(event))
print(jax.jit(lambda x: jnp.tanh(x @ x).sum())(jnp.ones((8, 8))))
print(sum(event.endswith("cache_hits") for event in hits), folder)
"""


def run(cache: Path, **environment: str) -> list[str]:
    env = {k: v for k, v in os.environ.items() if not k.startswith("JAX_")}
    env |= {"N2F_JAX_CACHE": str(cache), "JAX_PLATFORMS": "cpu", **environment}
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        capture_output=True,
        text=True,
        env=env,
        cwd=Path(__file__).resolve().parents[3],
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.split("\n")


def test_second_run_compiles_nothing(tmp_path):
    first, second = run(tmp_path), run(tmp_path)
    assert first[0] == second[0]
    hits, folder = second[1].split(" ", 1)
    assert first[1].startswith("0 ")
    assert int(hits) >= 1
    assert Path(folder).is_relative_to(tmp_path / "compiled")
    assert list(Path(folder).iterdir())


def test_it_can_be_turned_off_and_moved(tmp_path):
    assert run(tmp_path / "a", JAX_ENABLE_COMPILATION_CACHE="false")[1] == "0 None"
    moved = tmp_path / "moved"
    assert run(tmp_path / "a", JAX_COMPILATION_CACHE_DIR=str(moved))[1].endswith(str(moved))
    assert not (tmp_path / "a").exists()


def no_home():
    raise RuntimeError("Could not determine home directory.")


@pytest.mark.parametrize("case", ["no home", "a file", "its folder is a file"])
def test_without_a_place_for_it_a_line_says_what_to_set(tmp_path, monkeypatch, capsys, case):
    (tmp_path / "file").write_text("")
    for name in ("N2F_JAX_CACHE", "XDG_CACHE_HOME", "JAX_COMPILATION_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    if case == "no home":
        monkeypatch.setattr(Path, "home", no_home)
    else:
        monkeypatch.setenv("N2F_JAX_CACHE", str(tmp_path / "file" / ("below" if case != "a file" else "")))
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", None)
    try:
        assert compilation_cache.enable() is None
    finally:
        jax.config.update("jax_compilation_cache_dir", before)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("compiled programs are not kept") and "N2F_JAX_CACHE" in line
