"""A page of what Pixel3DMM and FaRL see of a photograph and say of it, beside what our own head says there.

With the networks a wrong axis, a mirrored channel or a shifted crop is seen at once; without them the page shows what
their pictures have to look like.
"""

from __future__ import annotations

import importlib.util

import cv2
import jax.numpy as jnp
import numpy as np

from flame_jax import HeadModel
from n2f_jax.frontends.base import Frontend, FrontendFace
from n2f_jax.frontends.face_classes import CLASS_NAMES
from n2f_jax.frontends.pixel3dmm.crop import INPUT_SIZE, cut, face_window
from n2f_jax.frontends.resample import Window
from n2f_jax.geometry import Camera, Crop, crop_camera
from n2f_jax.geometry.boxes import bounding_box
from n2f_jax.reconstruction.head import Head
from n2f_jax.render import HeadTopology, render_head
from n2f_jax.visualization.layout import grid

_BOX, _WINDOW, _CROP = (255, 208, 64), (64, 208, 255), (120, 255, 120)
_TILE = 384


def front_end_sheet(
    image: np.ndarray,
    face: FrontendFace,
    head: Head,
    model: HeadModel,
    frontend: Frontend | None = None,
) -> np.ndarray:
    """One face of one photograph.

    Args:
        image: ``(H, W, 3)`` uint8 RGB.
        face: what the free front end found.
        head: what was reconstructed from it; drawn where Pixel3DMM looks, and as it would write it.
        model: its head model.
        frontend: Pixel3DMM's with the user's files; its maps of the largest face make a second row.

    Returns:
        ``(h, w, 3)`` uint8.
    """
    box = bounding_box(face.points_468[:, :2])
    window = face_window(box, image.shape[:2])
    drawn = _draw(head, model, _square(window))
    normals = np.asarray(drawn.normals)
    uv = np.where(np.asarray(drawn.mask)[..., None] > 0, np.asarray(drawn.uv) * [2, -2] + [-1, 1], 0)
    tiles = [
        _boxes(image, box, window, face.crop),
        cut(image, window),
        encode(normals),
        encode(normals * [1, -1, -1])[..., [0, 2, 1]],
        encode(uv),
        encode(np.asarray(face.normals)),
    ]
    captions = [
        "face, Pixel3DMM's crop (blue), paper's box",
        "Pixel3DMM's crop",
        "our head as p3dmm/normals: x, y, z",
        "in the network's order: x, -z, -y",
        "our head as p3dmm/uv_map: u, 1 - v",
        "paper's box: free front end's normals",
    ]
    if importlib.util.find_spec("torch") is not None:
        tiles.append(_parser_input(image, face.landmarks_68))
        captions.append("what FaRL is cut from, its square (blue)")
    if frontend is not None:
        (found, *_) = frontend(image)
        tiles += [encode(np.asarray(found.normals)), _classes(np.asarray(found.classes))]
        captions += ["paper's box: Pixel3DMM's normals", "FaRL's classes"]
        if found.uv is not None:
            tiles.append(encode(np.asarray(found.uv)))
            captions.append("UV: 2u - 1, 2v - 1")
        ours = _draw(head, model, found.crop)
        tiles.append(encode(np.asarray(ours.normals)))
        captions.append("paper's box: our head")
    return grid(tiles, captions, columns=4, tile=_TILE)


def encode(values: np.ndarray) -> np.ndarray:
    """Two or three channels in [−1, 1] as an RGB picture."""
    image = np.zeros((*values.shape[:2], 3))
    image[..., : values.shape[2]] = (np.clip(values, -1, 1) + 1) / 2
    return np.rint(255 * image).astype(np.uint8)


def _draw(head: Head, model: HeadModel, crop: Crop):
    camera = Camera(
        rotation=jnp.asarray(head.rotation, jnp.float32),
        translation=jnp.asarray(head.translation, jnp.float32),
        focal=jnp.float32(head.intrinsics[0, 0]),
        principal_point=jnp.asarray(head.intrinsics[:2, 2], jnp.float32),
    )
    camera = crop_camera(camera, crop, INPUT_SIZE)
    return render_head(HeadTopology.from_model(model), jnp.asarray(head.vertices), camera, INPUT_SIZE)


def _square(window: Window) -> Crop:
    return Crop(
        x0y0=jnp.asarray([window.x0, window.y0], jnp.float32),
        side=jnp.float32(max(window.width, window.height)),
    )


def _boxes(image: np.ndarray, box: np.ndarray, window: Window, crop: Crop) -> np.ndarray:
    picture = image.copy()
    x0, y0 = np.asarray(crop.x0y0)
    side = float(crop.side)
    thick = max(1, round(max(image.shape[:2]) / 300))
    for corners, colour in (
        (box, _BOX),
        ((window.x0, window.y0, window.x1, window.y1), _WINDOW),
        ((x0, y0, x0 + side, y0 + side), _CROP),
    ):
        left, top, right, bottom = (round(float(c)) for c in corners)
        cv2.rectangle(picture, (left, top), (right, bottom), colour, thick)
    return picture


def _parser_input(image: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """What FaRL's parser is cut from, with its five points and its square."""
    import torch

    from n2f_jax.frontends.farl import INPUT_SIZE as PARSER_SIZE
    from n2f_jax.frontends.farl import cut_for_parser, square_of_points
    from n2f_jax.frontends.pixel3dmm.frontend import five_points

    picture, points, _ = cut_for_parser(image, five_points(landmarks))
    for u, v in points:
        cv2.circle(picture, (round(float(u)), round(float(v))), 4, _BOX, -1)
    matrix = square_of_points(torch.from_numpy(points)[None])[0].numpy()
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) * PARSER_SIZE - matrix[:, 2]
    outline = np.rint(corners @ np.linalg.inv(matrix[:, :2]).T).astype(np.int32)
    return cv2.polylines(picture, [outline], True, _WINDOW, 3)


def _classes(classes: np.ndarray) -> np.ndarray:
    hues = np.linspace(0, 170, len(CLASS_NAMES)).astype(np.uint8)
    colours = np.stack([hues, np.full_like(hues, 150), np.full_like(hues, 230)], axis=-1)
    table = cv2.cvtColor(colours[None], cv2.COLOR_HSV2RGB)[0]
    table[0] = 0
    return table[classes]
