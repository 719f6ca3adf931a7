"""Locks between processes: they end with the process that holds them, however it ends."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

# What file systems answer that have no locks.
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}
_NAME = ".lock"


class LockedError(RuntimeError):
    """Another process holds the lock; the message says what to do."""


def lock_file(file: int) -> bool:
    """Locks an open file until it is closed.

    Args:
        file: its descriptor, open for writing.

    Returns:
        Whether it is locked: neither Windows nor every file system has such locks.

    Raises:
        BlockingIOError: another process, or another descriptor of this one, holds it.
        OSError: it cannot be tried.
    """
    try:
        import fcntl
    except ImportError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return False
        raise
    return True


@contextlib.contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Keeps other processes that lock the same folder out; the lock is ``.lock`` in it, which goes when the block ends.

    Raises:
        LockedError: another process is in.
        OSError: nothing can be written there.
    """
    path = folder / _NAME
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            held = lock_file(file)
            if _is_still(path, file):
                break
        except BlockingIOError:
            os.close(file)
            raise LockedError(
                f"another process is writing to {folder}: wait until it has ended, or take another folder"
            ) from None
        except BaseException:
            os.close(file)
            raise
        os.close(file)  # of a run that ended just then and took the file away
    try:
        yield
    finally:
        if held:
            with contextlib.suppress(OSError):
                path.unlink()
        os.close(file)


def _is_still(path: Path, file: int) -> bool:
    """Whether the path is that open file."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file))
    except FileNotFoundError:
        return False
