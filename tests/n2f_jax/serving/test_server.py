"""A server in a process of its own: real sockets, real signals."""

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from n2f_jax.serving.server import listen

from .fakes import png

ROOT = Path(__file__).parents[3]


@contextlib.contextmanager
def server(seconds):
    """Process and port, when it is ready."""
    command = [sys.executable, "-m", "tests.n2f_jax.serving.fakes", str(seconds)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            port = int(process.stdout.readline())
            assert process.stdout.readline().startswith("ready")
            yield process, port
        finally:
            process.kill()


def post(port, connection=None):
    connection = connection or http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("POST", "/v1/heads", png(200))
    answer = connection.getresponse()
    return answer.status, answer.read()


def test_told_to_stop_under_load_it_loses_nothing():
    with server(0.05) as (process, port):
        counts = {"answered": 0, "refused": 0, "unanswered": 0}
        ends = threading.Event()

        def client():
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            while not ends.is_set():
                try:
                    status, body = post(port, connection)
                except ConnectionRefusedError:
                    return
                except (OSError, http.client.HTTPException):
                    counts["unanswered"] += 1
                    return
                counts["answered" if status == 200 else "refused"] += 1
                if status == 200:
                    assert len(json.loads(body)["heads"]) == 2
                else:
                    assert status == 503 and json.loads(body)["detail"] == "the server is stopping"
                    connection.close()
                    time.sleep(0.02)

        threads = [threading.Thread(target=client) for _ in range(8)]
        for thread in threads:
            thread.start()
        time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        ends.set()
        for thread in threads:
            thread.join()
        said, errors = process.stdout.read(), process.stderr.read()
        assert not errors
        accepted, answered = map(
            int, re.search(r"(\d+) photographs were let in, (\d+) answered", said).groups()
        )
        # What was let in has its answer, and the clients have got it. The others were told so, or hung up on when all
        # was over, as they came again and again.
        assert accepted == answered == counts["answered"] > 8
        assert counts["refused"] > 0 and counts["unanswered"] <= 8


def test_a_second_signal_ends_it_at_once():
    def left_alone(port):
        with contextlib.suppress(OSError, http.client.HTTPException):
            post(port)

    with server(60) as (process, port):
        thread = threading.Thread(target=left_alone, args=(port,))
        thread.start()
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        time.sleep(0.3)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        process.wait(20)
        thread.join()


def test_an_address_that_is_taken_is_one_line():
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="cannot listen on"):
        listen("127.0.0.1", taken.getsockname()[1])
    with listen("127.0.0.1", 0) as sock:
        assert sock.getsockname()[0] == "127.0.0.1"
