"""What became of every image of a preprocessed folder: a line of JSON each, in ``manifest/*.jsonl``.

Every process that writes has a file of its own, so that many of them, on many hosts, fill one folder without talking
to each other. Lines are only ever appended; where an image has several (it changed, it failed and was done
again), the latest counts. A line that a killed process left unfinished is dropped.

Nothing here grows with the number of images but ``ManifestIndex``, by 32 bytes each.
"""

from __future__ import annotations

import array
import contextlib
import dataclasses
import hashlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np

FOLDER = "manifest"
Status = Literal["ok", "no face", "error"]
STATUSES: tuple[Status, ...] = ("ok", "no face", "error")


class ManifestError(RuntimeError):
    """A manifest that is missing, damaged or written to by another process; the message says which."""


@dataclasses.dataclass(frozen=True)
class Record:
    """One image, or one frame of a video.

    Attributes:
        key: which image: its path relative to what was preprocessed, with the name of that in front.
        status: ``'ok'``, ``'no face'`` or ``'error'``.
        frame: number of the frame in a video, from 0; None for an image and for the video as a whole.
        reason: what went wrong or was ignored, for people.
        faces: ids of its stored faces, the largest first.
        source: path of the file as it was read.
        file: its size in bytes and its time of change in ns; another pair is another image.
        image_size: height and width in pixels, None if it could not be read.
        frames: of a video that was read to its end, on the line of the video as a whole.
        seconds: that its processing took.
        time: when the line was written, seconds since 1970.
    """

    key: str
    status: Status
    frame: int | None = None
    reason: str = ""
    faces: tuple[str, ...] = ()
    source: str = ""
    file: tuple[int, int] | None = None
    image_size: tuple[int, int] | None = None
    frames: int | None = None
    seconds: float = 0.0
    time: float = 0.0

    def to_line(self) -> bytes:
        values = {k: v for k, v in dataclasses.asdict(self).items() if v not in (None, "", ())}
        text = json.dumps(values, ensure_ascii=False, allow_nan=False) + "\n"
        return text.encode("utf-8", "surrogateescape")  # names of files need not be UTF-8

    @classmethod
    def from_line(cls, line: bytes) -> Record:
        """The other way.

        Raises:
            ValueError: not such a line.
        """
        try:
            values: dict[str, Any] = json.loads(line.decode("utf-8", "surrogateescape"))
            for name in ("faces", "file", "image_size"):
                if name in values:
                    values[name] = tuple(values[name])
            return cls(**values)
        except TypeError as error:
            raise ValueError(f"not a line of a manifest: {error}") from error


def key_hash(key: str, frame: int | None = None) -> str:
    """64 hexadecimal digits that stand for an image or a frame, the same on every host."""
    name = key if frame is None else f"{key}#{frame}"
    return hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()


class ManifestWriter:
    """Appends records to one file of a folder's manifest. A context manager.

    Args:
        folder: the preprocessed folder.
        name: of the file, without suffix; no other process may write under the same name at the same time.

    Raises:
        ManifestError: another process writes under this name.
        OSError: the folder cannot be written.
    """

    def __init__(self, folder: str | Path, name: str):
        self.path = Path(folder) / FOLDER / f"{name}.jsonl"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            _lock(self._file, self.path)
            _cut_unfinished_line(self._file)
        except BaseException:
            os.close(self._file)
            raise

    def write(self, record: Record) -> None:
        """Appends one record, stamped with the time.

        Raises:
            OSError: it cannot be written: the disk is full.
        """
        rest = memoryview(dataclasses.replace(record, time=time.time()).to_line())
        while rest:  # on a full disk a part may go through before the error
            rest = rest[os.write(self._file, rest) :]

    def close(self) -> None:
        os.close(self._file)

    def __enter__(self) -> ManifestWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class ManifestIndex:
    """Where in the manifest each image's latest record stands: 32 bytes an image, in an order that depends on
    their names alone.

    Args:
        folder: the preprocessed folder.

    Raises:
        ManifestError: a line in the middle of a file is not a record.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.files = sorted((self.folder / FOLDER).glob("*.jsonl"))
        columns = [array.array(kind) for kind in "QdIQII"]
        for number, path in enumerate(self.files):
            for offset, line in _whole_lines(path):
                try:
                    record = Record.from_line(line)
                except ValueError as error:
                    raise ManifestError(f"{path} is damaged at byte {offset}: {error}") from error
                values = (
                    _short(record.key, record.frame),
                    record.time,
                    number,
                    offset,
                    len(line),
                    len(record.faces),
                )
                for column, value in zip(columns, values, strict=True):
                    column.append(value)
        hashes, times, *rest = (np.array(column) for column in columns)
        order = np.lexsort((times, hashes))
        hashes = hashes[order]
        latest = np.append(hashes[1:] != hashes[:-1], True) if len(hashes) else np.zeros(0, bool)
        self._hashes = hashes[latest]
        self._file, self._offset, self._length, self._faces = (column[order][latest] for column in rest)

    def __len__(self) -> int:
        return len(self._hashes)

    def record(self, index: int) -> Record:
        """The latest record of one image, read from its file."""
        with self.files[self._file[index]].open("rb") as stream:
            stream.seek(int(self._offset[index]))
            return Record.from_line(stream.read(int(self._length[index])))

    def find(self, key: str, frame: int | None = None) -> Record | None:
        """The latest record of an image; None if it has none."""
        wanted = np.uint64(_short(key, frame))
        index = int(np.searchsorted(self._hashes, wanted))
        if index == len(self) or self._hashes[index] != wanted:
            return None
        return self.record(index)

    def __iter__(self) -> Iterator[Record]:
        """The merged view: the latest record of every image."""
        return (self.record(index) for index in range(len(self)))

    def face_counts(self) -> np.ndarray:
        """``(n,)`` faces of each image."""
        return self._faces


def count_statuses(folder: str | Path) -> dict[str, int]:
    """How many images a preprocessed folder has in each state, and ``faces`` in all; lines of whole videos apart."""
    counts = dict.fromkeys(STATUSES, 0) | {"faces": 0}
    for record in ManifestIndex(folder):
        if record.frames is None:
            counts[record.status] += 1
            counts["faces"] += len(record.faces)
    return counts


def _short(key: str, frame: int | None) -> int:
    return int(key_hash(key, frame)[:16], 16)


def _whole_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """(offset, line) of every finished line."""
    offset = 0
    with path.open("rb") as stream:
        for line in stream:
            if line.endswith(b"\n"):
                yield offset, line
            offset += len(line)


def _cut_unfinished_line(file: int) -> None:
    """Removes what follows the last line end: a process was killed, or the disk was full, in the middle of it."""
    size = os.fstat(file).st_size
    end, block = size, 1 << 16
    while end > 0:
        start = max(0, end - block)
        found = os.pread(file, end - start, start).rfind(b"\n")
        if found >= 0:
            end = start + found + 1
            break
        end = start
    if end < size:
        os.ftruncate(file, end)


def _lock(file: int, path: Path) -> None:
    """Until the process ends, however it ends."""
    with contextlib.suppress(ImportError):  # no such locks on Windows
        import fcntl

        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ManifestError(
                f"another process is writing {path}: give every process a --shard of its own"
            ) from None
