"""Why a sample has no prediction: what lies in the folder under another name."""

from __future__ import annotations

import functools
from collections.abc import Collection
from pathlib import Path, PurePosixPath


class MissingPredictions:
    """Says of samples that nothing was found for what may be meant for them.

    Args:
        folder: of one method's predictions.
        suffixes: of predictions.
        in_folder: names that the file in a sample's own folder may have, without suffix.
        used: what was found for other samples.
    """

    def __init__(
        self, folder: Path, suffixes: Collection[str], in_folder: Collection[str], used: Collection[Path]
    ):
        self._folder, self._suffixes = folder, tuple(suffixes)
        self._in_folder, self._used = frozenset(in_folder), frozenset(used)

    @functools.cached_property
    def _names(self) -> dict[PurePosixPath, PurePosixPath]:
        """What each unused file would be the prediction of → the file; both relative to the folder."""
        names = {}
        for path in sorted(self._folder.rglob("*")):
            if path.suffix in self._suffixes and path.is_file() and path not in self._used:
                file = PurePosixPath(path.relative_to(self._folder).as_posix())
                own = file.stem in self._in_folder or file.stem in (
                    file.parent.name,
                    f"{file.parent.name}_mesh",
                )
                names.setdefault(file.parent if own and file.parent.name else file.with_suffix(""), file)
        return names

    def reason(self, sample: str) -> str:
        """What to say of a sample without a prediction: the folder, and a file that differs by its folders alone."""
        text = f"no prediction {sample} in {self._folder}"
        if not self._names and not self._used:
            return f"{text}: it holds no {', '.join(self._suffixes)} at all"
        wanted = PurePosixPath(sample)
        near = next((name for name in self._names if name.name == wanted.name), None)
        if near is None:
            other = (
                ""
                if self._used
                else f": its files are called {next(iter(self._names.values()))} and the like"
            )
            return text + other
        found, file = near.parent.parts, self._names[near]
        asked = wanted.parent.parts
        if asked[len(asked) - len(found) :] == found:
            lacking = "/".join(asked[: len(asked) - len(found)])
            what = (
                f"put predictions under {lacking}/, or give the folder {lacking} of the ground truth itself"
            )
        elif found[len(found) - len(asked) :] == asked:
            what = f"give {self._folder.joinpath(*found[: len(found) - len(asked)])} as the folder of predictions"
        else:
            what = "predictions are called as their samples"
        return f"{text}; there is {file}: {what}"
