"""Frames of a clip with their moments: a video file (PyAV), a folder of images, or a pattern of image files.

Frames come one after the other and are never sought: in many files a sought frame is another one. Moments are the
file's own timestamps, so a variable frame rate is read as it is; frames are upright as the file says.
"""

from __future__ import annotations

import contextlib
import dataclasses
import queue
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from n2f_jax.data.image_files import is_image_file
from n2f_jax.data.images import ImageError, read_image
from n2f_jax.runtime.display import printable

DEFAULT_RATE = 25.0  # of folders of images, and of files that do not say
MAX_PIXELS = 1 << 26  # of a frame: 8192²
_AHEAD = 4  # frames decoded ahead of use
# Formats that hold what they show. Playlists and the like, which would open other files, are not read.
_FORMATS = frozenset(
    {
        "mov",
        "mp4",
        "m4a",
        "3gp",
        "mj2",
        "matroska",
        "webm",
        "avi",
        "mpeg",
        "mpegts",
        "flv",
        "asf",
        "ogg",
        "gif",
    }
)
_MAGIC = frozenset("*?[")
_END = object()


class ClipError(ValueError):
    """What cannot be read as a clip; the message names it and says why."""


@dataclasses.dataclass(frozen=True)
class Frame:
    """One frame.

    Attributes:
        index: from 0.
        seconds: since the first frame; rising.
        image: ``(H, W, 3)`` uint8 RGB, upright.
    """

    index: int
    seconds: float
    image: UInt8[np.ndarray, "H W 3"]


@dataclasses.dataclass
class Clip:
    """A clip that was looked at once: its first frame can be read.

    Attributes:
        path: as given.
        size: height and width of the upright frames.
        rate: frames a second, on average, as the file says.
        said: how many frames it says it has; 0 where it does not say.
        images: the files of a folder or pattern, in order; None of a video.
        read: how many frames the last reading gave.
        faulty: how many pieces of it could not be decoded.
    """

    path: Path
    size: tuple[int, int]
    rate: float
    said: int
    images: list[Path] | None = None
    read: int = 0
    faulty: int = 0

    def frames(self, start: int = 0) -> Iterator[Frame]:
        """Frames from number ``start`` on, decoded in a thread ahead of their use.

        Raises:
            ClipError: an image cannot be read, or frames change their size.
        """
        ahead: queue.Queue[Any] = queue.Queue(_AHEAD)
        stopped = threading.Event()

        def put(item: Any) -> bool:
            while not stopped.is_set():
                with contextlib.suppress(queue.Full):
                    ahead.put(item, timeout=0.1)
                    return True
            return False

        def work() -> None:
            try:
                for frame in self._frames(start):
                    if not put(frame):
                        return
                put(_END)
            except BaseException as error:
                put(error)

        thread = threading.Thread(target=work, daemon=True, name="clip")
        thread.start()
        try:
            while (item := ahead.get()) is not _END:
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            stopped.set()
            thread.join()

    def pictures(self, wanted: Callable[[int], bool]) -> Iterator[Frame]:
        """A video's frames of any size whose numbers are wanted, each decoded when it is asked for; the others cost as
        little as can be. How many there were is ``read`` at the end."""
        self.read, self.faulty = 0, 0
        return self._of_video(0, wanted)

    def _frames(self, start: int) -> Iterator[Frame]:
        self.read, self.faulty = 0, 0
        read = self._of_images(start) if self.images is not None else self._of_video(start)
        for frame in read:
            if frame.image.shape[:2] != self.size:
                height, width = frame.image.shape[:2]
                raise ClipError(
                    f"{printable(self.path)}: frame {frame.index} is {width} × {height}, the first one "
                    f"{self.size[1]} × {self.size[0]}: a clip's frames are of one size"
                )
            yield frame

    def _of_images(self, start: int) -> Iterator[Frame]:
        assert self.images is not None
        for index in range(start, len(self.images)):
            try:
                image, _ = read_image(self.images[index])
            except (ImageError, OSError) as error:
                raise ClipError(f"frame {index}: {error}") from error
            self.read = index + 1
            yield Frame(index, index / self.rate, image)

    def _of_video(self, start: int, wanted: Callable[[int], bool] = lambda number: True) -> Iterator[Frame]:
        av = pyav()
        with _opened(self.path) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            first, last, index = None, -np.inf, 0
            for packet in _packets(container, stream, self):
                try:
                    decoded = packet.decode()
                except av.FFmpegError:
                    self.faulty += 1
                    continue
                for frame in decoded:
                    moment = float(frame.time) if frame.time is not None else index / self.rate
                    first = moment if first is None else first
                    # Moments rise, whatever a damaged file says of them.
                    seconds = moment - first if moment - first > last else last + 0.5 / self.rate
                    last = seconds
                    index += 1
                    self.read = index
                    if index > start and wanted(index - 1):
                        yield Frame(index - 1, seconds, _upright(frame))

    @property
    def problem(self) -> str:
        """What was wrong with the last reading, or "": it ended early, or pieces were damaged."""
        if self.images is None and self.said and self.read < self.said - 1:
            return f"cut off: {self.read} of {self.said} frames can be read"
        return f"{self.faulty} pieces of it cannot be decoded" if self.faulty else ""


