"""One image to do: what travels between processes."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from n2f_jax.data.manifest import Record


@dataclasses.dataclass(frozen=True)
class Task:
    """One image to do.

    Attributes:
        key, path, file: as in the manifest's ``Record``: name, file, its size and time of change.
        frame: number of the frame, if it is one of a video.
        image: ``(H, W, 3)`` uint8 RGB of the frame; None: to be read from the file.
    """

    key: str
    path: Path
    file: tuple[int, int]
    frame: int | None = None
    image: np.ndarray | None = None

    def record(self, **values: Any) -> Record:
        return Record(self.key, frame=self.frame, source=str(self.path), file=self.file, **values)
