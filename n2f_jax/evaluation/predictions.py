"""Reconstructions of any method, as files: our ``.npz``, FLAME parameters, meshes with landmarks."""

from __future__ import annotations

import dataclasses
import functools
import glob
from pathlib import Path

import numpy as np

from n2f_jax.evaluation.frames import find_frame, split_frame, take_frame
from n2f_jax.evaluation.landmarks import read_landmarks
from n2f_jax.evaluation.landmarks3d import (
    SEVEN_OF_68,
    LandmarkError,
    landmarks_beside,
    read_landmarks3d,
)
from n2f_jax.evaluation.regions import load_template
from n2f_jax.mesh.cleaning import clean
from n2f_jax.mesh.reading import MESH_SUFFIXES, read_mesh
from n2f_jax.mesh.triangle_mesh import MeshError, TriangleMesh
from n2f_jax.runtime.outside_values import numbers, read_array, read_arrays, read_table, told

# DECA's and EMOCA's "pose": the head's axis-angle, then the jaw's.
HEAD_AND_JAW = ("pose", "posecode")
# Names of the same FLAME coefficients in the files of FLAME trackers and regressors.
FLAME_KEYS = {
    "shape": ("shape", "shape_params", "shapecode", "betas"),
    "expression": ("expression", "expr", "exp", "expression_params", "expcode"),
    "jaw_pose": ("jaw_pose", "jaw", "jaw_params", *HEAD_AND_JAW),
    "eyelids": ("eyelids", "eyelid", "eyelid_params"),
}
# Where methods put the mesh of image NAME: NAME.obj, NAME/NAME.obj (DECA's demo), NAME/mesh_coarse.obj (EMOCA).
MESH_IN_FOLDER = ("{name}", "mesh_coarse", "mesh", "{name}_mesh")
# Axes of the arrays of one mesh; one more in front counts frames (VHAP, GaussianAvatars, NeRSemble).
_AXES = {key: 1 for keys in FLAME_KEYS.values() for key in keys} | dict.fromkeys(
    ("vertices", "landmarks_3d", "static_offset", "dynamic_offset"), 2
)
# VHAP and GaussianAvatars append so many vertices of teeth to FLAME's, which no head model here has.
_TEETH = 120


class PredictionError(ValueError):
    """A prediction that is missing or cannot be used; the message names the file."""


@dataclasses.dataclass(frozen=True)
class Prediction:
    """One reconstruction.

    Attributes:
        mesh: cleaned, in its own frame and unit.
        landmarks: ``(7, 3)`` on it, or None.
        unit: ``m`` where the format says so, else None.
        camera: ``(R, t)`` of ``x_cam = R·x + t`` (OpenCV, the mesh's unit), or None.
        removed: what cleaning took out, "" for nothing.
    """

    mesh: TriangleMesh
    landmarks: np.ndarray | None
    unit: str | None
    camera: tuple[np.ndarray, np.ndarray] | None = None
    removed: str = ""


def find_prediction(folder: Path, sample: str, suffixes: tuple[str, ...]) -> Path | None:
    """The file of a sample under a folder of predictions, or None.

    For the sample ``a/b/c``: ``a/b/c.SUFFIX``, ``a/b/c/c.SUFFIX``, ``a/b/c/mesh_coarse.SUFFIX`` …; and, so that a flat
    folder of results will do, ``a_b_c.SUFFIX`` and ``a_b_c/…``. Else, where ``c`` ends in a number, that frame of a
    file of many (``evaluation.frames``): ``a/b.npz/c``.
    """
    for base in (folder / sample, folder / sample.replace("/", "_")):
        for suffix in suffixes:
            direct = base.with_name(base.name + suffix)
            if direct.is_file():
                return direct
        for pattern in MESH_IN_FOLDER:
            for suffix in suffixes:
                inside = base / (pattern.format(name=base.name) + suffix)
                if inside.is_file():
                    return inside
    return find_frame(folder, sample, _AXES) if ".npz" in suffixes else None


def landmark_file(mesh_path: Path) -> Path | None:
    """The landmarks that lie beside a mesh (``landmarks_beside``), or ``landmarks.npy`` and the like, or None."""
    return landmarks_beside(mesh_path, ("landmarks",))


