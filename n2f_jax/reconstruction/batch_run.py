"""Many photographs to files: what ``scripts/reconstruct.py`` does.

One bad photo never stops the others, finished photos are not done again, and every file appears whole or not
at all.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import math
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image
from tqdm import tqdm

import n2f_jax
from n2f_jax.data.images import IMAGE_SUFFIXES, ImageError, read_image
from n2f_jax.geometry.focal import resolve_focal
from n2f_jax.mesh.writing import region_colors, write_glb, write_obj, write_ply
from n2f_jax.reconstruction.head import Head
from n2f_jax.reconstruction.reconstructor import Reconstructor
from n2f_jax.runtime.atomic_files import atomic_path
from n2f_jax.runtime.output_folder import (
    EXIT_INTERRUPTED,
    EXIT_NOTHING,
    EXIT_OK,
    EXIT_PARTLY,
    FATAL_ERRNOS,
    OutputError,
    describe_error,
    prepare_output,
)

FORMATS = ("npz", "obj", "glb", "ply")
SUMMARY = "summary.json"
SHEET = "sheet.png"
MAX_SHEET = 60  # photos on the contact sheet
MAX_ROWS = 60  # of the table on screen; beyond that only what went wrong

Status = Literal["done", "no face", "failed", "not reached"]


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """What to make of each photo.

    Attributes:
        formats: of ``FORMATS``.
        picture: also write the side-by-side picture of each head, the overlay of each photo and the sheet.
        max_faces: the largest faces of each photo; None for all.
        focal: in pixels of the original, for all photos; None for EXIF, else 1.2·max(H, W).
        overwrite: do finished photos again.
    """

    formats: tuple[str, ...] = ("npz", "obj", "glb")
    picture: bool = True
    max_faces: int | None = 1
    focal: float | None = None
    overwrite: bool = False

    def __post_init__(self):
        if unknown := set(self.formats) - set(FORMATS):
            raise ValueError(f"unknown formats {', '.join(sorted(unknown))}; there are {', '.join(FORMATS)}")
        if self.max_faces is not None and self.max_faces < 1:
            raise ValueError(f"at least one face a photo, not {self.max_faces}")
        if self.focal is not None:
            resolve_focal((1, 1), self.focal)


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
        faces: for each head its files and figures (``_describe``).
        fingerprint: of the photo and all that decides its outputs; a later run compares it.
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
    fingerprint: str = ""

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
        earlier: photos of earlier runs into the same folder, for later ones to know.
        stopped: why the run ended before its time, or "".
        interrupted: by the user.
    """

    entries: list[Entry]
    settings: dict[str, Any]
    earlier: list[Entry] = dataclasses.field(default_factory=list)
    stopped: str = ""
    interrupted: bool = False

    def count(self, status: Status) -> int:
        return sum(entry.status == status for entry in self.entries)

    @property
    def exit_code(self) -> int:
        """0: every photo gave a head. 1: some did not. 2: not one photo could be read. 130: interrupted."""
        if self.interrupted:
            return EXIT_INTERRUPTED
        if self.entries and all(entry.status == "failed" for entry in self.entries):
            return EXIT_NOTHING
        return EXIT_OK if all(entry.status == "done" for entry in self.entries) else EXIT_PARTLY

    def to_json(self) -> str:
        statuses = ("done", "no face", "failed", "not reached")
        content = {
            "version": n2f_jax.__version__,
            "settings": self.settings,
            "counts": {status: self.count(status) for status in statuses},
            "stopped": self.stopped,
            "exit_code": self.exit_code,
            "photos": [dataclasses.asdict(entry) for entry in self.entries],
            "earlier": [dataclasses.asdict(entry) for entry in self.earlier],
        }
        return json.dumps(_jsonable(content), indent=1, ensure_ascii=False, allow_nan=False) + "\n"

    def table(self) -> str:
        """For the screen: a line for each photo (beyond ``MAX_ROWS`` only what went wrong), and totals."""
        head = ("photo", "result", "faces", "focal", "pitch/yaw/roll", "distance", "landmarks")
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
        for status in ("no face", "failed", "not reached"):
            if self.count(status):
                totals.append(f"{self.count(status)} {status}")
        lines.append(f"{len(self.entries)} photos: {', '.join(totals)}")
        if self.stopped:
            lines.append(f"stopped: {self.stopped}")
        return "\n".join(lines)


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


