"""A front end that finds discs."""

from pathlib import Path

import numpy as np
from PIL import Image

from n2f_jax.frontends.base import Frontend, FrontendFace
from n2f_jax.geometry.crop import crop_image, landmark_crop


def disc_image(centre=(60.0, 50.0), radius=20.0, size=(100, 140)) -> np.ndarray:
    """A bright disc on dark ground: one face. ``centre`` is (u, v) from the image's edges."""
    v, u = np.mgrid[: size[0], : size[1]] + 0.5
    inside = (u - centre[0]) ** 2 + (v - centre[1]) ** 2 < radius**2
    return np.repeat(np.where(inside, 250, 20).astype(np.uint8)[..., None], 3, axis=-1)


def save(path: Path, image: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)
    return path


class DiscFrontend(Frontend):
    """A disc is a hemisphere that looks at the camera; its landmarks lie on its rim. Two halves of the picture, at most
    two faces. Red pictures are too much for it."""

    name = "discs"

    def __init__(self, size, crop_scale):
        self.size, self.crop_scale = size, crop_scale
        self.seen = []

    def detect(self, images, sources):
        self.seen += [source.name for source in sources]
        return [self.faces(image) for image in images]

    def faces(self, image):
        if image[..., 0].min() > 200 and image[..., 1].max() < 50:
            raise RuntimeError("red is too much")
        bright = image[..., 0] > 150
        found = []
        for left in (0, image.shape[1] // 2) if bright[:, image.shape[1] // 2].sum() == 0 else (0,):
            half = np.zeros_like(bright)
            half[:, left:] = bright[:, left:]
            if left == 0 and bright[:, image.shape[1] // 2].sum() == 0:
                half[:, image.shape[1] // 2 :] = False
            if half.any():
                found.append(self.face(half))
        return sorted(found, key=lambda face: -float(face.crop.side))

    def face(self, bright):
        v, u = (index.mean() + 0.5 for index in np.nonzero(bright))
        radius = np.sqrt(bright.sum() / np.pi)
        angle = np.linspace(0, 2 * np.pi, 68, endpoint=False)
        landmarks = np.stack([u + radius * np.cos(angle), v + radius * np.sin(angle)], -1).astype(np.float32)
        crop = landmark_crop(landmarks, self.crop_scale)
        mask = (crop_image(bright.astype(np.float32), crop, self.size) > 0.5).astype(np.float32)
        pixel = (np.arange(self.size) + 0.5) * float(crop.side) / self.size
        x = (pixel + float(crop.x0y0[0]) - u)[None, :] / (1.05 * radius)
        y = -(pixel + float(crop.x0y0[1]) - v)[:, None] / (1.05 * radius)
        z = np.sqrt(np.maximum(1 - x**2 - y**2, 0.01))
        normals = np.stack(np.broadcast_arrays(x, y, z), axis=-1)
        normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
        return FrontendFace(
            normals=(normals * mask[..., None]).astype(np.float32),
            mask=mask,
            crop=crop,
            landmarks_68=landmarks,
            score=0.5,
        )