def read_prediction(
    path: str | Path, head_model: str | None = None, landmark_vertices: np.ndarray | None = None
) -> Prediction:
    """Reads one reconstruction.

    Args:
        path: a mesh file (``meshes.read_mesh``); our ``.npz`` (vertices, faces, 68 landmarks, camera); or an
            ``.npz`` of FLAME coefficients (``FLAME_KEYS``) and, where it has them, displacements of the template's
            vertices (``static_offset``, ``dynamic_offset``; metres), decoded by ``head_model``. Of an ``.npz`` of many
            frames ``FILE.npz/FRAME``.
        head_model: a head-model file; None for the open head. Meshes of its topology get their landmarks from it.
        landmark_vertices: ``(7,)`` vertices that are the landmarks, for meshes of another fixed topology
            (3DDFA_V2's and PRNet's key points, say).

    Raises:
        PredictionError: broken, empty, not finite, or many frames that are to be one mesh.
    """
    path = Path(path)
    file, frame = split_frame(path)
    try:
        values = read_arrays(file) if file.suffix.lower() == ".npz" else {}
        if values:
            values = take_frame(values, _AXES, frame, file)
        if values and "vertices" not in values:
            values = {**values, **_decode(path, values, head_model)}
        raw = _mesh_of(values) if values else read_mesh(path)
        landmarks = _landmarks(path, raw, values, head_model, landmark_vertices)
        mesh, _, removed = clean(raw, str(path))
        camera = None
        if "rotation" in values and "translation" in values:
            camera = numbers(values["rotation"]), numbers(values["translation"])
            if camera[0].shape != (3, 3) or camera[1].shape != (3,):
                camera = None
    except FileNotFoundError:
        raise
    except (ValueError, KeyError, IndexError) as error:
        raise PredictionError(told(path, error)) from error
    if len(mesh.faces) == 0:
        raise PredictionError(f"{path}: a point cloud; a reconstruction needs triangles")
    return Prediction(mesh, landmarks, "m" if values else None, camera, str(removed))


def _mesh_of(values: dict[str, np.ndarray]) -> TriangleMesh:
    vertices = numbers(values["vertices"]).reshape(-1, 3)
    faces = numbers(values["faces"], np.int64).reshape(-1, 3)
    if faces.size and (faces.min() < 0 or faces.max() >= len(vertices)):
        raise MeshError(f"triangles ask for vertices that are not among its {len(vertices)}")
    return TriangleMesh(vertices, faces)


def _decode(path: Path, values: dict[str, np.ndarray], head_model: str | None) -> dict[str, np.ndarray]:
    """Mesh of FLAME coefficients, head frame: global rotation, neck and gaze play no part in shape."""
    import jax.numpy as jnp

    import flame_jax

    def find(name: str, default: int, most: int) -> jnp.ndarray:
        for key in FLAME_KEYS[name]:
            if key in values:
                found = numbers(values[key]).astype(np.float32).reshape(-1)
                if key in HEAD_AND_JAW:
                    found = found[3:]
                if len(found) > most:
                    raise MeshError(f"{path}: {key} holds {len(found)} numbers, the head model takes {most}")
                return jnp.asarray(found)
        return jnp.zeros((default,))

    if not any(key in values for key in FLAME_KEYS["shape"]):
        raise MeshError(f"{path}: neither vertices and faces nor FLAME's shape coefficients")
    model = _model(head_model)
    neutral = flame_jax.FlameParams.neutral(model)
    jaw = find("jaw_pose", 3, 6)
    if jaw.shape[0] == 3:
        from flame_jax.rotations import axis_angle_to_rotation_6d

        jaw = axis_angle_to_rotation_6d(jaw)
    elif jaw.shape[0] != 6:
        raise MeshError(f"{path}: the jaw has {jaw.shape[0]} numbers; 3 (axis times angle) or 6 are known")
    params = dataclasses.replace(
        neutral,
        shape=find("shape", model.num_shape, model.num_shape),
        expression=find("expression", model.num_expression, model.num_expression),
        jaw=jaw,
        eyelids=find("eyelids", 2, 2),
    )
    offset = _offsets(path, values, model.num_vertices)
    if offset is not None:
        # On the template, as VHAP adds them: they move the joints and are skinned.
        model = dataclasses.replace(model, v_template=model.v_template + jnp.asarray(offset))
    vertices, _ = flame_jax.decode(model, params)
    return {"vertices": np.asarray(vertices), "faces": np.asarray(model.faces)}


