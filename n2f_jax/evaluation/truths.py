"""Ground truth of one sample: scan, landmarks, unit, regions, read once for all predictions of it."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path

import numpy as np

from n2f_jax.evaluation.landmarks3d import (
    outer_eye_distance,
    read_landmark_vertices,
    read_landmarks3d,
)
from n2f_jax.evaluation.now import crop_scan
from n2f_jax.evaluation.regions import Template, load_template, read_regions, transfer_regions
from n2f_jax.evaluation.units import AUTO, METRES_PER, UnitError, resolve_unit
from n2f_jax.geometry.alignment import procrustes_of_landmarks
from n2f_jax.mesh.cleaning import clean
from n2f_jax.mesh.reading import read_mesh
from n2f_jax.mesh.triangle_mesh import MeshError, TriangleMesh
from n2f_jax.runtime.outside_values import numbers, read_json, told

# FaceScape's meshes are in units of the distance between the pupils, which it sets to the mean of men and women.
PUPIL_METRES = 0.06285


@dataclasses.dataclass(frozen=True, eq=False)  # by identity: reading is cached, and so are its regions
class Truth:
    """A scan or registered mesh.

    Attributes:
        mesh: cleaned, metres.
        landmarks: ``(7, 3)`` metres, or None.
        unit: of the file.
        unit_checked: whether landmarks confirmed it.
        removed: what cleaning took out.
        kept: ``(V,)`` index of each vertex in the file.
        topology: the template whose topology this is, or None.
        metres: one unit of the file.
    """

    mesh: TriangleMesh
    landmarks: np.ndarray | None
    unit: str
    unit_checked: bool
    removed: str
    kept: np.ndarray
    topology: Template | None
    metres: float


def read_truth(
    path: str | Path,
    landmarks: str | Path | None = None,
    unit: str = AUTO,
    head_model: str | None = None,
) -> Truth:
    """Reads and cleans a ground truth; the last few stay in memory, since many images share a scan.

    Args:
        path: mesh or scan.
        landmarks: its seven landmarks; a file whose name starts with ``landmark_vertices`` holds vertex indices. None:
            those of the head model, if this is its topology; else there are none.
        unit: ``m``, ``cm``, ``mm``, ``pupil`` (FaceScape's) or ``auto``, which needs landmarks.
        head_model: a head-model file; None for the open head.

    Raises:
        MeshError, LandmarkError, UnitError: broken, empty, not finite, or a unit that cannot be.
    """
    stamps = tuple(
        (str(file), file.stat().st_mtime_ns, file.stat().st_size)
        for file in (Path(path), *([Path(landmarks)] if landmarks else []))
    )
    return _read_truth(stamps, unit, head_model)


@functools.lru_cache(maxsize=4)
def _read_truth(stamps, unit, head_model) -> Truth:
    path = Path(stamps[0][0])
    raw = read_mesh(path)
    template = load_template(head_model)
    topology = template if template.is_topology_of(raw) else None
    points = None
    if len(stamps) > 1:
        file = Path(stamps[1][0])
        if file.name.startswith("landmark_vertices"):
            indices = read_landmark_vertices(file)
            if indices.max() >= len(raw.vertices):
                raise MeshError(f"{file}: vertex {indices.max()}, but {path} has {len(raw.vertices)}")
            points = raw.vertices[indices]
        else:
            points = read_landmarks3d(file)
    elif topology is not None and topology.landmark_weights is not None:
        points = topology.landmarks_on(raw.vertices)
    if unit == "pupil":
        name, metres, checked = unit, PUPIL_METRES, False
    elif points is not None:
        name, metres = resolve_unit(unit, outer_eye_distance(points), str(path))
        checked = True
    elif unit in METRES_PER:
        name, metres, checked = unit, METRES_PER[unit], False
    else:
        raise UnitError(
            f"{path}: without landmarks its unit cannot be told: name it (m, cm, mm) or add landmarks"
        )
    mesh, kept, removed = clean(raw, str(path))
    return Truth(
        mesh=mesh.scaled(metres),
        landmarks=None if points is None else points * metres,
        unit=name,
        unit_checked=checked,
        removed=str(removed),
        kept=kept,
        topology=topology,
        metres=metres,
    )


@functools.lru_cache(maxsize=4)
def truth_regions(
    truth: Truth, regions_file: str | Path | None, head_model: str | None
) -> tuple[dict[str, np.ndarray], str]:
    """Regions of a ground truth and where they come from.

    In this order: a file of vertex indices; the head model's masks, where the mesh has its topology; else the nearest
    vertices of the head model laid over the scan.

    Raises:
        RegionError, AlignmentError, MeshError: they cannot be found; the message says why.
    """
    if regions_file is not None:
        count = int(truth.kept[-1]) + 1
        named = read_regions(regions_file, max(count, len(truth.mesh.vertices)))
        position = np.full(count, -1)
        position[truth.kept] = np.arange(len(truth.kept))
        found = {name: position[indices[indices < count]] for name, indices in named.items()}
        return {
            name: indices[indices >= 0] for name, indices in found.items()
        }, f"file {Path(regions_file).name}"
    template = load_template(head_model)
    if truth.topology is not None and len(truth.kept) == len(template.mesh.vertices):
        return dict(template.regions), f"masks of {template.name}"
    if truth.landmarks is None:
        raise MeshError("without landmarks, a regions file or the head model's topology no regions are known")
    crop = crop_scan(truth.mesh, truth.landmarks)
    return transfer_regions(truth.mesh, truth.landmarks, crop, template), f"nearest of {template.name}"


@dataclasses.dataclass(frozen=True)
class CameraFrame:
    """How a ground truth stands before its camera (FaceScape's protocol).

    Attributes:
        rotation, translation: ``x_cam = R·x + t``, OpenCV axes, metres.
        head_rotation: ``(3, 3)`` upright head → camera, or None: from landmarks, else the camera's own axes.
        head_centre: ``(3,)`` camera frame, metres, or None: the mean of the vertices.
        perspective: rays are not parallel.
    """

    rotation: np.ndarray
    translation: np.ndarray
    head_rotation: np.ndarray | None
    head_centre: np.ndarray | None
    perspective: bool


def read_camera(path: Path | None, metres: float) -> CameraFrame:
    """Reads ``NAME.camera.json``; None: the ground truth is in the camera's frame already.

    Either FaceScape's list ``[K, [R|t]]``, or an object with any of ``Rt``, ``head_rotation``, ``head_centre``,
    ``projection`` (``perspective`` or ``orthographic``). Lengths are in the ground truth's unit.

    Raises:
        MeshError: damaged.
    """
    if path is None:
        return CameraFrame(np.eye(3), np.zeros(3), None, None, True)
    try:
        content = read_json(path)
        values = {"Rt": content[1]} if isinstance(content, list) and len(content) > 1 else content
        if not isinstance(values, dict):
            raise ValueError("not a camera file: neither [K, [R|t]] nor an object")
        pose = numbers(values.get("Rt", np.eye(3, 4))).reshape(-1, 4)[:3]
        head_rotation, head_centre = (
            None if values.get(key) is None else numbers(values[key]).reshape(shape)
            for key, shape in (("head_rotation", (3, 3)), ("head_centre", (3,)))
        )
        given = [array for array in (pose, head_rotation, head_centre) if array is not None]
        if pose.shape != (3, 4) or not all(np.isfinite(array).all() for array in given):
            raise ValueError("not a camera file: Rt has 3 or 4 rows of 4 finite numbers")
        projection = values.get("projection", "perspective")
        if projection not in ("perspective", "orthographic"):
            raise ValueError(f"its projection is neither perspective nor orthographic: {projection!r:.60}")
    except (OSError, ValueError) as error:
        raise MeshError(told(path, error)) from error
    return CameraFrame(
        pose[:, :3],
        pose[:, 3] * metres,
        head_rotation,
        None if head_centre is None else head_centre * metres,
        projection == "perspective",
    )


def head_frame(truth: Truth, camera: CameraFrame) -> tuple[np.ndarray, np.ndarray, str]:
    """Centre ``(3,)`` (metres) and rotation of the upright head in the camera's frame, and where they come from."""
    vertices = truth.mesh.vertices @ camera.rotation.T + camera.translation
    centre = vertices.mean(axis=0) if camera.head_centre is None else camera.head_centre
    if camera.head_rotation is not None:
        return centre, camera.head_rotation, "file"
    template = load_template(None)
    if truth.landmarks is not None and template.landmarks is not None:
        points = truth.landmarks @ camera.rotation.T + camera.translation
        fitted = procrustes_of_landmarks(template.landmarks, points, scaling=True)
        return centre, fitted.rotation @ np.diag([1.0, -1.0, -1.0]), "landmarks"
    return centre, np.eye(3), "camera axes"
