"""Many photographs to files: what ``n2f reconstruct`` does.

One bad photograph never stops the others, finished ones are not done again, and files are written atomically.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

import n2f_jax
from n2f_jax.data.image_files import SkippedFiles
from n2f_jax.data.images import ImageError, read_image
from n2f_jax.geometry.focal import FocalHints, resolve_focal
from n2f_jax.reconstruction.head import Head
from n2f_jax.reconstruction.output_files import FORMATS, OutputFiles, write_contact_sheet
from n2f_jax.reconstruction.photos import output_names
from n2f_jax.reconstruction.reconstructor import Reconstructor
from n2f_jax.reconstruction.summary import WITH_HEADS, Entry, Summary, describe_head
from n2f_jax.reconstruction.summary_file import read_entries
from n2f_jax.runtime.atomic_files import write_text
from n2f_jax.runtime.display import printable
from n2f_jax.runtime.fingerprints import fingerprint
from n2f_jax.runtime.locks import lock_folder
from n2f_jax.runtime.output_folder import OutputError, describe_error, prepare_output, stop_if_over
from n2f_jax.runtime.paths import real_path

SUMMARY = "summary.json"
SHEET = "sheet.png"


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """What to make of each photo.

    Attributes:
        formats: of ``FORMATS``.
        picture: also write the side-by-side picture of each head, the overlay of each photo and the sheet.
        max_faces: the largest faces of each photo; None for all.
        focal: in pixels of the original, for all photos; None for EXIF, else one by image and face
            (``geometry.focal``).
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


def run(
    photos: Sequence[Path],
    output: str | Path,
    reconstructor: Reconstructor,
    options: RunOptions | None = None,
    say: Callable[[str], None] = tqdm.write,
    progress: bool = True,
    skipped: SkippedFiles | None = None,
) -> Summary:
    """Reconstructs every photo into ``output``.

    Args:
        photos: from ``find_photos``.
        output: the folder.
        reconstructor: its ``batch_size`` is also the number of photos in memory at once.
        options: what to make.
        say: called with a line for everything that goes wrong, and for each photo whose EXIF focal length is ignored.
        progress: show a progress bar.
        skipped: what ``find_photos`` passed over, for the summary.

    Returns:
        The summary, which is also in ``output/summary.json``.

    Raises:
        OutputError: the folder cannot be written at all. If it can no longer be written halfway (the disk is
            full), the run stops, what is finished stays, and the summary says so.
        LockedError: another process is writing there.
        SummaryError: what an earlier run says of its photographs cannot be read.
    """
    output = Path(output)
    prepare_output(output)
    with lock_folder(output):
        return _run(
            photos,
            output,
            reconstructor,
            options or RunOptions(),
            lambda line: say(printable(line)),
            progress,
            skipped or SkippedFiles(),
        )


def _run(
    photos: Sequence[Path],
    output: Path,
    reconstructor: Reconstructor,
    options: RunOptions,
    say: Callable[[str], None],
    progress: bool,
    skipped: SkippedFiles,
) -> Summary:
    """``run`` in a folder that no other process writes to."""
    job = _Job(output, reconstructor, options)
    before = read_entries(output / SUMMARY)
    names = output_names(photos, {path: old.name for path, old in before.items()})
    entries = [Entry(str(photo), name) for photo, name in zip(photos, names, strict=True)]
    summary = Summary(entries, job.settings, skipped=skipped)
    places = [real_path(photo) for photo in photos]

    def write_summary() -> None:
        """``OutputError`` where that was the end of writing; a line on screen where it was not."""
        reached = {path for path, entry in zip(places, entries, strict=True) if entry.status != "not reached"}
        summary.earlier = [old for path, old in before.items() if path not in reached]
        try:
            write_text(output / SUMMARY, summary.to_json())
        except OSError as error:
            stop_if_over(error, output)
            say(f"{output / SUMMARY} could not be written: {describe_error(error)}")

    todo = []
    for place, entry in zip(places, entries, strict=True):
        entry.fingerprint = job.fingerprint(Path(entry.source))
        old = before.get(place)
        if old is not None and not options.overwrite and _is_finished(old, entry, output):
            entry.__dict__.update({**old.__dict__, "source": entry.source, "resumed": True})
        else:
            todo.append(entry)

    with tqdm(
        total=len(entries), initial=len(entries) - len(todo), unit="photo", disable=not progress
    ) as bar:
        last_flush = time.monotonic()
        try:
            write_summary()  # from here on it is settled which names are whose
            for start in range(0, len(todo), reconstructor.batch_size):
                for entry in job.process(todo[start : start + reconstructor.batch_size]):
                    bar.update()
                    if old := before.get(real_path(Path(entry.source))):
                        _remove_stale(output, old, entry)
                    if entry.focal_note:
                        say(f"{entry.source}: {entry.focal_note}")
                    if entry.status != "done":  # a doubtful head is said, too
                        say(f"{entry.source}: {entry.status}: {entry.message}")
                if time.monotonic() - last_flush > 5:
                    write_summary()
                    last_flush = time.monotonic()
        except OutputError as error:
            summary.stopped = str(error)
            say(f"stopped: {error}; what is finished is kept, and the same command resumes there")
        except KeyboardInterrupt:
            summary.stopped, summary.interrupted = "interrupted", True
        except Exception:  # a bug, or out of memory: what is finished is not lost with it
            with contextlib.suppress(OutputError):
                write_summary()
            raise
    try:
        write_summary()
        if options.picture and not summary.interrupted:
            pictured = [entry for entry in entries if entry.status in WITH_HEADS and entry.overlay]
            overlays, captions = [output / entry.overlay for entry in pictured], [e.name for e in pictured]
            write_contact_sheet(output / SHEET, overlays, captions)
    except OutputError as error:
        summary.stopped = summary.stopped or f"the summary could not be written: {error}"
    except OSError as error:
        summary.stopped = (
            summary.stopped or f"the contact sheet could not be written: {describe_error(error)}"
        )
    return summary


