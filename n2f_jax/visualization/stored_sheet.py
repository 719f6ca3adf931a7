"""A page of stored faces: photograph, normals, mask, the network's view, and the pseudo ground truth drawn there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import UInt8

import flame_jax
from flame_jax import FlameParams, HeadModel
from n2f_jax.data.face_views import face_view, landmark_square
from n2f_jax.data.images import ImageError, read_image
from n2f_jax.data.preprocessed import StoredFace, face_path, read_face
from n2f_jax.data.pseudo_truth import PseudoTruth, read_truth, truth_path
from n2f_jax.geometry.camera import Camera, project
from n2f_jax.geometry.crop import Crop, crop_image
from n2f_jax.render import HeadTopology, render_head
from n2f_jax.visualization.layout import background, row
from n2f_jax.visualization.sample_sheet import mask_panel, normal_panel

_MARK = (60, 240, 90)
_SQUARE = (250, 200, 60)


def stored_page(
    folder: str | Path,
    faces: Sequence[str],
    *,
    crop_scale: float,
    size: int,
    tile: int = 256,
    head_model: HeadModel | None = None,
) -> UInt8[np.ndarray, "H W 3"]:
    """A row for each face, all panels but the last in the stored crop, landmarks and the network's square drawn in.

    Args:
        folder: preprocessed.
        faces: ids.
        crop_scale, size: of the network's view.
        tile: side of a panel in pixels.
        head_model: also draw the head that the pseudo ground truth says, with its landmarks; None where there is none.
    """
    topology = None if head_model is None else HeadTopology.from_model(head_model)
    rows = []
    for name in faces:
        face = read_face(face_path(folder, name))
        square = landmark_square(face.landmarks_68, crop_scale)
        view = face_view(face, square, size)
        photograph = _photograph(face)
        panels = (
            {} if photograph is None else {"photograph": _draw(photograph, face.landmarks_68, square, tile)}
        )
        panels |= {
            "normals": _draw(normal_panel(face.normals, face.mask), face.landmarks_68, square, tile),
            "mask": _draw(mask_panel(face.mask), face.landmarks_68, square, tile),
            f"network: {size} pixels": _draw(
                normal_panel(view["normals"], view["mask"]), view["landmarks_2d"], None, tile
            ),
        }
        if head_model is not None:
            truth = read_truth(truth_path(folder, name))
            panels |= {
                f"drawn: {truth.method}": _draw(*_drawn(truth, face.size, head_model, topology), square, tile)
            }
        rows.append(row(list(panels.values()), list(panels), name.rsplit("/", 1)[1]))
    return np.concatenate(rows)


def _photograph(face: StoredFace) -> np.ndarray | None:
    """What the stored crop shows of the photograph; background where it is gone, None where there was none."""
    if not face.source:
        return None
    try:
        image, _ = read_image(face.source)
    except ImageError:
        return background(face.size, face.size)
    return crop_image(image, Crop(face.crop[:2], face.crop[2]), face.size)


def _drawn(
    truth: PseudoTruth, size: int, model: HeadModel, topology: HeadTopology
) -> tuple[np.ndarray, np.ndarray]:
    """Normals of the head that the pseudo ground truth says, and its landmarks in the stored crop."""
    params = FlameParams.resting(
        jnp.asarray(truth.shape),
        jnp.asarray(truth.expression),
        jnp.asarray(truth.jaw),
        jnp.asarray(truth.eyelids),
    )
    camera = Camera(
        rotation=jnp.asarray(truth.rotation),
        translation=jnp.asarray(truth.translation),
        focal=jnp.asarray(truth.intrinsics[0, 0]),
        principal_point=jnp.asarray(truth.intrinsics[:2, 2]),
    )
    vertices, _ = flame_jax.decode(model, params)
    maps = jax.jit(render_head, static_argnames="size")(topology, vertices, camera, size=size)
    landmarks = project(flame_jax.landmarks68(model, vertices), camera)
    return normal_panel(np.asarray(maps.normals), np.asarray(maps.mask)), np.asarray(landmarks)


def _draw(panel: np.ndarray, landmarks: np.ndarray, square: np.ndarray | None, tile: int) -> np.ndarray:
    """The panel at ``tile``² pixels with landmarks and, if given, a square; both in pixels of the panel."""
    scale = tile / panel.shape[0]
    shrunk = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    picture = np.ascontiguousarray(cv2.resize(panel, (tile, tile), interpolation=shrunk))
    bits = 4  # fractions of a pixel, so that a shift of half of one would be seen
    fixed = lambda pixels: tuple(int(x) for x in np.round((np.asarray(pixels) - 0.5) * (1 << bits)))  # noqa: E731
    for point in landmarks[np.isfinite(landmarks).all(axis=1)]:
        cv2.circle(picture, fixed(point * scale), 24, _MARK, -1, cv2.LINE_AA, bits)
    if square is not None:
        corners = (square[:2] * scale, (square[:2] + square[2]) * scale)
        cv2.rectangle(picture, *map(fixed, corners), _SQUARE, 1, cv2.LINE_AA, bits)
    return picture
