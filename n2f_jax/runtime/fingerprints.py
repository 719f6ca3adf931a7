"""Fingerprints of files and settings, by which a later run knows what it need not do again."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any


def file_stamp(path: Path) -> tuple[int, int]:
    """Size in bytes and time of change in ns: another pair is another file.

    Raises:
        OSError: there is none.
    """
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def fingerprint(content: Any) -> str:
    """64 hexadecimal digits of anything that JSON can hold; equal content, equal digits."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def sha256_file(path: str | Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal.

    Raises:
        OSError: it cannot be read.
    """
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
