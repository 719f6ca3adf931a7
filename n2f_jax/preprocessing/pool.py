"""Worker processes that may die: one that a file kills costs that file, not the run."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING

from n2f_jax.data.manifest import Record
from n2f_jax.preprocessing.task import Task

if TYPE_CHECKING:  # a process need not load what its worker does not use
    from n2f_jax.preprocessing.worker import Worker

_worker: Worker | None = None


class WorkerError(RuntimeError):
    """Worker processes cannot be started at all."""


def process_all(
    groups: Iterator[Sequence[Task]], make_worker: Callable[[], Worker], workers: int
) -> Iterator[Record]:
    """Records of all images, as they are finished. Never more than a few groups are in memory.

    Args:
        groups: of images to do together.
        make_worker: makes what does the images; picklable, it is called in every process.
        workers: processes; 0: in this one.

    Raises:
        OutputError: nothing can be written any more.
        WorkerError: no worker process starts.
        ValueError, AssetError, ImportError: the front end cannot be made.
    """
    worker = make_worker()  # also with processes of their own: what is missing is said at once
    if workers == 0:
        for group in groups:
            yield from worker.process(group)
        return
    del worker
    # Two groups for each: one that it works on and one that waits.
    while died := (yield from _run_pool(groups, make_worker, workers, ahead=2 * workers)):
        # One of these killed its process. They are tried one by one, so that only that one is lost.
        suspects = iter([[task] for group in died for task in group])
        while killer := (yield from _run_pool(suspects, make_worker, 1, ahead=1)):
            yield killer[0][0].record(
                status="error", reason="it killed its process (a crash in a decoder, or out of memory)"
            )


def _run_pool(
    groups: Iterator[Sequence[Task]], make_worker: Callable[[], Worker], workers: int, ahead: int
) -> Iterator[Record]:
    """Yields records until the groups are through; returns those that were under way when a process died."""
    pool = ProcessPoolExecutor(
        workers,
        multiprocessing.get_context("spawn"),  # JAX has threads, which do not survive a fork
        _start_worker,
        (make_worker, os.getpid()),
    )
    running: dict[Future, Sequence[Task]] = {}
    try:
        try:
            pool.submit(_ready).result()
        except BrokenProcessPool as error:
            raise WorkerError("a worker process cannot start: see above, or take --workers=0") from error
        for group in groups:
            try:
                running[pool.submit(_process, group)] = group
            except BrokenProcessPool:
                return [*running.values(), group]
            if len(running) >= ahead:
                yield from _collect(running)
        while running:
            yield from _collect(running)
        return []
    except BrokenProcessPool:
        return list(running.values())
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _collect(running: dict[Future, Sequence[Task]]) -> Iterator[Record]:
    done, _ = wait(running, return_when=FIRST_COMPLETED)
    for future in done:
        records = future.result()
        del running[future]
        yield from records


def _start_worker(make_worker: Callable[[], Worker], parent: int) -> None:
    global _worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the parent decides
    # Several processes share a GPU: none may take most of its memory at once, as JAX does by default.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    _worker = make_worker()


def _end_with(parent: int) -> None:
    """Ends this process when its parent is gone, killed before it could say so."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _ready() -> None:
    """Returns where a worker has started."""


def _process(tasks: Sequence[Task]) -> list[Record]:
    return _worker.process(tasks)
