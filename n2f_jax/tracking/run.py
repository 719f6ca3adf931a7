"""``n2f track``: a clip in, a folder with one person's track out.

OUT/track.npz        the track (track_file.KEYS)
OUT/overlay.mp4      the mesh over the clip
OUT/curves.png       expression, pose, lids, gaze, confidence
OUT/matte/           a person matte of every frame, where asked for (mattes.py)
OUT/FORMAT/          the track for another program, where asked for (exports.FORMATS)
OUT/blendshapes.csv  ARKit's weights, head and eyes, as Live Link Face writes them; …_frontend.csv: the front end's
OUT/summary.json     what was found: people, statuses, seconds by stage
OUT/first_pass/      what was seen in each frame; a later run, for another person too, goes on from there
"""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import n2f_jax
from n2f_jax.face_mesh.arkit_names import UNITS
from n2f_jax.fitting.arkit import ArkitUnits, WeightReader
from n2f_jax.frontends.person_matte import PersonMatte
from n2f_jax.reconstruction.arkit_files import units_of
from n2f_jax.reconstruction.live_link_face import write_both_tables
from n2f_jax.reconstruction.reconstructor import Reconstructor
from n2f_jax.runtime.atomic_files import write_text
from n2f_jax.runtime.fingerprints import file_stamp
from n2f_jax.runtime.json_values import jsonable
from n2f_jax.runtime.locks import lock_folder
from n2f_jax.runtime.output_folder import EXIT_OK, EXIT_PARTLY, prepare_output
from n2f_jax.runtime.outside_values import OutsideValueError, read_json
from n2f_jax.tracking.clips import Clip, ClipError
from n2f_jax.tracking.curves import write_curves
from n2f_jax.tracking.exports import check_formats, needs_matte, write_pictures
from n2f_jax.tracking.first_pass import check_length, run_first_pass
from n2f_jax.tracking.flame_track import require_flame
from n2f_jax.tracking.offline import find_identity, shots, track_person
from n2f_jax.tracking.overlay import MAX_SIDE, write_overlay
from n2f_jax.tracking.people import Cast, PeopleError, find_people
from n2f_jax.tracking.shards import read_shards
from n2f_jax.tracking.start import Start
from n2f_jax.tracking.track_file import LOST, STATUSES, batches, frame_params

# Of estimated focal lengths on ten rendered clips, over the true one (RESULTS.md).
_FOCAL_OFF = "a factor of 0.83 to 1.85"
_AT_ONCE = 32  # frames whose weights are found together


@dataclasses.dataclass(frozen=True)
class TrackOptions:
    """What a run does.

    Attributes:
        person: whose track; 1 is the one who is longest and largest in the clip.
        focal: pixels; None to estimate it.
        overlay: write the video.
        overlay_side: its longer side, pixels, at most.
        max_faces: of each frame, the largest.
        overwrite: begin again, whatever is there.
        matte: write a person matte of every frame.
        formats: of ``exports.FORMATS``, each written to a folder of its name.
        head_model: the head model's file, beside which its correspondence is kept; None for the open head.
        start: a ``track.npz`` to begin with, in place of the network's answers (``start.py``).
    """

    person: int = 1
    focal: float | None = None
    overlay: bool = True
    overlay_side: int = MAX_SIDE
    max_faces: int = 4
    overwrite: bool = False
    matte: bool = False
    formats: tuple[str, ...] = ()
    head_model: Path | None = None
    start: Path | None = None


@dataclasses.dataclass
class Result:
    """What became of a clip.

    Attributes:
        track: of ``track_file.KEYS``.
        summary: what ``summary.json`` holds.
        exit_code: 0 every frame has a head; 1 some have not, or the clip was damaged.
    """

    track: dict[str, Any]
    summary: dict[str, Any]
    exit_code: int


