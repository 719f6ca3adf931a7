"""Zip archives (``.zip``, ``.npz``) as other runs left them."""

from __future__ import annotations

import zipfile
from pathlib import Path


def is_whole_archive(path: Path) -> bool:
    """Whether an archive is there and was not cut short: its directory is at its end. What is within is not read."""
    return zipfile.is_zipfile(path)
