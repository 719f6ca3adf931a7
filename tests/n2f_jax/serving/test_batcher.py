"""Batches: what comes together, what fails alone, and that nothing is lost."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from n2f_jax.serving.batcher import Batcher, ClosedError


class Doubling:
    """Doubles numbers; ``go_on`` holds it up."""

    def __init__(self):
        self.batches, self.go_on = [], threading.Event()
        self.go_on.set()

    def __call__(self, items):
        assert self.go_on.wait(10)
        self.batches.append(list(items))
        if "bad" in items:
            raise ValueError("bad")
        return [2 * item for item in items]


def test_what_comes_within_a_moment_goes_together():
    doubling, seen = Doubling(), []
    batcher = Batcher(doubling, most=3, wait=0.2, began=lambda count, waited: seen.append((count, waited)))
    futures = [batcher.submit(i) for i in range(7)]
    assert [future.result(10) for future in futures] == [0, 2, 4, 6, 8, 10, 12]
    assert doubling.batches == [[0, 1, 2], [3, 4, 5], [6]]
    assert [count for count, _ in seen] == [3, 3, 1] and seen[-1][1][0] >= 0.19
    batcher.close()


def test_one_alone_waits_no_longer_than_it_should():
    batcher = Batcher(Doubling(), most=8, wait=0.05)
    start = time.monotonic()
    assert batcher.submit(1).result(10) == 2
    assert 0.04 < time.monotonic() - start < 5
    batcher.close()


def test_while_others_are_coming_a_batch_is_waited_for():
    coming, batches = threading.Event(), []

    def slow(items):
        batches.append(list(items))
        time.sleep(0.3)
        return items

    batcher = Batcher(slow, most=3, wait=0, coming=coming.is_set)
    assert batcher.submit(0).result(10) == 0  # from which it knows how long a batch takes
    coming.set()
    futures = []
    for i in range(1, 4):
        futures.append(batcher.submit(i))
        time.sleep(0.02)
    assert [future.result(10) for future in futures] == [1, 2, 3]
    assert batches == [[0], [1, 2, 3]]
    start = time.monotonic()
    batcher.submit(4).result(10)  # and not for ever
    assert 0.5 < time.monotonic() - start < 5
    batcher.close()


def test_one_that_fails_does_not_take_the_others_with_it():
    doubling = Doubling()
    batcher = Batcher(doubling, most=3, wait=0.2)
    first, bad, last = [batcher.submit(item) for item in (1, "bad", 3)]
    assert (first.result(10), last.result(10)) == (2, 6)
    with pytest.raises(ValueError, match="bad"):
        bad.result(10)
    assert doubling.batches == [[1, "bad", 3], [1], ["bad"], [3]]
    batcher.close()


def test_another_number_of_answers_is_an_error():
    batcher = Batcher(lambda items: [], most=1, wait=0)
    with pytest.raises(RuntimeError, match="0 answers to 1 items"):
        batcher.submit(1).result(10)
    batcher.close()


def test_what_was_cancelled_is_not_computed():
    doubling = Doubling()
    doubling.go_on.clear()
    batcher = Batcher(doubling, most=1, wait=0)
    first = batcher.submit(1)
    while not first.running():
        time.sleep(0.001)
    second, third = batcher.submit(2), batcher.submit(3)
    assert len(batcher) == 2 and second.cancel()
    doubling.go_on.set()
    assert (first.result(10), third.result(10)) == (2, 6)
    assert doubling.batches == [[1], [3]]
    batcher.close()


def test_closing_answers_everything_and_takes_nothing():
    batcher = Batcher(Doubling(), most=4, wait=10)
    futures = [batcher.submit(i) for i in range(6)]
    batcher.close()  # without waiting for more
    assert [future.result(0) for future in futures] == [0, 2, 4, 6, 8, 10]
    with pytest.raises(ClosedError):
        batcher.submit(1)
    batcher.close()


def test_many_threads():
    doubling = Doubling()
    batcher = Batcher(doubling, most=5, wait=0.001)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda i: batcher.submit(i).result(10), range(400)))
    assert found == [2 * i for i in range(400)]
    batcher.close()
    assert sorted(i for batch in doubling.batches for i in batch) == list(range(400))
    assert max(map(len, doubling.batches)) <= 5