def track_clip(
    clip: Clip,
    out: Path,
    reconstructor: Reconstructor,
    options: TrackOptions,
    say: Callable[[str], None] = lambda text: None,
) -> Result:
    """Tracks one person of a clip; what an earlier run did of the first pass stays.

    Args:
        clip: opened.
        out: folder, made if needed.
        reconstructor: front end, network, head model.
        options: what to do.
        say: told lines for the screen.

    Raises:
        ClipError, PeopleError, TrackError: the clip, or who is in it, allows no track; the message says why.
        StartError: the track to begin with is of another head model, clip or person.
        OutputError, LockedError, OSError: nothing can be written.
    """
    check_length(clip, clip.said)
    check_outputs(reconstructor, options)
    start = None if options.start is None else Start.read(options.start, reconstructor.head_model, clip)
    prepare_output(out)
    with lock_folder(out):
        folder = out / "first_pass"
        _begin(folder, clip, reconstructor, options)
        stages: dict[str, float] = {}
        progress = _Progress(clip, say)
        frames = run_first_pass(
            clip,
            folder,
            reconstructor,
            focal=options.focal,
            max_faces=options.max_faces,
            say=progress,
            stages=stages,
        )
        if frames == 0:
            raise ClipError(f"{clip.path}: no frame of it can be decoded")
        problem = clip.problem
        if problem:
            say(f"{clip.path.name}: {problem}; what can be read is tracked")
        if start is not None:
            start.check_frames(frames)
        clock = _Clock(stages)
        cast = find_people(read_shards(folder, frames))
        clock("people")
        try:
            person = cast.person(options.person)
        except PeopleError as error:
            raise PeopleError(f"{clip.path}: {error}") from None
        if person.first > 0:
            say(f"the person is first seen in frame {person.first}, after {cast.seconds[person.first]:.1f} s")
        if len(cast.people) > 1:
            say(f"{len(cast.people)} people; this is the track of person {options.person} (--person)")
        say("identity")
        identity = find_identity(folder, cast, options.person, reconstructor, clip.size, options.focal, start)
        clock("identity")
        track = track_person(
            folder, out / "track.npz", clip, cast, options.person, reconstructor, identity, say, start
        )
        clock("frames and smoothing")
        return finish_run(clip, out, cast, options, track, stages, reconstructor, say, problem)


def check_outputs(reconstructor: Reconstructor, options: TrackOptions) -> None:
    """Finds out before the work whether what is asked for can be written.

    Raises:
        ExportError: an unknown format.
        FlameError: the head model is not FLAME, which the formats are for.
        AssetError: the matte's network is missing.
    """
    formats = check_formats(options.formats)
    if formats:
        require_flame(reconstructor.head_model, " and ".join(formats))
    if options.matte or needs_matte(formats):
        PersonMatte()


def finish_run(
    clip: Clip,
    out: Path,
    cast: Cast,
    options: TrackOptions,
    track: dict[str, Any],
    stages: dict[str, float],
    reconstructor: Reconstructor,
    say: Callable[[str], None],
    problem: str = "",
) -> Result:
    """Curves, overlay, mattes, exports and summary of a track that is written."""
    clock = _Clock(stages)
    write_curves(out / "curves.png", track)
    clock("curves")
    write_blendshapes(
        out / "blendshapes.csv", track, units_of(reconstructor.head_model, options.head_model, say)
    )
    clock("blendshapes")
    if options.overlay:
        say("overlay")
        write_overlay(out / "overlay.mp4", clip, track, reconstructor.head_model, options.overlay_side)
        clock("overlay")
    summary = _summary(clip, cast, options, track, stages, problem)
    _write_summary(out, summary)  # before what may fail, and may be done again by itself
    if options.matte or options.formats:
        exported = write_pictures(
            clip, track, reconstructor.head_model, out, options.formats, options.matte, say=say
        )
        clock("matte and exports")
        summary = _summary(clip, cast, options, track, stages, problem) | {"exported": exported}
        _write_summary(out, summary)
    whole = not problem and not (track["status"] == LOST).any()
    return Result(track, summary, EXIT_OK if whole else EXIT_PARTLY)


def _write_summary(out: Path, summary: dict[str, Any]) -> None:
    write_text(out / "summary.json", json.dumps(jsonable(summary), indent=1) + "\n")


def write_blendshapes(path: Path, track: dict[str, Any], units: ArkitUnits) -> None:
    """Live Link Face's tables of a track (``live_link_face.write_both_tables``); lost frames have no row.

    Raises:
        OSError: they cannot be written.
    """
    there = np.flatnonzero(track["status"] != LOST)
    read, weights = WeightReader(units), np.zeros((len(there), len(UNITS)))
    for rows in batches(len(there), _AT_ONCE):
        # Padded, so that one program does for all.
        padded = there[rows[np.minimum(np.arange(_AT_ONCE), len(rows) - 1)]]
        weights[rows] = read(frame_params(track, padded))[0][: len(rows)]
    write_both_tables(
        path,
        np.asarray(track["seconds"])[there].tolist(),
        weights,
        np.asarray(track["frontend_blendshapes"], np.float64)[there],
        np.asarray(track["rotation"])[there],
        np.asarray(track["eyes_pose"])[there],
    )


