"""Pseudo ground truth of stored faces: what a fitter or tracker says of a head, one ``.npz`` beside each face.

``FOLDER/ab/cd/NAME.truth.npz`` belongs to ``FOLDER/ab/cd/NAME.face.zip``. No pickles.
"""

from __future__ import annotations

import dataclasses
import io
import json
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from n2f_jax.models.pretrained import HeadModelIdentity
from n2f_jax.runtime.atomic_files import atomic_path

FORMAT = "n2f-jax/pseudo-truth"
FORMAT_VERSION = 1
SUFFIX = ".truth.npz"

# Plain numbers or text.
_HEADER = re.compile(
    r"\{'descr': '(?P<dtype>[<|][fiuU]\d+)', 'fortran_order': (?P<fortran>True|False), "
    r"'shape': \((?P<shape>[\d, ]*)\), \}"
)
_ARRAYS: dict[str, tuple[int, ...] | None] = {
    "shape": None,
    "expression": None,
    "jaw": (6,),
    "eyelids": (2,),
    "rotation": (3, 3),
    "translation": (3,),
    "intrinsics": (3, 3),
}


class PseudoTruthError(ValueError):
    """Pseudo ground truth that is missing, damaged or another head model's; the message names the file."""


@dataclasses.dataclass(frozen=True)
class PseudoTruth:
    """One head's parameters and where it stands. NumPy arrays, float32.

    Attributes:
        shape: ``(S,)`` coefficients.
        expression: ``(E,)`` coefficients.
        jaw: ``(6,)`` the first two rows of the rotation matrix.
        eyelids: ``(2,)`` left and right, 0 as modelled, 1 closed.
        rotation: ``(3, 3)`` R of ``x_cam = R·x_head + t``.
        translation: ``(3,)`` t, metres.
        intrinsics: ``(3, 3)`` K of the stored crop, pixels. A tracker may have found another than the face's.
        head_model: which head model the coefficients belong to.
        method: what found them, and its settings as far as they matter.
        version: of that method.
        errors: what the method says of its fit (``landmarks_px``, ``normals_deg`` …).
    """

    shape: Float[np.ndarray, "S"]
    expression: Float[np.ndarray, "E"]
    jaw: Float[np.ndarray, "6"]
    eyelids: Float[np.ndarray, "2"]
    rotation: Float[np.ndarray, "3 3"]
    translation: Float[np.ndarray, "3"]
    intrinsics: Float[np.ndarray, "3 3"]
    head_model: HeadModelIdentity
    method: str
    version: str
    errors: Mapping[str, float] = dataclasses.field(default_factory=dict)


def truth_path(folder: str | Path, face: str) -> Path:
    """The file that holds a face's pseudo ground truth, by the face's id (``preprocessed.list_faces``)."""
    return Path(folder) / f"{face}{SUFFIX}"


def write_truth(path: str | Path, truth: PseudoTruth) -> None:
    """Writes one head, atomically.

    Args:
        path: from ``truth_path``; its folder is made.
        truth: what to write.

    Raises:
        ValueError: an array has another shape, is not finite, or does not fit the head model; or the rotation is none.
        OSError: the file cannot be written.
    """
    arrays = {name: np.asarray(getattr(truth, name), np.float32) for name in _ARRAYS}
    _check(arrays, truth.head_model)
    notes = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "head_model": {**dataclasses.asdict(truth.head_model), "sha256": dict(truth.head_model.sha256)},
        "method": truth.method,
        "version": truth.version,
        "errors": {name: float(value) for name, value in truth.errors.items() if np.isfinite(value)},
    }
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        np.savez(temporary, **arrays, notes=np.array(json.dumps(notes)))


def read_truth(path: str | Path) -> PseudoTruth:
    """Reads one head.

    Raises:
        PseudoTruthError: missing, damaged, or of another format.
    """
    path = Path(path)
    try:
        with zipfile.ZipFile(path) as archive:
            arrays = {name: _array(archive.read(f"{name}.npy")) for name in _ARRAYS}
            notes: dict[str, Any] = json.loads(str(_array(archive.read("notes.npy"))))
        if notes["format"] != FORMAT or notes["format_version"] != FORMAT_VERSION:
            raise ValueError(
                f"it is {notes['format']} {notes['format_version']}, not {FORMAT} {FORMAT_VERSION}"
            )
        identity = HeadModelIdentity(**notes["head_model"])
        _check(arrays, identity)
    except FileNotFoundError as error:
        raise PseudoTruthError(
            f"{path} is missing: this face has no pseudo ground truth. scripts/fit.py writes it"
        ) from error
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise PseudoTruthError(f"{path} is damaged or no pseudo ground truth: {error}") from error
    return PseudoTruth(
        **arrays,
        head_model=identity,
        method=notes["method"],
        version=notes["version"],
        errors=notes["errors"],
    )


def _array(data: bytes) -> np.ndarray:
    """An ``.npy`` file's array, its header read without Python's parser.

    ``np.load`` runs ``ast.literal_eval`` on it, which in CPython 3.11 fails now and then where several threads do
    ("AST constructor recursion depth mismatch"), as an input pipeline's threads do.
    """
    stream = io.BytesIO(data)
    width = 2 if np.lib.format.read_magic(stream)[0] == 1 else 4
    header = stream.read(int.from_bytes(stream.read(width), "little")).decode("latin1")
    found = _HEADER.match(header)
    if found is None:
        raise ValueError(f"an array with header {header.strip()!r}")
    shape = tuple(int(n) for n in found["shape"].split(",") if n.strip())
    order = "F" if found["fortran"] == "True" else "C"
    return np.frombuffer(stream.read(), np.dtype(found["dtype"])).reshape(shape, order=order).copy()


def _check(arrays: Mapping[str, np.ndarray], model: HeadModelIdentity) -> None:
    expected = _ARRAYS | {"shape": (model.num_shape,), "expression": (model.num_expression,)}
    for name, shape in expected.items():
        if arrays[name].shape != shape:
            raise ValueError(f"{name} is {shape} for head model {model.name!r}, not {arrays[name].shape}")
        if not np.isfinite(arrays[name]).all():
            raise ValueError(f"{name} is not finite")
    rotation = arrays["rotation"].astype(np.float64)
    off = np.abs(rotation @ rotation.T - np.eye(3)).max()
    if off > 1e-3 or np.linalg.det(rotation) < 0:
        raise ValueError(f"rotation is not a rotation: R·Rᵀ is {off:.1e} off the identity")
