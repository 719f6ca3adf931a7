"""What is to be preprocessed: files, folders, patterns and videos, named the same on every host.

Nothing here is held in memory but one folder's open listing: a million files are walked, not collected.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from n2f_jax.data.images import IMAGE_SUFFIXES
from n2f_jax.data.manifest import key_hash
from n2f_jax.frontends.pixel3dmm.folder import is_frame_folder

VIDEO_SUFFIXES = frozenset({".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg"})
_MAGIC = frozenset("*?[")


class InputError(ValueError):
    """An input that is not there or has no clear name; the message says what to give instead."""


@dataclasses.dataclass(frozen=True)
class Source:
    """One file to preprocess.

    Attributes:
        key: its name in the manifest: the input's name, then the path within the input.
        path: the file.
        problem: why it cannot even be examined (a folder that may not be listed), or "".
    """

    key: str
    path: Path
    problem: str = ""

    @property
    def is_video(self) -> bool:
        return self.path.suffix.lower() in VIDEO_SUFFIXES


@dataclasses.dataclass(frozen=True)
class Input:
    """One argument.

    Attributes:
        name: what its keys begin with.
        root: the folder that its paths are relative to.
        pattern: what a path within the root must match, ``/`` between folders, ``**`` for any number of them; None: a
            folder, of which every image and video is taken.
        file: the only file, if the argument was one.
    """

    name: str
    root: Path
    pattern: tuple[str, ...] | None = None
    file: Path | None = None

    def walk(self, exclude: Path | None = None) -> Iterator[Source]:
        """Its files, in the order that the file system lists them.

        Args:
            exclude: a folder to leave out: the output.
        """
        if self.file is not None:
            yield Source(f"{self.name}/{self.file.name}", self.file)
            return
        excluded = exclude.resolve() if exclude is not None else None
        yield from self._walk(self.root, (), excluded, ())

    def _walk(
        self, folder: Path, within: tuple[str, ...], exclude: Path | None, above: tuple[tuple[int, int], ...]
    ) -> Iterator[Source]:
        try:
            stat = folder.stat()
            identity = (stat.st_dev, stat.st_ino)
            if identity in above or (exclude is not None and folder.resolve() == exclude):
                return  # a link that leads back up, or our own output
            if is_frame_folder(folder):  # of Pixel3DMM's: the rest was made of what is there
                yield from self._walk(folder / "rgb", (*within, "rgb"), exclude, (*above, identity))
                return
            listing = os.scandir(folder)
        except OSError as error:
            key = "/".join((self.name, *within))
            yield Source(key, folder, f"this folder cannot be listed: {error.strerror or error}")
            return
        with listing:
            for entry in listing:
                if entry.name.startswith("."):
                    continue
                path = (*within, entry.name)
                if entry.is_dir():
                    yield from self._walk(folder / entry.name, path, exclude, (*above, identity))
                elif self._takes(path):
                    yield Source("/".join((self.name, *path)), folder / entry.name)

    def _takes(self, path: tuple[str, ...]) -> bool:
        if self.pattern is not None:
            return _matches(path, self.pattern)
        return os.path.splitext(path[-1])[1].lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES  # noqa: PTH122


def parse_inputs(arguments: Sequence[str]) -> list[Input]:
    """Command line arguments: ``PATH``, ``PATTERN`` or ``NAME=PATH``, a path being a file or a folder.

    The name of a folder is its last part; of a file, its folder's; of a pattern, that of the folder before the first
    wildcard. Keys begin with it and not with the whole path, so that data that lie elsewhere on another host, or were
    moved, are the same data. Two different inputs of one name need ``NAME=PATH``.

    Raises:
        InputError: a path that does not exist, or two inputs that would share a name.
    """
    inputs: dict[tuple, Input] = {}
    for argument in arguments:
        name, text = None, argument
        if "=" in argument and not os.path.lexists(argument):
            name, text = argument.split("=", 1)
            if not name or "/" in name or name in (".", ".."):
                raise InputError(f"{argument!r}: an input's name is one word without a slash")
        item = _parse(text, name)
        inputs.setdefault((item.name, item.root, item.pattern, item.file), item)
    roots: dict[str, Path] = {}
    for item in inputs.values():
        other = roots.setdefault(item.name, item.root)
        if other != item.root:
            raise InputError(
                f"{other} and {item.root} would both be called {item.name!r} in the manifest: give one of them a "
                f"name of its own, NAME={item.root}"
            )
    folders = {
        (item.name, item.root) for item in inputs.values() if item.file is None and item.pattern is None
    }
    return [
        item
        for item in inputs.values()
        if (item.file is None and item.pattern is None) or (item.name, item.root) not in folders
    ]


def walk(inputs: Sequence[Input], exclude: Path, shard: tuple[int, int]) -> Iterator[Source]:
    """The files of one shard of all inputs."""
    index, count = shard
    return (source for item in inputs for source in item.walk(exclude) if in_shard(source.key, index, count))


def in_shard(key: str, index: int, count: int) -> bool:
    """Whether a file is one process's; decided by its key alone, so no process needs to know the others'."""
    return int(key_hash(key)[16:32], 16) % count == index


def _parse(text: str, name: str | None) -> Input:
    path = Path.cwd() / Path(os.path.normpath(text))  # not resolved: a link is a name that the user gave
    if path.is_dir():
        return Input(name or path.name or "root", path)
    if path.exists():
        return Input(name or path.parent.name or "root", path.parent, file=path)
    parts = path.parts
    magic = next((i for i, part in enumerate(parts) if _MAGIC & set(part)), None)
    if magic is None:
        raise InputError(f"{text}: no such file or folder")
    root = Path(*parts[:magic])
    if not root.is_dir():
        raise InputError(f"{text}: there is no folder {root}")
    return Input(name or root.name or "root", root, pattern=parts[magic:])


def _matches(path: tuple[str, ...], pattern: tuple[str, ...]) -> bool:
    if not pattern:
        return not path
    if pattern[0] == "**":
        return _matches(path, pattern[1:]) or bool(path and _matches(path[1:], pattern))
    return bool(path) and fnmatch.fnmatchcase(path[0], pattern[0]) and _matches(path[1:], pattern[1:])