def run(
    photos: Sequence[Path],
    output: str | Path,
    reconstructor: Reconstructor,
    options: RunOptions | None = None,
    say: Callable[[str], None] = tqdm.write,
    progress: bool = True,
) -> Summary:
    """Reconstructs every photo into ``output``.

    Args:
        photos: from ``find_photos``.
        output: the folder.
        reconstructor: its ``batch_size`` is also the number of photos in memory at once.
        options: what to make.
        say: called with a line for everything that goes wrong.
        progress: show a progress bar.

    Returns:
        The summary, which is also in ``output/summary.json``.

    Raises:
        OutputError: the folder cannot be written at all. If it can no longer be written halfway (the disk is
            full), the run stops, what is finished stays, and the summary says so.
    """
    options = options or RunOptions()
    output = Path(output)
    prepare_output(output)
    job = _Job(output, reconstructor, options, say)
    before = _read_entries(output / SUMMARY)
    names = output_names(photos, {path: old.name for path, old in before.items()})
    entries = [Entry(str(photo), name) for photo, name in zip(photos, names, strict=True)]
    here = {photo.resolve() for photo in photos}
    summary = Summary(entries, job.settings, [old for path, old in before.items() if path not in here])

    todo = []
    for entry in entries:
        entry.fingerprint = job.fingerprint(Path(entry.source))
        old = before.get(Path(entry.source).resolve())
        if old is not None and not options.overwrite and _is_finished(old, entry, output):
            entry.__dict__.update({**old.__dict__, "source": entry.source, "resumed": True})
        else:
            todo.append(entry)

    with tqdm(
        total=len(entries), initial=len(entries) - len(todo), unit="photo", disable=not progress
    ) as bar:
        last_flush = time.monotonic()
        try:
            for start in range(0, len(todo), reconstructor.batch_size):
                for entry in job.process(todo[start : start + reconstructor.batch_size]):
                    bar.update()
                    if old := before.get(Path(entry.source).resolve()):
                        _remove_stale(output, old, entry)
                    if entry.status != "done":
                        say(f"{entry.source}: {entry.status}: {entry.message}")
                if time.monotonic() - last_flush > 5:
                    _write_text(output / SUMMARY, summary.to_json())
                    last_flush = time.monotonic()
        except OutputError as error:
            summary.stopped = str(error)
            say(f"stopped: {error}; what is finished is kept, and the same command goes on from there")
        except KeyboardInterrupt:
            summary.stopped, summary.interrupted = "interrupted", True
    try:
        _write_text(output / SUMMARY, summary.to_json())
        if options.picture and not summary.interrupted:
            write_sheet(output, entries)
    except (OSError, OutputError) as error:
        summary.stopped = summary.stopped or f"the summary could not be written: {error}"
    return summary


