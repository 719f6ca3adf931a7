"""Head-model files to ``HeadModel``: FLAME's own files, archives of FLAME's arrays under FLAME's names, GNM Head."""

from __future__ import annotations

import dataclasses
import logging
import os
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from flame_jax import gnm
from flame_jax.files.contents import FileError, read
from flame_jax.files.flame import Companions, companion_arrays, find_companions, find_model, model_arrays
from flame_jax.files.outside import reason
from flame_jax.model import JOINT_NAMES, HeadModel, LandmarkEmbedding

OPEN_HEAD_PATH = Path(__file__).parent / "assets" / "open_head.npz"
PATH_VARIABLE = "FLAME_MODEL_PATH"
FLAME_NUM_SHAPE = 300  # FLAME files hold 300 shape directions, then the expressions, in one array
REQUIRED = ("v_template", "shapedirs", "J_regressor", "kintree_table", "weights", "f")
WHERE_TO_GET_FLAME = (
    "FLAME's files come with a licence from https://flame.is.tue.mpg.de (register, accept, download; "
    "generic_model.pkl of FLAME 2020 or 2023)"
)

_log = logging.getLogger(__name__)


class HeadModelError(ValueError):
    """A head-model file that is missing, broken or of another kind; the message says what to do."""


def load_open_head() -> HeadModel:
    """The free head model that ships with the package (CC0 data; see ``docs/open_head.md``)."""
    return load_head_model(OPEN_HEAD_PATH)


def load_head_model(
    path: str | Path | None = None,
    *,
    landmarks: str | Path | None = None,
    masks: str | Path | None = None,
    eyelids: str | Path | None = None,
    uv: str | Path | None = None,
    num_shape: int | None = None,
) -> HeadModel:
    """Reads a head model: any of FLAME's files, an archive of the same arrays, or GNM Head. Runs no code from it.

    Args:
        path: a ``.pkl`` as FLAME is distributed, an ``.npz`` or ``.safetensors`` of its arrays, Google's
            ``gnm_head.npz`` (``flame_jax.gnm``), or the folder that holds it. None: what the environment variable
            ``FLAME_MODEL_PATH`` names, else the open head; the log (logger ``flame_jax.loading``) says which.
        landmarks, masks, uv: companion files (``flame_jax.files.flame`` lists them). None: those that lie beside
            the model under their usual names.
        eyelids: the folder of ``l_eyelid.npy`` and ``r_eyelid.npy``; None: beside the model.
        num_shape: how many of the directions are shape, where a file of unusual size does not say.

    Raises:
        HeadModelError: a file is missing, broken, not what it should be, or a pickle asks for something else than
            arrays; the message names the file and says what to do.
    """
    source = "given"
    if path is None:
        path = os.environ.get(PATH_VARIABLE)
        source = f"from {PATH_VARIABLE}" if path else "the open head, as no path was given"
    try:
        arrays, path, found = read_arrays(path or OPEN_HEAD_PATH, landmarks, masks, eyelids, uv, num_shape)
    except FileError as error:
        raise HeadModelError(str(error)) from error
    try:
        model = head_model_from_arrays(arrays, default_name=path.stem)
    except HeadModelError as error:
        raise HeadModelError(f"{path}: {error}") from error
    except (
        ValueError,
        TypeError,
        IndexError,
        OverflowError,
    ) as error:  # an array of other axes than are checked
        raise HeadModelError(f"{path}: an array is not what its name says: {reason(error)}") from error
    beside = f" with {', '.join(found)}" if found else ""
    _log.info("head model %s: %s%s (%s)", model.name, path, beside, source)
    return model


def read_arrays(
    path: str | Path,
    landmarks: str | Path | None = None,
    masks: str | Path | None = None,
    eyelids: str | Path | None = None,
    uv: str | Path | None = None,
    num_shape: int | None = None,
) -> tuple[dict[str, np.ndarray], Path, list[str]]:
    """The arrays of a model and its companions, the model's file, and the companions' names.

    Arguments as in ``load_head_model``. What a model file holds itself goes before a companion found beside it, and
    behind one that was named.

    Raises:
        FileError: see ``HeadModelError``.
    """
    path = Path(path)
    if not path.exists():
        raise FileError(f"no head model at {path}. {WHERE_TO_GET_FLAME}")
    folder = path if path.is_dir() else path.parent
    if path.is_dir():
        path = gnm.find_model(path) or find_model(path)
    named = {"landmarks": landmarks, "masks": masks, "uv": uv}
    if eyelids is not None:
        named |= {
            "left_eyelid": Path(eyelids) / "l_eyelid.npy",
            "right_eyelid": Path(eyelids) / "r_eyelid.npy",
        }
    given = Companions(**{key: Path(value) for key, value in named.items() if value is not None})
    if landmarks is not None and (contour := find_companions(Path(landmarks).parent).contour):
        given = dataclasses.replace(given, contour=contour)

    contents = read(path)
    if gnm.is_gnm(contents):
        text = gnm.find_landmarks(path) if landmarks is None else Path(landmarks)
        others = dataclasses.replace(given, landmarks=None, contour=None)
        found = [*others.found(), *([text.name] if text else [])]
        return gnm.model_arrays(contents, path, text) | companion_arrays(others), path, found
    arrays = _flame(contents, path, num_shape)
    # An archive written by this project is complete; beside a model as FLAME ships it lie its companions.
    beside = find_companions(folder) if path.suffix.lower() == ".pkl" else Companions()
    beside = dataclasses.replace(beside, **{key: None for key in named if getattr(given, key, None)})
    return (
        companion_arrays(beside) | arrays | companion_arrays(given),
        path,
        [*beside.found(), *given.found()],
    )


