"""Worker processes that may die: one that a file kills costs that file, not the run.

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
from typing import TYPE_CHECKING

from n2f_jax.data.manifest import Record
from n2f_jax.many_images import OutputError
from n2f_jax.preprocessing.task import Task

if TYPE_CHECKING:  # a process need not load what its worker does not use
    from n2f_jax.preprocessing.worker import Worker

# JAX has threads, which do not survive a fork.
_SPAWN = multiprocessing.get_context("spawn")
# What an image that is under way is given when the run ends before its time, in seconds.
_PATIENCE = 10.0


class WorkerError(RuntimeError):
    """A worker process cannot be started, or failed in a way that has nothing to do with an image."""


def process_all(
    groups: Iterator[Sequence[Task]], make_worker: Callable[[], Worker], workers: int
) -> Iterator[Record]:
    """Records of all images, as they are finished. Never more than a group for each worker is in memory.

    The images of a group whose process died are tried again one by one; one that kills its process alone is an error.

    Args:
        groups: of images to do together.
        make_worker: makes what does the images; picklable, it is called in every process.
        workers: processes; 0: in this one.

    Raises:
        OutputError: nothing can be written any more.
        WorkerError: a worker process does not start.
        ValueError, AssetError, ImportError: the front end cannot be made.
    """
    worker = make_worker()  # also with processes of their own: what is missing is said at once
    if workers == 0:
        for group in groups:
            yield from worker.process(group)
        return
    del worker
    crew: list[_Process] = []
    again: collections.deque[Task] = collections.deque()
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
                    records = process.take()
                except EOFError:
                    crew.remove(process)
                    process.end()
                    if not process.started:
                        message = "a worker process cannot start: see above, or take --workers=0"
                        raise WorkerError(message) from None
                    crew.append(_Process(make_worker))
                    if process.again:
                        reason = "it killed its process (a crash in a decoder, or out of memory)"
                        yield process.group[0].record(status="error", reason=reason)
                    else:
                        again.extend(process.group)
                else:
                    yield from records
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
        again: it is one image whose group a process died of.
        started: it has made its worker.
    """

    def __init__(self, make_worker: Callable[[], Worker]):
        self.pipe, theirs = _SPAWN.Pipe()
        self.group: Sequence[Task] | None = None
        self.again = self.started = False
        self._process = _SPAWN.Process(target=_serve, args=(theirs, make_worker), daemon=True)
        self._process.start()
        theirs.close()  # it alone holds that end now: its death is the end of the pipe

    def give(self, group: Sequence[Task], *, again: bool = False) -> None:
        self.group, self.again = group, again
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # its death is seen by ``take``
            self.pipe.send(group)

    def take(self) -> Sequence[Record]:
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
    """A worker process: answers a group of tasks with its records, until the run ends or is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the run decides
    # Several processes share a GPU: none may take most of its memory at once, as JAX does by default.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    worker = make_worker()
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):  # the run has ended
        pipe.send(_Started())
        while True:
            pipe.send(_answer(worker, pipe.recv()))


def _answer(worker: Worker, group: Sequence[Task]) -> Sequence[Record] | Exception:
    try:
        return worker.process(group)
    except OutputError as error:
        return error
    except Exception:  # worker.process turns what an image can do into a record
        return WorkerError(traceback.format_exc())
