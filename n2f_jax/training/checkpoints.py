"""Training state on disk: orbax, one folder a step, each complete or not there at all."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp

State = dict[str, Any]

_log = logging.getLogger(__name__)


class CheckpointError(RuntimeError):
    """No checkpoint of a folder that holds some can be read."""


class CheckpointWriteError(CheckpointError):
    """A checkpoint could not be written (the disk is full, say); those before it are untouched."""


class Checkpoints:
    """Saves every so many steps in the background, keeps the last few, restores the newest that can be read.

    A checkpoint is written under a temporary name and renamed when it is complete, so a run killed at any
    moment leaves only whole ones behind.

    Args:
        directory: where the steps' folders go; made if missing.
        save_every: steps between saves.
        keep: how many of the newest stay.
    """

    def __init__(self, directory: str | Path, *, save_every: int, keep: int = 2):
        policies = ocp.checkpoint_managers
        self._directory = Path(directory).absolute()
        with self._writing("opened"):
            self._manager = ocp.CheckpointManager(
                self._directory,
                options=ocp.CheckpointManagerOptions(
                    save_decision_policy=policies.FixedIntervalPolicy(save_every),
                    preservation_policy=policies.LatestN(keep),
                    cleanup_tmp_directories=True,
                    create=True,
                ),
            )

    def steps(self) -> list[int]:
        """Steps that have a checkpoint, oldest first."""
        return sorted(self._manager.all_steps())

    def save(self, step: int, state: State, *, force: bool = False) -> bool:
        """Saves if the interval says so (or ``force``), unless that step is there. Returns whether it did.

        Raises:
            CheckpointWriteError: this or the save before it, which went on in the background, failed.
        """
        if step in self._manager.all_steps():
            return False
        if not force and not self._manager.should_save(step):
            return False
        # On CPU the background writer would read the very buffers that the next step is given (donation).
        if jax.default_backend() == "cpu":
            state = jax.tree.map(jnp.copy, state)
        with self._writing("written"):
            return self._manager.save(step, args=ocp.args.StandardSave(state), force=force)

    def restore(self, template: State) -> tuple[int, State] | None:
        """The newest readable checkpoint, or None where there is none.

        A checkpoint that cannot be read is named in the log and the one before it is tried.

        Args:
            template: a state of the wanted structure, shapes and types (abstract or not).

        Raises:
            CheckpointError: there are checkpoints and none can be read; each reason is given.
        """
        failures = []
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, template)
        for step in reversed(self.steps()):
            try:
                state = self._manager.restore(step, args=ocp.args.StandardRestore(abstract))
            except Exception as error:
                reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
                _log.warning("checkpoint of step %d cannot be read (%s); trying the one before", step, reason)
                failures.append(f"step {step}: {reason}")
                continue
            for bad in [s for s in self.steps() if s > step]:
                self._manager.delete(bad)  # it would block saving that step again
            return step, state
        if failures:
            raise CheckpointError("no checkpoint can be read:\n  " + "\n  ".join(failures))
        return None

    def wait(self) -> None:
        """Until what is being written is on disk.

        Raises:
            CheckpointWriteError: writing failed.
        """
        with self._writing("written"):
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits and lets go of the folder.

        Raises:
            CheckpointWriteError: writing failed.
        """
        try:
            self.wait()
        finally:
            with contextlib.suppress(Exception):  # ``wait`` raises it
                self._manager.close()

    @contextlib.contextmanager
    def _writing(self, what: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # orbax and TensorStore have many kinds
            reason = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
            steps = [int(path.name) for path in _entries(self._directory) if path.name.isdigit()]
            last = f"the last complete one is of step {max(steps)}" if steps else "there is none yet"
            raise CheckpointWriteError(
                f"a checkpoint in {self._directory} cannot be {what}: {reason}. Is the disk full, or the folder not "
                f"writable? What was saved before is untouched ({last}); the same command resumes there."
            ) from error


def _entries(directory: Path) -> list[Path]:
    try:
        return list(directory.iterdir())
    except OSError:
        return []
