"""The page: what it shows, to whom, and that nothing is drawn while nobody looks."""

import http.client
import time

import cv2
import numpy as np
import pytest

from n2f_jax.geometry.camera import FRONTAL
from n2f_jax.live.preview import PreviewServer, View, draw


def view(**more):
    return View(np.full((90, 160, 3), 60, np.uint8), **more)


def seen():
    points = np.array([[u, v] for u in range(60, 100, 8) for v in range(30, 70, 8)], float)
    values = np.zeros(61)
    values[17] = 1.0
    return view(points=points, rotation=np.asarray(FRONTAL, float), values=values, lines=("30 frames/s",))


def test_a_picture_shows_points_axes_and_weights():
    empty, full = draw(view()), draw(seen())
    assert empty.shape == full.shape == (360, 900, 3)
    where = (np.abs(full.astype(int) - empty).max(axis=2) > 40).nonzero()
    picture = where[1] < 640
    assert where[1][picture].min() > 200 and where[1][picture].max() < 420  # on the face alone
    assert (full[:, 790:890] == (120, 255, 180)).all(axis=2).sum() > 500  # a full bar
    # x of the head, to the subject's left, is drawn red to the right of the middle.
    red = (full[..., 0] > 200) & (full[..., 1] < 120)
    assert red[:, 320:420].sum() > 3 * red[:, 200:320].sum()


@pytest.fixture
def server():
    server = PreviewServer(port=0)
    yield server
    server.close()


def asked(server, path, **headers):
    host, port = server.url.removeprefix("http://").rstrip("/").split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=10)
    connection.request("GET", path, headers=headers)
    return connection, connection.getresponse()


def test_the_page_and_what_is_none(server):
    connection, response = asked(server, "/")
    assert response.status == 200 and b"/stream.mjpg" in response.read()
    connection.close()
    assert asked(server, "/other")[1].status == 404
    # A page of the web that has this machine's address under a name of its own.
    assert asked(server, "/", Host="example.org:8010")[1].status == 403


def test_pictures_come_while_somebody_looks(server):
    assert not server.watched
    connection, response = asked(server, "/stream.mjpg")
    limit = time.monotonic() + 10
    while not server.watched and time.monotonic() < limit:
        time.sleep(0.01)
    assert server.watched
    for _ in range(2):
        server.show(seen())
        assert response.readline() == b"--frame\r\n"
        headers = dict(
            iter(lambda: tuple(response.readline().decode().strip().partition(": ")[::2]), ("", ""))
        )
        picture = cv2.imdecode(np.frombuffer(response.read(int(headers["Content-Length"])), np.uint8), 1)
        assert response.readline() == b"\r\n"
        assert picture.shape == (360, 900, 3)
    response.close()
    connection.close()
    while server.watched and time.monotonic() < limit:
        server.show(seen())
        time.sleep(0.05)
    assert not server.watched


def test_a_port_that_is_taken_is_said(server):
    with pytest.raises(OSError, match="--page-port takes another"):
        PreviewServer(port=int(server.url.rstrip("/").rpartition(":")[2]))
