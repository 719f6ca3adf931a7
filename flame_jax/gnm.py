"""Google's GNM Head (``gnm_head.npz``) as FLAME-named arrays, which ``loading.head_model_from_arrays`` checks.

GNM (Generative aNthropometric Model; https://github.com/google/GNM, arXiv 2607.23687, Apache-2.0) is the same kind of
model as FLAME: identity and expression directions, pose correctives, linear blend skinning. What differs, and where it
goes:

- Its joints are neck, head and the eyes. The neck, which all hangs on, becomes the root, the head FLAME's neck. There
  is no jaw joint, an open mouth is expression: the jaw turns nothing.
- Joints follow the identity alone, by directions of their own (``HeadModel.joint_shapedirs``), and the root has pose
  correctives.
- Blinks are expression: there are no eyelid parameters.
- Its origin lies below the neck. Heads are moved so that the middle of the eyes is where FLAME has it
  (``HeadModel.origin`` is by how much), since cameras and samplers turn heads about the origin.
- Coefficients are in units of their standard deviations, unlike FLAME's.

The 68 landmarks are a text file of GNM's repository, ``head_sparse_68.txt``: three pairs of vertex and weight a line.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from flame_jax.files.contents import FileError
from flame_jax.files.outside import OutsideFileError, one_line, read_regular_file, reason
from flame_jax.model import JOINT_NAMES

MODEL_NAME = "gnm_head.npz"
LANDMARKS_NAME = "head_sparse_68.txt"
# Beside the model, or as in GNM's repository: data/versions/v3_0/ and data/landmarks/.
_LANDMARK_PLACES = (Path(), Path("..", "..", "landmarks"))
_MAX_TEXT_BYTES = 1 << 20
# FLAME's joints → GNM's.
_JOINTS = {"root": "neck", "neck": "head", "left_eye": "left_eye", "right_eye": "right_eye"}
_EYES_MIDDLE = (0.0, 0.026, 0.052)  # metres, in FLAME's frame
_REQUIRED = (
    "template_vertex_positions",
    "template_joint_positions",
    "vertex_identity_basis",
    "joint_identity_basis",
    "expression_basis",
    "joint_names",
    "joint_parent_indices",
    "skinning_weights",
    "triangles",
)
# This project's regions → GNM's vertex groups, newer and older names. Those of the face end in "_region".
_GROUPS = {
    "nose": ("nose_region",),
    "eyes": ("left_orbital_region", "right_orbital_region"),
    "mouth": ("upper_lip", "lower_lip"),
    "ears": ("ears", "left_ear", "right_ear"),
    "left_eyeball": ("left_eye",),
    "right_eyeball": ("right_eye",),
    "teeth": ("upper_teeth_and_gums", "lower_teeth_and_gums", "upper_teeth", "lower_teeth"),
    "tongue": ("tongue",),
    "eye_sockets": ("eye_sockets",),
    "mouth_cavity": ("mouth_sock",),
}
_FACE_SUFFIX = "_region"
_INSIDE = 0.5  # of a soft vertex group


def is_gnm(contents: Any) -> bool:
    """Whether what a file holds (``contents.read``) is a GNM head."""
    return isinstance(contents, dict) and "vertex_identity_basis" in contents


def find_model(folder: Path) -> Path | None:
    """``gnm_head.npz`` in a folder, if it is there."""
    return folder / MODEL_NAME if (folder / MODEL_NAME).is_file() else None


def find_landmarks(model: Path) -> Path | None:
    """``head_sparse_68.txt`` beside a model file, or where GNM's repository has it."""
    places = (model.parent / place / LANDMARKS_NAME for place in _LANDMARK_PLACES)
    return next((place for place in places if place.is_file()), None)


def model_arrays(contents: dict[str, Any], path: Path, landmarks: Path | None) -> dict[str, np.ndarray]:
    """FLAME-named arrays of a GNM head (V vertices, I identity and E expression directions, J joints).

    Args:
        contents: of the file: ``template_vertex_positions (V, 3)``, ``template_joint_positions (J, 3)``,
            ``vertex_identity_basis (I, V, 3)``, ``joint_identity_basis (I, J, 3)``, ``expression_basis (E, V, 3)``,
            ``joint_names``, ``joint_parent_indices (J,)``, ``skinning_weights (J, V)``, ``triangles (T, 3)``; where
            they are there also ``triangle_uvs (T, 3, 2)``, ``pose_correctives_regressor (9J, 3V)``, ``joint_regressor
            (J, V)``, ``vertex_groups (G, V)`` with ``vertex_group_names``, ``version``. Metres.
        path: the file, for messages.
        landmarks: ``head_sparse_68.txt``, or None for a model without landmarks.

    Returns:
        What ``head_model_from_arrays`` reads, metres, FLAME's axes, moved to FLAME's origin.

    Raises:
        FileError: an array is missing or is not what its name says, or the landmarks are none.
    """
    missing = [key for key in _REQUIRED if not isinstance(contents.get(key), np.ndarray)]
    if missing:
        raise FileError(f"{path} holds no {', '.join(missing)}: no GNM head")
    given = {key: value for key, value in contents.items() if isinstance(value, np.ndarray)}
    try:
        with np.errstate(all="ignore"):  # what is not finite is refused afterwards
            arrays = _geometry(given) | _regions(given)
            if "triangle_uvs" in given:
                arrays |= _texture_coordinates(given["triangle_uvs"])
    except (ValueError, TypeError, IndexError, KeyError, OverflowError) as error:
        raise FileError(
            f"{path}: an array of the GNM head is not what its name says: {reason(error)}"
        ) from error
    if landmarks is not None:
        try:
            arrays |= _landmarks(landmarks, arrays["v_template"], arrays["f"])
        except OutsideFileError as error:
            raise FileError(f"{landmarks} {error}") from error
        except (ValueError, IndexError, OverflowError) as error:
            raise FileError(f"{landmarks} is no {LANDMARKS_NAME} of this model: {reason(error)}") from error
    return arrays


