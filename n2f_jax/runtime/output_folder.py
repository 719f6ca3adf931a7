"""What runs over many images share: how they end, and when writing is over."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

EXIT_OK, EXIT_PARTLY, EXIT_NOTHING, EXIT_INTERRUPTED = 0, 1, 2, 130
# After these no further file can be written either: the disk or the user's share of it is full, a limit on the size of
# files (EFBIG), no right to write, or a disk or network folder that is gone.
FATAL_ERRNOS = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.EIO,
    errno.ENODEV,
    errno.ENXIO,
    errno.ESTALE,
    errno.ENOTCONN,
}


class OutputError(RuntimeError):
    """The output folder cannot be written; the message says why."""


def prepare_output(folder: Path) -> None:
    """Makes the folder and checks that files can be written there.

    Raises:
        OutputError: they cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # A name of its own: many processes may begin at once.
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".write_test-") as probe:
            probe.write(b"ok")
            probe.flush()
            os.fsync(probe.fileno())
    except OSError as error:
        raise OutputError(f"cannot write to {folder}: {error.strerror or error}") from error


def stop_if_over(error: OSError, folder: Path) -> None:
    """Raises an error in writing one file again where it is the end of writing; returns where others may go well.

    Raises:
        OutputError: no further file can be written to the folder, or it is gone.
    """
    if error.errno in FATAL_ERRNOS or not folder.is_dir():
        raise OutputError(f"cannot write to {folder}: {error.strerror or error}") from error


def describe_error(error: BaseException) -> str:
    """Type and message in one line of bounded length."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
