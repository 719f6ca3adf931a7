"""Finding the photographs of a run, and naming their output files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from n2f_jax.data.images import IMAGE_SUFFIXES


def find_photos(paths: Iterable[str | Path], output: Path | None = None) -> list[Path]:
    """Photos named by files and folders, in order, each once.

    A file is taken whatever it is called, and even if it does not exist (the run reports it); a folder gives
    every file in it, at any depth, with the suffix of an image, except hidden ones and those under
    ``output``.
    """
    found: dict[Path, Path] = {}
    for path in map(Path, paths):
        inside = sorted(path.rglob("*")) if path.is_dir() else [path]
        for file in inside:
            if path.is_dir():
                hidden = any(part.startswith(".") for part in file.relative_to(path).parts)
                is_output = output is not None and output.resolve() in file.resolve().parents
                if hidden or is_output or not file.is_file() or file.suffix.lower() not in IMAGE_SUFFIXES:
                    continue
            found.setdefault(file.resolve(), file)
    return list(found.values())


def output_names(photos: Sequence[Path], earlier: Mapping[Path, str] | None = None) -> list[str]:
    """A name for each photo's files: its stem, with suffix, folder or number where that is not unique.

    Names that differ in case only count as the same, and none can be mistaken for another's second face.

    Args:
        photos: in order.
        earlier: names of earlier runs into the same folder by resolved path: a photo keeps its name, and no
            other photo gets it.
    """
    earlier = earlier or {}
    taken = {name.lower() for name in earlier.values()}
    names = []
    stems = [photo.stem.lower() for photo in photos]
    for photo in photos:
        if photo.resolve() in earlier:
            names.append(earlier[photo.resolve()])
            continue
        clash = stems.count(photo.stem.lower()) > 1 or re.search(
            r"_(face\d+|overlay|picture)$", photo.stem.lower()
        )
        options = [] if clash else [photo.stem]
        with_suffix = f"{photo.stem}_{photo.suffix[1:]}"
        options += [with_suffix, f"{photo.parent.name}_{with_suffix}"]
        options += [f"{with_suffix}_{number}" for number in range(2, len(photos) + 3)]
        name = next(option for option in options if option.lower() not in taken)
        taken.add(name.lower())
        names.append(name)
    return names