class _Job:
    """One run's constants, and the work on a few photographs at a time."""

    def __init__(self, output: Path, reconstructor: Reconstructor, options: RunOptions):
        self.output, self.reconstructor, self.options = output, reconstructor, options
        model, frontend = reconstructor.head_model, reconstructor.frontend
        frame = reconstructor.inputs.normal_frame
        self.files = OutputFiles(output, model, options.formats, options.picture, frame)
        self.settings = {
            "checkpoint": reconstructor.checkpoint,
            "checkpoint_sha256": reconstructor.checkpoint_sha256,
            "head_model": model.name,
            "head_model_sha256": reconstructor.head_model_sha256,
            "frontend": getattr(frontend, "name", "none"),
            "frontend_files": dict(getattr(frontend, "files", {})),
            "landmarks": getattr(frontend, "landmarks", ""),
            "small_faces": getattr(frontend, "small_faces", False),
            "alignment": reconstructor.alignment,
            "refine": reconstructor.refine,
            "focal": options.focal,
            "max_faces": options.max_faces,
            "formats": list(options.formats),
            "picture": options.picture,
        }

    def fingerprint(self, photo: Path) -> str:
        """Of the photograph's file and of all that decides its outputs."""
        return fingerprint([n2f_jax.__version__, self.settings], [photo])

    def process(self, entries: Sequence[Entry]) -> Iterable[Entry]:
        """Does a few photographs together; yields each when it is finished, one way or the other.

        Raises:
            OutputError: nothing can be written any more.
        """
        started = time.perf_counter()
        images: list[np.ndarray] = []
        focals: list[FocalHints] = []
        read: list[Entry] = []
        for entry in entries:
            try:
                image, info = read_image(entry.source)
            except ImageError as error:
                entry.status, entry.message = "failed", str(error).removeprefix(f"{entry.source}: ")
                yield entry
            except Exception as error:  # a damaged file can fail in any way inside a decoder
                entry.status, entry.message = "failed", f"unreadable: {describe_error(error)}"
                yield entry
            else:
                entry.image_size = list(image.shape[:2])
                entry.focal_note = info.focal_note if self.options.focal is None else ""
                images.append(image)
                focals.append(FocalHints(self.options.focal, info.focal))
                read.append(entry)
        results = self.reconstructor.reconstruct(
            images,
            focals,
            max_faces=self.options.max_faces,
            sources=[Path(entry.source) for entry in read],
            return_errors=True,
        )
        share = (time.perf_counter() - started) / max(1, len(entries))
        for entry, image, heads in zip(read, images, results, strict=True):
            started = time.perf_counter()
            if isinstance(heads, Exception):
                entry.status, entry.message = "failed", describe_error(heads)
            elif not heads:
                entry.status, entry.message = "no face", "no face was found"
            else:
                self._write(entry, image, heads)
            entry.seconds = round(share + time.perf_counter() - started, 3)
            yield entry

    def _write(self, entry: Entry, image: np.ndarray, heads: Sequence[Head]) -> None:
        if not all(head.is_finite for head in heads):
            entry.status, entry.message = "failed", "the network's output is not finite"
            return
        try:
            faces = []
            for number, head in enumerate(heads, start=1):
                files = self.files.write_head(_stem(entry, number), Path(entry.source).name, image, head)
                faces.append(describe_head(head, files))
            if self.options.picture:
                entry.overlay = self.files.write_overlay(entry.name, image, heads)
            entry.faces = faces
            entry.sizes = {file: (self.output / file).stat().st_size for file in entry.files()}
        except OSError as error:
            stop_if_over(error, self.output)
            self._give_up(entry, len(heads), f"its files cannot be written: {describe_error(error)}")
        except Exception as error:
            self._give_up(entry, len(heads), f"writing: {describe_error(error)}")
        else:
            doubtful = sum(head.is_doubtful for head in heads)
            entry.status = "doubtful" if heads[0].is_doubtful else "done"
            entry.message = f"{len(heads)} head" + ("s" if len(heads) > 1 else "")
            if doubtful:
                entry.message += (
                    f", {doubtful} doubtful (confidence {heads[0].confidence:.2f}): look at the picture"
                )

    def _give_up(self, entry: Entry, count: int, message: str) -> None:
        """Leaves no file of a photograph of which some could not be written."""
        entry.status, entry.message = "failed", message
        entry.faces, entry.overlay, entry.sizes = [], None, {}
        files = [self.files.overlay_file(entry.name)]
        for number in range(1, count + 1):
            files += self.files.head_files(_stem(entry, number)).values()
        for file in files:
            with contextlib.suppress(OSError):
                (self.output / file).unlink(missing_ok=True)


def _stem(entry: Entry, number: int) -> str:
    """What the files of a photograph's n-th face, from 1, begin with."""
    return entry.name if number == 1 else f"{entry.name}_face{number}"


def _is_finished(old: Entry, new: Entry, output: Path) -> bool:
    """Whether an earlier run did the same, and its files are there with the sizes that it wrote them with."""
    if old.status not in WITH_HEADS or old.fingerprint != new.fingerprint or old.name != new.name:
        return False
    try:
        return all((output / file).stat().st_size == old.sizes.get(file) for file in old.files())
    except OSError:
        return False


def _remove_stale(output: Path, old: Entry, new: Entry) -> None:
    """Removes what an earlier run made of a photo and this one did not make again."""
    if new.status in WITH_HEADS:
        for file in set(old.files()) - set(new.files()):
            with contextlib.suppress(OSError):
                (output / file).unlink()
