"""Writing a head model's arrays as one archive without pickles."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from flame_jax.files.contents import FileError
from flame_jax.files.flame import MODEL_KEYS

_COMPANION_KEYS = (
    "num_shape",
    "l_eyelid",
    "r_eyelid",
    "vt",
    "ft",
    "full_lmk_faces_idx",
    "full_lmk_bary_coords",
    "dynamic_lmk_faces_idx",
    "dynamic_lmk_bary_coords",
)


def write_archive(path: str | Path, arrays: dict[str, np.ndarray], name: str) -> None:
    """Writes ``.npz`` or ``.safetensors``, atomically. Keeps what ``load_head_model`` reads, nothing else.

    Floating-point arrays become float32, which is what the model computes in, and indices int32.

    Args:
        path: its suffix chooses the format.
        arrays: FLAME-named arrays (``flame_jax.loading.read_arrays``).
        name: what the model calls itself.

    Raises:
        FileError: another suffix, or the package safetensors is missing.
        OSError: it cannot be written; what stood there before is as it was.
    """
    path = Path(path)
    keep = {key: arrays[key] for key in (*MODEL_KEYS, *_COMPANION_KEYS) if key in arrays}
    keep |= {key: value for key, value in arrays.items() if key.startswith("mask_")}
    plain: dict[str, Any] = {}  # of arrays; NumPy's types would take them for the flag allow_pickle
    for key, value in keep.items():
        dtype = np.float32 if value.dtype.kind == "f" else np.int32 if key != "kintree_table" else np.int64
        plain[key] = np.array(value, dtype, order="C")
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        if path.suffix == ".npz":
            with temporary.open("wb") as stream:
                np.savez_compressed(stream, **plain, name=np.array(name))
        elif path.suffix == ".safetensors":
            try:
                from safetensors.numpy import save_file
            except ImportError as error:
                raise FileError(f"{path} needs the package safetensors; .npz does not") from error
            save_file(plain, temporary, metadata={"format": "flame_jax head model", "name": name})
        else:
            raise FileError(
                f"{path}: the archive is .npz or .safetensors, not {path.suffix or 'without suffix'}"
            )
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
