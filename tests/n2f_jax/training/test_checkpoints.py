"""Training state on disk: what comes back is what was saved, and a damaged checkpoint is not the end."""

import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest

from n2f_jax.training.checkpoints import CheckpointError, Checkpoints, CheckpointWriteError


def _state(value):
    return {"step": jnp.asarray(value, jnp.int32), "params": {"w": jnp.full((3, 2), float(value))}}


def _damage(folder):
    """Cuts every file of a checkpoint to half its length."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.stat().st_size > 0]
    assert files
    for path in files:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _saved(directory, steps):
    checkpoints = Checkpoints(directory, save_every=2, keep=3)
    for step in steps:
        checkpoints.save(step, _state(step))
    checkpoints.close()


def test_saves_by_interval_keeps_the_last_and_restores_the_newest(tmp_path):
    _saved(tmp_path, range(1, 10))
    checkpoints = Checkpoints(tmp_path, save_every=2, keep=3)
    assert checkpoints.steps() == [4, 6, 8]
    step, state = checkpoints.restore(_state(0))
    assert step == 8
    assert int(state["step"]) == 8
    np.testing.assert_array_equal(state["params"]["w"], np.full((3, 2), 8.0))
    assert checkpoints.save(9, _state(9)) is False
    assert checkpoints.save(9, _state(9), force=True) is True
    assert checkpoints.save(9, _state(9), force=True) is False
    checkpoints.close()


def test_nothing_to_restore(tmp_path):
    checkpoints = Checkpoints(tmp_path, save_every=2)
    assert checkpoints.restore(_state(0)) is None
    checkpoints.close()


def test_falls_back_to_the_checkpoint_before(tmp_path, caplog):
    _saved(tmp_path, range(1, 7))
    _damage(tmp_path / "6")
    checkpoints = Checkpoints(tmp_path, save_every=2, keep=3)
    step, state = checkpoints.restore(_state(0))
    assert (step, int(state["step"])) == (4, 4)
    assert "step 6 cannot be read" in caplog.text
    assert checkpoints.save(6, _state(60)) is True  # the damaged one does not stand in the way
    checkpoints.wait()
    assert int(checkpoints.restore(_state(0))[1]["step"]) == 60
    checkpoints.close()


def test_all_damaged_is_an_error_that_says_so(tmp_path):
    _saved(tmp_path, range(1, 5))
    _damage(tmp_path / "2")
    _damage(tmp_path / "4")
    checkpoints = Checkpoints(tmp_path, save_every=2)
    with pytest.raises(CheckpointError, match=r"step 4.*\n.*step 2"):
        checkpoints.restore(_state(0))
    checkpoints.close()


_FULL_DISK = """
import resource, signal, sys
import numpy as np
from n2f_jax.training.checkpoints import Checkpoints, CheckpointWriteError

def state(value):
    return {"w": np.random.default_rng(value).normal(size=(100, 1000)).astype(np.float32)}

checkpoints = Checkpoints(sys.argv[1], save_every=1, keep=3)
checkpoints.save(1, state(1))
checkpoints.wait()
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, resource.RLIM_INFINITY))  # files may grow to 50 kB
try:
    checkpoints.save(2, state(2))
    checkpoints.wait()
except CheckpointWriteError as error:
    assert "step 1" in str(error) and "disk full" in str(error), error
else:
    raise SystemExit("a checkpoint of 400 kB was written into files of 50 kB")
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
assert checkpoints.save(3, state(3))
checkpoints.close()
"""


def test_a_full_disk_costs_no_checkpoint(tmp_path):
    """Files that cannot grow stand for the disk: the error says so, what was there stays, and later saves work."""
    done = subprocess.run(
        [sys.executable, "-c", _FULL_DISK, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    checkpoints = Checkpoints(tmp_path, save_every=1, keep=3)
    assert checkpoints.steps() == [1, 3]
    template = {"w": jnp.zeros((100, 1000))}
    assert checkpoints.restore(template)[0] == 3
    assert not [path for path in tmp_path.iterdir() if "tmp" in path.name]  # leftovers are cleared away
    checkpoints.close()


def test_a_folder_that_cannot_be_written_is_an_error_that_names_it(tmp_path):
    (tmp_path / "checkpoints").write_text("a file where a folder should be")
    with pytest.raises(CheckpointWriteError, match=r"checkpoints cannot be (opened|written)"):
        checkpoints = Checkpoints(tmp_path / "checkpoints", save_every=1)
        checkpoints.save(1, _state(1))
        checkpoints.wait()
