"""Questions about paths that no path makes fail.

``pathlib`` answers them too, and raises where a folder on the way is closed to us, a name is too long or links lead in
a circle (in Python 3.11).
"""

from __future__ import annotations

import os
from pathlib import Path


def is_file(path: str | Path) -> bool:
    """Whether a file is there and can be reached."""
    return os.path.isfile(path)  # noqa: PTH113


def is_folder(path: str | Path) -> bool:
    """Whether a folder is there and can be reached."""
    return os.path.isdir(path)  # noqa: PTH112


def real_path(path: str | Path) -> Path:
    """Absolute and without links: the same for the same file."""
    return Path(os.path.realpath(path))
