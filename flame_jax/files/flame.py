"""FLAME's own files to FLAME-named plain arrays, which ``loading.head_model_from_arrays`` checks and takes.

What the community has (FLAME's licence forbids shipping any of it):

=================================  ====================================================================
``generic_model.pkl``, ``.npz``    the model of 2019, 2020, 2023 or "2023 Open"; 300 + 100 directions
``landmark_embedding.npy``         DECA's 68 landmarks: static, contour by yaw, and all 68
``flame_static_embedding.pkl`` and
``flame_dynamic_embedding.npy``    smplx's: 51 static landmarks; contour by yaw
``FLAME_masks.pkl``                vertices of each region
``l_eyelid.npy``, ``r_eyelid.npy`` displacements that close the lids (from Pixel3DMM, SMIRK, VHAP)
``FLAME_texture.npz``, an ``.obj`` texture coordinates
=================================  ====================================================================
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from flame_jax.files.contents import FileError, read
from flame_jax.files.outside import OutsideFileError, one_line, read_regular_file, reason
from flame_jax.files.pickle_opcodes import MAX_BYTES
from flame_jax.files.restricted_pickle import Shell

# Arrays that are read from a model file; what else it holds (J, bs_style, …) follows from them or is not used.
MODEL_KEYS = ("v_template", "shapedirs", "posedirs", "J_regressor", "kintree_table", "weights", "f")
# Directions in one array → those of shape among them; the others are expressions.
NUM_SHAPE_OF = {400: 300, 150: 100}
REGIONS = {"eye_region": "eyes", "lips": "mouth"}
_MODEL_NAMES = (
    "generic_model.pkl",
    "flame2023.pkl",
    "flame2023_Open.pkl",
    "flame2023_no_jaw.pkl",
    "FLAME_NEUTRAL.pkl",
)


@dataclasses.dataclass(frozen=True)
class Companions:
    """The files beside the model; None where there is none.

    Attributes:
        landmarks: DECA's ``landmark_embedding.npy``, or smplx's static embedding.
        contour: smplx's dynamic embedding, where ``landmarks`` is its static one.
        masks: ``FLAME_masks.pkl``.
        left_eyelid, right_eyelid: ``.npy`` of (V, 3).
        uv: ``FLAME_texture.npz`` or an ``.obj`` with texture coordinates and the model's triangles.
    """

    landmarks: Path | None = None
    contour: Path | None = None
    masks: Path | None = None
    left_eyelid: Path | None = None
    right_eyelid: Path | None = None
    uv: Path | None = None

    def found(self) -> list[str]:
        return [value.name for value in dataclasses.astuple(self) if value is not None]


def find_model(folder: Path) -> Path:
    """The model file in a folder.

    Raises:
        FileError: there is none, or more than one and none of FLAME's names.
    """
    named = [folder / name for name in _MODEL_NAMES if (folder / name).is_file()]
    if named:
        return named[0]
    companions = {path for path in dataclasses.astuple(find_companions(folder)) if path is not None}
    others = [path for path in sorted(folder.glob("*.pkl")) if path not in companions]
    if len(others) == 1:
        return others[0]
    what = "several .pkl files" if others else "no model file"
    raise FileError(f"{folder} holds {what}; name the file itself, e.g. {folder / 'generic_model.pkl'}")


def find_companions(folder: Path) -> Companions:
    """The known companion files of a folder, by their names."""

    def first(*names: str) -> Path | None:
        return next((folder / name for name in names if (folder / name).is_file()), None)

    landmarks = first("landmark_embedding.npy", "landmark_embedding_with_eyes.npy")
    contour = None
    if landmarks is None:
        landmarks = first("flame_static_embedding.pkl", "flame_static_embedding.npz")
        contour = first("flame_dynamic_embedding.npy")
    return Companions(
        landmarks=landmarks,
        contour=contour,
        masks=first("FLAME_masks.pkl"),
        left_eyelid=first("l_eyelid.npy"),
        right_eyelid=first("r_eyelid.npy"),
        uv=first("FLAME_texture.npz", "head_template.obj", "head_template_mesh.obj"),
    )


def model_arrays(contents: Any, num_shape: int | None = None) -> dict[str, np.ndarray]:
    """FLAME's arrays out of what a model file holds.

    Args:
        contents: from ``contents.read``.
        num_shape: how many of the directions are shape; None to tell by their number.

    Raises:
        FileError: it is no model, or one of its arrays is no array; the message starts with "holds".
    """
    if not isinstance(contents, dict):
        raise FileError(f"holds a {type(contents).__name__} and no model")
    arrays = {}
    for key, value in contents.items():
        if isinstance(value, np.ndarray):
            arrays[str(key)] = value
        elif key in MODEL_KEYS:
            what = one_line(repr(value)) if isinstance(value, Shell) else f"a {type(value).__name__}"
            raise FileError(f"holds {what} as {key}, which cannot be read as an array")
    missing = [key for key in MODEL_KEYS if key not in arrays and key != "posedirs"]
    if missing:
        names = one_line(", ".join(sorted(map(str, contents))[:12]))
        raise FileError(f"holds no {', '.join(missing)}: not a FLAME model (it holds {names})")
    if "num_shape" not in arrays:
        if not arrays["shapedirs"].ndim:
            raise FileError("holds a number as shapedirs, which has three axes")
        total = arrays["shapedirs"].shape[-1]
        if num_shape is None and total not in NUM_SHAPE_OF:
            raise FileError(
                f"holds {total} directions; say how many are shape: load_head_model(…, num_shape=N), or an archive "
                "made by n2f convert head-model … --num-shape N"
            )
        arrays["num_shape"] = np.asarray(NUM_SHAPE_OF[total] if num_shape is None else num_shape)
    return arrays


def companion_arrays(companions: Companions) -> dict[str, np.ndarray]:
    """Landmarks, masks, eyelids and texture coordinates under the names that ``loading`` knows.

    Raises:
        FileError: a companion cannot be read or is something else.
    """
    arrays: dict[str, np.ndarray] = {}
    if companions.landmarks is not None:
        try:
            arrays |= _landmarks(companions.landmarks, companions.contour)
        except FileError:
            raise
        except (ValueError, IndexError) as error:
            raise FileError(f"{companions.landmarks} is no landmark embedding: {reason(error)}") from error
    if companions.masks is not None:
        masks = read(companions.masks)
        if not isinstance(masks, dict) or not all(_is_indices(value) for value in masks.values()):
            raise FileError(f"{companions.masks} is no dict of vertex indices by region")
        arrays |= {f"mask_{name}": np.asarray(value).ravel() for name, value in masks.items()}
        # Under the names of this project's regions too.
        arrays |= {f"mask_{ours}": arrays[f"mask_{its}"] for its, ours in REGIONS.items() if its in masks}
    for key, path in (("l_eyelid", companions.left_eyelid), ("r_eyelid", companions.right_eyelid)):
        if path is not None:
            value = read(path)
            if not isinstance(value, np.ndarray) or value.dtype.kind != "f":
                raise FileError(f"{path} is no array of displacements")
            arrays[key] = value.reshape(-1, 3) if value.ndim == 3 and value.shape[0] == 1 else value
    if companions.uv is not None:
        arrays |= _texture_coordinates(companions.uv)
    return arrays


def _is_indices(value: Any) -> bool:
    # A list within a list may stand there many times over; regions are flat.
    if isinstance(value, list):
        return all(type(item) is int and 0 <= item < 1 << 31 for item in value)
    return isinstance(value, np.ndarray) and value.dtype.kind in "iu"


def _landmarks(path: Path, contour_path: Path | None) -> dict[str, np.ndarray]:
    contents = read(path)
    if not isinstance(contents, dict):
        raise FileError(f"{path} holds a {type(contents).__name__} and no landmark embedding")

    def get(source: dict[Any, Any], key: str, where: Path) -> np.ndarray:
        value = source.get(key)
        if not isinstance(value, np.ndarray):
            raise FileError(f"{where} holds no {key}: not a landmark embedding")
        return value

    if "lmk_face_idx" in contents:  # smplx's: 51 static landmarks, the contour in another file
        if contour_path is None:
            raise FileError(f"{path} needs flame_dynamic_embedding.npy beside it for the contour")
        moving = read(contour_path)
        moving = moving if isinstance(moving, dict) else {}
        static = (get(contents, "lmk_face_idx", path), get(contents, "lmk_b_coords", path))
        dynamic = (get(moving, "lmk_face_idx", contour_path), get(moving, "lmk_b_coords", contour_path))
        fixed: tuple[Any, Any] = (None, None)
    else:
        static = (
            get(contents, "static_lmk_faces_idx", path),
            get(contents, "static_lmk_bary_coords", path),
        )
        dynamic = (
            get(contents, "dynamic_lmk_faces_idx", path),
            get(contents, "dynamic_lmk_bary_coords", path),
        )
        fixed = (contents.get("full_lmk_faces_idx"), contents.get("full_lmk_bary_coords"))
    if not all(isinstance(part, np.ndarray) for part in fixed):
        # The frontal contour stands in for a fixed one.
        fixed = (
            np.concatenate([dynamic[0][0], static[0]]),
            np.concatenate([dynamic[1][0], static[1]]),
        )
    return {
        "full_lmk_faces_idx": fixed[0].reshape(-1),
        "full_lmk_bary_coords": fixed[1].reshape(-1, 3),
        "dynamic_lmk_faces_idx": dynamic[0],
        "dynamic_lmk_bary_coords": dynamic[1],
    }


def _texture_coordinates(path: Path) -> dict[str, np.ndarray]:
    if path.suffix.lower() != ".obj":
        contents = read(path)
        if not isinstance(contents, dict) or "vt" not in contents or "ft" not in contents:
            raise FileError(f"{path} holds no vt and ft")
        if not all(isinstance(contents[key], np.ndarray) for key in ("vt", "ft")):
            raise FileError(f"{path} holds vt and ft that are no arrays")
        return {"vt": contents["vt"], "ft": contents["ft"]}
    points, corners = [], []
    try:
        text = read_regular_file(path, MAX_BYTES, "model files").decode("utf-8", errors="replace")
        for line in text.splitlines():
            parts = line.split()
            if parts[:1] == ["vt"]:
                points.append([float(parts[1]), float(parts[2])])
            elif parts[:1] == ["f"]:
                corners.append([int(corner.split("/")[1]) - 1 for corner in parts[1:]])
        return {"vt": np.array(points).reshape(-1, 2), "ft": np.array(corners, np.int64).reshape(-1, 3)}
    except OutsideFileError as error:
        raise FileError(f"{path} {error}") from error
    except (ValueError, IndexError, OverflowError) as error:
        raise FileError(
            f"{path} is no .obj of triangles with texture coordinates: {reason(error)}"
        ) from error
