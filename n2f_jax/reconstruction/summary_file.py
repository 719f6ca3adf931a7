"""Reading ``summary.json``: what earlier runs made of their photographs."""

from __future__ import annotations

import collections
from pathlib import Path
from typing import Any

from n2f_jax.reconstruction.summary import STATUSES, WITH_HEADS, Entry
from n2f_jax.runtime.display import printable
from n2f_jax.runtime.json_values import (
    check_fields,
    is_dict_of,
    is_file_name,
    is_list_of,
    is_number,
    is_text,
    is_whole_number,
    or_null,
    parse_json,
)
from n2f_jax.runtime.paths import real_path


class SummaryError(ValueError):
    """A summary that cannot be read; the message names the file, the fault and what to do."""


_FACE = {
    "files": is_dict_of(is_file_name),
    "score": or_null(is_number),
    "confidence": or_null(is_number),
    "region_confidence": is_dict_of(or_null(is_number)),
    "crop": is_list_of(or_null(is_number)),
    "focal": or_null(is_number),
    "focal_source": is_text,
    "alignment": is_text,
    "pitch_yaw_roll_degrees": is_list_of(or_null(is_number), 3),
    "distance_metres": or_null(is_number),
    "landmark_gap_percent": or_null(is_number),
}

_ENTRY = {
    "source": lambda value: is_text(value) and value != "",
    "name": is_file_name,
    "status": lambda value: value in STATUSES,
    "message": lambda value: isinstance(value, str),
    "resumed": lambda value: isinstance(value, bool),
    "image_size": or_null(is_list_of(is_whole_number, 2)),
    "seconds": or_null(is_number),
    "overlay": or_null(is_file_name),
    "faces": is_list_of(lambda value: isinstance(value, dict)),
    "sizes": is_dict_of(is_whole_number),
    "fingerprint": lambda value: isinstance(value, str),
    "focal_note": lambda value: isinstance(value, str),
}


def read_entries(path: Path) -> dict[Path, Entry]:
    """Photos of an earlier summary by their path without links; none where there is no summary.

    What a run did not reach stands as the run before left it.

    Raises:
        SummaryError: it cannot be read, is cut short, or holds what no run writes: files elsewhere, say. To go on
            without it would be to forget whose the files in the folder are, and to write over them.
    """
    entries: dict[Path, Entry] = {}
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError("it is no object")
        for part in ("earlier", "photos"):
            photos = content.get(part)
            if not isinstance(photos, list):
                raise ValueError(f"{part!r} is no list")
            for number, photo in enumerate(photos):
                try:
                    entry = _entry(photo)
                except ValueError as error:
                    raise ValueError(f"{part}[{number}]: {error}") from error
                place = real_path(Path(entry.source))
                if entry.status != "not reached" or place not in entries:
                    entries[place] = entry
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise _damaged(path, error) from error
    names = collections.Counter(entry.name.lower() for entry in entries.values())
    if repeated := [name for name, count in names.items() if count > 1]:
        raise _damaged(path, ValueError(f"two photos are called {printable(repeated[0])}"))
    return entries


def _damaged(path: Path, error: Exception) -> SummaryError:
    return SummaryError(
        f"{path} is damaged ({error}): move it away, and its photographs are done again; or take another folder"
    )


def _entry(photo: Any) -> Entry:
    values = check_fields(photo, _ENTRY)
    if missing := {"source", "name"} - values.keys():
        raise ValueError(f"no {' and no '.join(sorted(missing))}")
    values["faces"] = [check_fields(face, _FACE) for face in values.get("faces", [])]
    if not all("files" in face for face in values["faces"]):
        raise ValueError("a face without files")
    entry = Entry(**values)
    if (entry.status in WITH_HEADS) != bool(entry.faces):
        raise ValueError(f"{entry.status!r} with {len(entry.faces)} faces")
    return entry
