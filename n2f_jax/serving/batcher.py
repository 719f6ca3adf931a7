"""Dynamic batching: what comes in within a moment is worked off together, by one thread."""

from __future__ import annotations

import collections
import dataclasses
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar

Item, Answer = TypeVar("Item"), TypeVar("Answer")
_LOOK = 0.005  # seconds after which it is asked again whether others are coming
_FORGET = 0.9  # of a batch's time with each later one


class ClosedError(RuntimeError):
    """Nothing is taken any more."""


@dataclasses.dataclass(frozen=True)
class _Waiting(Generic[Item, Answer]):
    item: Item
    future: Future[Answer]
    since: float


class Batcher(Generic[Item, Answer]):
    """Hands items in batches to a function, in the order in which they came.

    >>> batcher = Batcher(function, most=8, wait=0.004)
    >>> batcher.submit(item).result()
    >>> batcher.close()  # what was taken is answered

    Any thread may call it. An item that makes the function fail does not take the others of its batch with it: each is
    then tried alone. A future that was cancelled before its batch began is passed over.

    Args:
        function: of at most ``most`` items to as many answers; only the batcher's thread calls it.
        most: items of a batch.
        wait: seconds that the first of a batch waits for others, from when it came.
        coming: whether others are on their way. While they are, a batch is waited for as long as one takes to compute:
            many clients are served sooner by full batches, and one alone waits for nobody.
        began: told of each batch how many items it has, and how long each waited.
    """

    def __init__(
        self,
        function: Callable[[list[Item]], Sequence[Answer]],
        most: int,
        wait: float,
        began: Callable[[int, Sequence[float]], None] = lambda count, waited: None,
        coming: Callable[[], bool] = lambda: False,
    ):
        self._function, self._most, self._wait = function, most, wait
        self._began, self._coming = began, coming
        self._taken = 0.0  # seconds, by the longest of late batches
        self._queue: collections.deque[_Waiting[Item, Answer]] = collections.deque()
        self._changed = threading.Condition()
        self._closed = False
        # A daemon: only ``close`` waits for it, and not an end by force.
        self._thread = threading.Thread(target=self._work, name="batches", daemon=True)
        self._thread.start()

    def __len__(self) -> int:
        """How many wait."""
        return len(self._queue)

    def submit(self, item: Item) -> Future[Answer]:
        """Takes an item.

        Raises:
            ClosedError: after ``close``.
        """
        one: _Waiting[Item, Answer] = _Waiting(item, Future(), time.monotonic())
        with self._changed:
            if self._closed:
                raise ClosedError("the batcher is closed")
            self._queue.append(one)
            self._changed.notify()
        return one.future

    def close(self) -> None:
        """Takes nothing more, and returns when everything that was taken is answered."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        while batch := self._next_batch():
            batch = [one for one in batch if one.future.set_running_or_notify_cancel()]
            if batch:
                now = time.monotonic()
                self._began(len(batch), [now - one.since for one in batch])
                self._answer(batch)
                self._taken = max(time.monotonic() - now, _FORGET * self._taken)

    def _next_batch(self) -> list[_Waiting[Item, Answer]]:
        """At least one; none after the last."""
        free = time.monotonic()
        with self._changed:
            while not self._queue and not self._closed:
                self._changed.wait()
            while self._queue and len(self._queue) < self._most and not self._closed:
                came = self._queue[0].since
                until = came + self._wait
                if self._coming():
                    until = max(until, max(came, free) + self._taken)
                left = until - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(min(left, _LOOK))
            return [self._queue.popleft() for _ in range(min(self._most, len(self._queue)))]

    def _answer(self, batch: list[_Waiting[Item, Answer]]) -> None:
        try:
            answers = self._function([one.item for one in batch])
            if len(answers) != len(batch):
                raise RuntimeError(f"{len(answers)} answers to {len(batch)} items")
        except Exception as error:
            if len(batch) == 1:
                batch[0].future.set_exception(error)
            else:
                for one in batch:
                    self._answer([one])
            return
        for one, answer in zip(batch, answers, strict=True):
            one.future.set_result(answer)
