"""Training state on disk: what comes back is what was saved, and a damaged checkpoint is not the end."""

import jax.numpy as jnp
import numpy as np
import pytest

from n2f_jax.training.checkpoints import CheckpointError, Checkpoints


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
