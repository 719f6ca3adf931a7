"""Atomic writing: a file appears whole, or what stood there before stays."""

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

_LONGEST_STEM = 100  # bytes of a name that its temporary one keeps: file systems end at 255 for both


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its place when the block ends well.

    If the block raises (the disk is full, the run is interrupted), the temporary file is removed and
    whatever stood at ``path`` before stays as it was. The temporary name keeps the suffix, since writers
    choose the format by it.
    """
    path = Path(path)
    # By more than the process's number: in containers that share a folder every process may be number 1.
    own = f"{os.getpid()}-{secrets.token_hex(4)}"
    stem = os.fsdecode(os.fsencode(path.stem)[:_LONGEST_STEM])
    temporary = path.with_name(f".{stem}.{own}.tmp{path.suffix}")
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())  # the rename must not get to the disk before the data
        temporary.replace(path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    r"""Writes a text file (UTF-8) atomically.

    What UTF-8 lacks, the bytes of a file name that is no UTF-8, becomes a backslash escape (``\udcff``), which JSON
    reads back as it was.

    Raises:
        OSError: it cannot be written.
    """
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")
