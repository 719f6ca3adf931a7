"""One sample under one protocol: what is read, aligned and measured. ``docs/evaluation.md`` defines each."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from n2f_jax.evaluation import facescape, now, surface
from n2f_jax.evaluation.landmarks import normalized_mean_error, read_landmarks
from n2f_jax.evaluation.landmarks3d import outer_eye_distance
from n2f_jax.evaluation.layouts import Sample
from n2f_jax.evaluation.metrics import MILLIMETRES, compare, region_figures
from n2f_jax.evaluation.predictions import (
    Prediction,
    PredictionError,
    all_faces,
    read_landmarks_2d,
    read_prediction,
)
from n2f_jax.evaluation.regions import load_template
from n2f_jax.evaluation.truths import Truth, head_frame, read_camera, read_truth, truth_regions
from n2f_jax.evaluation.units import AUTO, METRES_PER, UnitError, resolve_unit
from n2f_jax.geometry.boxes import bounding_box, box_overlap
from n2f_jax.mesh.closest_points import Surface
from n2f_jax.mesh.triangle_mesh import MeshError, TriangleMesh, part_of

PROTOCOLS = ("surface", "paper", "now", "now-metric", "facescape", "300w")
# Where the scale is not estimated, a wrong unit would be an error of 90 per cent and more.
SCALE_FREE = ("now",)


@dataclasses.dataclass(frozen=True)
class Settings:
    """All that decides a sample's figures beside its files.

    Attributes:
        protocol: of ``PROTOCOLS``.
        truth_unit: of the scans: ``m``, ``cm``, ``mm``, ``pupil`` or ``auto``.
        prediction_unit: of the predictions: ``m``, ``cm``, ``mm``, or ``auto``: what the format says (``.npz``: m).
        head_model: a head-model file, for FLAME coefficients, regions and landmarks of its topology; None: open head.
        regions: file of vertex indices by region, for ground truth of a fixed topology.
        landmark_vertices: ``(7,)`` the predictions' landmarks, for a fixed topology.
        whole_mesh: measure against all of a prediction, mouth cavity and teeth too, as NoW's own code does, which makes
            distances smaller; else, where it has the head model's topology, against what of it can be seen.
    """

    protocol: str = "paper"
    truth_unit: str = AUTO
    prediction_unit: str = AUTO
    head_model: str | None = None
    regions: str | None = None
    landmark_vertices: tuple[int, ...] | None = None
    whole_mesh: bool = False

    def __post_init__(self):
        if self.protocol not in PROTOCOLS:
            raise ValueError(f"protocol {self.protocol!r}; there are {', '.join(PROTOCOLS)}")


@dataclasses.dataclass(frozen=True)
class Measurement:
    """What one sample gave.

    Attributes:
        figures: name → number, as the tables show them.
        errors_mm: ``(n,)`` float32, pooled over samples (NoW's distances, the paper's vertex-to-vertex ones; per
            cent of the outer-eye distance for 300w; empty for FaceScape). Under ``surface`` those of the face region.
        notes: everything that was found out or taken out on the way.
        mesh: what the heat map is drawn on, in the ground truth's frame, metres; None for 300w.
        mesh_errors_mm: ``(V,)`` at its vertices.
        front: ``(3,)`` and ``up``: from where it is drawn.
        up: ``(3,)``.
    """

    figures: dict[str, float]
    errors_mm: np.ndarray
    notes: dict[str, Any]
    mesh: TriangleMesh | None = None
    mesh_errors_mm: np.ndarray | None = None
    front: np.ndarray | None = None
    up: np.ndarray | None = None


def measure_sample(sample: Sample, prediction: Path, settings: Settings) -> Measurement:
    """Reads, aligns and measures one sample.

    Raises:
        OSError, ValueError: something is missing or cannot be measured; the message names the file and says why.
    """
    if settings.protocol == "300w":
        return _measure_300w(sample, prediction)
    truth = read_truth(sample.truth, sample.landmarks, settings.truth_unit, settings.head_model)
    vertices = None if settings.landmark_vertices is None else np.array(settings.landmark_vertices)
    predicted = read_prediction(prediction, settings.head_model, vertices)
    notes: dict[str, Any] = {
        "truth_unit": truth.unit + ("" if truth.unit_checked else " (unchecked: no landmarks)"),
        "truth_removed": truth.removed,
        "prediction_removed": predicted.removed,
    }
    if settings.protocol == "facescape":
        return _measure_facescape(sample, prediction, truth, predicted, settings, notes)
    if truth.landmarks is None:
        raise MeshError(
            f"{sample.truth}: no landmarks beside it (.pp, .npy, .txt, .json); this protocol needs seven"
        )
    if predicted.landmarks is None:
        raise PredictionError(
            f"{prediction}: no landmarks beside it, and a topology whose landmarks are not known: add NAME.npy or "
            "NAME.txt (7, 51 or 68 points), or name its head model or the topology's landmark vertices"
        )
    scaling = settings.protocol in SCALE_FREE
    factor = _prediction_unit(predicted, settings, str(prediction), scaling, notes)
    mesh, landmarks = _measured_part(predicted, settings, notes).scaled(factor), predicted.landmarks * factor
    if settings.protocol == "surface":
        return _measure_surface(sample, truth, mesh, landmarks, settings, notes)
    if settings.protocol == "paper":
        return _measure_paper(sample, truth, mesh, landmarks, settings, notes)
    return _measure_now(truth, mesh, landmarks, scaling, notes)


def _measured_part(predicted: Prediction, settings: Settings, notes: dict[str, Any]) -> TriangleMesh:
    """What of a prediction is measured against: what can be seen of it, where the topology says what that is.

    A lip's nearest point is often one of the mouth cavity behind it: distances to a whole head come out too small.
    """
    template = load_template(settings.head_model)
    if settings.whole_mesh or not template.is_topology_of(predicted.mesh):
        notes["measured_against"] = "the whole mesh"
        return predicted.mesh
    notes["measured_against"] = f"what is seen of {template.name}"
    return template.visible_part(predicted.mesh.vertices)


def _prediction_unit(prediction: Prediction, settings, name, scaling, notes) -> float:
    """Metres in one unit of the prediction; where the scale is estimated anyway, what makes it a face's size."""
    if scaling:
        # Any unit will do, but not any magnitude: a PRNet mesh in pixels and a head in metres are treated alike.
        notes["prediction_unit"] = "estimated"
        distance = outer_eye_distance(prediction.landmarks)
        if distance <= 0:
            raise UnitError(f"{name}: the outer eye corners coincide")
        notes["metres_per_prediction_unit"] = 0.09 / distance
        return 0.09 / distance
    unit = prediction.unit or settings.prediction_unit
    if prediction.unit and settings.prediction_unit not in (AUTO, prediction.unit):
        raise UnitError(f"{name}: this format is in {prediction.unit}, not in {settings.prediction_unit}")
    if unit == AUTO:
        raise _unit_unknown(name)
    unit, factor = resolve_unit(unit, outer_eye_distance(prediction.landmarks), name)
    notes["prediction_unit"] = unit
    return factor