def _offsets(path: Path, values: dict[str, np.ndarray], num_vertices: int) -> np.ndarray | None:
    """``(V, 3)`` sum of a tracker's displacements of the template's vertices, metres; None where there are none."""
    total = None
    for key in ("static_offset", "dynamic_offset"):
        if key not in values:
            continue
        offset = numbers(values[key]).astype(np.float32)
        if offset.shape not in ((num_vertices, 3), (num_vertices + _TEETH, 3)):
            raise MeshError(
                f"{path}: {key} has shape {offset.shape}; the head model has {num_vertices} vertices: name the head "
                "model that was tracked"
            )
        offset = offset[:num_vertices]
        total = offset if total is None else total + offset
    return total


@functools.lru_cache(maxsize=2)
def _model(head_model: str | None):
    import flame_jax

    return flame_jax.load_head_model(head_model) if head_model else flame_jax.load_open_head()


def _landmarks(path, mesh, values, head_model, landmark_vertices) -> np.ndarray | None:
    if landmark_vertices is not None:
        if landmark_vertices.max() >= len(mesh.vertices):
            raise LandmarkError(
                f"{path}: landmark vertex {landmark_vertices.max()} of {len(mesh.vertices)}: another topology"
            )
        return mesh.vertices[landmark_vertices]
    if "landmarks_3d" in values:
        return numbers(values["landmarks_3d"]).reshape(-1, 3)[list(SEVEN_OF_68)]
    beside = landmark_file(path)
    if beside is not None:
        return read_landmarks3d(beside)
    template = load_template(head_model)
    if template.landmark_weights is not None and template.is_topology_of(mesh):
        return template.landmarks_on(mesh.vertices)
    return None


def read_landmarks_2d(path: str | Path) -> np.ndarray:
    """``(68, 2)`` pixels (u = 0 the image's left edge, pixel centres at +0.5) of a prediction.

    Our ``.npz`` (``landmarks_2d``), ``.pts`` and ``.ljson`` in their own conventions, and ``.npy`` or ``.txt`` of 68
    rows counted as OpenCV does (pixel centres at whole numbers), which is what other methods write.

    Raises:
        PredictionError: none of these.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    try:
        if suffix == ".npz":
            values = read_arrays(path, ["landmarks_2d"])
            if "landmarks_2d" not in values:
                raise PredictionError(f"{path}: no landmarks_2d")
            points = values["landmarks_2d"]
        elif suffix in (".pts", ".ljson"):
            points = read_landmarks(path)
        elif suffix == ".npy":
            points = read_array(path) + 0.5
        elif suffix == ".txt":
            points = read_table(path) + 0.5
        else:
            raise PredictionError(f"{path}: 2D landmarks end in .npz, .pts, .ljson, .npy or .txt")
        points = np.squeeze(numbers(points))
    except ValueError as error:
        raise PredictionError(told(path, error)) from error
    if points.ndim == 2 and points.shape[0] == 68 and points.shape[1] >= 2:
        points = points[:, :2]
    if points.shape != (68, 2) or not np.isfinite(points).all():
        raise PredictionError(f"{path}: {points.shape} is not 68 finite points")
    return points


def all_faces(path: Path) -> list[Path]:
    """The prediction and, where ``scripts/reconstruct.py --faces all`` found more, ``NAME_face2.npz`` and so on."""
    return [path, *sorted(path.parent.glob(f"{glob.escape(path.stem)}_face[0-9]*{path.suffix}"))]


LANDMARK_2D_SUFFIXES = (".npz", ".pts", ".ljson", ".npy", ".txt")
PREDICTION_SUFFIXES = (".npz", *(suffix for suffix in MESH_SUFFIXES if suffix != ".npz"))
