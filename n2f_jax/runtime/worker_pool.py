"""Worker processes that may die: one that an item (a photograph, a scan) kills costs that item, not the run.

Every process has a pipe of its own, so that one that dies takes no lock or queue of the others along.
``concurrent.futures.ProcessPoolExecutor`` shares both: after a death it has to be begun anew, and on Python 3.11 it
waits for ever if the death falls together with the start of another process.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from typing import Protocol, TypeVar, runtime_checkable

from n2f_jax.runtime.output_folder import OutputError

# JAX has threads, which do not survive a fork.
_SPAWN = multiprocessing.get_context("spawn")
# What an item that is under way is given when the run ends before its time, in seconds.
_PATIENCE = 10.0


Item, Result = TypeVar("Item"), TypeVar("Result")


@runtime_checkable
class Worker(Protocol[Item, Result]):
    """What does the items; it lives in a process of its own."""

    def process(self, items: Sequence[Item]) -> Sequence[Result]:
        """All results of one group."""


class WorkerError(RuntimeError):
    """A worker process cannot be started, or failed in a way that has nothing to do with an item."""


def process_all(
    groups: Iterator[Sequence[Item]],
    make_worker: Callable[[], Worker[Item, Result]],
    workers: int,
    killed: Callable[[Item], Result],
) -> Iterator[Result]:
    """Results of all items, as they are finished. Never more than a group for each worker is in memory.

    The items of a group whose process died are tried again one by one; one that kills its process alone is given up.

    Args:
        groups: of items to do together, none of them empty.
        make_worker: picklable; it is called in every process, and first in this one, so that what is missing is said
            at once: what it raises here is raised.
        workers: processes; 0: in this one.
        killed: the result of an item that kills its process (a crash in a library, or out of memory).

    Raises:
        OutputError, OSError, ImportError: of a worker, as it raised them.
        WorkerError: a worker process does not start, or a worker raised anything else.
    """
    worker = make_worker()
    if workers == 0:
        for group in groups:
            yield from worker.process(group)
        return
    del worker
    crew: list[_Process] = []
    again: collections.deque[Item] = collections.deque()
    try:
        crew += [_Process(make_worker) for _ in range(workers)]
        while True:
            for process in crew:
                if process.group is None and again:
                    process.give([again.popleft()], again=True)
                elif process.group is None and (group := next(groups, None)):
                    process.give(group)
            busy = {process.pipe: process for process in crew if process.group is not None}
            if not busy:
                return
            for pipe in wait(list(busy)):
                process = busy[pipe]
                try:
                    results = process.take()
                except EOFError:
                    crew.remove(process)
                    process.end()
                    if not process.started:
                        message = (
                            "a worker process cannot start: see above, or do without (--workers=0, --jobs 1)"
                        )
                        raise WorkerError(message) from None
                    crew.append(_Process(make_worker))
                    if process.again:
                        yield killed(process.group[0])
                    else:
                        again.extend(process.group)
                else:
                    yield from results
    finally:
        for process in crew:
            process.pipe.close()  # those that wait end at once, all together
        for process in crew:
            process.end()


class _Process:
    """One worker process, seen from the run.

    Attributes:
        pipe: to it; readable when there is an answer or when it died.
        group: that it works on, if any.
        again: it is one item whose group a process died of.
        started: it has made its worker.
    """

    def __init__(self, make_worker: Callable[[], Worker]):
        self.pipe, theirs = _SPAWN.Pipe()
        self.group: Sequence[Item] | None = None
        self.again = self.started = False
        self._process = _SPAWN.Process(target=_serve, args=(theirs, make_worker), daemon=True)
        self._process.start()
        theirs.close()  # it alone holds that end now: its death is the end of the pipe

    def give(self, group: Sequence[Item], *, again: bool = False) -> None:
        self.group, self.again = group, again
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # its death is seen by ``take``
            self.pipe.send(group)

    def take(self) -> Sequence[Result]:
        """What has come: nothing where it has just started. EOFError: it died."""
        try:
            message = self.pipe.recv()
        except ConnectionResetError as error:
            raise EOFError from error
        if isinstance(message, _Started):
            self.started = True
            return ()
        if isinstance(message, Exception):
            raise message
        self.group = None
        return message

    def end(self) -> None:
        self.pipe.close()
        self._process.join(_PATIENCE)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


@dataclasses.dataclass(frozen=True)
class _Started:
    """The first message of a process."""


def _serve(pipe: Connection, make_worker: Callable[[], Worker]) -> None:
    """A worker process: answers a group of items with its results, until the run ends or is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the run decides
    # Several processes share a GPU: none may take most of its memory at once, as JAX does by default.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    worker = make_worker()
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):  # the run has ended
        pipe.send(_Started())
        while True:
            pipe.send(_answer(worker, pipe.recv()))


def _answer(worker: Worker, group: Sequence[Item]) -> Sequence[Result] | Exception:
    try:
        return worker.process(group)
    except (OutputError, OSError, ImportError) as error:
        return error
    except Exception:  # worker.process turns what an item can do into a result
        return WorkerError(traceback.format_exc())
