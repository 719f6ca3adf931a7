"""uvicorn around a service: listens, and stops so that nothing that was let in is lost."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from types import FrameType

import uvicorn

from n2f_jax.serving.app import make_app
from n2f_jax.serving.service import Service

_TICK = 0.05
_MAX_CONNECTIONS = 1000
_IDLE_SECONDS = 15  # a connection without a request


def listen(host: str, port: int) -> socket.socket:
    """A socket of an address; port 0 for a free one.

    Raises:
        OSError: it cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=256)
    except OSError as error:
        raise OSError(f"cannot listen on {host} port {port}: {error.strerror or error}") from error


class Server(uvicorn.Server):
    """Serves until it is told to stop.

    SIGTERM and SIGINT: no photograph is let in any more (503, and the connection is closed); when those inside are
    answered and ``limits.drain`` seconds are over, it hangs up. Another signal ends it at once. It also ends where the
    service has failed.

    Args:
        service: closed in the end.
        access_log: a line on stderr for every request.
        said: told when it stops.
    """

    def __init__(self, service: Service, access_log: bool, said: Callable[[str], None]):
        self._service, self._said = service, said
        self._told = False
        super().__init__(
            uvicorn.Config(
                make_app(service),
                log_level="info" if access_log else "warning",
                access_log=access_log,
                http="h11",
                ws="none",
                server_header=False,
                limit_concurrency=_MAX_CONNECTIONS,
                timeout_keep_alive=_IDLE_SECONDS,
            )
        )

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Of a signal; uvicorn's own would raise it again in the end, though all is well then."""
        if self._told:
            self.force_exit = self.should_exit = True
        self._told = True
        self._service.refuse()

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's."""
        watching = asyncio.create_task(self._stop_when_idle())
        try:
            await super().serve(sockets)
        finally:
            watching.cancel()

    async def _stop_when_idle(self) -> None:
        while not self._told and not self._service.has_failed:
            await asyncio.sleep(_TICK)
        if self._service.has_failed:
            self.should_exit = True
            return
        self._said("stopping: what was let in is answered")
        until = time.monotonic() + self._service.limits.drain
        while not self._service.is_idle or time.monotonic() < until:
            await asyncio.sleep(_TICK)
        self.should_exit = True
