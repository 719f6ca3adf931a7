"""How runs are stopped: signals, locks, full disks."""

import errno
import os
import signal
import subprocess
import sys

import pytest

from n2f_jax.runtime.atomic_files import atomic_path, write_text
from n2f_jax.runtime.locks import LockedError, lock_folder
from n2f_jax.runtime.output_folder import OutputError, prepare_output, stop_if_over

IN_BACKGROUND = """
import os, signal, time
signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell starts what runs in the background
from n2f_jax.cli.command import Command
def run(flags):
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(30)
    return 0
raise SystemExit(Command("", lambda parser: None, run)([]))
"""


def test_sigterm_stops_a_run_in_the_background():
    done = subprocess.run([sys.executable, "-c", IN_BACKGROUND], capture_output=True, text=True, timeout=120)
    assert done.returncode == 130 and "interrupted" in done.stderr, done.stderr


def test_sigterm_is_as_before_after_a_command():
    from n2f_jax.cli.command import Command

    before = signal.getsignal(signal.SIGTERM)
    assert Command("", lambda parser: None, lambda flags: 0)([]) == 0
    assert signal.getsignal(signal.SIGTERM) is before


def test_one_at_a_time_in_a_folder(tmp_path):
    refused = pytest.raises(LockedError, match="another process is writing to")
    with lock_folder(tmp_path), refused, lock_folder(tmp_path):
        pass
    with lock_folder(tmp_path):
        pass
    assert not list(tmp_path.iterdir())


def test_what_a_killed_process_left_does_not_lock(tmp_path):
    (tmp_path / ".lock").touch()
    with lock_folder(tmp_path):
        pass


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.ESTALE])
def test_errors_after_which_nothing_can_be_written(tmp_path, number):
    with pytest.raises(OutputError, match=os.strerror(number)):
        stop_if_over(OSError(number, os.strerror(number)), tmp_path)
    stop_if_over(OSError(errno.ENAMETOOLONG, "one name"), tmp_path)
    with pytest.raises(OutputError):
        stop_if_over(OSError(errno.ENOENT, "gone"), tmp_path / "gone")


def test_trying_a_folder_leaves_its_files_alone(tmp_path):
    (tmp_path / "write_test.txt").write_text("somebody's")
    prepare_output(tmp_path)
    assert (tmp_path / "write_test.txt").read_text() == "somebody's" and len(list(tmp_path.iterdir())) == 1


def test_names_as_long_as_they_may_be_and_text_that_is_no_utf8(tmp_path):
    path = tmp_path / ("x" * 250 + ".json")
    write_text(path, '"caf\udce9"')
    assert path.read_bytes() == rb'"caf\udce9"'
    with atomic_path(path) as one, atomic_path(path) as other:  # of two processes with one number
        assert one != other
        for temporary in (one, other):
            temporary.write_text("")
