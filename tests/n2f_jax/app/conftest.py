"""A page's answers from heads that are put where a photograph is not black, and photographs to drop."""

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from n2f_jax.app.photo_answers import PhotoAnswers
from tests.n2f_jax.viewer.conftest import SIZE, make_head


class FakeReconstructor:
    """Goes by an image's brightness: black has no face, up to 150 one, beyond two."""

    inputs = SimpleNamespace(normal_frame="head")

    def __init__(self, model):
        self.head_model = model

    def reconstruct(self, images, focals, *, max_faces):
        (image,) = images
        heads = [make_head(self.head_model), make_head(self.head_model, yaw=-0.3, x=0.1)]
        return [heads[: min(max_faces, 0 if not image.any() else 1 if image.mean() < 150 else 2)]]


@pytest.fixture(scope="session")
def answers(open_head):
    made = PhotoAnswers(FakeReconstructor(open_head))
    yield made
    made.close()


@pytest.fixture
def photo(tmp_path):
    """``photo(level)`` → a file of that grey."""

    def save(level, name="somebody's photo.png"):
        Image.fromarray(np.full((*SIZE, 3), level, np.uint8)).save(tmp_path / name)
        return tmp_path / name

    return save
