"""Config files that start from another config file."""

from __future__ import annotations

import runpy
from pathlib import Path

import ml_collections


def read_config(path: str | Path, variant: str) -> ml_collections.ConfigDict:
    """``get_config(variant)`` of a config file."""
    return runpy.run_path(str(path))["get_config"](variant)


def stage_config(folder: str | Path, variant: str) -> ml_collections.ConfigDict:
    """One of the two stages, for a config that has both: ``stage1``, ``stage2``, ``stage1-small``, ``stage2-small``.

    Args:
        folder: with ``stage1.py`` and ``stage2.py``.
        variant: as above.

    Raises:
        ValueError: another variant.
    """
    stage, _, size = variant.partition("-")
    if stage not in ("stage1", "stage2"):
        raise ValueError(f"there are the variants stage1, stage2 and -small of both, not {variant!r}")
    return read_config(Path(folder) / f"{stage}.py", size or "paper")
