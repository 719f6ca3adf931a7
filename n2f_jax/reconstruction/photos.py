"""Finding the photographs of a run, and naming their output files."""

from __future__ import annotations

import collections
import errno
import functools
import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path

from n2f_jax.data.image_files import SkippedFiles, is_image_file, walk_files
from n2f_jax.runtime.paths import is_folder, real_path

# Bytes of a photo's own part of its output names: file systems end at 255, and suffixes, a folder's part and a number
# have to go with it.
_LONGEST_STEM, _LONGEST_PART = 160, 30


def find_photos(
    paths: Iterable[str | Path], output: Path | None = None, skipped: SkippedFiles | None = None
) -> list[Path]:
    """Photos named by files and folders, in order, each once.

    A file is taken whatever it is called, and even if it does not exist (the run reports it); a folder gives
    every image in it (``is_image_file``), at any depth, through links as well, except hidden ones and those under
    ``output``.

    Args:
        paths: files and folders.
        output: where the run writes.
        skipped: gets what is passed over in the folders and is neither hidden nor under ``output``, folders that
            cannot be listed, and links in a circle.
    """
    skipped = SkippedFiles() if skipped is None else skipped
    found: dict[Path, Path] = {}
    searched: set[Hashable] = set()
    real_folder = functools.cache(real_path)  # once a folder, not once a file
    for path in map(Path, paths):
        if not is_folder(path):
            if _is_circle(path):
                skipped.add(str(path), "this link leads in a circle")
            else:
                found.setdefault(real_path(path), path)
            continue
        for item in sorted(walk_files(path, exclude=output, seen=searched), key=lambda item: item.within):
            if item.problem or not is_image_file(item.path):
                skipped.add(str(item.path), item.problem)
            else:
                file = item.path
                real = real_path(file) if file.is_symlink() else real_folder(file.parent) / file.name
                found.setdefault(real, file)
    return list(found.values())


def _is_circle(path: Path) -> bool:
    try:
        path.stat()
    except OSError as error:
        return error.errno == errno.ELOOP
    return False


def output_names(photos: Sequence[Path], earlier: Mapping[Path, str] | None = None) -> list[str]:
    """A name for each photo's files: its stem, with suffix, folder or number where that is not unique.

    Names that differ in case only count as the same, and none can be mistaken for another's second face. What cannot be
    printed (line ends, bytes that are no UTF-8) becomes ``_``, and a long stem is cut.

    Args:
        photos: in order.
        earlier: names of earlier runs into the same folder by resolved path: a photo keeps its name, and no
            other photo gets it.
    """
    earlier = earlier or {}
    taken = {name.lower() for name in earlier.values()}
    names = []
    stems = [_plain(photo.stem, _LONGEST_STEM) for photo in photos]
    count = collections.Counter(stem.lower() for stem in stems)
    for photo, stem in zip(photos, stems, strict=True):
        if (real := real_path(photo)) in earlier:
            names.append(earlier[real])
            continue
        clash = count[stem.lower()] > 1 or re.search(r"_(face\d+|overlay|picture)$", stem.lower())
        options = [] if clash else [stem]
        with_suffix = f"{stem}_{_plain(photo.suffix[1:], _LONGEST_PART)}"
        options += [with_suffix, f"{_plain(photo.parent.name, _LONGEST_PART)}_{with_suffix}"]
        options += [f"{with_suffix}_{number}" for number in range(2, len(photos) + 3)]
        name = next(option for option in options if option.lower() not in taken)
        taken.add(name.lower())
        names.append(name)
    return names


def _plain(text: str, longest: int) -> str:
    """A part of a file's name that can be printed, of at most ``longest`` bytes."""
    text = "".join(letter if letter.isprintable() else "_" for letter in text)
    text = text.encode("utf-8")[:longest].decode("utf-8", "ignore")
    return text if text.strip(".") else f"_{text}"
