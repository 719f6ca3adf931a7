"""Correspondences of head models, kept: beside the user's model file, or in the cache's folder. Never shipped.

FLAME's geometry is not ours to give, and half a minute is too long to wait twice.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from flame_jax import HeadModel
from flame_jax.files.budget import Budget
from flame_jax.files.npz import ArrayFileError, read_npz
from flame_jax.files.outside import MissingFileError, OutsideFileError, read_regular_file
from n2f_jax.fitting.head_correspondence import HeadCorrespondence, find_correspondence, require_landmarks
from n2f_jax.models.pretrained import HeadModelIdentity, identity_sha256
from n2f_jax.runtime.assets_cache import AssetError, cache_dir
from n2f_jax.runtime.atomic_files import atomic_path

# Goes up when the way in which correspondences are found changes.
VERSION = 2
_MAX_BYTES = 1 << 26
_log = logging.getLogger(__name__)


class CorrespondenceError(ValueError):
    """A stored correspondence that is damaged, or of other models; the message names the file."""


def kept_correspondence(
    source: HeadModel,
    target: HeadModel,
    beside: Path | None,
    points: tuple[Int[np.ndarray, " n"], Float[np.ndarray, "n 3"]] | None = None,
    say: Callable[[str], None] = _log.info,
) -> HeadCorrespondence:
    """The correspondence of two models as it was kept, else found and kept.

    Args:
        source, target, points: as for ``find_correspondence``.
        beside: the target's file or folder, None where it has none: then the cache's folder serves, as it does where
            this one cannot be written.
        say: told what takes its time, and where the result is.

    Raises:
        ValueError, AlignmentError, ImportError: as ``find_correspondence``.
    """
    require_landmarks(source, target)
    name = f"n2f-correspondence-{_key(source, target)}.npz"
    places = [beside if beside.is_dir() else beside.parent] if beside is not None else []
    with contextlib.suppress(AssetError):
        places.append(cache_dir() / "head_models")
    for place in places:
        try:
            return read_correspondence(place / name, source, target)
        except CorrespondenceError as error:
            if not isinstance(error.__cause__, MissingFileError):
                say(f"{error}; it is made again")
    say(f"laying {source.name} over {target.name}, once: half a minute")
    found = find_correspondence(source, target, points)
    for place in places:
        try:
            place.mkdir(parents=True, exist_ok=True)
            write_correspondence(place / name, found)
        except OSError:
            continue
        say(f"kept in {place / name}: {1000 * found.distance:.2f} mm between the two mean heads")
        break
    return found


def write_correspondence(path: Path, found: HeadCorrespondence) -> None:
    """Writes it as ``.npz``, atomically.

    Raises:
        OSError: it cannot be written.
    """
    with atomic_path(path) as temporary:
        np.savez_compressed(temporary, allow_pickle=False, **dataclasses.asdict(found))


def read_correspondence(path: Path, source: HeadModel, target: HeadModel) -> HeadCorrespondence:
    """The other way, every index held against the models.

    Raises:
        CorrespondenceError: missing, damaged, or of other models.
    """
    try:
        data = read_regular_file(path, _MAX_BYTES, "correspondences")
        arrays = read_npz(data, Budget(len(data)))
        return _checked(arrays, source, target)
    except (OutsideFileError, ArrayFileError, CorrespondenceError) as error:
        raise CorrespondenceError(f"{path} {error}") from error


def _checked(arrays: dict[str, np.ndarray], source: HeadModel, target: HeadModel) -> HeadCorrespondence:
    # Kind and axes; letters are lengths that have to agree.
    expected: dict[str, tuple[str, tuple[int | str, ...], int]] = {
        "vertices": ("i", ("N",), target.num_vertices),
        "faces": ("i", ("N",), source.num_faces),
        "barycentric": ("f", ("N", 3), 0),
        "weights": ("f", ("N",), 0),
        "rotation": ("f", (3, 3), 0),
        "translation": ("f", (3,), 0),
        "contour_faces": ("i", ("bins", 17), target.num_faces),
        "contour_barycentric": ("f", ("bins", 17, 3), 0),
        "point_faces": ("i", ("n",), target.num_faces),
        "point_barycentric": ("f", ("n", 3), 0),
        "distance": ("f", (), 0),
        "paired": ("f", (), 0),
    }
    lengths: dict[str, int] = {}
    for name, (kind, shape, upper) in expected.items():
        value = arrays.get(name)
        if value is None or value.dtype.kind != kind or value.ndim != len(shape):
            raise CorrespondenceError(f"holds no {name}: no correspondence")
        for length, got in zip(shape, value.shape, strict=True):
            if got != (lengths.setdefault(length, got) if isinstance(length, str) else length):
                raise CorrespondenceError(f"holds {name} of shape {value.shape}")
        if kind == "f" and not np.isfinite(value).all():
            raise CorrespondenceError(f"holds {name} that is not finite")
        if kind == "i" and value.size and (value.min() < 0 or value.max() >= upper):
            raise CorrespondenceError(f"holds {name} outside 0 … {upper - 1}")
    if not lengths["N"]:
        raise CorrespondenceError("holds no pairs")
    values = {
        name: float(arrays[name])
        if not shape
        else arrays[name].astype(np.int32 if kind == "i" else np.float32)
        for name, (kind, shape, _) in expected.items()
    }
    return HeadCorrespondence(**values)


def _key(source: HeadModel, target: HeadModel) -> str:
    """Of all that the correspondence depends on."""
    digest = hashlib.sha256(f"{VERSION}".encode())
    for model in (source, target):
        digest.update(identity_sha256(HeadModelIdentity.of(model)).encode())
        assert model.landmarks is not None
        parts = [*dataclasses.astuple(model.landmarks), *(model.masks[name] for name in sorted(model.masks))]
        for array in parts:
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]
