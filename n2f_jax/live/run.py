"""``n2f live``: camera → head → packets, a frame at a time, the newest always."""

from __future__ import annotations

import dataclasses
import socket
import time
import uuid
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from flame_jax import FlameParams
from flame_jax.rotations import axis_angle_to_rotation_6d
from n2f_jax.face_mesh.arkit_names import OF_GAZE
from n2f_jax.fitting.arkit import ArkitUnits, WeightReader, weights_of_eyes
from n2f_jax.frontends.blendshapes import scores_of_units
from n2f_jax.live import live_link
from n2f_jax.live.camera import Camera, CameraEnded, NewestFrame, Shot, frame_size
from n2f_jax.live.preview import PreviewServer, View
from n2f_jax.live.vmc import VmcMessages
from n2f_jax.reconstruction.live_link_face import face_values, head_turn
from n2f_jax.tracking.live import LiveTracker
from n2f_jax.tracking.online import FrameState
from n2f_jax.tracking.track_file import LOST

Address = tuple[str, int]
Weights = Literal["fit", "scores"]
WEIGHTS: tuple[Weights, ...] = ("fit", "scores")
_WAIT = 0.5  # seconds for which nothing comes before the run looks whether it is to end
_SAY_EVERY = 5.0


@dataclasses.dataclass(frozen=True)
class LiveOptions:
    """What a run sends, and where.

    Attributes:
        live_link: where Live Link Face's packets go; None: nowhere.
        vmc: where the VMC protocol's messages go.
        subject: by which Unreal lists the source.
        weights: the front end's scores, which are nearer (scripts/benchmarks/arkit_scores.py), or of the fitted
            expression.
        frames: so many and no more; None: until it is stopped.
    """

    live_link: Address | None = ("127.0.0.1", live_link.PORT)
    vmc: Address | None = None
    subject: str = "n2f"
    weights: Weights = "scores"
    frames: int | None = None


@dataclasses.dataclass
class LiveReport:
    """What a run did.

    Attributes:
        frames: looked at.
        faces: of these with a face, for which packets went out.
        taken, dropped: frames that came, and that a newer one replaced.
        times_away: how often the camera went away.
        milliseconds: from each frame to its packets, of the last ten thousand.
        seconds: that the run took.
    """

    frames: int = 0
    faces: int = 0
    taken: int = 0
    dropped: int = 0
    times_away: int = 0
    milliseconds: list[float] = dataclasses.field(default_factory=list)
    seconds: float = 0.0

    def text(self) -> str:
        """One line for the screen."""
        if not self.milliseconds:
            return f"{self.taken} frames came, none with a face"
        middle, high = np.percentile(self.milliseconds, [50, 95])
        return (
            f"{self.faces} of {self.frames} frames with a face, {self.frames / max(self.seconds, 1e-9):.1f} a second; "
            f"{self.dropped} of {self.taken} dropped; frame to packet {middle:.0f} ms, 95 % within {high:.0f} ms"
        )


class WeightSource:
    """ARKit's weights of a frame.

    Args:
        units: of the head model.
        kind: of ``WEIGHTS``.
    """

    def __init__(self, units: ArkitUnits, kind: Weights):
        self._read, self._kind, self._shape = WeightReader(units), kind, np.zeros(units.num_shape, np.float32)
        self._expressions = units.part.basis.shape[-1] - units.num_shape

    def prepare(self) -> None:
        """Compiles what a frame takes."""
        self._fitted(np.zeros(self._expressions), np.zeros(3), np.zeros(2), np.zeros((2, 3)))

    def __call__(self, state: FrameState, scores: Float[np.ndarray, "52"] | None) -> Float[np.ndarray, " 51"]:
        """In the order of ``UNITS``, 0 … 1. What the eyes do is the gaze's with either kind."""
        if self._kind == "scores" and scores is not None:
            look = weights_of_eyes(state.eyes_pose[None])[0]
            return np.where(OF_GAZE, look, scores_of_units(scores).astype(np.float64).clip(0.0, 1.0))
        return self._fitted(state.expression, state.jaw_pose, state.eyelids, state.eyes_pose)

    def _fitted(
        self, expression: np.ndarray, jaw: np.ndarray, eyelids: np.ndarray, eyes: np.ndarray
    ) -> Float[np.ndarray, " 51"]:
        expression, jaw, eyelids, eyes = (
            np.asarray(x, np.float32)[None] for x in (expression, jaw, eyelids, eyes)
        )
        params = FlameParams.resting(self._shape[None], expression, axis_angle_to_rotation_6d(jaw), eyelids)
        return self._read(dataclasses.replace(params, eyes=axis_angle_to_rotation_6d(eyes)))[0][0]


