"""The files under ``configs/``, as training reads them."""

import runpy
from pathlib import Path

import ml_collections


def read_config(path: str | Path, variant: str) -> ml_collections.ConfigDict:
    return runpy.run_path(str(path))["get_config"](variant)
