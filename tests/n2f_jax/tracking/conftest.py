"""A front end that sees heads where the test has put them, in frames that say their number."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

import flame_jax
from n2f_jax.frontends.base import Frontend
from n2f_jax.models.pretrained import from_pretrained
from n2f_jax.reconstruction.reconstructor import Reconstructor
from tests.n2f_jax.reconstruction.conftest import checkpoint, place_head  # noqa: F401

from .made_flame import made_flame, made_model, made_track

SIZE = (120, 160)


@dataclasses.dataclass
class ClipFrontend(Frontend):
    """``seen(number)`` gives (x, yaw in degrees) of every head of a frame."""

    model: flame_jax.HeadModel
    seen: object = None
    name: str = "fake"
    calls: int = 0

    def detect(self, images, sources):
        return [self.faces(image) for image in images]

    def faces(self, image):
        self.calls += 1
        number = int(image[0, 0, 0]) + 256 * int(image[0, 0, 1])
        found = []
        for x, yaw in self.seen(number):
            face, _ = place_head(self.model, image.shape[:2], degrees=(3.0, yaw, 2.0), at=(x, 0.0, 0.9))
            found.append(dataclasses.replace(face, confidence=0.99))
        return found


def write_frames(folder, count, background=lambda number: 90):
    """Images of one grey each, with their number in a corner."""
    folder.mkdir(exist_ok=True)
    for number in range(count):
        image = np.full((*SIZE, 3), background(number), np.uint8)
        # Each half of a frame looks different, so that people do.
        image[:, SIZE[1] // 2 :, 0] //= 2
        image[::8, :, 2] = 3 * background(number) // 4
        image[0, 0] = number % 256, number // 256, 0
        Image.fromarray(image).save(folder / f"{number:04d}.png")
    return folder


@pytest.fixture(scope="session")
def tracker(checkpoint, open_head):  # noqa: F811
    """``tracker(seen)`` → a reconstructor with that front end and an untrained network."""
    pretrained = from_pretrained(checkpoint)

    def make(seen):
        return Reconstructor(pretrained, open_head, ClipFrontend(open_head, seen), refine=0, batch_size=4)

    return make


@pytest.fixture(scope="module")
def arrays():
    return made_flame()


@pytest.fixture(scope="module")
def model(arrays):
    return made_model(arrays)


@pytest.fixture(scope="module")
def track(model):
    return made_track(model)
