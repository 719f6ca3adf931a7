"""One ``Reconstructor`` for many threads, as in a server: the networks of the face mesh must be in the cache."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import skimage.data

from n2f_jax.reconstruction.reconstructor import Reconstructor

from .conftest import BATCH

pytestmark = pytest.mark.medium

THREADS, CALLS = 4, 24


@pytest.fixture(scope="module")
def reconstructor(checkpoint, open_head):
    return Reconstructor.from_pretrained(checkpoint, open_head, refine=0, batch_size=BATCH)


@pytest.fixture(scope="module")
def photos():
    picture = skimage.data.astronaut()
    return [np.roll(picture, 7 * i, axis=1) for i in range(3)] + [np.zeros((60, 80, 3), np.uint8)]


def answers(reconstructor, photos):
    return [
        [(head.vertices, head.translation, head.frontend_landmarks, head.irises) for head in heads]
        for heads in reconstructor.reconstruct(photos)
    ]


def assert_equal(found, expected):
    assert [len(heads) for heads in found] == [len(heads) for heads in expected]
    for heads, others in zip(found, expected, strict=True):
        for head, other in zip(heads, others, strict=True):
            for array, of_other in zip(head, other, strict=True):
                np.testing.assert_array_equal(array, of_other)


def test_every_thread_gets_what_it_would_get_alone(reconstructor, photos):
    expected = [answers(reconstructor, [photo]) for photo in photos]
    assert [len(heads) for (heads,) in expected] == [1, 1, 1, 0]
    numbers = [i % len(photos) for i in range(CALLS)]
    with ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(lambda i: answers(reconstructor, [photos[i]]), numbers))
    for i, of_thread in zip(numbers, found, strict=True):
        assert_equal(of_thread, expected[i])


@pytest.mark.parametrize("again", [lambda x: pickle.loads(pickle.dumps(x)), copy.deepcopy])
def test_pickled_and_copied_it_answers_the_same(reconstructor, photos, again):
    other = again(reconstructor)
    assert other.frontend is not reconstructor.frontend
    assert_equal(answers(other, photos[:1]), answers(reconstructor, photos[:1]))