def open_clip(path: str | Path, rate: float | None = None) -> Clip:
    """Looks at a clip.

    Args:
        path: a video file, a folder of images (in the order of the numbers in their names), or a pattern of image files
            with ``*``.
        rate: frames a second of images; 25 if None. A video has its own.

    Raises:
        ClipError: it is no such thing, it cannot be opened, or it holds no frame.
        FileNotFoundError: there is none.
        ImportError: PyAV is missing (extra ``track``).
    """
    path = Path(path)
    if path.is_dir():
        images = sorted((p for p in path.iterdir() if is_image_file(p)), key=_natural)
        return _clip_of_images(path, images, rate)
    if _MAGIC & set(path.name) and not path.exists():
        return _clip_of_images(path, sorted(path.parent.glob(path.name), key=_natural), rate)
    if not path.exists():
        raise FileNotFoundError(f"{printable(path)}: no such file or folder")
    if not path.is_file():
        raise ClipError(f"{printable(path)}: no regular file")
    if rate is not None:
        raise ClipError("a video has its own moments: --fps is for folders of images")
    with _opened(path) as container:
        stream = container.streams.video[0]
        if (stream.width or 0) * (stream.height or 0) > MAX_PIXELS:
            raise ClipError(
                f"{printable(path)}: frames of {stream.width} × {stream.height} pixels are too large"
            )
        mean = stream.average_rate or stream.guessed_rate
        rate = float(mean) if mean and 0.01 < float(mean) < 1e4 else DEFAULT_RATE
        clip = Clip(path, (0, 0), rate, max(0, int(stream.frames or 0)))
    try:
        clip.size = next(_raw_sizes(clip))
    except StopIteration:
        raise ClipError(f"{printable(path)}: no frame of it can be decoded") from None
    return clip


def _raw_sizes(clip: Clip) -> Iterator[tuple[int, int]]:
    reading = clip._of_video(0)
    try:
        for frame in reading:
            yield frame.image.shape[0], frame.image.shape[1]
    finally:
        reading.close()


def count_said(path: str | Path) -> int:
    """How many frames a video says it has, else about how many by its length; 0 where neither is said, or it is none.

    Raises:
        ImportError: PyAV is missing (extra ``track``).
    """
    av = pyav()
    try:
        with _opened(Path(path)) as container:
            stream = container.streams.video[0]
            if stream.frames:
                return max(0, int(stream.frames))
            rate = stream.average_rate or stream.guessed_rate
            if stream.duration is not None and stream.time_base is not None:
                seconds = float(stream.duration * stream.time_base)
            else:
                seconds = float(container.duration or 0) / av.time_base
            return max(0, round(seconds * float(rate))) if rate and seconds < 1e9 else 0
    except ClipError:
        return 0


def _clip_of_images(path: Path, images: list[Path], rate: float | None) -> Clip:
    if not images:
        raise ClipError(f"{printable(path)}: no images")
    rate = DEFAULT_RATE if rate is None else rate
    if not 0.01 < rate < 1e4:
        raise ClipError(f"a clip has 0.01 to 10,000 frames a second, not {rate:g}")
    try:
        image, _ = read_image(images[0])
    except (ImageError, OSError) as error:
        raise ClipError(f"frame 0: {error}") from error
    return Clip(path, image.shape[:2], rate, len(images), images)


def _natural(path: Path) -> tuple[list[tuple[int, str]], str]:
    """Numbers in names count as numbers: frame2 comes before frame10."""
    parts = re.split(r"(\d+)", path.name)
    return [(int(part[:18]), "") if part.isdecimal() else (-1, part) for part in parts], path.name


def pyav() -> Any:
    """The module ``av``, imported where it is needed.

    Raises:
        ImportError: it is missing; the message says how to install it.
    """
    try:
        import av
    except ImportError as error:
        raise ImportError("reading and writing videos needs PyAV: pip install 'n2f-jax[track]'") from error
    return av


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    av = pyav()
    try:
        container = av.open(
            str(path.absolute()), options={"protocol_whitelist": "file"}, metadata_errors="ignore"
        )
    except (av.FFmpegError, OSError, ValueError) as error:
        raise ClipError(f"{printable(path)}: not a video that can be read, or damaged") from error
    try:
        if not _FORMATS & set(container.format.name.split(",")):
            raise ClipError(f"{printable(path)}: {container.format.name} is no format of videos that is read")
        if not container.streams.video:
            raise ClipError(f"{printable(path)}: holds no video")
        yield container
    finally:
        container.close()


def _packets(container: Any, stream: Any, clip: Clip) -> Iterator[Any]:
    """Packets as far as the file can be read."""
    try:
        yield from container.demux(stream)
    except pyav().FFmpegError:
        clip.faulty += 1


def _upright(frame: Any) -> np.ndarray:
    image = frame.to_ndarray(format="rgb24")
    # How far the frame is to be turned counter-clockwise, in quarters.
    quarters = round(getattr(frame, "rotation", 0) / 90) % 4
    return np.ascontiguousarray(np.rot90(image, quarters)) if quarters else image
