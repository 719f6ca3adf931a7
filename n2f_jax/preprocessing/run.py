"""A whole run: what is not yet done, through the workers, a line of the manifest for each."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tqdm import tqdm

from n2f_jax.data.manifest import CUT_OFF, STATUSES, ManifestIndex, ManifestWriter, Record
from n2f_jax.data.preprocessed import face_path
from n2f_jax.preprocessing.inputs import Input, Source, walk
from n2f_jax.preprocessing.settings import Settings, settle
from n2f_jax.preprocessing.videos import read_frames
from n2f_jax.preprocessing.worker import Task, Worker
from n2f_jax.runtime.archives import is_whole_archive
from n2f_jax.runtime.display import printable
from n2f_jax.runtime.fingerprints import file_stamp
from n2f_jax.runtime.output_folder import (
    EXIT_INTERRUPTED,
    EXIT_NOTHING,
    EXIT_OK,
    EXIT_PARTLY,
    OutputError,
    prepare_output,
    stop_if_over,
)
from n2f_jax.runtime.paths import is_file
from n2f_jax.runtime.worker_pool import process_all
from n2f_jax.tracking.clips import ClipError, count_said

# On screen; the manifest has them all.
_MAX_MESSAGES = 20


@dataclasses.dataclass
class Summary:
    """What a run did.

    Attributes:
        counts: images of this shard by status, finished before or now.
        before: how many of them were finished before.
        faces: stored by this run.
        cut_off: videos of this shard with fewer frames that can be read than they say.
        stopped: why the run ended before its time, or "".
        interrupted: by the user.
    """

    counts: dict[str, int] = dataclasses.field(default_factory=lambda: dict.fromkeys(STATUSES, 0))
    before: int = 0
    faces: int = 0
    cut_off: int = 0
    stopped: str = ""
    interrupted: bool = False

    @property
    def exit_code(self) -> int:
        """0: every image gave a face. 1: some did not, or a video is cut off. 2: not one image could be read.
        130: interrupted."""
        if self.interrupted:
            return EXIT_INTERRUPTED
        total = sum(self.counts.values())
        if total and self.counts["error"] == total:
            return EXIT_NOTHING
        whole = self.counts["ok"] == total and not self.cut_off and not self.stopped
        return EXIT_OK if whole else EXIT_PARTLY

    def text(self) -> str:
        """For people: a line, and another for each thing that is amiss with the run."""
        parts = [f"{self.counts[status]} {status}" for status in STATUSES]
        before = f", {self.before} of them before" if self.before else ""
        line = f"{sum(self.counts.values())} images ({', '.join(parts)}{before}); {self.faces} faces written"
        if self.cut_off:
            line += f"\n{self.cut_off} video{'s' * (self.cut_off > 1)} cut off: fewer frames can be read than they say"
        return f"{line}\nstopped: {printable(self.stopped)}" if self.stopped else line


def run(
    inputs: Sequence[Input],
    output: str | Path,
    settings: Settings,
    *,
    shard: tuple[int, int] = (0, 1),
    workers: int = 0,
    batch_size: int = 1,
    say: Callable[[str], None] = tqdm.write,
    progress: bool = True,
) -> Summary:
    """Preprocesses one shard of the inputs into ``output``; the same call again resumes.

    An image is finished once its line is in the manifest with ``ok`` or ``no face``; errors are tried again by the next
    run. An image whose size or time of change is another is done anew, and so is one whose faces are gone or have
    another size than they were written with.

    Args:
        inputs: from ``parse_inputs``.
        output: the preprocessed folder (``n2f_jax.data.preprocessed``).
        settings: how faces are made.
        shard: (index, count): this process does the images of one of ``count`` parts, which are disjoint, of about the
            same size, and the same on every host.
        workers: processes; 0: in this one.
        batch_size: images that the front end gets at once.
        say: called with a line for everything that goes wrong.
        progress: show a progress bar.

    Raises:
        OutputError: the folder cannot be written at all. If it can no longer be written halfway (the disk is full), the
            run stops, what is finished stays, and the summary says so.
        SettingsError: the folder was begun with other settings.
        ManifestError: another process does this shard, or the manifest is damaged.
        ValueError, AssetError, ImportError: the front end cannot be made.
    """
    output = Path(output)
    prepare_output(output)
    try:
        settle(output, settings)
    except OSError as error:
        raise OutputError(f"cannot write to {output}: {error.strerror or error}") from error
    tell: Callable[[str], None] = lambda line: say(printable(line))  # noqa: E731
    summary = Summary()
    with ManifestWriter(output, f"{shard[0]:04d}-of-{shard[1]:04d}") as manifest:
        state = _State(ManifestIndex(output), output, settings, manifest, summary, tell)
        total = _count(inputs, output, shard, settings.frame_step, progress)
        with tqdm(total=total, unit="image", disable=not progress, smoothing=0.05, mininterval=0.5) as bar:
            state.bar = bar
            tasks = state.todo(walk(inputs, output, shard))
            groups = iter(lambda: list(itertools.islice(tasks, batch_size)), [])
            make_worker = functools.partial(Worker, output, settings)
            records = process_all(groups, make_worker, workers, _killed)
            try:
                for record in records:
                    state.finish(record)
            except OutputError as error:
                summary.stopped = str(error)
                tell(f"stopped: {error}; what is finished is kept, and the same command resumes from there")
            except KeyboardInterrupt:
                summary.stopped, summary.interrupted = "interrupted", True
            finally:
                records.close()
    return summary


def _killed(task: Task) -> Record:
    return task.record(
        status="error", reason="it killed its process (a crash in a decoder, or out of memory)"
    )


class _State:
    """What the loop over the images keeps: nothing that grows with them but the manifest's index."""

    def __init__(
        self,
        index: ManifestIndex,
        output: Path,
        settings: Settings,
        manifest: ManifestWriter,
        summary: Summary,
        say: Callable[[str], None],
    ):
        self.index, self.output, self.settings = index, output, settings
        self.manifest, self.summary, self.say = manifest, summary, say
        self.bar: tqdm | None = None
        self._messages = 0

    def todo(self, sources: Iterator[Source]) -> Iterator[Task]:
        """The images that are not finished."""
        for source in sources:
            try:
                if source.problem:
                    raise OSError(source.problem)
                file = file_stamp(source.path)
            except OSError as error:
                reason = error.strerror or str(error)
                self.finish(Record(source.key, "error", reason=reason, source=str(source.path)))
                continue
            task = Task(source.key, source.path, file)
            if source.is_video:
                yield from self._frames(task)
            elif self._is_new(task):
                yield task

    def _frames(self, video: Task) -> Iterator[Task]:
        whole = self.index.find(video.key)
        if whole is not None and whole.frames and whole.file == video.file:
            numbers = range(0, whole.frames, self.settings.frame_step)
            if all(self._finished(dataclasses.replace(video, frame=number)) for number in numbers):
                for number in numbers:
                    self._is_new(dataclasses.replace(video, frame=number))
                if whole.reason:
                    self._tell_cut_off(whole)
                return
        frames, step = 0, self.settings.frame_step
        try:
            frame_of = lambda number: dataclasses.replace(video, frame=number)  # noqa: E731
            new = lambda number: not self._finished(frame_of(number))  # noqa: E731
            for number, image in read_frames(video.path, step, new):
                task = dataclasses.replace(video, frame=number, image=image)
                if image is not None or self._is_new(task):
                    yield task
                frames = number + 1
        except (ClipError, FileNotFoundError) as error:
            reason = str(error).removeprefix(f"{printable(video.path)}: ")
            self.finish(video.record(status="error", reason=reason))
            return
        announced = count_said(video.path)
        if -(-frames // step) == -(-announced // step) or frames > announced:
            self._write(video.record(status="ok", frames=frames))
            return
        reason = f"it says {announced} frames and {frames} can be read"
        record = video.record(status=CUT_OFF, frames=frames, reason=reason)
        self._write(record)
        self._tell_cut_off(record)

    def _finished(self, task: Task) -> Record | None:
        """The record of an image that needs not be done again."""
        record = self.index.find(task.key, task.frame)
        if record is None or record.status == "error" or record.file != task.file:
            return None
        return record if self._is_stored(record) else None

    def _is_stored(self, record: Record) -> bool:
        """Whether all of a record's faces are there as they were written."""
        paths = [face_path(self.output, face) for face in record.faces]
        try:
            if record.sizes:
                return [path.stat().st_size for path in paths] == list(record.sizes)
            return all(map(is_whole_archive, paths))  # an older manifest has no sizes
        except OSError:
            return False

    def _is_new(self, task: Task) -> bool:
        """Whether an image is to be done; counts it where it is not."""
        if record := self._finished(task):
            self.summary.counts[record.status] += 1
            self.summary.before += 1
            self.bar.update()
            return False
        record = self.index.find(task.key, task.frame)
        if record is not None and record.faces and record.source != str(task.path) and is_file(record.source):
            reason = f"{record.source} has the same name in the manifest; give one of the inputs another: NAME=PATH"
            self._count(task.record(status="error", reason=reason))
            return False
        return True

    def finish(self, record: Record) -> None:
        """Writes and counts a record."""
        self._write(record)
        self._count(record)

    def _write(self, record: Record) -> None:
        try:
            self.manifest.write(record)
        except OSError as error:
            stop_if_over(error, self.output)
            raise

    def _count(self, record: Record) -> None:
        self.summary.counts[record.status] += 1
        self.summary.faces += len(record.faces)
        self.bar.update()
        if record.status != "ok":
            self._tell(record)

    def _tell_cut_off(self, video: Record) -> None:
        self.summary.cut_off += 1
        self._tell(dataclasses.replace(video, status=CUT_OFF))

    def _tell(self, record: Record) -> None:
        """A line on screen of what went wrong."""
        self._messages += 1
        if self._messages <= _MAX_MESSAGES:
            frame = "" if record.frame is None else f", frame {record.frame}"
            reason = f": {record.reason}" if record.reason else ""
            self.say(f"{record.source}{frame}: {record.status}{reason}")
        if self._messages == _MAX_MESSAGES:
            self.say(f"(further ones only in {self.manifest.path})")


def _count(
    inputs: Sequence[Input], output: Path, shard: tuple[int, int], frame_step: int, progress: bool
) -> int:
    """How many images there are, for the time that is left; a video counts as many as it says."""
    total = 0
    sources = walk(inputs, output, shard)
    for source in tqdm(sources, "counting", unit="file", disable=not progress, leave=False, file=sys.stderr):
        total += max(1, -(-count_said(source.path) // frame_step)) if source.is_video else 1
    return total
