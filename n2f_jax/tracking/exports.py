"""What is made of a clip and its track beside ``track.npz``: a matte of every frame, and folders for other programs.

One pass over the clip; frames are never held. What is written stays, and a later run goes on from there, as long as
track, clip and version are the same; else a folder that this module made is made anew.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

import n2f_jax
from flame_jax import HeadModel
from n2f_jax.frontends.person_matte import PersonMatte
from n2f_jax.runtime.atomic_files import write_text
from n2f_jax.runtime.fingerprints import file_stamp
from n2f_jax.runtime.json_values import is_text
from n2f_jax.runtime.outside_values import OutsideValueError, read_json
from n2f_jax.tracking.clips import Clip, ClipError, open_clip
from n2f_jax.tracking.export_frame import ExportFolder, ExportFrame
from n2f_jax.tracking.flame_track import FlameTrack
from n2f_jax.tracking.insta_folder import InstaFolder
from n2f_jax.tracking.mattes import MatteFolder
from n2f_jax.tracking.metrical_folder import MetricalFolder
from n2f_jax.tracking.track_file import SEEN
from n2f_jax.tracking.vhap_folder import VhapFolder

# Format → what writes it. GaussianAvatars trains on what VHAP exports.
FORMATS: dict[str, type[ExportFolder]] = {
    "gaussian-avatars": VhapFolder,
    "vhap": VhapFolder,
    "insta": InstaFolder,
    "metrical-tracker": MetricalFolder,
}
_MARK = "n2f_export.json"  # says of what a folder of ours is
_OFF_CENTRE = 0.5  # pixels that a principal point may lie off where a format has none


class ExportError(ValueError):
    """Something that cannot be exported, or a folder that is in the way; the message says which and why."""


def check_formats(formats: Sequence[str]) -> tuple[str, ...]:
    """The formats, each once.

    Raises:
        ExportError: one is unknown.
    """
    for name in formats:
        if name not in FORMATS:
            raise ExportError(f"no format is called {name!r}: {', '.join(FORMATS)}")
    return tuple(dict.fromkeys(formats))


def needs_matte(formats: Sequence[str]) -> bool:
    """Whether one of the formats holds mattes."""
    return any(FORMATS[name].needs_matte for name in formats)


def write_pictures(
    clip: Clip,
    track: Mapping[str, Any],
    model: HeadModel,
    out: Path,
    formats: Sequence[str] = (),
    matte: bool = False,
    network: PersonMatte | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Writes mattes to ``out/matte`` and each format to ``out/FORMAT``.

    Of the formats only frames in which the person was seen and believed are written, numbered from 0 without gaps.

    Args:
        clip: that was tracked.
        track: of ``track_file.KEYS``.
        model: the track's head model; FLAME if there are formats.
        out: folder that exists.
        formats: of ``FORMATS``.
        matte: write mattes even if no format needs them.
        network: what makes mattes; None to open it where it is needed.
        say: told what is being done.

    Returns:
        For ``summary.json``: frames written, and millimetres that lids lose (``FlameTrack.lids_left``).

    Raises:
        FlameError: the head model is not FLAME, or not the track's.
        ExportError: there is nothing to export, or a folder holds something else.
        ClipError: the clip cannot be read, or is another one.
        AssetError: the matte's network is missing.
        OSError: something cannot be written.
    """
    formats = check_formats(formats)
    matte = matte or needs_matte(formats)
    numbers = np.flatnonzero(np.asarray(track["status"]) == SEEN)
    if formats and not len(numbers):
        raise ExportError("no frame of the track is seen and believed: there is nothing to export")
    if tuple(int(n) for n in track["image_size"]) != tuple(clip.size):
        height, width = clip.size
        raise ClipError(f"{clip.path}: frames of {width} × {height} are not those of the track")
    flame = FlameTrack(track, model, " and ".join(formats)) if formats else None
    if "gaussian-avatars" in formats:
        _say_off_centre(track, say)
    stamp = _stamp(clip, track)
    mattes = None
    if matte:
        network = network or PersonMatte()
        mattes = MatteFolder(_begun(out / "matte", stamp), track, network)
    folders: dict[str, ExportFolder] = {}
    for name in formats:
        assert flame is not None
        folders[name] = FORMATS[name](_begun(out / name, stamp), flame, numbers)
    index_of = {int(number): index for index, number in enumerate(numbers)}
    say(", ".join([*(["matte"] if matte else []), *formats]))

    def missing(number: int) -> list[ExportFolder]:
        index = index_of.get(number)
        if index is None:
            return []
        return [one for one in folders.values() if not all(path.exists() for path in one.files(index))]

    def is_done(number: int) -> bool:
        return (mattes is None or mattes.path(number).exists()) and not missing(number)

    count = len(track["seconds"])
    start = next((number for number in range(count) if not is_done(number)), count)

    def write(frame: ExportFrame, wanted: list[ExportFolder]) -> None:
        for one in wanted:
            one.write(frame)

    # One frame is written while the next one's matte is made.
    with ThreadPoolExecutor(1) as worker:
        pending: Future[None] | None = None
        for frame in clip.frames(start) if start < count else ():
            if frame.index >= count:
                break
            if is_done(frame.index):
                continue
            wanted = missing(frame.index)
            image_matte = mattes(frame.index, frame.image) if mattes is not None else None
            if not wanted:
                continue
            assert flame is not None
            one = ExportFrame(
                index_of[frame.index],
                frame.index,
                float(track["seconds"][frame.index]),
                frame.image,
                image_matte,
                flame.frame(frame.index),
            )
            if pending is not None:
                pending.result()
            pending = worker.submit(write, one, wanted)
        if pending is not None:
            pending.result()
    if any(missing(int(number)) for number in numbers):
        raise ClipError(f"{clip.path}: it has fewer frames than the track")
    for folder in folders.values():
        folder.finish()
    made: dict[str, Any] = {"matte": matte, "frames": {name: len(numbers) for name in formats}}
    if flame is not None and any(FORMATS[name] is VhapFolder for name in formats):
        made["lids_left_mm"] = flame.lids_left(numbers)
        if made["lids_left_mm"] > 0.05:
            say(
                f"{' and '.join(n for n in formats if FORMATS[n] is VhapFolder)} has no lids: FLAME's expressions take "
                f"their place, {made['lids_left_mm']:.2f} mm off where lids move"
            )
    return made


