"""Networks on disk: a folder of ``config.json`` and safetensors files. No pickles.

``config.json`` names the format, its version and every weights file with its size and sha256; reading checks them.
Each file is written atomically and ``config.json`` comes last: a run that is killed in between leaves a folder
that refuses to load rather than one that loads wrong.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.flax import save as save_tensors

from n2f_jax.runtime.atomic_files import atomic_path
from n2f_jax.runtime.fingerprints import sha256_file

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"


class PretrainedError(ValueError):
    """A folder cannot be used; the message says which file and why."""


def write_folder(
    folder: str | Path,
    description: Mapping[str, Any],
    weights: Mapping[str, Mapping[str, Any]],
    texts: Mapping[str, str] | None = None,
) -> Path:
    """Writes a folder (made if needed). The same contents give the same bytes.

    Args:
        folder: where to.
        description: JSON values: ``format``, ``format_version``, and for each weights file an entry (a dict) that
            ``file``, ``bytes`` and ``sha256`` are added to.
        weights: the entry's key in ``description`` → name → array. The entry's own ``file`` names the file.
        texts: file name → text of further files.

    Raises:
        TypeError, ValueError: a value that is not JSON; nothing was written then.
    """
    description = dict(description)
    encoded = {}
    for key, arrays in weights.items():
        entry = dict(description[key])
        data = save_tensors({name: jnp.asarray(array) for name, array in arrays.items()})
        encoded[entry["file"]] = data
        entry |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        description[key] = entry
    # Encoded first, so that what is not JSON fails before anything is overwritten.
    text = json.dumps(description, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in encoded.items():
        with atomic_path(folder / name) as path:
            path.write_bytes(data)
    for name, content in {**(texts or {}), CONFIG_FILE: text}.items():
        with atomic_path(folder / name) as path:
            path.write_text(content, encoding="utf-8")
    return folder


def read_description(folder: str | Path, format_name: str, format_version: int) -> dict[str, Any]:
    """``config.json`` of a folder.

    Raises:
        FileNotFoundError: the folder or the file is missing.
        PretrainedError: it is not JSON, or of another format or version.
    """
    folder = Path(folder)
    path = folder / CONFIG_FILE
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}")
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; a saved network has {CONFIG_FILE} and {WEIGHTS_FILE}")
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise PretrainedError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(description, dict) or description.get("format") != format_name:
        found = description.get("format") if isinstance(description, dict) else None
        raise PretrainedError(
            f"{path} does not describe a network of ours (no format {format_name!r}"
            + (f", but {found!r})" if found else ")")
        )
    if description.get("format_version") != format_version:
        raise PretrainedError(
            f"{path} has format version {description.get('format_version')}; this program reads {format_version}"
        )
    return description


def read_weights(folder: str | Path, entry: Mapping[str, Any]) -> dict[str, jnp.ndarray]:
    """The arrays of one weights file, floats as float32, its size and hash checked.

    Raises:
        FileNotFoundError: the file is missing.
        PretrainedError: it is truncated, damaged or no safetensors file, or its entry is incomplete.
    """
    try:
        path, sha256, size = Path(folder) / entry["file"], entry["sha256"], entry["bytes"]
    except (KeyError, TypeError) as error:
        raise PretrainedError(f"{Path(folder) / CONFIG_FILE}: missing or unknown field: {error}") from error
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; {CONFIG_FILE} names it as the weights")
    found = path.stat().st_size
    if found != size:
        raise PretrainedError(f"{path} has {found} bytes, {CONFIG_FILE} says {size}: truncated or replaced")
    if sha256_file(path) != sha256:
        raise PretrainedError(f"{path} is damaged: its sha256 is not the one in {CONFIG_FILE}")
    return read_safetensors(path)


def read_safetensors(path: str | Path) -> dict[str, jnp.ndarray]:
    """The arrays of a safetensors file; floats as float32.

    Raises:
        PretrainedError: it is truncated or no safetensors file.
    """
    try:
        with safe_open(path, framework="flax") as tensors:
            arrays = {name: tensors.get_tensor(name) for name in tensors.keys()}  # noqa: SIM118
    except (SafetensorError, ValueError) as error:
        raise PretrainedError(f"{path} is not a safetensors file: {error}") from error
    return {
        name: array if np.issubdtype(array.dtype, np.integer) else array.astype(jnp.float32)
        for name, array in arrays.items()
    }
