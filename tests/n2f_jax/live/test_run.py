"""Whole runs of ``n2f live`` but for the networks: a clip as the camera, packets read where they arrive."""

import dataclasses
import signal
import socket
import threading
import time

import numpy as np
import pytest

from n2f_jax.cli import live as command
from n2f_jax.cli.main import main
from n2f_jax.fitting.arkit import ArkitUnits
from n2f_jax.frontends.blendshapes import BLENDSHAPES
from n2f_jax.geometry.camera import FRONTAL
from n2f_jax.live.camera import ClipCamera
from n2f_jax.live.run import LiveOptions, LiveReport, WeightSource, run_live
from n2f_jax.reconstruction.live_link_face import VALUES
from n2f_jax.tracking.online import FrameState
from n2f_jax.tracking.track_file import LOST, SEEN
from tests.n2f_jax.tracking.conftest import write_frames

from .test_packets import read_packet


class Numbers:
    """A tracker that turns a frame's number into a head: every fifth frame has nobody; ``takes`` seconds each."""

    def __init__(self, model, takes=0.0):
        self.model, self.takes, self.scores, self.face = model, takes, None, None
        self.prepared = self.closed = 0

    def prepare(self):
        self.prepared += 1

    def close(self):
        self.closed += 1

    def push(self, image, seconds):
        time.sleep(self.takes)
        number = int(image[0, 0, 0])
        self.scores = np.full(52, 0.25)
        self.scores[BLENDSHAPES.index("jawOpen")] = number / 100
        state = FrameState(
            seconds,
            LOST if number % 5 == 4 else SEEN,
            np.zeros(self.model.num_shape),
            np.zeros(self.model.num_expression + 13),
            np.asarray(FRONTAL, float),
            np.array([0.0, 0.0, 1.0]),
            np.zeros(self.model.num_expression),
            np.zeros(3),
            np.zeros(2),
            np.tile([0.0, 0.1, 0.0], (2, 1)),
        )
        return state


@pytest.fixture
def listener():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind(("127.0.0.1", 0))
        one.settimeout(5)
        yield one


@pytest.fixture(scope="module")
def units(open_head):
    return ArkitUnits.of_open_head(open_head)


def packets(listener):
    listener.setblocking(False)
    found = []
    while True:
        try:
            found.append(read_packet(listener.recv(2048)))
        except BlockingIOError:
            return found


def test_each_frame_with_a_face_is_a_packet_with_the_frames_moment(tmp_path, open_head, units, listener):
    tracker, said = Numbers(open_head), []
    options = LiveOptions(listener.getsockname(), weights="scores")
    before = time.localtime()
    report = run_live(
        ClipCamera(write_frames(tmp_path / "frames", 24), rate=100.0),
        lambda size: tracker,
        WeightSource(units, "scores"),
        options,
        say=said.append,
    )
    found = packets(listener)
    assert tracker.prepared == tracker.closed == 1 and report.taken == 24
    assert len(found) == report.faces == len(report.milliseconds) and 10 < report.frames <= 24
    numbers = [round(100 * float(values[VALUES.index("JawOpen")])) for *_, values in found]
    assert sorted(set(numbers)) == numbers and not any(number % 5 == 4 for number in numbers)
    assert all(float(one[-1][0]) == pytest.approx(0.25) for one in found)
    # The gaze is the tracker's with the scores too: to the subject's left, which is out of the left eye.
    assert float(found[0][-1][VALUES.index("EyeLookOutLeft")]) == pytest.approx(
        np.degrees(0.1) / 30, abs=1e-3
    )
    moments = [(frame + fraction) / 60 for *_, (frame, fraction, _, _), _ in found]
    noon = 3600 * before.tm_hour + 60 * before.tm_min + before.tm_sec
    assert all(-1 < (moment - noon) % 86400 < 60 for moment in moments) and (np.diff(moments) > 0).all()
    assert any("160 × 120" in line for line in said) and "sending" in said


def test_frames_are_dropped_and_not_queued(tmp_path, open_head, units, listener):
    tracker = Numbers(open_head, takes=0.05)
    report = run_live(
        ClipCamera(write_frames(tmp_path / "frames", 60), rate=100.0),
        lambda size: tracker,
        WeightSource(units, "scores"),
        LiveOptions(listener.getsockname(), weights="scores"),
    )
    assert report.taken == 60 and report.dropped > 30
    # No frame waits for more than the one that is looked at: 50 ms, and as much again.
    assert np.median(report.milliseconds) < 110


def test_fitted_weights_and_scores_are_told_apart(open_head, units):
    state = Numbers(open_head).push(np.zeros((1, 1, 3), np.uint8), 0.0)
    jaw = dataclasses.replace(state, jaw_pose=np.array([0.2, 0.0, 0.0]))
    scores = np.full(52, 0.5)
    fitted = WeightSource(units, "fit")(jaw, scores)
    assert 0.3 < fitted[17] <= 1.0 and fitted[3] == pytest.approx(np.degrees(0.1) / 30, abs=1e-4)
    scored = WeightSource(units, "scores")(jaw, scores)
    assert scored[17] == 0.5 and scored[3] == pytest.approx(fitted[3])


@pytest.fixture
def heeds_sigint():
    """A shell that starts the tests in the background has SIGINT ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heeds_sigint")
def test_a_run_is_stopped_by_a_signal_and_lets_everything_go(tmp_path, open_head, units, listener):
    tracker, report = Numbers(open_head), LiveReport()
    camera = ClipCamera(write_frames(tmp_path / "frames", 5), rate=100.0, again=True)

    def stop_once_it_runs():
        deadline = time.monotonic() + 60.0
        while not report.frames and time.monotonic() < deadline:
            time.sleep(0.01)
        signal.raise_signal(signal.SIGINT)

    stopping = threading.Thread(target=stop_once_it_runs)
    stopping.start()
    with pytest.raises(KeyboardInterrupt):
        run_live(
            camera, lambda size: tracker, WeightSource(units, "scores"), LiveOptions(listener.getsockname()),
            report=report,
        )  # fmt: skip
    stopping.join()
    assert tracker.closed == 1 and report.frames > 0
    assert not any(thread.name == "camera" for thread in threading.enumerate())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--fake-camera", "none.mp4"], "no such file"),
        (["--live-link", "127.0.0.1:0"], "port from 1 to 65535"),
        (["--vmc", ":39539"], "an address is HOST"),
        (["--size", "big"], "WxH is meant"),
        (["--frames", "0"], "at least 1"),
        (["--subject", ""], "1 to 60 bytes"),
        (["--focal", "-3"], "positive number"),
        (["--live-link", "no.such.host.invalid"], "no address that can be found"),
    ],
)
def test_what_the_command_does_not_take(arguments, says, capsys):
    assert main(["live", "--no-page", *arguments]) == 2
    assert says in capsys.readouterr().err


def test_addresses():
    assert command.address_of("10.0.0.3", 11111) == ("10.0.0.3", 11111)
    assert command.address_of("pc.local:9000", 1) == ("pc.local", 9000)
    assert command.address_of("[::1]:9000", 1) == ("::1", 9000) and command.address_of("::1", 7) == ("::1", 7)
    assert command.address_of(None, 1) is None
