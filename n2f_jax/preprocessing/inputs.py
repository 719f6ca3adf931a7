"""What is to be preprocessed: files, folders, patterns and videos, named the same on every host.

A million files are walked, not collected: held in memory are the open listings and which folders were searched.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from n2f_jax.data.image_files import SkippedFiles, is_image_file, walk_files
from n2f_jax.data.manifest import key_hash
from n2f_jax.frontends.pixel3dmm.folder import is_frame_folder
from n2f_jax.runtime.paths import is_folder

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
            folder, of which every image (``is_image_file``) and video is taken.
        file: the only file, if the argument was one.
        skipped: what the last whole walk passed over, of its shard: files of a folder that are neither hidden, nor
            in the output, nor an image or video. Of a pattern, only what matches it and cannot be opened.
    """

    name: str
    root: Path
    pattern: tuple[str, ...] | None = None
    file: Path | None = None
    skipped: SkippedFiles = dataclasses.field(default_factory=SkippedFiles, compare=False)

    def walk(self, exclude: Path | None = None, shard: tuple[int, int] = (0, 1)) -> Iterator[Source]:
        """Its files, in the order that the file system lists them, each folder once (``walk_files``).

        A file's key does not depend on that order, so that every process gives it to the same shard.

        Args:
            exclude: a folder to leave out: the output.
            shard: (index, count): only the files of this part; others are not opened to see what they are.
        """
        if self.file is not None:
            key = f"{self.name}/{self.file.name}"
            if in_shard(key, *shard):
                yield Source(key, self.file)
            return
        skipped = SkippedFiles()
        for found in walk_files(self.root, exclude=exclude, inside=_photographs, stage=self._stage):
            key = "/".join((self.name, *found.within))
            asked = self.pattern is None or len(self.pattern) in _places(found.within, self.pattern)
            if not (asked or found.is_folder) or not in_shard(key, *shard):
                continue
            if found.is_folder:
                yield Source(key, found.path, found.problem)
            elif found.problem:
                skipped.add(key, found.problem)
            elif self._takes(found.path):
                yield Source(key, found.path)
            else:
                skipped.add(key)
        self.skipped.__dict__.update(skipped.__dict__)

    def _takes(self, file: Path) -> bool:
        return self.pattern is not None or file.suffix.lower() in VIDEO_SUFFIXES or is_image_file(file)

    def _stage(self, within: tuple[str, ...]) -> frozenset[int] | None:
        """What of the pattern is left for a folder's files; None if they cannot match."""
        if self.pattern is None:
            return frozenset()
        return _places(within, self.pattern) - {len(self.pattern)} or None


def parse_inputs(arguments: Sequence[str]) -> list[Input]:
    """Command line arguments: ``PATH``, ``PATTERN`` or ``NAME=PATH``, a path being a file or a folder.

    The name of a folder is its last part; of a file, its folder's; of a pattern, that of the folder before the first
    wildcard. Keys begin with it and not with the whole path, so that data that lie elsewhere on another host, or were
    moved, are the same data. Two different inputs of one name need ``NAME=PATH``.

    Raises:
        InputError: a path at which there is nothing, or two inputs that would share a name.
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
    return (source for item in inputs for source in item.walk(exclude, shard))


def skipped_files(inputs: Sequence[Input]) -> SkippedFiles:
    """What the last whole walks of the inputs passed over, together."""
    together = SkippedFiles()
    for item in inputs:
        together.count += item.skipped.count
        together.names += item.skipped.names
        together.problems += item.skipped.problems
    return together


def in_shard(key: str, index: int, count: int) -> bool:
    """Whether a file is one process's; decided by its key alone, so no process needs to know the others'."""
    return int(key_hash(key)[16:32], 16) % count == index


def _parse(text: str, name: str | None) -> Input:
    path = Path.cwd() / Path(os.path.normpath(text))  # not resolved: a link is a name that the user gave
    if is_folder(path):
        return Input(name or path.name or "root", path)
    if os.path.lexists(path):  # a link to nowhere or in a circle, too: the run reports it and goes on
        return Input(name or path.parent.name or "root", path.parent, file=path)
    parts = path.parts
    magic = next((i for i, part in enumerate(parts) if _MAGIC & set(part)), None)
    if magic is None:
        raise InputError(f"{text}: no such file or folder")
    root = Path(*parts[:magic])
    if not is_folder(root):
        raise InputError(f"{text}: there is no folder {root}")
    return Input(name or root.name or "root", root, pattern=parts[magic:])


def _photographs(folder: Path) -> str | None:
    """Of a folder that Pixel3DMM wrote, where the photographs are: the rest was made of them."""
    return "rgb" if is_frame_folder(folder) else None


def _places(path: tuple[str, ...], pattern: tuple[str, ...]) -> frozenset[int]:
    """How many parts of the pattern a path can have used up: all of them if it matches, and none of these if nothing
    under it can."""
    places = _past_stars({0}, pattern)
    for name in path:
        taken = {
            place for place in places if place < len(pattern) and fnmatch.fnmatchcase(name, pattern[place])
        }
        places = _past_stars({place + (pattern[place] != "**") for place in taken}, pattern)
    return frozenset(places)


def _past_stars(places: set[int], pattern: tuple[str, ...]) -> set[int]:
    """With the places behind each ``**``, which may also stand for no folder at all."""
    for place in sorted(places):
        while place < len(pattern) and pattern[place] == "**":
            place += 1
            places.add(place)
    return places
