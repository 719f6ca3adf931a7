"""Head-model files to ``HeadModel``: ``.npz`` archives holding FLAME's arrays under FLAME's names."""

from __future__ import annotations

import zipfile
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from flame_jax.model import JOINT_NAMES, HeadModel, LandmarkEmbedding

OPEN_HEAD_PATH = Path(__file__).parent / "assets" / "open_head.npz"
FLAME_NUM_SHAPE = 300  # FLAME files hold 300 shape directions, then the expressions, in one array
REQUIRED = ("v_template", "shapedirs", "J_regressor", "kintree_table", "weights", "f")


class HeadModelError(ValueError):
    """A head-model file that is missing, broken or of another kind."""


def load_open_head() -> HeadModel:
    """The free head model that ships with the package (CC0 data; see ``docs/open_head.md``)."""
    return load_head_model(OPEN_HEAD_PATH)


def load_head_model(path: str | Path) -> HeadModel:
    """Reads an ``.npz`` with FLAME's arrays under FLAME's names. Never unpickles.

    Required arrays: ``v_template`` (V,3), ``shapedirs`` (V,3,S+E), ``J_regressor`` (5,V), ``kintree_table``
    (2,5), ``weights`` (V,5), ``f`` (F,3). Optional: ``posedirs`` (V,3,36), ``num_shape``,
    ``l_eyelid``/``r_eyelid`` (V,3), ``vt``/``ft``, ``full_lmk_*``, ``dynamic_lmk_*``, ``mask_<region>``,
    ``name``.

    Raises:
        HeadModelError: no such file, not an npz, an array missing, of a wrong shape, or not finite; the
            message names the file and the array.
    """
    path = Path(path)
    if not path.is_file():
        raise HeadModelError(f"no head model at {path}")
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
    except (ValueError, OSError, zipfile.BadZipFile, EOFError, AttributeError) as error:
        raise HeadModelError(f"{path} is not an .npz of plain arrays: {error}") from error
    try:
        return head_model_from_arrays(arrays, default_name=path.stem)
    except HeadModelError as error:
        raise HeadModelError(f"{path}: {error}") from error


def head_model_from_arrays(arrays: dict[str, np.ndarray], default_name: str) -> HeadModel:
    """Builds a ``HeadModel`` from FLAME-named arrays (see ``load_head_model``), checking each.

    Raises:
        HeadModelError: an array is missing, of a wrong shape, or not finite.
    """
    missing = [key for key in REQUIRED if key not in arrays]
    if missing:
        raise HeadModelError(f"missing arrays: {', '.join(missing)}")
    num_vertices = arrays["v_template"].shape[0]
    num_joints = len(JOINT_NAMES)

    def floats(key: str, *shape: int | None) -> jnp.ndarray:
        value = arrays[key]
        if value.ndim != len(shape) or any(
            want not in (None, got) for want, got in zip(shape, value.shape, strict=True)
        ):
            wanted = ", ".join("any" if want is None else str(want) for want in shape)
            raise HeadModelError(f"{key} has shape {value.shape}, expected ({wanted})")
        value = value.astype(np.float32)
        if not np.isfinite(value).all():
            raise HeadModelError(f"{key} holds values that are not finite")
        return jnp.asarray(value)

    def indices(key: str, upper: int) -> jnp.ndarray:
        value = arrays[key].astype(np.int64)
        if value.size and (value.min() < 0 or value.max() >= upper):
            raise HeadModelError(f"{key} holds indices outside 0 … {upper - 1}")
        return jnp.asarray(value.astype(np.int32))

    directions = floats("shapedirs", num_vertices, 3, None)
    num_shape = int(arrays.get("num_shape", min(FLAME_NUM_SHAPE, directions.shape[-1])))
    faces = indices("f", num_vertices)
    if faces.ndim != 2 or faces.shape[1] != 3:
        raise HeadModelError(f"f has shape {faces.shape}, expected (any, 3)")
    if arrays["kintree_table"].shape != (2, num_joints):
        raise HeadModelError(
            f"kintree_table has shape {arrays['kintree_table'].shape}, expected (2, {num_joints}): "
            "not a FLAME-format model (SMPL-X and SMPL have more joints)"
        )
    parents = tuple(int(p) for p in arrays["kintree_table"][0].astype(np.int64))
    parents = (-1, *parents[1:])  # the file marks the root with 2³²−1

    zeros = np.zeros((num_vertices, 3), np.float32)
    lids = [
        floats(key, num_vertices, 3) if key in arrays else jnp.asarray(zeros)
        for key in ("l_eyelid", "r_eyelid")
    ]
    if "posedirs" in arrays:
        posedirs = floats("posedirs", num_vertices, 3, 9 * (num_joints - 1))
    else:
        posedirs = jnp.zeros((num_vertices, 3, 9 * (num_joints - 1)), jnp.float32)

    landmarks = None
    if "full_lmk_faces_idx" in arrays and "dynamic_lmk_faces_idx" in arrays:
        landmarks = LandmarkEmbedding(
            static_faces=indices("full_lmk_faces_idx", faces.shape[0]).reshape(68),
            static_barycentric=jnp.asarray(arrays["full_lmk_bary_coords"].astype(np.float32)).reshape(68, 3),
            dynamic_faces=indices("dynamic_lmk_faces_idx", faces.shape[0]),
            dynamic_barycentric=floats("dynamic_lmk_bary_coords", None, 17, 3),
        )
    has_uv = "vt" in arrays and "ft" in arrays
    return HeadModel(
        v_template=floats("v_template", num_vertices, 3),
        shapedirs=directions[..., :num_shape],
        exprdirs=directions[..., num_shape:],
        posedirs=posedirs,
        eyelids=jnp.stack(lids),
        J_regressor=floats("J_regressor", num_joints, num_vertices),
        weights=floats("weights", num_vertices, num_joints),
        faces=faces,
        uv=floats("vt", None, 2) if has_uv else jnp.zeros((0, 2), jnp.float32),
        uv_faces=indices("ft", arrays["vt"].shape[0]) if has_uv else jnp.zeros((0, 3), jnp.int32),
        landmarks=landmarks,
        masks={
            key.removeprefix("mask_"): indices(key, num_vertices)
            for key in sorted(arrays)
            if key.startswith("mask_")
        },
        parents=parents,
        name=str(arrays.get("name", default_name)),
    )
