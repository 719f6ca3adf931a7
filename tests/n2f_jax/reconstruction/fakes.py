"""A reconstructor without a network: it sees the mean head wherever a picture is not black."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
from PIL import Image

from n2f_jax.reconstruction.head import Head


def save_photo(path, level=100, size=(9, 12)):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as stream:  # whatever its name
        Image.fromarray(np.full((*size, 3), level, np.uint8)).save(stream, "PNG")
    return path


def mean_head(model, image_size) -> Head:
    zeros = lambda *shape: np.zeros(shape, np.float32)  # noqa: E731
    landmarks = np.random.default_rng(0).uniform(0, 10, (68, 2)).astype(np.float32)
    return Head(
        vertices=np.asarray(model.v_template),
        faces=np.asarray(model.faces),
        rotation=np.diag([1.0, -1.0, -1.0]).astype(np.float32),
        translation=np.array([0, 0, 1], np.float32),
        intrinsics=np.array([[12, 0, 6], [0, 12, 4.5], [0, 0, 1]], np.float32),
        landmarks_2d=landmarks,
        landmarks_3d=zeros(68, 3),
        shape=zeros(3),
        expression=zeros(2),
        jaw_pose=zeros(3),
        eyelids=zeros(2),
        eyes_pose=zeros(2, 3),
        head_model=model.name,
        head_model_sha256="",
        focal_source="default",
        alignment="network",
        image_size=image_size,
        crop=np.array([0, 0, 9], np.float32),
        input_normals=zeros(8, 8, 3),
        input_mask=zeros(8, 8),
        frontend="none",
        frontend_score=1.0,
        frontend_landmarks=landmarks,
        frontend_points=zeros(0, 3),
        irises=zeros(0, 2),
        confidence=1.0,
        region_confidence=np.ones(6, np.float32),
        checkpoint="none",
    )


class MeanReconstructor:
    """Attributes:
    seen: names of the photographs that it was shown.
    """

    checkpoint = checkpoint_sha256 = head_model_sha256 = ""
    alignment, refine, frontend = "network", 0, None
    inputs = SimpleNamespace(normal_frame="head")

    def __init__(self, head_model, batch_size=1):
        self.head_model, self.batch_size, self.seen = head_model, batch_size, []

    def reconstruct(self, images, focals, *, sources, **options):
        self.seen += [source.name for source in sources]
        return [[mean_head(self.head_model, image.shape[:2])] if image.any() else [] for image in images]
