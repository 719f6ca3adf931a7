"""What a server does with a photograph, without HTTP: lets it in or not, prepares it, batches it, packs the answer."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, TypeVar

from n2f_jax.reconstruction.head import Head
from n2f_jax.serving.answers import Answers, Format
from n2f_jax.serving.batcher import Batcher
from n2f_jax.serving.engines import Engine
from n2f_jax.serving.limits import Limits
from n2f_jax.serving.metrics import Metrics
from n2f_jax.serving.problems import Problem
from n2f_jax.serving.requests import file_in_body, read_photograph

_log = logging.getLogger(__name__)
State = Literal["starting", "ready", "stopping", "failed"]
_STARTING_SECONDS = 10  # after which a client may look again
T = TypeVar("T")


class Service:
    """One engine for many clients.

    ``asyncio``'s thread calls its methods; photographs are unpacked, looked at and packed by ``limits.threads``
    others, and batches computed by one more. Nothing is kept of a photograph when it is answered.

    Args:
        engine: computes.
        answers: packs.
        limits: bounds.
        said: told, in one line each, what happens.

    Attributes:
        state: ``'starting'`` until everything is compiled; only ``'ready'`` lets photographs in.
        has_failed: the trial gave no head.
        metrics: counters.
    """

    def __init__(
        self,
        engine: Engine,
        answers: Answers,
        limits: Limits,
        said: Callable[[str], None] = lambda line: None,
    ):
        self.limits, self.engine = limits, engine
        self.state: State = "starting"
        self.has_failed = False
        self._answers, self._said = answers, said
        self._inside = self._preparing = self._accepted = self._answered = 0
        self._seconds = 1.0  # a photograph takes, when many come
        self._pool = ThreadPoolExecutor(limits.threads, thread_name_prefix="photographs")
        self.metrics = Metrics(
            inside=lambda: self._inside, waiting=lambda: len(self._batcher), ready=lambda: self.is_ready
        )
        self._batcher: Batcher[Any, list[Head]] = Batcher(
            self._compute,
            limits.batch,
            limits.wait,
            self.metrics.batch_began,
            coming=lambda: self._preparing > 0,
        )
        # A daemon: nobody waits for a compilation that nobody needs any more.
        self._starting = threading.Thread(target=self._warm_up, name="compiling", daemon=True)

    @property
    def is_ready(self) -> bool:
        """Whether photographs are let in."""
        return self.state == "ready"

    @property
    def is_idle(self) -> bool:
        """Whether none is inside."""
        return self._inside == 0

    @property
    def is_compiling(self) -> bool:
        """Whether a thread is busy with what no one can interrupt."""
        return self._starting.is_alive()

    def account(self) -> str:
        """How many photographs were let in and how many of those answered, in one line."""
        return f"{self._accepted} photographs were let in, {self._answered} answered"

    def start(self) -> None:
        """Compiles, in a thread of its own."""
        self._starting.start()

    def refuse(self) -> None:
        """Lets nothing in from now on; what is inside is answered."""
        self.state = "stopping"

    def close(self) -> None:
        """Ends the threads, when everything that was taken is answered."""
        self.refuse()
        self._batcher.close()
        self._pool.shutdown()

    def _warm_up(self) -> None:
        start = time.perf_counter()
        try:
            found = self.engine.warm_up()
        except Exception as error:
            _log.exception("the trial failed")
            self.state, self.has_failed = "failed", True
            self._said(f"failed: {error}")
            return
        if self.state == "starting":
            self.state = "ready"
            self._said(f"ready after {time.perf_counter() - start:.0f} s; {found}")

    @contextlib.contextmanager
    def admitted(self) -> Iterator[None]:
        """A place inside, for as long as the block lasts.

        Raises:
            Problem: 503, there is none, or the server starts or stops.
        """
        try:
            self._check_open()
        except Problem as problem:
            self.metrics.refused.labels(problem.status).inc()
            raise
        self._inside += 1
        self._accepted += 1
        self.metrics.accepted.inc()
        start = time.perf_counter()
        status = 500
        try:
            yield
            status = 200
        except Problem as problem:
            status = problem.status
            raise
        finally:
            self._inside -= 1
            self._answered += 1
            self.metrics.answered.labels(status).inc()
            self.metrics.seconds.observe(time.perf_counter() - start)

    def _check_open(self) -> None:
        if self.state == "failed":
            raise Problem(503, "the server could not be set up; its log says why")
        if self.state != "ready":
            raise Problem(503, f"the server is {self.state}", retry_after=_STARTING_SECONDS)
        if self._inside >= self.limits.max_inside:
            seconds = math.ceil(self._inside * self._seconds)
            raise Problem(503, f"{self._inside} photographs are waiting", min(max(seconds, 1), 60))

    async def answer(
        self,
        content_type: str,
        body: bytes,
        focal: float | None,
        form: Format,
        mesh: bool,
        every_face: bool,
    ) -> tuple[bytes, str]:
        """Content and media type of the answer to a photograph that was let in.

        Args:
            content_type, body: of the request.
            focal: in pixels, or None.
            form, mesh, every_face: as of ``answers.Answers``.

        Raises:
            Problem: there is no answer.
        """
        self._preparing += 1
        try:
            prepared = await self._timed("prepare", self._prepare, content_type, body, focal)
        finally:
            self._preparing -= 1
        del body
        future = self._batcher.submit(prepared)
        del prepared
        heads = await asyncio.wrap_future(future)
        if not all(head.is_finite for head in heads):
            raise Problem(500, "the network gave no numbers for this photograph")
        self.metrics.faces.inc(len(heads))
        return await self._timed("pack", self._answers, heads, form, mesh, every_face)

    def _prepare(self, content_type: str, body: bytes, focal: float | None) -> object:
        content = file_in_body(content_type, body)
        return self.engine.prepare(read_photograph(content, focal, self.limits.max_pixels))

    async def _timed(self, stage: str, function: Callable[..., T], *arguments: Any) -> T:
        """In one of the pool's threads."""

        def timed() -> T:
            with self.metrics.stage.labels(stage).time():
                return function(*arguments)

        return await asyncio.get_running_loop().run_in_executor(self._pool, timed)

    def _compute(self, prepared: list[Any]) -> list[list[Head]]:
        start = time.perf_counter()
        heads = self.engine.heads(prepared)
        taken = time.perf_counter() - start
        self.metrics.stage.labels("compute").observe(taken)
        self._seconds += 0.1 * (taken / len(prepared) - self._seconds)
        return heads


async def read_body(chunks: AsyncIterator[bytes], announced: str | None, most: int) -> bytes:
    """A request's body.

    Args:
        chunks: as they come.
        announced: the header ``Content-Length``.
        most: bytes.

    Raises:
        Problem: 413, it is longer; 400, the header is no number.
    """
    if announced is not None:
        # Digits alone, and few: int() takes more, and long for long ones.
        if not (announced.isascii() and announced.isdigit() and len(announced) < 20):
            raise Problem(400, "Content-Length is no number")
        if int(announced) > most:
            raise Problem(413, f"{announced} bytes are more than the {most} that are taken")
    body = bytearray()
    async for chunk in chunks:
        if len(body) + len(chunk) > most:
            raise Problem(413, f"the body is longer than the {most} bytes that are taken")
        body += chunk
    return bytes(body)
