"""What became of every image of a preprocessed folder: a line of JSON each, in ``manifest/*.jsonl``.

Every process that writes has a file of its own, so that many of them, on many hosts, fill one folder without talking
to each other. Lines are only ever appended; where an image has several (it changed, it failed and was done
again), the latest counts. A line that a killed process left unfinished is dropped.

Nothing here grows with the number of images but ``ManifestIndex``, by 32 bytes each.
"""

from __future__ import annotations

import array
import dataclasses
import hashlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np

from n2f_jax.runtime.json_values import (
    check_fields,
    is_list_of,
    is_number,
    is_path_within,
    is_text,
    is_whole_number,
    or_null,
    parse_json,
)
from n2f_jax.runtime.locks import lock_file

FOLDER = "manifest"
Status = Literal["ok", "no face", "error", "cut off"]
STATUSES: tuple[Status, ...] = ("ok", "no face", "error")  # of an image
CUT_OFF: Status = "cut off"  # of a video as a whole


class ManifestError(RuntimeError):
    """A manifest that is missing, damaged or written to by another process; the message says which."""


@dataclasses.dataclass(frozen=True)
class Record:
    """One image, or one frame of a video.

    Attributes:
        key: which image: its path relative to what was preprocessed, with the name of that in front.
        status: ``'ok'``, ``'no face'`` or ``'error'``; of a video as a whole also ``'cut off'``: it has fewer frames
            that can be read than it says.
        frame: number of the frame in a video, from 0; None for an image and for the video as a whole.
        reason: what went wrong or was ignored, for people.
        faces: ids of its stored faces, the largest first.
        sizes: of their files, in bytes; none in older manifests.
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
    sizes: tuple[int, ...] = ()
    source: str = ""
    file: tuple[int, int] | None = None
    image_size: tuple[int, int] | None = None
    frames: int | None = None
    seconds: float = 0.0
    time: float = 0.0

    def to_line(self) -> bytes:
        values = {k: v for k, v in dataclasses.asdict(self).items() if v not in (None, "", ())}
        text = json.dumps(values, ensure_ascii=False, allow_nan=False) + "\n"
        # Names of files need not be UTF-8; the line is: JSON's own escapes stand for what is not.
        return text.encode("utf-8", "backslashreplace")

    @classmethod
    def from_line(cls, line: bytes) -> Record:
        """The other way.

        Raises:
            ValueError: not such a line.
        """
        values = check_fields(parse_json(line.decode("utf-8", "surrogateescape")), _CHECKS)
        for name in ("faces", "sizes", "file", "image_size"):
            if values.get(name) is not None:
                values[name] = tuple(values[name])
        try:
            record = cls(**values)
        except TypeError as error:  # without a key or a status
            raise ValueError(f"not a line of a manifest: {error}") from error
        if record.status == CUT_OFF and record.frames is None:
            raise ValueError("'cut off' without a number of frames")
        if record.sizes and len(record.sizes) != len(record.faces):
            raise ValueError(f"{len(record.faces)} faces with {len(record.sizes)} sizes")
        return record


_CHECKS = {
    "key": is_text,
    "status": lambda value: value in (*STATUSES, CUT_OFF),
    "frame": or_null(is_whole_number),
    "reason": lambda value: isinstance(value, str),
    "faces": is_list_of(is_path_within),
    "sizes": is_list_of(is_whole_number),
    "source": is_text,
    "file": or_null(is_list_of(is_whole_number, 2)),
    "image_size": or_null(is_list_of(is_whole_number, 2)),
    "frames": or_null(is_whole_number),
    "seconds": is_number,
    "time": is_number,
}


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
            lock_file(self._file)
            _cut_unfinished_line(self._file)
        except BlockingIOError:
            os.close(self._file)
            raise ManifestError(
                f"another process is writing {self.path}: give every process a --shard of its own"
            ) from None
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
        """The latest record of one image, read from its file.

        Raises:
            ManifestError: it has changed since the index was made.
        """
        path = self.files[self._file[index]]
        with path.open("rb") as stream:
            stream.seek(int(self._offset[index]))
            try:
                return Record.from_line(stream.read(int(self._length[index])))
            except ValueError as error:
                raise ManifestError(f"{path} has changed: {error}") from error

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
    """How many images a preprocessed folder has in each state, and ``faces`` in all.

    Whole videos are no images; where any is cut off, ``cut off`` says how many are.
    """
    counts: dict[str, int] = dict.fromkeys(STATUSES, 0) | {"faces": 0}
    for record in ManifestIndex(folder):
        if record.frames is None:
            counts[record.status] += 1
            counts["faces"] += len(record.faces)
        elif record.status == CUT_OFF:
            counts[CUT_OFF] = counts.get(CUT_OFF, 0) + 1
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