def clip_of_track(folder: Path, track: Mapping[str, Any], path: Path | None = None) -> Clip:
    """The clip that a folder of ``n2f track`` was made from, opened.

    Args:
        folder: with ``summary.json``.
        track: of ``track_file.KEYS``.
        path: where the clip is; None for where it was.

    Raises:
        ClipError: it is not there any more, or cannot be read.
        OutsideValueError: the summary is damaged.
    """
    if path is None:
        try:
            summary = read_json(folder / "summary.json")
        except FileNotFoundError:
            summary = {}
        found = summary.get("clip") if isinstance(summary, dict) else None
        if not is_text(found):
            raise ClipError(f"{folder} does not say where its clip is: name it by --clip")
        path = Path(found)
        if not path.exists() and not path.parent.exists():
            raise ClipError(f"{folder}: its clip is not at {path} any more: name it by --clip")
    video = path.is_file()
    try:
        return open_clip(path, None if video else float(track["frame_rate"]))
    except FileNotFoundError:
        raise ClipError(f"{folder}: its clip is not at {path} any more: name it by --clip") from None


def _say_off_centre(track: Mapping[str, Any], say: Callable[[str], None]) -> None:
    height, width = (int(n) for n in track["image_size"])
    off = np.asarray(track["intrinsics"])[:2, 2] - np.array([width, height]) / 2
    if np.abs(off).max() > _OFF_CENTRE:
        say(
            "GaussianAvatars takes the principal point to be the frame's middle; here it is "
            f"{off[0]:.1f}, {off[1]:.1f} pixels off"
        )


def _stamp(clip: Clip, track: Mapping[str, Any]) -> dict[str, Any]:
    """What the files of a folder depend on."""
    digest = hashlib.sha256()
    for key in (
        "status",
        "seconds",
        "rotation",
        "translation",
        "expression",
        "jaw_pose",
        "eyelids",
        "eyes_pose",
    ):
        digest.update(np.ascontiguousarray(track[key]).tobytes())
    for key in ("shape", "intrinsics", "landmarks_2d"):
        digest.update(np.ascontiguousarray(track[key]).tobytes())
    paths = clip.images or [clip.path]
    stamps = hashlib.sha256(json.dumps([list(file_stamp(path)) for path in paths]).encode()).hexdigest()
    return {"version": n2f_jax.__version__, "track": digest.hexdigest(), "clip": stamps}


def _begun(folder: Path, stamp: dict[str, Any]) -> Path:
    """The folder, with what an earlier run of the same made in it; empty where that was of something else.

    Raises:
        ExportError: it holds what this module has not made.
    """
    mark = folder / _MARK
    if folder.exists() and any(folder.iterdir()):
        try:
            found = read_json(mark)
        except FileNotFoundError:
            raise ExportError(f"{folder} is there and is no export of ours: take another --out") from None
        except OutsideValueError:
            found = None
        if found == stamp:
            return folder
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_text(mark, json.dumps(stamp) + "\n")
    return folder
