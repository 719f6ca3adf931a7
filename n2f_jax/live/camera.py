"""Where frames come from: a webcam (OpenCV), or a clip played as if it were one; and the newest of them.

Frames are taken in a thread. Whoever asks gets the newest one; those that nobody asked for in time are dropped. A
camera that goes away is waited for.
"""

from __future__ import annotations

import abc
import dataclasses
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from n2f_jax.runtime.display import printable

# Seconds between tries to find a camera that went away; a webcam takes about one to open.
RETRY = 1.0
# Seconds for which a reader is waited for at the end: one of an unplugged webcam may never come back.
_STOP_WAIT = 2.0


class CameraGone(OSError):
    """No frame comes any more; it may come back."""


class CameraEnded(Exception):
    """A clip is over."""


@dataclasses.dataclass(frozen=True)
class Shot:
    """A frame as it was taken.

    Attributes:
        image: ``(H, W, 3)`` uint8 RGB.
        seconds: of ``time.monotonic``, when it was there.
        number: of the frame, from 0; numbers that are missing were dropped.
    """

    image: UInt8[np.ndarray, "H W 3"]
    seconds: float
    number: int


class Camera(abc.ABC):
    """A source of frames.

    Attributes:
        name: for the screen.
    """

    name: str

    @abc.abstractmethod
    def open(self) -> None:
        """Begins, or begins anew.

        Raises:
            CameraGone: it is not there.
        """

    @abc.abstractmethod
    def read(self) -> UInt8[np.ndarray, "H W 3"]:
        """Waits for the next frame.

        Raises:
            CameraGone: none comes.
            CameraEnded: none will.
        """

    @abc.abstractmethod
    def close(self) -> None:
        """Lets the device go."""


class Webcam(Camera):
    """A camera by its number, or a device's path.

    Args:
        device: 0 is the first one.
        size: height and width asked for; cameras give what they can.
        rate: frames a second asked for.
    """

    def __init__(self, device: int | str, size: tuple[int, int] = (720, 1280), rate: float = 30.0):
        self.name = f"camera {printable(str(device))}"
        self._device, self._size, self._rate = device, size, rate
        self._capture: Any = None

    def open(self) -> None:
        import cv2

        capture = cv2.VideoCapture(self._device)
        if not capture.isOpened():
            capture.release()
            raise CameraGone("it cannot be opened")
        # Compressed pictures: 720p as it comes is too much for USB 2 at 30 a second.
        capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG"))
        capture.set(cv2.CAP_PROP_FRAME_HEIGHT, self._size[0])
        capture.set(cv2.CAP_PROP_FRAME_WIDTH, self._size[1])
        capture.set(cv2.CAP_PROP_FPS, self._rate)
        capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        self._capture = capture

    def read(self) -> np.ndarray:
        import cv2

        there, image = self._capture.read()
        if not there or image is None:
            raise CameraGone("no picture comes")
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)

    def close(self) -> None:
        if self._capture is not None:
            self._capture.release()
            self._capture = None


class ClipCamera(Camera):
    """A clip in real time: a frame comes when it is due, and one that is late is not waited for.

    Args:
        path: of ``tracking.clips.open_clip``.
        rate: frames a second of a folder of images.
        again: begin again at the end.
    """

    def __init__(self, path: Path, rate: float | None = None, again: bool = False):
        self.name = f"clip {printable(path)}"
        self._path, self._rate, self._again = path, rate, again
        self._frames: Any = None
        self._begin = self._offset = self._last = 0.0

    def open(self) -> None:
        from n2f_jax.tracking.clips import ClipError, open_clip

        try:
            clip = open_clip(self._path, self._rate)
        except (ClipError, OSError) as error:
            raise CameraGone(str(error)) from error
        self._frames = clip.frames()
        self._step = 1.0 / clip.rate
        self._begin, self._offset, self._last = time.monotonic(), 0.0, 0.0

    def read(self) -> np.ndarray:
        from n2f_jax.tracking.clips import ClipError

        while True:
            try:
                frame = next(self._frames, None)
            except (ClipError, OSError) as error:
                raise CameraGone(str(error)) from error
            if frame is None:
                if not self._again:
                    raise CameraEnded
                self._begin_again()
                continue
            self._last = self._offset + frame.seconds
            early = self._begin + self._last - time.monotonic()
            if early > 0:
                time.sleep(early)
            return frame.image

    def _begin_again(self) -> None:
        from n2f_jax.tracking.clips import ClipError, open_clip

        self._offset = self._last + self._step
        try:
            self._frames = open_clip(self._path, self._rate).frames()
        except (ClipError, OSError) as error:
            raise CameraGone(str(error)) from error

    def close(self) -> None:
        if self._frames is not None:
            self._frames.close()
            self._frames = None


def frame_size(camera: Camera) -> tuple[int, int]:
    """Opens a camera, looks at one frame and lets it go: height and width.

    Raises:
        CameraGone: it is not there, or no frame comes; the message names it.
    """
    try:
        camera.open()
        try:
            height, width = camera.read().shape[:2]
        finally:
            camera.close()
    except CameraEnded as error:
        raise CameraGone(f"{camera.name}: it has no frame") from error
    except CameraGone as error:
        raise CameraGone(f"{camera.name}: {error}") from error
    return height, width


class NewestFrame:
    """Takes a camera's frames in a thread and keeps the newest.

    Args:
        camera: opened here.
        say: told lines for the screen.

    Attributes:
        taken: frames that came.
        dropped: frames that a newer one replaced before anybody asked.
        times_away: how often the camera went away.

    Raises:
        CameraGone: it is not there to begin with.
    """

    def __init__(self, camera: Camera, say: Callable[[str], None] = lambda text: None):
        self.taken = self.dropped = self.times_away = 0
        self._camera, self._say = camera, say
        self._slot: Shot | None = None
        self._ended: BaseException | None = None
        self._stopped = threading.Event()
        self._changed = threading.Condition()
        try:
            camera.open()
        except CameraGone as error:
            raise CameraGone(f"{camera.name}: {error}") from error
        self._thread = threading.Thread(target=self._run, daemon=True, name="camera")
        self._thread.start()

    def get(self, timeout: float) -> Shot | None:
        """The newest frame that nobody had yet; None where none comes within so many seconds.

        Raises:
            CameraEnded: there are no more.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._slot is not None or self._ended is not None, timeout)
            shot, self._slot = self._slot, None
            if shot is None and self._ended is not None:
                raise self._ended
            return shot

    def stop(self) -> None:
        """Lets the camera go; a reader that waits for an unplugged one is left to itself after two seconds."""
        self._stopped.set()
        self._thread.join(_STOP_WAIT)

    def _run(self) -> None:
        try:
            while not self._stopped.is_set():
                try:
                    image = self._camera.read()
                except CameraGone as error:
                    self._wait_for_it(error)
                    continue
                with self._changed:
                    self.dropped += self._slot is not None
                    self._slot = Shot(image, time.monotonic(), self.taken)
                    self.taken += 1
                    self._changed.notify()
        except BaseException as error:
            with self._changed:
                self._ended = error
                self._changed.notify()
        finally:
            self._camera.close()

    def _wait_for_it(self, error: CameraGone) -> None:
        self.times_away += 1
        self._say(f"{self._camera.name} is gone ({error}); waiting for it")
        self._camera.close()
        while not self._stopped.wait(RETRY):
            try:
                self._camera.open()
            except CameraGone:
                continue
            self._say(f"{self._camera.name} is back")
            return