def _unit_unknown(name: str) -> UnitError:
    # Not guessed from the eyes: meshes in pixels or of arbitrary scale may well look like millimetres.
    return UnitError(f"{name}: a mesh file does not say its unit: name it (m, cm, mm) for this protocol")


def _viewpoint(landmarks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Directions out of the face and up, from seven landmarks."""
    across = landmarks[3] - landmarks[0]
    up = landmarks[0] + landmarks[3] - landmarks[5] - landmarks[6]
    front = np.cross(across, up)
    up = np.cross(front, across)
    return front / np.linalg.norm(front), up / np.linalg.norm(up)


def _measure_now(truth: Truth, mesh, landmarks, scaling, notes) -> Measurement:
    surface = Surface(mesh)
    result = now.measure(surface, landmarks, truth.mesh, truth.landmarks, scaling)
    notes |= _alignment_notes(result.refinement, len(result.crop))
    if scaling:
        notes["metres_per_prediction_unit"] *= result.refinement.similarity.scale
    front, up = _viewpoint(truth.landmarks)
    errors = np.full(len(truth.mesh.vertices), np.nan)
    errors[result.crop] = result.distances_mm
    scan = part_of(truth.mesh, result.crop)
    return Measurement(
        figures=now.pooled(result.distances_mm),
        errors_mm=result.distances_mm.astype(np.float32),
        notes=notes,
        mesh=scan,
        mesh_errors_mm=errors[result.crop],
        front=front,
        up=up,
    )


def _measure_surface(sample: Sample, truth: Truth, mesh, landmarks, settings, notes) -> Measurement:
    regions, notes["regions"] = truth_regions(truth, settings.regions or sample.regions, settings.head_model)
    result = surface.measure(Surface(mesh), landmarks, truth.mesh, truth.landmarks, regions)
    face = regions["face"]
    front, up = _viewpoint(truth.landmarks)
    return Measurement(
        figures=result.figures,
        errors_mm=result.distance_mm[face].astype(np.float32),
        notes=notes,
        mesh=part_of(truth.mesh, face),
        mesh_errors_mm=result.distance_mm[face],
        front=front,
        up=up,
    )


def _measure_paper(sample: Sample, truth: Truth, mesh, landmarks, settings, notes) -> Measurement:
    regions, notes["regions"] = truth_regions(truth, settings.regions or sample.regions, settings.head_model)
    crop = now.crop_scan(truth.mesh, truth.landmarks)
    if truth.topology is not None and len(truth.kept) == len(truth.topology.mesh.vertices):
        crop = np.intersect1d(crop, truth.topology.visible)
    refinement = now.align(Surface(mesh), landmarks, truth.mesh.vertices[crop], truth.landmarks, False)
    notes |= _alignment_notes(refinement, len(crop))
    aligned = TriangleMesh(refinement.similarity.apply(mesh.vertices), mesh.faces)
    measured = np.unique(np.concatenate(list(regions.values())))
    errors = compare(truth.mesh, Surface(aligned), measured)
    figures = {}
    for name, region in regions.items():
        figures |= {f"{name}/{key}": value for key, value in region_figures(errors, region).items()}
    front, up = _viewpoint(truth.landmarks)
    # As in the paper's figure 5: on the reconstruction, where the ground truth has something to compare with.
    face = np.zeros(len(truth.mesh.vertices), bool)
    face[regions["face"]] = True
    on_mesh = np.where(face[errors.reverse_nearest], errors.reverse_mm, np.nan)
    return Measurement(
        figures=figures,
        errors_mm=errors.vertex_mm[regions["face"]].astype(np.float32),
        notes=notes,
        mesh=aligned,
        mesh_errors_mm=on_mesh,
        front=front,
        up=up,
    )


def _measure_facescape(sample, path, truth: Truth, prediction: Prediction, settings, notes) -> Measurement:
    camera = read_camera(sample.camera, truth.metres)
    vertices = prediction.mesh.vertices
    if prediction.camera is not None:
        vertices = vertices @ prediction.camera[0].T + prediction.camera[1]
    unit = prediction.unit or settings.prediction_unit
    if unit not in METRES_PER:
        raise _unit_unknown(str(path))
    factor = METRES_PER[unit]
    if prediction.landmarks is not None:
        resolve_unit(unit, outer_eye_distance(prediction.landmarks), str(path))
    centre, rotation, source = head_frame(truth, camera)
    notes |= {"prediction_unit": unit, "head_frame": source, "truth_camera": sample.camera is not None}
    in_camera = truth.mesh.vertices @ camera.rotation.T + camera.translation
    figures = facescape.measure(
        TriangleMesh(in_camera * MILLIMETRES, truth.mesh.faces),
        TriangleMesh(vertices * factor * MILLIMETRES, prediction.mesh.faces),
        centre * MILLIMETRES,
        rotation,
        camera.perspective,
    )
    return Measurement(figures, np.zeros(0, np.float32), notes)


def _measure_300w(sample: Sample, prediction: Path) -> Measurement:
    annotation = read_landmarks(sample.truth)
    faces = [read_landmarks_2d(path) for path in all_faces(prediction)]
    # A photograph may show more people than the one who is annotated.
    boxes = [bounding_box(p) for p in (annotation, *faces)]
    chosen = int(np.argmax([box_overlap(box, boxes[0]) for box in boxes[1:]]))
    points = faces[chosen]
    error = normalized_mean_error(points, annotation)
    eyes = np.linalg.norm(annotation[36] - annotation[45])
    each = 100.0 * np.linalg.norm(points - annotation, axis=1) / eyes
    return Measurement(
        {"nme_percent": error["all"], "nme_inner_percent": error["inner"]},
        each.astype(np.float32),
        {"face": chosen + 1, "faces": len(faces)},
    )


def _alignment_notes(refinement, count) -> dict[str, Any]:
    return {
        "aligned_vertices": count,
        "alignment_rms_mm": MILLIMETRES * refinement.rms,
        "alignment_steps": refinement.steps,
        "alignment_converged": refinement.converged,
    }
