"""Fingerprints of files and settings, by which a later run knows what it need not do again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def file_stamp(path: Path) -> tuple[int, int]:
    """Size in bytes and time of change in ns: another pair is another file.

    Raises:
        OSError: there is none.
    """
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def fingerprint(settings: Any, files: Sequence[Path | None]) -> str:
    """64 hexadecimal digits of settings and of files as they stand on disk: equal only if nothing has changed.

    Args:
        settings: anything that JSON can hold.
        files: by size and time of change; a missing one counts as such, and so does None.
    """
    stamps: list[tuple[int, int] | None] = []
    for path in files:
        try:
            stamps.append(None if path is None else file_stamp(path))
        except OSError:
            stamps.append(None)
    return hashlib.sha256(json.dumps([settings, stamps], sort_keys=True).encode()).hexdigest()


def sha256_file(path: str | Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal.

    Raises:
        OSError: it cannot be read.
    """
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
