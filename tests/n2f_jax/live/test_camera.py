"""Cameras: the newest frame wins, one that goes away is waited for, and clips take their time."""

import threading
import time

import numpy as np
import pytest

from n2f_jax.live import camera
from n2f_jax.live.camera import Camera, CameraEnded, CameraGone, ClipCamera, NewestFrame
from tests.n2f_jax.tracking.conftest import write_frames


class Script(Camera):
    """Does as it is told: numbers are frames, ``None`` is a camera that is gone; ``tries`` openings fail then."""

    name = "scripted"

    def __init__(self, script, tries=0, wait=0.0):
        self.script, self.tries, self.wait = list(script), tries, wait
        self.opened = self.closed = 0
        self.failing = 0

    def open(self):
        if self.failing:
            self.failing -= 1
            raise CameraGone("not yet")
        self.opened += 1

    def read(self):
        time.sleep(self.wait)
        if not self.script:
            raise CameraEnded
        if (number := self.script.pop(0)) is None:
            self.failing = self.tries
            raise CameraGone("unplugged")
        return np.full((2, 3, 3), number, np.uint8)

    def close(self):
        self.closed += 1


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(camera, "RETRY", 0.02)


def test_the_newest_frame_wins_and_the_others_are_dropped():
    newest = NewestFrame(Script(range(20), wait=0.001))
    newest._thread.join(10)
    shot = newest.get(1.0)
    assert shot.number == 19 and (shot.image == 19).all()
    assert (newest.taken, newest.dropped) == (20, 19)
    with pytest.raises(CameraEnded):
        newest.get(1.0)
    newest.stop()


def test_a_camera_that_goes_away_is_waited_for_and_said():
    said, source = [], Script([1, 2, None, 3], tries=3, wait=0.01)
    newest = NewestFrame(source, said.append)
    seen = []
    with pytest.raises(CameraEnded):
        while True:
            shot = newest.get(5.0)
            seen += [] if shot is None else [int(shot.image[0, 0, 0])]
    assert seen[-1] == 3 and newest.times_away == 1 and source.opened == 2
    assert said == ["scripted is gone (unplugged); waiting for it", "scripted is back"]
    newest.stop()
    assert source.closed == 2


def test_waiting_for_a_camera_ends_at_once(monkeypatch):
    monkeypatch.setattr(camera, "RETRY", 60.0)
    newest = NewestFrame(Script([1, None]))
    time.sleep(0.05)
    begin = time.monotonic()
    newest.stop()
    assert time.monotonic() - begin < 1.0 and not newest._thread.is_alive()


def test_nothing_comes_within_the_time_that_is_waited():
    gate = threading.Event()

    class Slow(Script):
        def read(self):
            gate.wait(10)
            raise CameraEnded

    newest = NewestFrame(Slow([]))
    assert newest.get(0.01) is None
    gate.set()
    newest.stop()


def test_a_camera_that_is_not_there_is_an_error_to_begin_with(tmp_path):
    source = Script([])
    source.failing = 1
    with pytest.raises(CameraGone, match="scripted: not yet"):
        NewestFrame(source)
    with pytest.raises(CameraGone, match="no such file"):
        ClipCamera(tmp_path / "none.mp4").open()


def test_a_clip_plays_in_real_time_and_again(tmp_path):
    source = ClipCamera(write_frames(tmp_path / "frames", 5), rate=50.0, again=True)
    source.open()
    begin, numbers, moments = time.monotonic(), [], []
    for _ in range(8):
        numbers.append(int(source.read()[0, 0, 0]))
        moments.append(time.monotonic() - begin)
    source.close()
    assert numbers == [0, 1, 2, 3, 4, 0, 1, 2]
    # No frame comes before it is due; the second round goes on where the first ended.
    assert all(moment >= 0.02 * i - 0.001 for i, moment in enumerate(moments))
    once = ClipCamera(tmp_path / "frames", rate=200.0)
    once.open()
    with pytest.raises(CameraEnded):
        for _ in range(6):
            once.read()


def test_a_clip_whose_file_is_taken_away_is_a_camera_that_goes_away(tmp_path):
    folder = write_frames(tmp_path / "frames", 30)
    said = []
    newest = NewestFrame(ClipCamera(folder, rate=50.0), said.append)
    assert newest.get(5.0) is not None
    away = folder.with_name("away")
    folder.rename(away)
    limit = time.monotonic() + 10
    while not said and time.monotonic() < limit:
        time.sleep(0.01)
    away.rename(folder)
    while len(said) < 2 and time.monotonic() < limit:
        time.sleep(0.01)
    newest.get(0.0)
    assert newest.get(5.0) is not None
    newest.stop()
    assert "is gone" in said[0] and said[1].endswith("is back") and newest.times_away == 1


def test_a_webcam_that_is_not_there_is_named():
    with pytest.raises(CameraGone, match="camera 97: it cannot be opened"):
        camera.frame_size(camera.Webcam(97))