class _Job:
    """One run's constants, and the work on a few photos at a time."""

    def __init__(self, output: Path, reconstructor: Reconstructor, options: RunOptions, say):
        self.output, self.reconstructor, self.options, self.say = output, reconstructor, options, say
        self.model = reconstructor.head_model
        self.uv, self.uv_faces = np.asarray(self.model.uv), np.asarray(self.model.uv_faces)
        self.colors = region_colors(self.model)
        self.settings = {
            "checkpoint": reconstructor.checkpoint,
            "checkpoint_sha256": reconstructor.checkpoint_sha256,
            "head_model": self.model.name,
            "head_model_sha256": reconstructor.head_model_sha256,
            "frontend": getattr(reconstructor.frontend, "name", "none"),
            "frontend_files": dict(getattr(reconstructor.frontend, "files", {})),
            "alignment": reconstructor.alignment,
            "refine": reconstructor.refine,
            "focal": options.focal,
            "max_faces": options.max_faces,
            "formats": list(options.formats),
            "picture": options.picture,
        }
        if options.picture:
            from n2f_jax.reconstruction.pictures import mesh_colors  # needs OpenCV

            self.overlay_colors = mesh_colors(self.model)

    def fingerprint(self, photo: Path) -> str:
        """Of the photo (size and time of change) and of all that decides its outputs."""
        try:
            stat = photo.stat()
            file = [stat.st_size, stat.st_mtime_ns]
        except OSError:
            file = []
        content = json.dumps([n2f_jax.__version__, self.settings, file], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:32]

    def process(self, entries: Sequence[Entry]) -> Iterable[Entry]:
        """Does a few photos together; yields each when it is finished, one way or the other.

        Raises:
            OutputError: nothing can be written any more.
        """
        read = []
        for entry in entries:
            started = time.perf_counter()
            found = self._detect(entry)
            entry.seconds = time.perf_counter() - started
            if found is None:
                yield entry
            else:
                read.append((entry, *found))

        started = time.perf_counter()
        results = self._infer(read)
        share = (time.perf_counter() - started) / max(1, len(read))
        for (entry, image, _, _), heads in zip(read, results, strict=True):
            started = time.perf_counter()
            if isinstance(heads, Exception):
                entry.status, entry.message = "failed", describe_error(heads)
            else:
                self._write(entry, image, heads)
            entry.seconds = round(entry.seconds + share + time.perf_counter() - started, 3)
            yield entry

    def _detect(self, entry: Entry):
        """Image, faces and focal length of a photo; None, with the reason in its entry, if there is none."""
        try:
            image, info = read_image(entry.source)
        except ImageError as error:
            entry.status, entry.message = "failed", str(error).removeprefix(f"{entry.source}: ")
            return None
        except Exception as error:  # a damaged file can fail in any way inside a decoder
            entry.status, entry.message = "failed", f"unreadable: {describe_error(error)}"
            return None
        entry.image_size = list(image.shape[:2])
        try:
            faces = self.reconstructor.detect(image, Path(entry.source))
        except Exception as error:  # one photo never stops the others
            entry.status, entry.message = "failed", f"front end: {describe_error(error)}"
            return None
        if not faces:
            entry.status, entry.message = "no face", "no face was found"
            return None
        focal = resolve_focal(image.shape[:2], self.options.focal, info.focal)
        return image, faces[: self.options.max_faces], focal

    def _infer(self, read) -> list[list[Head] | Exception]:
        """Heads of each photo, all faces in common batches; if that fails, photo by photo."""

        def heads_of(group):
            faces = [face for _, _, found, _ in group for face in found]
            sizes = [image.shape[:2] for _, image, found, _ in group for _ in found]
            focals = [focal for _, _, found, focal in group for _ in found]
            heads = iter(self.reconstructor.from_faces(faces, sizes, focals))
            return [[next(heads) for _ in found] for _, _, found, _ in group]

        try:
            return heads_of(read)
        except Exception:
            results: list[list[Head] | Exception] = []
            for one in read:
                try:
                    results += heads_of([one])
                except Exception as error:
                    results.append(error)
            return results

    def _write(self, entry: Entry, image: np.ndarray, heads: Sequence[Head]) -> None:
        if not all(head.is_finite for head in heads):
            entry.status, entry.message = "failed", "the network's answer is not finite"
            return
        try:
            faces = []
            for number, head in enumerate(heads, start=1):
                stem = entry.name if number == 1 else f"{entry.name}_face{number}"
                faces.append(_describe(head, self._write_head(stem, entry, image, head)))
            if self.options.picture:
                from n2f_jax.reconstruction.pictures import photo_overlay

                entry.overlay = f"{entry.name}_overlay.jpg"
                _write_image(self.output / entry.overlay, photo_overlay(image, heads, self.overlay_colors))
        except OSError as error:
            if error.errno in FATAL_ERRNOS:
                raise OutputError(f"cannot write to {self.output}: {error.strerror}") from error
            entry.status, entry.message = "failed", f"its files cannot be written: {describe_error(error)}"
        except Exception as error:
            entry.status, entry.message = "failed", f"writing: {describe_error(error)}"
        else:
            entry.faces, entry.status = faces, "done"
            entry.message = f"{len(heads)} head" + ("s" if len(heads) > 1 else "")

    def _write_head(self, stem: str, entry: Entry, image: np.ndarray, head: Head) -> dict[str, str]:
        """All files of one head; the picture last."""
        files = {}
        for kind in self.options.formats:
            files[kind] = f"{stem}.{kind}"
            path = self.output / files[kind]
            if kind == "npz":
                head.save(path, source=Path(entry.source).name)
            elif kind == "obj":
                write_obj(path, head.vertices, head.faces, self.uv, self.uv_faces)
            elif kind == "glb":
                write_glb(path, head.vertices, head.faces, self.uv, self.uv_faces, self.colors)
            else:
                write_ply(path, head.vertices, head.faces, self.colors)
        if self.options.picture:
            from n2f_jax.reconstruction.pictures import head_picture

            files["picture"] = f"{stem}_picture.png"
            frame = self.reconstructor.inputs.normal_frame
            pitch, yaw, roll = head.angles()
            title = f"{Path(entry.source).name}   pitch {pitch:+.0f}°  yaw {yaw:+.0f}°  roll {roll:+.0f}°"
            picture = head_picture(image, head, self.overlay_colors, title, normal_frame=frame)
            _write_image(self.output / files["picture"], picture)
        return files


