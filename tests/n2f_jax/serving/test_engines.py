"""Engines: which faces the network sees together, and that answers are those of ``reconstruct``."""

import io

import numpy as np
import pytest
import skimage.data
from PIL import Image
from starlette.testclient import TestClient

from n2f_jax.geometry.focal import FocalHints
from n2f_jax.reconstruction.output_files import MeshWriter
from n2f_jax.reconstruction.reconstructor import Reconstructor
from n2f_jax.serving import Limits, engines
from n2f_jax.serving.answers import Answers
from n2f_jax.serving.app import make_app
from n2f_jax.serving.engines import DeviceEngine, FrontendEngine, NotServableError, make_engine
from n2f_jax.serving.requests import Photograph
from n2f_jax.serving.service import Service
from tests.n2f_jax.reconstruction.fakes import mean_head

pytestmark = pytest.mark.medium


class Counting:
    """A reconstructor that finds as many faces as a picture's first level says, and counts what it computes at once."""

    batch_size = 4

    def __init__(self, model, path="frontend"):
        self.model, self.calls, self.batches = model, [], []
        self.time, self.takes = 0.0, lambda faces: float(faces)  # seconds, by a clock of its own
        self.program, self.batch_path = None, lambda: path

    def detect(self, image):
        return list(range(int(image[0, 0, 0])))

    def face_size(self, faces):
        return float("nan")

    def from_faces(self, faces, image_sizes, focals):
        assert len(faces) == len(image_sizes) == len(focals)
        self.calls.append(len(faces))
        self.time += self.takes(len(faces))
        return [mean_head(self.model, size) for size in image_sizes]

    def reconstruct_batch(self, images, focals, *, max_faces, path, padded_to):
        assert path == "device" and len(images) == len(focals) <= padded_to
        self.batches.append((len(images), padded_to))
        return [[mean_head(self.model, image.shape[:2])][:max_faces] for image in images]


def pictures(*levels):
    return [Photograph(np.full((4, 5 + i, 3), n, np.uint8), FocalHints()) for i, n in enumerate(levels)]


@pytest.fixture
def counting(open_head, monkeypatch):
    monkeypatch.setattr(engines, "trial_picture", lambda: np.full((6, 6, 3), 1, np.uint8))
    return Counting(open_head)


def test_the_network_sees_full_batches_or_single_faces(counting):
    engine = FrontendEngine(counting, max_faces=3, clock=lambda: counting.time)
    counting.takes = lambda faces: 1.0 if faces == 1 else 2.5
    engine.warm_up()
    counting.calls.clear()
    found = engine.heads([engine.prepare(one) for one in pictures(2, 0, 9, 1, 1)])
    assert counting.calls == [4, 4 - 1]  # never another size than 1 and a batch, which is filled up
    assert [len(heads) for heads in found] == [2, 0, 3, 1, 1]
    assert [heads[0].image_size for heads in found if heads] == [(4, 5), (4, 7), (4, 8), (4, 9)]
    counting.calls.clear()
    engine.heads([engine.prepare(one) for one in pictures(3, 3)])
    assert counting.calls == [4, 1, 1]


@pytest.mark.parametrize(("all_", "worth"), [(2.5, 3), (3.9, 4), (4.1, float("inf"))])
def test_a_trial_tells_when_a_batch_is_worth_it(counting, all_, worth):
    engine = FrontendEngine(counting, max_faces=3, clock=lambda: counting.time)
    busy = iter(
        [0, 0, 9, 0, 0, 9, 0, 0, 0, 0, 0, 0]
    )  # the machine twice does something else; the first calls compile
    counting.takes = lambda faces: (1.0 if faces == 1 else all_) + next(busy)
    said = engine.warm_up()
    assert engine.choice.worth == worth and counting.calls == [1, 4] * 6
    assert ("one by one" in said) == (worth > 4)


@pytest.mark.parametrize(("all_", "calls"), [(2.5, {4}), (4.1, {1})])
def test_a_wrong_trial_is_forgotten_while_serving(counting, all_, calls):
    engine = FrontendEngine(counting, max_faces=3, clock=lambda: counting.time)
    other = 6.6 - all_
    counting.takes = lambda faces: 1.0 if faces == 1 else other
    engine.warm_up()
    assert (engine.choice.worth <= 4) == (other < 4)
    counting.takes = lambda faces: 1.0 if faces == 1 else all_
    eight = [engine.prepare(one) for one in pictures(3, 3, 2)]
    for _ in range(100):
        engine.heads(eight)
    assert (engine.choice.worth <= 4) == (all_ < 4)
    # From then on one call in some is a trial of the other way, and no more.
    counting.calls.clear()
    for _ in range(100):
        assert [len(heads) for heads in engine.heads(eight)] == [3, 3, 2]
    faces = sum(count for count in counting.calls if {count} != calls)
    assert 0 < faces < 0.1 * 800


def test_without_a_face_in_the_trial_nothing_is_served(counting, monkeypatch):
    monkeypatch.setattr(engines, "trial_picture", lambda: np.zeros((6, 6, 3), np.uint8))
    with pytest.raises(NotServableError):
        FrontendEngine(counting, max_faces=1).warm_up()


def test_on_the_device_every_photograph_has_one_size(counting):
    engine = DeviceEngine(counting, max_faces=2, batch=4, side=32)
    engine.warm_up()
    assert {padded for _, padded in counting.batches} == {1, 4}
    counting.batches.clear()
    found = engine.heads([engine.prepare(one) for one in pictures(1, 1, 1)])
    assert counting.batches == [(3, 4)]
    assert [heads[0].image_size for heads in found] == [(4, 5), (4, 6), (4, 7)]
    engine.heads([engine.prepare(one) for one in pictures(1)])
    assert counting.batches[1:] == [(1, 1)]


def test_the_engine_of_a_path(open_head):
    assert isinstance(make_engine(Counting(open_head), 4, 8, 64), FrontendEngine)
    assert isinstance(make_engine(Counting(open_head, "device"), 4, 8, 64), DeviceEngine)
    assert isinstance(make_engine(Counting(open_head), 4, 8, 64, "device"), DeviceEngine)
    with pytest.raises(ValueError, match="even"):
        Limits(canvas=63)
    with pytest.raises(ValueError, match="batch"):
        Limits(batch=0)


def test_the_answer_is_what_reconstruct_gives():
    """The networks must be there."""
    reconstructor = Reconstructor.from_pretrained(refine=0, batch_size=1)
    image = np.ascontiguousarray(skimage.data.astronaut())
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG")
    engine = FrontendEngine(reconstructor, max_faces=4)
    service = Service(engine, Answers(MeshWriter(reconstructor.head_model)), Limits(batch=1))
    with TestClient(make_app(service)) as client:
        while service.state == "starting":
            service._starting.join(0.1)
        (found,) = client.post("/v1/heads?mesh=1", content=stream.getvalue()).json()["heads"]
    ((head,),) = reconstructor.reconstruct([image])
    for key, value in head.parameters().items():
        if isinstance(value, np.ndarray) and np.isfinite(value).all():
            np.testing.assert_allclose(found[key], value, atol=1e-6, err_msg=key)
    assert found["focal_source"] == head.focal_source
