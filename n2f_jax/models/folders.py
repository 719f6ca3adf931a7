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

from flame_jax.files.outside import (
    MissingFileError,
    OutsideFileError,
    one_line,
    read_regular_file,
    reason,
    regular_file_size,
)
from n2f_jax.runtime.atomic_files import atomic_path
from n2f_jax.runtime.fingerprints import sha256_file
from n2f_jax.runtime.json_values import is_file_name

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
_MAX_CONFIG_BYTES = 1 << 24


class PretrainedError(ValueError):
    """A folder cannot be used; the message says which file and why."""


class MissingPretrainedError(PretrainedError, FileNotFoundError):
    """The folder, or a file of it, is not there."""


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

    It has at most 16 MiB.

    Raises:
        MissingPretrainedError: the folder or the file is missing.
        PretrainedError: it is no regular file, larger, not JSON, or of another format or version.
    """
    folder = Path(folder)
    path = folder / CONFIG_FILE
    if not folder.is_dir():
        raise MissingPretrainedError(f"there is no folder {folder}")
    try:
        text = read_regular_file(path, _MAX_CONFIG_BYTES, "descriptions")
        description = json.loads(text.decode("utf-8"), parse_constant=_no_number)
    except MissingFileError as error:
        raise MissingPretrainedError(
            f"{path} is missing; a saved network has {CONFIG_FILE} and {WEIGHTS_FILE}"
        ) from error
    except OutsideFileError as error:
        raise PretrainedError(f"{path} {error}") from error
    except RecursionError as error:
        raise PretrainedError(f"{path} is nested too deeply") from error
    except ValueError as error:
        raise PretrainedError(f"{path} is not valid JSON: {reason(error)}") from error
    if not isinstance(description, dict) or description.get("format") != format_name:
        found = description.get("format") if isinstance(description, dict) else None
        raise PretrainedError(
            f"{path} does not describe a network of ours (no format {format_name!r}"
            + (f", but {one_line(repr(found), 60)})" if found else ")")
        )
    if description.get("format_version") != format_version:
        raise PretrainedError(
            f"{path} has format version {one_line(repr(description.get('format_version')), 60)}; this program "
            f"reads {format_version}"
        )
    return description


def read_weights(folder: str | Path, entry: Mapping[str, Any]) -> dict[str, jnp.ndarray]:
    """The arrays of one weights file, floats as float32, its size and hash checked.

    The arrays take twice the file's size in memory.

    Args:
        folder: the folder; the file lies in it, not below or beside it.
        entry: the file's, from ``read_description``.

    Raises:
        MissingPretrainedError: the file is missing.
        PretrainedError: it is truncated, damaged or no safetensors file, or its entry is incomplete or names a file
            elsewhere.
    """
    config = Path(folder) / CONFIG_FILE
    try:
        name, sha256, size = entry["file"], entry["sha256"], entry["bytes"]
    except (KeyError, TypeError) as error:
        raise PretrainedError(f"{config}: missing or unknown field: {reason(error)}") from error
    # In the folder itself, whatever the description of a stranger says.
    if not is_file_name(name) or "\\" in name:
        raise PretrainedError(
            f"{config} names {one_line(repr(name), 60)} as weights, which is no file's name"
        )
    path = Path(folder) / name
    try:
        found = regular_file_size(path)
        if found != size:
            raise PretrainedError(
                f"{path} has {found} bytes, {CONFIG_FILE} says {one_line(repr(size), 60)}: truncated or replaced"
            )
        if sha256_file(path) != sha256:
            raise PretrainedError(f"{path} is damaged: its sha256 is not the one in {CONFIG_FILE}")
    except MissingFileError as error:
        raise MissingPretrainedError(f"{path} is missing; {CONFIG_FILE} names it as the weights") from error
    except OutsideFileError as error:
        raise PretrainedError(f"{path} {error}") from error
    except OSError as error:
        raise PretrainedError(f"{path} cannot be read: {reason(error)}") from error
    return read_safetensors(path)


def read_safetensors(path: str | Path) -> dict[str, jnp.ndarray]:
    """The arrays of a safetensors file; floats as float32.

    Raises:
        PretrainedError: it is truncated or no safetensors file.
    """
    try:
        regular_file_size(path)
        with safe_open(path, framework="flax") as tensors:
            arrays = {name: tensors.get_tensor(name) for name in tensors.keys()}  # noqa: SIM118
    except MissingFileError as error:
        raise MissingPretrainedError(f"{path} is missing") from error
    except (SafetensorError, ValueError, TypeError, KeyError, AttributeError, OSError) as error:
        raise PretrainedError(f"{path} is not a safetensors file: {reason(error)}") from error
    return {
        name: array if np.issubdtype(array.dtype, np.integer) else array.astype(jnp.float32)
        for name, array in arrays.items()
    }


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON's")