def _flame(contents: object, path: Path, num_shape: int | None) -> dict[str, np.ndarray]:
    try:
        return model_arrays(contents, num_shape)
    except FileError as error:
        raise FileError(f"{path} {error}. {WHERE_TO_GET_FLAME}") from error


def head_model_from_arrays(arrays: dict[str, np.ndarray], default_name: str) -> HeadModel:
    """Builds a ``HeadModel`` from FLAME-named arrays (see ``load_head_model``), checking each.

    Raises:
        HeadModelError: an array is missing, of a wrong shape, or not finite.
    """
    missing = [key for key in REQUIRED if key not in arrays]
    if missing:
        raise HeadModelError(f"missing arrays: {', '.join(missing)}")
    num_vertices = arrays["v_template"].shape[0] if arrays["v_template"].ndim else 0
    num_joints = len(JOINT_NAMES)

    def floats(key: str, *shape: int | None) -> jnp.ndarray:
        value = arrays[key]
        if value.dtype.kind not in "iuf":
            raise HeadModelError(f"{key} holds {value.dtype} and no numbers")
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
        if arrays[key].dtype.kind not in "iu":
            raise HeadModelError(f"{key} holds {arrays[key].dtype} and no indices")
        value = arrays[key].astype(np.int64)
        if value.size and (value.min() < 0 or value.max() >= upper):
            raise HeadModelError(f"{key} holds indices outside 0 … {upper - 1}")
        return jnp.asarray(value.astype(np.int32))

    # First, because it tells models of other families apart, whose other arrays differ too.
    if arrays["kintree_table"].shape != (2, num_joints):
        raise HeadModelError(
            f"kintree_table has shape {arrays['kintree_table'].shape}, expected (2, {num_joints}): "
            "not a FLAME-format model (SMPL, SMPL-X and MANO have more joints)"
        )
    parents = tuple(int(p) for p in arrays["kintree_table"][0].astype(np.int64))
    parents = (-1, *parents[1:])  # the file marks the root with 2³²−1
    if any(not 0 <= parent < joint for joint, parent in enumerate(parents[1:], start=1)):
        raise HeadModelError(f"kintree_table has parents {parents}; a parent comes before its children")
    template = floats("v_template", None, 3)
    directions = floats("shapedirs", num_vertices, 3, None)
    num_shape = int(arrays.get("num_shape", min(FLAME_NUM_SHAPE, directions.shape[-1])))
    if not 0 <= num_shape <= directions.shape[-1]:
        raise HeadModelError(f"num_shape is {num_shape} of {directions.shape[-1]} directions")
    faces = indices("f", num_vertices)
    if faces.ndim != 2 or faces.shape[1] != 3:
        raise HeadModelError(f"f has shape {faces.shape}, expected (any, 3)")

    zeros = np.zeros((num_vertices, 3), np.float32)
    lids = [
        floats(key, num_vertices, 3) if key in arrays else jnp.asarray(zeros)
        for key in ("l_eyelid", "r_eyelid")
    ]
    if "posedirs" in arrays:
        posedirs = floats("posedirs", num_vertices, 3, None)
        if posedirs.shape[-1] not in (9 * (num_joints - 1), 9 * num_joints):
            raise HeadModelError(
                f"posedirs has shape {posedirs.shape}, expected {9 * (num_joints - 1)} at its end"
            )
    else:
        posedirs = jnp.zeros((num_vertices, 3, 9 * (num_joints - 1)), jnp.float32)

    landmarks = None
    if "full_lmk_faces_idx" in arrays and "dynamic_lmk_faces_idx" in arrays:
        for key, count in (("full_lmk_faces_idx", 68), ("full_lmk_bary_coords", 204)):
            if arrays[key].size != count:
                raise HeadModelError(f"{key} has shape {arrays[key].shape}: not 68 landmarks")
        bins = arrays["dynamic_lmk_faces_idx"].shape[0]
        landmarks = LandmarkEmbedding(
            static_faces=indices("full_lmk_faces_idx", faces.shape[0]).reshape(68),
            static_barycentric=floats(
                "full_lmk_bary_coords", *[None] * arrays["full_lmk_bary_coords"].ndim
            ).reshape(68, 3),
            dynamic_faces=indices("dynamic_lmk_faces_idx", faces.shape[0]),
            dynamic_barycentric=floats("dynamic_lmk_bary_coords", bins, 17, 3),
        )
        if landmarks.dynamic_faces.shape != (bins, 17):
            raise HeadModelError(f"dynamic_lmk_faces_idx has shape {landmarks.dynamic_faces.shape}")
    own_joints = "joint_template" in arrays and "joint_shapedirs" in arrays
    has_uv = "vt" in arrays and "ft" in arrays
    shape_std, expression_std = (
        float(arrays.get(key, default)) for key, default in (("shape_std", 0.8), ("expression_std", 0.5))
    )
    if not (0.0 < shape_std < 100.0 and 0.0 < expression_std < 100.0):
        raise HeadModelError(
            f"standard deviations of the coefficients are {shape_std} and {expression_std}; they are above 0"
        )
    x, y, z = (float(value) for value in arrays.get("origin", np.zeros(3)))
    return HeadModel(
        v_template=template,
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
        has_pose_correctives=bool(np.any(np.asarray(posedirs))),
        name=str(arrays.get("name", default_name)),
        origin=(x, y, z),
        joint_template=floats("joint_template", num_joints, 3) if own_joints else None,
        joint_shapedirs=floats("joint_shapedirs", num_joints, 3, num_shape) if own_joints else None,
        shape_std=shape_std,
        expression_std=expression_std,
    )
