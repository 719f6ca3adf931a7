"""The persistent compilation cache, in processes of their own."""

import os
import subprocess
import sys
from pathlib import Path

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


def test_a_folder_that_cannot_be_made_is_no_error(tmp_path):
    (tmp_path / "file").write_text("")
    assert run(tmp_path / "file")[1] == "0 None"