def write_sheet(output: Path, entries: Sequence[Entry]) -> Path | None:
    """A contact sheet of the first ``MAX_SHEET`` overlays; None if there is none."""
    from n2f_jax.visualization.layout import grid

    tiles, captions = [], []
    for entry in entries:
        if entry.status == "done" and entry.overlay and len(tiles) < MAX_SHEET:
            with Image.open(output / entry.overlay) as image:
                image.thumbnail((640, 640))
                tiles.append(np.asarray(image.convert("RGB")))
            captions.append(entry.name)
    if not tiles:
        return None
    _write_image(output / SHEET, grid(tiles, captions))
    return output / SHEET


def _describe(head: Head, files: dict[str, str]) -> dict[str, Any]:
    pitch, yaw, roll = head.angles()
    return {
        "files": files,
        "score": head.frontend_score,
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
    if entry.status != "done":
        return _shorten(entry.source), f"{entry.status}: {entry.message}"
    face = entry.faces[0]
    gap = face["landmark_gap_percent"]
    return (
        _shorten(entry.source),
        "done before" if entry.resumed else "done",
        str(len(entry.faces)),
        f"{face['focal']:.0f} {face['focal_source']}",
        "{:+.0f} {:+.0f} {:+.0f}".format(*face["pitch_yaw_roll_degrees"]),
        f"{face['distance_metres']:.2f} m",
        "" if gap is None or not math.isfinite(gap) else f"{gap:.1f} %",
    )


def _shorten(text: str, length: int = 48) -> str:
    return text if len(text) <= length else f"…{text[1 - length :]}"


def _read_entries(path: Path) -> dict[Path, Entry]:
    """Photos of an earlier summary by resolved path; empty if there is none that can be used."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        entries = [Entry(**photo) for photo in [*content["earlier"], *content["photos"]]]
        return {Path(entry.source).resolve(): entry for entry in entries}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _is_finished(old: Entry, new: Entry, output: Path) -> bool:
    same = old.status == "done" and old.fingerprint == new.fingerprint and old.name == new.name
    return same and all((output / file).is_file() for file in old.files())


def _remove_stale(output: Path, old: Entry, new: Entry) -> None:
    """Removes what an earlier run made of a photo and this one did not make again."""
    if new.status == "done":
        for file in set(old.files()) - set(new.files()):
            with contextlib.suppress(OSError):
                (output / file).unlink()


def _write_image(path: Path, image: np.ndarray) -> None:
    with atomic_path(path) as temporary:
        jpeg = {"quality": 93, "subsampling": 0} if path.suffix == ".jpg" else {}
        Image.fromarray(image).save(temporary, **jpeg)


def _write_text(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _jsonable(value: Any) -> Any:
    """JSON knows no NaN or infinity: they become null."""
    if isinstance(value, dict):
        return {key: _jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_jsonable(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
