"""What runs over many images share: how they end, and when writing is over."""

from __future__ import annotations

import errno
from pathlib import Path

from n2f_jax.runtime.atomic_files import atomic_path

EXIT_OK, EXIT_PARTLY, EXIT_NOTHING, EXIT_INTERRUPTED = 0, 1, 2, 130
# After these no further file can be written either.
FATAL_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}


class OutputError(RuntimeError):
    """The output folder cannot be written; the message says why."""


def prepare_output(folder: Path) -> None:
    """Makes the folder and checks that files can be written there.

    Raises:
        OutputError: they cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_path(folder / "write_test.txt") as probe:
            probe.write_text("ok")
        (folder / "write_test.txt").unlink()
    except OSError as error:
        raise OutputError(f"cannot write to {folder}: {error.strerror or error}") from error


def describe_error(error: BaseException) -> str:
    """Type and message in one line of bounded length."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