def _geometry(given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    names = [str(name) for name in given["joint_names"].ravel()]
    if sorted(names) != sorted(_JOINTS.values()):
        raise ValueError(
            f"joints are {one_line(', '.join(names), 80)}, expected {', '.join(_JOINTS.values())}"
        )
    place = {flame: names.index(own) for flame, own in _JOINTS.items()}
    parent = {flame: int(given["joint_parent_indices"][j]) for flame, j in place.items()}
    if parent["neck"] != place["root"] or any(
        parent[eye] != place["neck"] for eye in ("left_eye", "right_eye")
    ):
        raise ValueError("the head does not hang on the neck, or the eyes on the head")
    template = _numbers(given, "template_vertex_positions", (None, 3))
    if not np.isfinite(template).all():
        raise ValueError("template_vertex_positions holds values that are not finite")
    count = len(template)
    identity = _numbers(given, "vertex_identity_basis", (None, count, 3))
    expression = _numbers(given, "expression_basis", (None, count, 3))
    weights = _numbers(given, "skinning_weights", (len(names), count))
    joints = _numbers(given, "template_joint_positions", (len(names), 3))
    joint_basis = _numbers(given, "joint_identity_basis", (len(identity), len(names), 3))

    def by_joint(values: np.ndarray, jaw: str | None) -> np.ndarray:
        """GNM's joints along the first axis as FLAME's; the jaw is a copy of another joint, or zero."""
        rows = [
            values[place[name]] if name != "jaw" else values[place[jaw]] if jaw else np.zeros_like(values[0])
            for name in JOINT_NAMES
        ]
        return np.stack(rows)

    joint_template = by_joint(joints, "neck")
    origin = joint_template[3:].mean(axis=0) - np.asarray(_EYES_MIDDLE)
    directions = np.concatenate([identity, expression])
    arrays = {
        "v_template": template - origin,
        # In the order and precision that is computed in: one copy of 140 MB.
        "shapedirs": np.ascontiguousarray(np.moveaxis(directions, 0, -1), np.float32),
        "num_shape": np.asarray(len(identity)),
        "weights": by_joint(weights, None).T,
        "joint_template": joint_template - origin,
        "joint_shapedirs": by_joint(np.moveaxis(joint_basis, 0, -1), "neck"),
        "J_regressor": np.zeros((len(JOINT_NAMES), count), np.float32),
        "kintree_table": np.array([[2**32 - 1, 0, 1, 1, 1], [0, 1, 2, 3, 4]], np.int64),
        "f": given["triangles"],
        "origin": origin,
        "name": np.asarray(
            f"GNM Head {one_line(str(given['version']), 20)}" if "version" in given else "GNM Head"
        ),
        "shape_std": np.asarray(1.0),
        "expression_std": np.asarray(1.0),
    }
    if "joint_regressor" in given:
        arrays["J_regressor"] = by_joint(_numbers(given, "joint_regressor", (len(names), count)), "neck")
    if "pose_correctives_regressor" in given:
        correctives = _numbers(given, "pose_correctives_regressor", (9 * len(names), 3 * count))
        if correctives.any():
            by_part = by_joint(correctives.reshape(len(names), 9, count, 3), None)
            arrays["posedirs"] = np.moveaxis(by_part.reshape(9 * len(JOINT_NAMES), count, 3), 0, -1)
    return arrays


def _numbers(given: dict[str, np.ndarray], key: str, shape: tuple[int | None, ...]) -> np.ndarray:
    value = given[key]
    if value.dtype.kind not in "iuf":
        raise ValueError(f"{key} holds {value.dtype} and no numbers")
    if value.ndim != len(shape) or any(
        want not in (None, got) for want, got in zip(shape, value.shape, strict=True)
    ):
        raise ValueError(f"{key} has shape {value.shape}")
    return value


def _regions(given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    if "vertex_groups" not in given or "vertex_group_names" not in given:
        return {}
    names = [str(name) for name in given["vertex_group_names"].ravel()]
    template = given["template_vertex_positions"]
    groups = dict(zip(names, _numbers(given, "vertex_groups", (len(names), len(template))), strict=True))
    inside = {
        region: np.any([groups[name] > _INSIDE for name in own if name in groups], axis=0)
        for region, own in _GROUPS.items()
        if any(name in groups for name in own)
    }
    # Soft groups beside each other share a vertex between them.
    of_face = [value for name, value in groups.items() if name.endswith(_FACE_SUFFIX)]
    if of_face:
        face = np.sum(of_face, axis=0) > _INSIDE
        for part in ("eyes", "nose", "mouth", "eye_sockets", "mouth_cavity"):
            face |= inside.get(part, False)
        for part in ("left_eyeball", "right_eyeball", "teeth", "tongue"):
            face &= ~inside.get(part, np.zeros(len(face), bool))
        inside["face"] = face
    if "left_eyeball" in inside and "right_eyeball" in inside:
        inside["eyeballs"] = inside["left_eyeball"] | inside["right_eyeball"]
    if "ears" in inside:
        ears = inside.pop("ears")
        middle = given["template_joint_positions"][:, 0].mean()
        inside["left_ear"], inside["right_ear"] = (
            ears & (template[:, 0] > middle),
            ears & (template[:, 0] <= middle),
        )
    return {f"mask_{region}": np.flatnonzero(value) for region, value in inside.items() if value.any()}


def _texture_coordinates(corners: np.ndarray) -> dict[str, np.ndarray]:
    if corners.ndim != 3 or corners.shape[1:] != (3, 2):
        raise ValueError(f"triangle_uvs has shape {corners.shape}")
    points, index = np.unique(corners.reshape(-1, 2), axis=0, return_inverse=True)
    return {"vt": points, "ft": index.reshape(-1, 3)}


def _landmarks(path: Path, template: np.ndarray, triangles: np.ndarray) -> dict[str, np.ndarray]:
    text = read_regular_file(path, _MAX_TEXT_BYTES, "landmark files").decode("utf-8", errors="replace")
    rows = np.array([[float(word) for word in line.split()] for line in text.splitlines() if line.strip()])
    if rows.shape != (68, 6):
        raise ValueError(f"{rows.shape[0]} lines, expected 68 of three vertices with weights")
    vertices, weights = rows[:, ::2], rows[:, 1::2]
    if not np.isfinite(rows).all() or (vertices != np.round(vertices)).any() or vertices.min() < 0:
        raise ValueError("vertices are no indices, or weights no numbers")
    vertices = vertices.astype(np.int64)
    total = weights.sum(axis=1)
    if (np.abs(total - 1.0) > 0.05).any() or (weights < -0.05).any():
        raise ValueError("weights do not sum to one")
    weights = weights / total[:, None]  # three digits each
    points = np.einsum("nk,nkc->nc", weights, template[vertices])
    # Files of 2026 have points 2 … 6 of the jaw line in reverse: the line falls from the ears to the chin.
    order = np.arange(68)
    for side, sign in ((np.arange(8), -1), (np.arange(9, 17), 1)):
        order[side] = side[np.argsort(sign * points[side, 1], kind="stable")]
    found = [_on_triangle(template, triangles, vertices[n], weights[n], points[n]) for n in order]
    faces, barycentric = np.array([face for face, _ in found]), np.stack([share for _, share in found])
    return {
        "full_lmk_faces_idx": faces,
        "full_lmk_bary_coords": barycentric,
        # One contour for all yaws: the file has no other.
        "dynamic_lmk_faces_idx": faces[None, :17],
        "dynamic_lmk_bary_coords": barycentric[None, :17],
    }


def _on_triangle(
    template: np.ndarray, triangles: np.ndarray, vertices: np.ndarray, weights: np.ndarray, point: np.ndarray
) -> tuple[int, np.ndarray]:
    """Triangle and barycentrics of a point between three vertices: of theirs, if they are one, else of the nearest."""
    own = np.isin(triangles, vertices[np.abs(weights) > 1e-9])
    whole = np.flatnonzero(own.sum(axis=1) == len(np.unique(vertices[np.abs(weights) > 1e-9])))
    if len(whole):
        share = np.array([weights[vertices == corner].sum() for corner in triangles[whole[0]]])
        return int(whole[0]), share
    near = np.flatnonzero(own.any(axis=1))  # quads that were cut along their other diagonal
    if not len(near):
        raise ValueError(f"vertices {', '.join(map(str, vertices))} are in no triangle")
    best: tuple[float, int, np.ndarray] | None = None
    for face in near:
        corners = template[triangles[face]]
        edges = np.stack([corners[1] - corners[0], corners[2] - corners[0]], axis=-1)
        solved, *_ = np.linalg.lstsq(edges, point - corners[0], rcond=None)
        share = np.clip([1.0 - solved.sum(), *solved], 0.0, None)
        share = share / share.sum()
        distance = float(np.linalg.norm(share @ corners - point))
        if best is None or distance < best[0]:
            best = distance, int(face), share
    assert best is not None
    return best[1], best[2]
