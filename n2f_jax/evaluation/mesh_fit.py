"""A head model registered to mesh files: coefficients, and the model's mesh laid over each scan."""

from __future__ import annotations

import collections
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

import flame_jax
import n2f_jax
from flame_jax import HeadModel
from flame_jax.rotations import rotation_6d_to_axis_angle
from n2f_jax.evaluation.landmarks3d import landmarks_beside, read_landmarks68
from n2f_jax.evaluation.mesh_landmarks import find_landmarks
from n2f_jax.evaluation.units import AUTO, METRES_PER, UnitError, resolve_unit
from n2f_jax.fitting.registration import Registrar, Registration, RegistrationConfig
from n2f_jax.mesh.cleaning import clean
from n2f_jax.mesh.reading import read_mesh
from n2f_jax.mesh.writing import write_ply
from n2f_jax.runtime.archives import is_whole_archive
from n2f_jax.runtime.atomic_files import atomic_path
from n2f_jax.runtime.display import printable
from n2f_jax.runtime.output_folder import stop_if_over

SCALE = "scale"
UNITS = (AUTO, *METRES_PER, SCALE)

# Every key of the ``.npz``. V vertices, S shape and E expression directions of the head model.
KEYS: dict[str, tuple[tuple, str]] = {
    "vertices": (("V", 3), "registered head, head frame, metres, offsets included"),
    "faces": (("F", 3), "triangles of the head model"),
    "landmarks_3d": ((68, 3), "its 68 landmarks (static contour), head frame, metres"),
    "offsets": (("V", 3), "by which vertices differ from what the coefficients decode to; zeros without --offsets"),
    "shape": (("S",), "identity coefficients"),
    "expression": (("E",), "expression coefficients"),
    "jaw_pose": ((3,), "jaw rotation, axis times angle; +x opens"),
    "eyelids": ((2,), "closure, left then right"),
    "scan_scale": ((), "s of x_scan = s·R·x_head + t, scan units in a metre"),
    "scan_rotation": ((3, 3), "R"),
    "scan_translation": ((3,), "t, in the scan's unit"),
    "distance_mm": ((), "root mean square distance of the scan's paired points from the registered head"),
    "paired": ((), "share of the head model's skin that has its place on the scan"),
    "head_model": ((), "name of the head model"),
    "source": ((), "file name of the scan"),
    "version": ((), "of n2f-jax"),
}  # fmt: skip


def fit_meshes(
    paths: Sequence[str | Path],
    out: str | Path,
    model: HeadModel | None = None,
    *,
    unit: str = AUTO,
    offsets: bool = False,
    rest: bool = False,
    say: Callable[[str], None] = tqdm.write,
    progress: bool = True,
) -> collections.Counter[str]:
    """Registers a head model to every mesh: ``NAME.npz`` (``KEYS``), and ``NAME.ply``, the registered head on the scan.

    Landmarks beside a mesh (``NAME.npy``, ``.txt``, ``.json``, ``.pp``: 7, 51 or 68) are used, else they are found in
    pictures of it. A mesh that fails is reported and skipped; one whose files are there is not done again.

    Args:
        paths: mesh files, of different names.
        out: folder; made if needed.
        model: None for the open head.
        unit: of the meshes: ``m``, ``cm``, ``mm``; ``auto``: the one in which the eyes are as far apart as eyes are;
            ``scale``: not known, the scale is found with the pose.
        offsets: whether vertices are moved off what coefficients express.
        rest: whether the scans have no expression: it is held at rest.
        say: called with a line for everything that goes wrong.
        progress: show a bar.

    Returns:
        How many were ``written``, were there ``before``, or are an ``error``.

    Raises:
        ValueError: an unknown unit, two meshes of one name, or a model without landmarks.
        OutputError: nothing can be written any more; what is written stays.
    """
    if unit not in UNITS:
        raise ValueError(f"unit {unit!r}; there are {', '.join(UNITS)}")
    paths, out = [Path(path) for path in paths], Path(out)
    repeated = [name for name, count in collections.Counter(p.stem for p in paths).items() if count > 1]
    if repeated:
        raise ValueError(f"two meshes are called {repeated[0]}: their results would have one name")
    out.mkdir(parents=True, exist_ok=True)
    model = flame_jax.load_open_head() if model is None else model
    config = RegistrationConfig(scaling=unit == SCALE, offsets=offsets, rest=rest)
    registrar = Registrar(model, config)
    counts: collections.Counter[str] = collections.Counter()
    for path in tqdm(paths, desc="registering", unit="mesh", disable=not progress):
        if is_whole_archive(out / f"{path.stem}.npz"):
            counts["before"] += 1
            continue
        try:
            mesh = clean(read_mesh(path), str(path))[0]
            landmarks = _landmarks(path, mesh)
            metres = 1.0 if unit == SCALE else _metres(unit, landmarks, str(path))
            found = registrar(mesh.scaled(metres), metres * landmarks)
            try:
                _write(out / path.stem, path.name, model, found, metres)
            except OSError as error:
                stop_if_over(error, out)
                raise
            counts["written"] += 1
        except (ValueError, OSError) as error:
            counts["error"] += 1
            say(printable(f"{path}: {error}" if str(path) not in str(error) else error))
    return counts


def _landmarks(path: Path, mesh) -> np.ndarray:
    beside = landmarks_beside(path)
    return find_landmarks(mesh, str(path)) if beside is None else read_landmarks68(beside)


def _metres(unit: str, landmarks: np.ndarray, name: str) -> float:
    eyes = float(np.linalg.norm(landmarks[36] - landmarks[45]))
    if np.isfinite(eyes):  # a named unit is checked too
        return resolve_unit(unit, eyes, name)[1]
    if unit == AUTO:
        raise UnitError(f"{name}: the outer eye corners are not among its landmarks: name its unit")
    return METRES_PER[unit]


def _write(stem: Path, source: str, model: HeadModel, found: Registration, metres: float) -> None:
    similarity, params = found.similarity, found.params
    landmarks = flame_jax.landmarks68(model, np.asarray(found.vertices, np.float32))
    values = {
        "vertices": found.vertices.astype(np.float32),
        "faces": np.asarray(model.faces),
        "landmarks_3d": np.asarray(landmarks, np.float32),
        "offsets": found.offsets.astype(np.float32),
        "shape": np.asarray(params.shape),
        "expression": np.asarray(params.expression),
        "jaw_pose": np.asarray(rotation_6d_to_axis_angle(params.jaw)),
        "eyelids": np.asarray(params.eyelids),
        "scan_scale": float(similarity.scale) / metres,
        "scan_rotation": np.asarray(similarity.rotation),
        "scan_translation": np.asarray(similarity.translation) / metres,
        "distance_mm": 1000.0 * found.distance,
        "paired": found.paired,
        "head_model": model.name,
        "source": source,
        "version": n2f_jax.__version__,
    }
    placed = similarity.apply(found.vertices) / metres
    write_ply(stem.with_name(f"{stem.name}.ply"), placed, np.asarray(model.faces))
    # Last: where it is, the mesh is done.
    with atomic_path(stem.with_name(f"{stem.name}.npz")) as temporary:
        np.savez_compressed(temporary, allow_pickle=False, **{key: values[key] for key in KEYS})