def _begin(folder: Path, clip: Clip, reconstructor: Reconstructor, options: TrackOptions) -> None:
    """Makes the folder of the first pass, or finds that it is of the same clip and settings."""
    settings = {
        "version": n2f_jax.__version__,
        "clip": [str(path.absolute()) for path in clip.images or [clip.path]][:1],
        "stamps": [list(file_stamp(path)) for path in clip.images or [clip.path]][:100_000],
        "checkpoint": reconstructor.checkpoint_sha256,
        "head_model": reconstructor.head_model_sha256,
        "frontend": getattr(reconstructor.frontend, "name", ""),
        "landmarks": getattr(reconstructor.frontend, "landmarks", ""),
        "focal": options.focal,
        "max_faces": options.max_faces,
        "frame_rate": clip.rate if clip.images is not None else None,
    }
    described = folder / "settings.json"
    if options.overwrite and folder.exists():
        shutil.rmtree(folder)
    if folder.exists() and described.exists():
        try:
            same = read_json(described) == json.loads(json.dumps(settings))
        except OutsideValueError:
            same = False
        if not same:
            raise ClipError(
                f"{folder.parent} holds a track of another clip or of other settings: take another folder, or "
                "--overwrite"
            )
        return
    folder.mkdir(parents=True, exist_ok=True)
    write_text(described, json.dumps(settings) + "\n")


class _Progress:
    """Lines with how far the first pass is and how long it will take; on a terminal one line that changes."""

    def __init__(self, clip: Clip, say: Callable[[str], None]):
        self._said, self._say, self._last = clip.said, say, -math.inf

    def __call__(self, frames: int, seconds: float) -> None:
        now = time.monotonic()
        if now - self._last < 2.0:
            return
        self._last = now
        speed = f"{1.0 / seconds:.1f} frames/s" if seconds > 0 else ""
        left = (self._said - frames) * seconds
        of = f" of {self._said}" if self._said else ""
        eta = f", {_duration(left)} to go" if self._said > frames else ""
        self._say(f"first pass: {frames}{of} frames, {speed}{eta}")


def _duration(seconds: float) -> str:
    minutes, left = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{left:02d}" if hours else f"{minutes}:{left:02d}"


class _Clock:
    def __init__(self, stages: dict[str, float]):
        self._stages, self._last = stages, time.perf_counter()

    def __call__(self, stage: str) -> None:
        now = time.perf_counter()
        self._stages[stage] = now - self._last
        self._last = now


def _summary(
    clip: Clip,
    cast: Cast,
    options: TrackOptions,
    track: dict[str, Any],
    stages: dict[str, float],
    problem: str,
) -> dict[str, Any]:
    status = np.asarray(track["status"])
    frames = len(status)
    return {
        "version": n2f_jax.__version__,
        "clip": str(clip.path),
        "start": None if options.start is None else str(options.start),
        "problem": problem,
        "frames": frames,
        "seconds": float(cast.seconds[-1]),
        "image_size": list(clip.size),
        "frame_rate": clip.rate,
        "shots": len(shots(cast.cut)),
        "person": options.person,
        "people": [
            {"frames": one.frames, "first": one.first, "last": one.last, "mean_crop_side": one.size}
            for one in cast.people
        ],
        "frames_by_status": {name: int((status == i).sum()) for i, name in enumerate(STATUSES)},
        "focal": float(track["intrinsics"][0, 0]),
        "focal_source": track["focal_source"],
        "keyframes": np.asarray(track["keyframes"]).tolist(),
        "fit_error_median": float(np.nanmedian(track["fit_error"])),
        "seconds_by_stage": {name: round(value, 3) for name, value in stages.items()},
        "frames_per_second": frames / max(sum(stages.values()), 1e-9),
    }


def report(result: Result) -> str:
    """A few lines for the screen."""
    summary = result.summary
    by_status = ", ".join(f"{n} {name}" for name, n in summary["frames_by_status"].items() if n)
    stages = ", ".join(f"{name} {value:.1f}" for name, value in summary["seconds_by_stage"].items())
    source = "from the start" if summary["focal_source"] == "start" else summary["focal_source"]
    if source == "estimated":
        source = f"estimated, which may be off by {_FOCAL_OFF}: give --focal where it is known"
    return (
        f"{summary['frames']} frames: {by_status}; {summary['shots']} shots, {len(summary['people'])} people\n"
        f"focal length {summary['focal']:.0f} pixels ({source})\n"
        f"{summary['frames_per_second']:.1f} frames/s; seconds: {stages}"
    )


def say_on_stderr(text: str) -> None:
    """Progress goes beside the results."""
    from n2f_jax.runtime.display import printable

    print(printable(text), file=sys.stderr, flush=True)