class Sender:
    """Sends a frame's packets.

    Raises:
        OSError: an address is none.
        ImportError: as ``VmcMessages``.
    """

    def __init__(self, options: LiveOptions, say: Callable[[str], None] = lambda text: None):
        self._options, self._say = options, say
        self._away: set[str] = set()
        self._device = str(uuid.uuid4()).upper()
        self._vmc = VmcMessages() if options.vmc is not None else None
        self._begin = time.monotonic()
        # Seconds since midnight less those of the steady clock, once: a clock that is set makes no leap.
        now = time.time()
        local = time.localtime(now)
        self._midnight = 3600 * local.tm_hour + 60 * local.tm_min + local.tm_sec + now % 1.0 - self._begin
        self._targets = {
            name: (socket.socket(family, socket.SOCK_DGRAM), where)
            for name, address in (("live_link", options.live_link), ("vmc", options.vmc))
            if address is not None
            for family, where in (_resolved(address),)
        }

    def day_seconds(self, seconds: float) -> float:
        """Since midnight, local time, of a moment of ``time.monotonic``; what packets hold."""
        return (seconds + self._midnight) % 86400.0

    def face(
        self, shot: Shot, state: FrameState, weights: Float[np.ndarray, " 51"]
    ) -> Float[np.ndarray, "61"]:
        """Sends a face; returns ``live_link_face.VALUES``."""
        values = face_values(weights[None], state.rotation[None], state.eyes_pose[None])[0]
        if "live_link" in self._targets:
            packet = live_link.encode(
                self._device, self._options.subject, self.day_seconds(shot.seconds), values
            )
            self._send("live_link", packet)
        if self._vmc is not None:
            turn = head_turn(state.rotation[None])[0]
            for bundle in self._vmc.face(shot.seconds - self._begin, values, turn, state.eyes_pose):
                self._send("vmc", bundle)
        return values

    def nobody(self, shot: Shot) -> None:
        """Says that there is no face, to whom that can be said; the others keep the last one."""
        if self._vmc is not None:
            for bundle in self._vmc.nobody(shot.seconds - self._begin):
                self._send("vmc", bundle)

    def close(self) -> None:
        for one, _ in self._targets.values():
            one.close()

    def _send(self, name: str, data: bytes) -> None:
        one, where = self._targets[name]
        try:
            one.sendto(data, where)
        except ConnectionRefusedError:  # of an earlier packet: nobody listens yet
            return
        except OSError as error:
            # A network that is away, as a camera, may come back.
            if name not in self._away:
                self._say(f"{where[0]}:{where[1]} cannot be reached ({error}); trying on")
                self._away.add(name)
            return
        self._away.discard(name)


def _resolved(address: Address) -> tuple[socket.AddressFamily, Any]:
    try:
        family, *_, where = socket.getaddrinfo(*address, type=socket.SOCK_DGRAM)[0]
    except (socket.gaierror, UnicodeError) as error:
        raise OSError(f"{address[0]}:{address[1]} is no address that can be found ({error})") from error
    return family, where


def run_live(
    camera: Camera,
    tracker: Callable[[tuple[int, int]], LiveTracker],
    weights: WeightSource,
    options: LiveOptions,
    preview: PreviewServer | None = None,
    say: Callable[[str], None] = lambda text: None,
    report: LiveReport | None = None,
) -> LiveReport:
    """Sends what a camera sees until it is stopped or a clip ends.

    Args:
        camera: not opened yet.
        tracker: made for frames of a height and width; made anew where these change.
        weights: of a frame.
        options: what to send.
        preview: shown what happens.
        say: told lines for the screen.
        report: filled as the run goes, which may end by an interruption.

    Raises:
        CameraGone: the camera is not there to begin with.
        KeyboardInterrupt: stopped; everything is let go.
        OSError: an address cannot be sent to.
    """
    report = LiveReport() if report is None else report
    sender = Sender(options, say)
    follow: LiveTracker | None = None
    newest = None

    def prepared(size: tuple[int, int]) -> LiveTracker:
        say(f"{size[1]} × {size[0]}: the programs are prepared")
        made = tracker(size)
        made.prepare()
        weights.prepare()
        say("sending")
        return made

    try:
        size = frame_size(camera)
        follow = prepared(size)
        newest = NewestFrame(camera, say)
        begin = said = time.monotonic()
        while options.frames is None or report.frames < options.frames:
            try:
                shot = newest.get(_WAIT)
            except CameraEnded:
                break
            report.taken, report.dropped, report.times_away = newest.taken, newest.dropped, newest.times_away
            if shot is None:
                continue
            if shot.image.shape[:2] != size:  # a camera that came back may be another one
                follow.close()
                size = shot.image.shape[:2]
                follow = prepared(size)
                continue  # it has grown old meanwhile
            state = follow.push(shot.image, shot.seconds)
            report.frames += 1
            values = None
            if state is None or state.status == LOST:
                sender.nobody(shot)
            else:
                values = sender.face(shot, state, weights(state, follow.scores))
                report.faces += 1
                report.milliseconds.append(1e3 * (time.monotonic() - shot.seconds))
                del report.milliseconds[:-10_000]
            now = time.monotonic()
            report.seconds = now - begin
            if preview is not None and preview.watched:
                preview.show(_view(shot, follow, state, values, report))
            if now - said > _SAY_EVERY:
                said = now
                say(report.text())
    finally:
        if newest is not None:
            newest.stop()
            report.taken, report.dropped, report.times_away = newest.taken, newest.dropped, newest.times_away
        if follow is not None:
            follow.close()
        sender.close()
    return report


def _view(
    shot: Shot, tracker: LiveTracker, state: FrameState | None, values: Any, report: LiveReport
) -> View:
    recent = report.milliseconds[-60:]
    lines = [
        f"{report.frames / max(report.seconds, 1e-9):.1f} frames/s, {report.dropped} dropped",
        f"frame to packet {np.median(recent):.0f} ms" if recent else "nobody yet",
    ]
    if values is None or state is None or tracker.face is None:
        return View(shot.image, lines=(*lines, "no face"))
    yaw, pitch, roll = np.degrees(values[52:55])
    lines.append(f"yaw {yaw:+.0f}, pitch {pitch:+.0f}, roll {roll:+.0f}")
    return View(shot.image, tracker.face.points[:, :2], state.rotation, values, tuple(lines))
