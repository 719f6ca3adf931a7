"""Metrics of a run: JSON lines for programs, TensorBoard files for eyes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from tensorboardX import SummaryWriter

JSON_LINES = "metrics.jsonl"


def read_json_lines(path: str | Path) -> list[dict[str, Any]]:
    """The lines of a metrics file; a last line cut off by a kill is left out."""
    path = Path(path)
    if not path.is_file():
        return []
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return lines


class MetricLog:
    """Writes ``metrics.jsonl`` and TensorBoard's event files into the run's folder.

    The JSON lines hold what the run computed and nothing that differs from machine to machine or from one
    sitting to the next: an interrupted and resumed run leaves the same file as an unbroken one. Speeds go
    to TensorBoard alone.

    Args:
        directory: the run's folder.
        start_step: step that the run resumes at, −1 for a new one; what a killed run logged beyond it is cut off.
    """

    def __init__(self, directory: str | Path, start_step: int):
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / JSON_LINES
        kept = [line for line in read_json_lines(path) if line["step"] <= start_step]
        scratch = path.with_suffix(".tmp")
        scratch.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
        scratch.replace(path)
        self._lines = path.open("a", encoding="utf-8")
        self._writer = SummaryWriter(str(directory / "tensorboard"), purge_step=start_step + 1)

    def write(self, step: int, split: str, values: Mapping[str, float]) -> None:
        """One JSON line ``{"step", "split", …}`` and one scalar a value."""
        line = {"step": step, "split": split} | {name: float(value) for name, value in values.items()}
        self._lines.write(json.dumps(line) + "\n")
        self._lines.flush()
        self.scalars(step, {f"{split}/{name}": value for name, value in values.items()})

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """TensorBoard only."""
        for name, value in values.items():
            self._writer.add_scalar(name, float(value), step)

    def image(self, step: int, name: str, picture: UInt8[np.ndarray, "H W 3"]) -> None:
        """TensorBoard only."""
        self._writer.add_image(name, picture, step, dataformats="HWC")

    def close(self) -> None:
        self._lines.close()
        self._writer.close()


class NoLog:
    """Takes the same calls and writes nothing: for all processes but the first."""

    def write(self, step: int, split: str, values: Mapping[str, float]) -> None:
        """Nothing."""

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Nothing."""

    def image(self, step: int, name: str, picture: UInt8[np.ndarray, "H W 3"]) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""
