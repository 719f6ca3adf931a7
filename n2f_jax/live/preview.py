"""A page in the browser with what the camera sees and what is sent: pictures one after the other (MJPEG).

Bound to this machine alone unless another address is named. Pictures are drawn and compressed only while somebody
looks, in the threads of those who do.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from n2f_jax.reconstruction.live_link_face import VALUES

PORT = 8010
_WIDTH, _RATE, _QUALITY = 640, 15.0, 80
_MOST_LOOKING = 4
_BARS = 14  # of the largest weights
_PAGE = b"""<!doctype html><html lang="en"><meta charset="utf-8"><title>n2f live</title>
<style>body{margin:0;background:#181818;display:grid;place-items:center;min-height:100vh}img{max-width:100%}</style>
<img src="/stream.mjpg" alt="the camera's picture, the head's axes and the largest weights"></html>
"""


@dataclasses.dataclass(frozen=True)
class View:
    """What one picture shows.

    Attributes:
        image: ``(H, W, 3)`` uint8 RGB.
        points: ``(N, 2)`` pixels of the face's points; None: nobody.
        rotation: R of ``x_cam = R·x_head + t``.
        values: ``(61,)`` of ``VALUES``.
        lines: of text.
    """

    image: UInt8[np.ndarray, "H W 3"]
    points: Float[np.ndarray, "N 2"] | None = None
    rotation: Float[np.ndarray, "3 3"] | None = None
    values: Float[np.ndarray, "61"] | None = None
    lines: tuple[str, ...] = ()


def draw(view: View) -> UInt8[np.ndarray, "h w 3"]:
    """The picture of the page, RGB, 640 wide."""
    height, width = view.image.shape[:2]
    scale = _WIDTH / width
    picture = cv2.resize(view.image, (_WIDTH, max(1, round(height * scale))), interpolation=cv2.INTER_AREA)
    if view.points is not None:
        for u, v in np.rint(view.points * scale).astype(int):
            cv2.circle(picture, (int(u), int(v)), 1, (120, 255, 180), -1, cv2.LINE_AA)
        if view.rotation is not None:
            _draw_axes(picture, view.points * scale, view.rotation)
    panel = np.full((len(picture), 260, 3), 24, np.uint8)
    for row, line in enumerate(view.lines):
        _text(panel, line, 10, 22 + 18 * row)
    if view.values is not None:
        _draw_bars(panel, view.values, 22 + 18 * len(view.lines))
    return np.concatenate([picture, panel], axis=1)


def _draw_axes(picture, points, rotation):
    """The head's axes from the middle of the face: x red (to the subject's left), y green (up), z blue (out)."""
    middle, size = points.mean(axis=0), 0.5 * float(np.ptp(points, axis=0).max())
    for axis, colour in enumerate(((255, 80, 80), (80, 255, 80), (90, 140, 255))):
        tip = middle + size * rotation[:2, axis]
        ends = [tuple(int(x) for x in np.rint(end)) for end in (middle, tip)]
        cv2.line(picture, *ends, colour, 2, cv2.LINE_AA)


def _draw_bars(panel, values, top):
    largest = np.argsort(-values[:52])[:_BARS]
    for row, i in enumerate(sorted(largest)):
        y = top + 18 * row
        if y > len(panel) - 4:
            break
        _text(panel, VALUES[i], 10, y)
        cv2.rectangle(panel, (150, y - 9), (250, y), (60, 60, 60), -1)
        cv2.rectangle(panel, (150, y - 9), (150 + round(100 * float(values[i])), y), (120, 255, 180), -1)


def _text(picture, text, x, y):
    cv2.putText(picture, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.38, (230, 230, 230), 1, cv2.LINE_AA)


class PreviewServer:
    """Serves the page until it is closed.

    Args:
        host: address to listen on.
        port: 0: any that is free.

    Attributes:
        url: of the page.

    Raises:
        OSError: the port is taken, or the address is none of this machine's.
    """

    def __init__(self, host: str = "127.0.0.1", port: int = PORT):
        self._view: View | None = None
        self._fresh = threading.Condition()
        self._closed = threading.Event()
        self._looking = 0
        try:
            self._server = _Server((host, port), _Handler)
        except OSError as error:
            raise OSError(
                f"the page cannot be served on {host}:{port} ({error}): --page-port takes another"
            ) from error
        self._server.preview = self
        self.url = f"http://{host}:{self._server.server_address[1]}/"
        # A page of the web may name this address, but not reach it by a name of its own.
        self._names = {host, "localhost", "127.0.0.1"} if host == "127.0.0.1" else None
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.2,), daemon=True, name="page"
        )
        self._thread.start()

    @property
    def watched(self) -> bool:
        """Whether somebody looks."""
        return self._looking > 0

    def _joined(self) -> bool:
        with self._fresh:
            room = self._looking < _MOST_LOOKING
            self._looking += room
            return room

    def _left(self) -> None:
        with self._fresh:
            self._looking -= 1

    def show(self, view: View) -> None:
        """The next picture; costs nothing where nobody looks."""
        with self._fresh:
            self._view = view
            self._fresh.notify_all()

    def _after(self, last: View | None) -> View | None:
        """The next picture after one that was shown; None where none comes within a second."""
        with self._fresh:
            self._fresh.wait_for(lambda: self._view is not last or self._closed.is_set(), 1.0)
            return None if self._view is last else self._view

    def close(self) -> None:
        """Ends all that look, and the server."""
        self._closed.set()
        with self._fresh:
            self._fresh.notify_all()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    preview: PreviewServer


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = 10
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        preview = self.server.preview
        name = self.headers.get("Host", "").rpartition(":")[0] or self.headers.get("Host", "")
        if preview._names is not None and name not in preview._names:
            self.send_error(403)
        elif self.path == "/":
            self._send("text/html; charset=utf-8", _PAGE)
        elif self.path == "/stream.mjpg":
            if not preview._joined():
                self.send_error(503, "enough look already")
                return
            try:
                self._stream(preview)
            except OSError:
                pass  # whoever looked has gone
            finally:
                preview._left()
        else:
            self.send_error(404)

    def _send(self, kind: str, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def _stream(self, preview: PreviewServer) -> None:
        self.close_connection = True
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        view: View | None = None
        while not preview._closed.is_set():
            begun = time.monotonic()
            fresh = preview._after(view)
            if fresh is None:
                continue
            view = fresh
            _, coded = cv2.imencode(
                ".jpg", cv2.cvtColor(draw(view), cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _QUALITY]
            )
            body = coded.tobytes()
            self.wfile.write(
                b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%s\r\n" % (len(body), body)
            )
            preview._closed.wait(max(0.0, 1.0 / _RATE - (time.monotonic() - begun)))

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the screen is for the run."""
