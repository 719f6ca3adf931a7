"""``n2f live`` as a user starts it, networks and all: a photograph that nods from side to side before the camera."""

import os
import signal
import socket
import subprocess
import sys
import urllib.request

import cv2
import numpy as np
import pytest
import skimage.data
from PIL import Image

from n2f_jax.reconstruction.live_link_face import VALUES

from .test_packets import read_packet

pytestmark = pytest.mark.slow  # compiles for minutes
pytest.importorskip("pythonosc")
FRAMES, RATE = 60, 15.0


def roll_of(number):
    """Degrees by which the photograph is turned clockwise, as one sees it: slowly there and quickly back."""
    rising = 3 * FRAMES // 4
    return (
        20.0 * number / rising - 10.0
        if number < rising
        else 10.0 - 20.0 * (number - rising) / (FRAMES - rising)
    )


@pytest.fixture
def clip(tmp_path):
    folder = tmp_path / "clip"
    folder.mkdir()
    image = skimage.data.astronaut()
    for number in range(FRAMES):
        turn = cv2.getRotationMatrix2D((225.0, 120.0), -roll_of(number), 1.0)
        frame = cv2.warpAffine(image, turn, (512, 512), borderMode=cv2.BORDER_REPLICATE)
        # So that a packet's frame is known: its number as a grey level in a corner.
        frame[:8, :8] = number
        Image.fromarray(frame).save(folder / f"{number:03d}.png")
    return folder


def test_packets_page_a_camera_that_goes_away_and_the_end(clip):
    sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
        one.settimeout(600)
    live_link, vmc = sockets
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "n2f_jax.cli.main", "live", "--fake-camera", str(clip), "--repeat"]
    command += ["--fps", str(RATE), "--live-link", f"127.0.0.1:{live_link.getsockname()[1]}"]
    command += ["--vmc", f"127.0.0.1:{vmc.getsockname()[1]}", "--page-port", str(port)]
    environment = {key: value for key, value in os.environ.items() if key != "XLA_FLAGS"}
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        read_packet(live_link.recv(2048))  # the programs are compiled
        assert vmc.recv(2048).startswith(b"#bundle")
        rolls, moments = [], []
        while len(rolls) < 60 or moments[-1] - moments[0] < 1.5 * FRAMES / RATE:
            *_, (frame, fraction, _, _), values = read_packet(live_link.recv(2048))
            rolls.append(np.degrees(values[VALUES.index("HeadRoll")]))
            moments.append((frame + fraction) / 60)
            assert values[:52].min() >= 0 and values[:52].max() <= 1
        # Clockwise for us is the top of the head to the subject's left: positive. So it rises slowly and falls quickly.
        low, high = np.percentile(rolls, [5, 95])
        assert 12.0 < high - low < 24.0
        steps = np.diff(rolls)
        assert (steps > 0).mean() > 0.6 and -steps.min() > steps.max()
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/stream.mjpg", timeout=60) as stream:
            assert b"image/jpeg" in stream.read(200)
        away = clip.with_name("away")
        clip.rename(away)
        live_link.settimeout(3.0)
        with pytest.raises(TimeoutError):
            while True:
                live_link.recv(2048)
        away.rename(clip)
        live_link.settimeout(60)
        live_link.recv(2048)
        process.send_signal(signal.SIGTERM)
        out, errors = process.communicate(timeout=60)
    finally:
        process.kill()
        for one in sockets:
            one.close()
    assert process.returncode == 130, errors
    assert "is gone" in errors and "is back" in errors and out.startswith("interrupted: ")
    assert "Traceback" not in errors
