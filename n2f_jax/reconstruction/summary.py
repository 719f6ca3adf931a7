"""What became of every photograph of a run: what ``summary.json`` holds, and the table on screen."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any, Literal

import n2f_jax
from n2f_jax.data.image_files import SkippedFiles
from n2f_jax.frontends.face_confidence import REGIONS
from n2f_jax.reconstruction.head import Head
from n2f_jax.runtime.display import printable, printable_lines
from n2f_jax.runtime.json_values import jsonable
from n2f_jax.runtime.output_folder import EXIT_INTERRUPTED, EXIT_NOTHING, EXIT_OK, EXIT_PARTLY

MAX_ROWS = 60  # of the table on screen; beyond that only what went wrong

Status = Literal["done", "doubtful", "no face", "failed", "not reached"]
STATUSES: tuple[Status, ...] = ("done", "doubtful", "no face", "failed", "not reached")
# Statuses of photographs that gave heads.
WITH_HEADS = ("done", "doubtful")


@dataclasses.dataclass
class Entry:
    """One photo in the summary.

    Attributes:
        source: the photo's path, as given or as found in a folder.
        name: what its output files begin with.
        status: what became of it.
        message: one line for people.
        resumed: it was finished by an earlier run.
        image_size: height and width, None if it could not be read.
        seconds: reading, front end and writing; the network's share is that of its batch.
        overlay: file name of the whole photo with its meshes, or None.
        faces: for each head its files and figures (``describe_head``).
        sizes: of all output files by name, in bytes; a later run compares them.
        fingerprint: of the photo and all that decides its outputs; a later run compares it.
        focal_note: why EXIF's focal length was ignored, or "".
    """

    source: str
    name: str
    status: Status = "not reached"
    message: str = ""
    resumed: bool = False
    image_size: list[int] | None = None
    seconds: float = 0.0
    overlay: str | None = None
    faces: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    sizes: dict[str, int] = dataclasses.field(default_factory=dict)
    fingerprint: str = ""
    focal_note: str = ""

    def files(self) -> list[str]:
        """All output files, relative to the output folder."""
        listed = [file for face in self.faces for file in face["files"].values()]
        return listed + ([self.overlay] if self.overlay else [])


@dataclasses.dataclass
class Summary:
    """A whole run.

    Attributes:
        entries: the photos in order.
        settings: what was used for all of them.
        earlier: what earlier runs into the same folder made of photos that are not among these, or were not reached.
        stopped: why the run ended before its time, or "".
        interrupted: by the user.
        skipped: what the search of the folders passed over.
    """

    entries: list[Entry]
    settings: dict[str, Any]
    earlier: list[Entry] = dataclasses.field(default_factory=list)
    stopped: str = ""
    interrupted: bool = False
    skipped: SkippedFiles = dataclasses.field(default_factory=SkippedFiles)

    def count(self, status: Status) -> int:
        return sum(entry.status == status for entry in self.entries)

    @property
    def exit_code(self) -> int:
        """0: every photo gave a head to believe. 1: some did not, or the run was stopped. 2: not one could be read.
        130: interrupted."""
        if self.interrupted:
            return EXIT_INTERRUPTED
        if self.entries and all(entry.status == "failed" for entry in self.entries):
            return EXIT_NOTHING
        done = all(entry.status == "done" for entry in self.entries)
        return EXIT_OK if done and not self.stopped else EXIT_PARTLY

    def to_json(self) -> str:
        content = {
            "version": n2f_jax.__version__,
            "settings": self.settings,
            "counts": {status: self.count(status) for status in STATUSES},
            "stopped": self.stopped,
            "exit_code": self.exit_code,
            "skipped": dataclasses.asdict(self.skipped),
            "photos": [dataclasses.asdict(entry) for entry in self.entries],
            "earlier": [dataclasses.asdict(entry) for entry in self.earlier],
        }
        # ``write_text`` gives what is no UTF-8 in names as JSON's own escapes.
        return json.dumps(jsonable(content), indent=1, ensure_ascii=False, allow_nan=False) + "\n"

    def table(self) -> str:
        """For the screen: a line for each photo (beyond ``MAX_ROWS`` only what went wrong), and totals."""
        head = ("photo", "result", "faces", "confidence", "focal", "pitch/yaw/roll", "distance", "landmarks")
        entries = self.entries
        if len(entries) > MAX_ROWS:
            entries = [entry for entry in entries if entry.status != "done"]
        rows = [head, *(_table_row(entry) for entry in entries)]
        # What went wrong is a sentence and runs over the other columns.
        full = [row for row in rows if len(row) == len(head)]
        widths = [max(len(row[i]) for row in full) for i in range(len(head))]
        widths[0] = max(len(row[0]) for row in rows)
        lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=False)).rstrip() for row in rows]
        lines.insert(1, "-" * len("  ".join(" " * width for width in widths)))
        resumed = sum(entry.resumed for entry in self.entries)
        totals = [f"{self.count('done')} done" + (f" ({resumed} of them before)" if resumed else "")]
        for status in STATUSES[1:]:
            if self.count(status):
                totals.append(f"{self.count(status)} {status}")
        lines.append(f"{len(self.entries)} photos: {', '.join(totals)}")
        if self.stopped:
            lines.append(f"stopped: {printable(self.stopped)}")
        return printable_lines("\n".join(lines))


def describe_head(head: Head, files: dict[str, str]) -> dict[str, Any]:
    """What the summary holds of one head: its files, and figures for people."""
    pitch, yaw, roll = head.angles()
    return {
        "files": files,
        "score": head.frontend_score,
        "confidence": head.confidence,
        "region_confidence": dict(zip(REGIONS, head.region_confidence.tolist(), strict=True)),
        "crop": head.crop.tolist(),
        "focal": float(head.intrinsics[0, 0]),
        "focal_source": head.focal_source,
        "alignment": head.alignment,
        "pitch_yaw_roll_degrees": [round(x, 2) for x in (pitch, yaw, roll)],
        "distance_metres": float(head.translation[2]),
        # mean distance of the mesh's inner landmarks from the front end's, over the outer-eye distance
        "landmark_gap_percent": 100.0 * head.landmark_gap(),
    }


def _table_row(entry: Entry) -> tuple[str, ...]:
    if entry.status not in WITH_HEADS:
        return _shorten(entry.source), f"{entry.status}: {printable(entry.message)}"
    face = entry.faces[0]
    angles = face.get("pitch_yaw_roll_degrees") or ()
    return (
        _shorten(entry.source),
        f"{entry.status} before" if entry.resumed else entry.status,
        str(len(entry.faces)),
        _figure(face.get("confidence"), 2),
        f"{_figure(face.get('focal'), 0)} {face.get('focal_source', '')}",
        " ".join(_figure(angle, 0, sign="+") for angle in angles),
        _figure(face.get("distance_metres"), 2, " m"),
        _figure(face.get("landmark_gap_percent"), 1, " %"),
    )


def _figure(value: float | None, digits: int, unit: str = "", sign: str = "") -> str:
    return "" if value is None or not math.isfinite(value) else f"{value:{sign}.{digits}f}{unit}"


def _shorten(text: str, length: int = 48) -> str:
    text = printable(text)
    return text if len(text) <= length else f"…{text[1 - length :]}"
