"""What every reader of files from outside needs: a regular file, no larger than expected, and one line of message."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path


class OutsideFileError(ValueError):
    """A file that is not even looked into; the message is a reason that goes on from the file's name."""


class MissingFileError(OutsideFileError):
    """There is no such file."""


def regular_file_size(path: str | Path) -> int:
    """Bytes of a regular file. A pipe would make the reader wait for ever, a device never end.

    Raises:
        MissingFileError: it does not exist.
        OutsideFileError: it is a folder, a pipe, a socket or a device, or may not be looked at.
    """
    try:
        found = Path(path).stat()
    except (OSError, ValueError) as error:  # ValueError: a name with a zero byte
        if getattr(error, "errno", None) in (errno.ENOENT, errno.ENOTDIR):
            raise MissingFileError("does not exist") from error
        raise OutsideFileError(f"cannot be read: {reason(error)}") from error
    if stat.S_ISDIR(found.st_mode):
        raise OutsideFileError("is a folder, not a file")
    if not stat.S_ISREG(found.st_mode):
        raise OutsideFileError("is not a regular file but a pipe, a socket or a device")
    return found.st_size


def read_regular_file(path: str | Path, limit: int, what: str) -> bytes:
    """A whole regular file of at most ``limit`` bytes.

    Args:
        path: the file.
        limit: bytes; no more are ever in memory, whatever size the file system tells.
        what: what has at most so many, in the plural, for the message.

    Raises:
        OutsideFileError: as ``regular_file_size``; or it is larger, or cannot be read.
    """
    size = regular_file_size(path)
    if size > limit:
        raise OutsideFileError(f"has {size} bytes; {what} have at most {limit}")
    try:
        # Without blocking, should a pipe have taken the file's place since.
        with os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb") as stream:
            data = stream.read(size + 1)
            if len(data) > size:  # it grew, or the file system does not tell its size (/proc)
                data += stream.read(limit + 1 - len(data))
    except OSError as error:
        raise OutsideFileError(f"cannot be read: {reason(error)}") from error
    if len(data) > limit:
        raise OutsideFileError(f"has more than {limit} bytes; {what} have at most so many")
    return data


def reason(error: BaseException) -> str:
    """What an exception says, for a message: see ``one_line``."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return one_line(text) or type(error).__name__


def one_line(text: str, length: int = 200) -> str:
    """``text`` in one line of at most so many characters, all of them printable."""
    text = " ".join("".join(letter if letter.isprintable() else " " for letter in text[: 4 * length]).split())
    return text if len(text) <= length else text[: length - 1] + "…"
