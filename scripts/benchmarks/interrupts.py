"""Interrupts runs at random moments and looks at what is left.

    python scripts/benchmarks/interrupts.py --out /tmp/interrupts [--num 20] [--minutes 30] [--only reconstruct]

``train``, ``fit``, ``preprocess`` and ``reconstruct``, small, are stopped by SIGINT, SIGTERM, SIGKILL and by a disk
that is full (a tmpfs of random size in a mount namespace of its own; Linux, ``unshare``), ``--num`` times each. After
every stop, and again after the same command has run to its end:

- unreadable: files, but temporary ones, that their format's reader refuses;
- lost: results of an unbroken run that the second run does not end with, to the byte (to the number, where a file holds
  times);
- other end: the second run's exit code is not the unbroken run's.

``again`` counts results that were finished and were made a second time: the price of an interruption, and no fault.
One stop in five comes before the first file is written. The commands run from a copy of the working tree, which may
change meanwhile: a run that meets half an edit ends like one that has a fault. Needs the free front end's networks
(``n2f fetch``) and scikit-image (its photograph of an astronaut). Prints a table and writes ``interrupts.json``; the
exit code is 1 if anything was found.
"""

from __future__ import annotations

import argparse
import atexit
import dataclasses
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

TREE = Path(__file__).resolve().parents[2]
# What the commands run from.
_PARTS = ("flame_jax", "n2f_jax", "scripts", "configs")
STOPS = ("SIGINT", "SIGTERM", "SIGKILL", "full disk")
_TIMES = {"seconds", "time", "resumed", "images_per_second", "samples_per_second", "step_seconds"}
_TRIES = 5
# A tmpfs of so many bytes, the command; then the same with room. What each leaves is copied out.
_FULL_DISK = """
mount -t tmpfs -o size="$1" none "$2" && cp -a "$3/." "$2" || exit 99
run="$2"; out="$4"; shift 4
"$@" > "$out/first.txt" 2>&1; echo $? > "$out/first"
cp -a "$run/." "$out/stopped"
mount -o remount,size=4g "$run" || exit 99
"$@" > "$out/second.txt" 2>&1; echo $? > "$out/second"
cp -a "$run/." "$out/ended"
"""


@dataclasses.dataclass(frozen=True)
class Case:
    """One command.

    Attributes:
        name: of the script.
        tree: the copy that it is run from.
        arguments: its arguments, by the run's folder.
        results: what it has made in a folder, to be compared: value by name.
        given: a folder that the run's begins as a copy of, if any.
    """

    name: str
    tree: Path
    arguments: Callable[[Path], list[str]]
    results: Callable[[Path], dict[str, Any]]
    given: Path | None = None

    def command(self, folder: Path) -> list[str]:
        return [sys.executable, str(self.tree / "scripts" / f"{self.name}.py"), *self.arguments(folder)]

    def prepare(self, folder: Path) -> Path:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        if self.given:
            shutil.copytree(self.given, folder, dirs_exist_ok=True)
        return folder


@dataclasses.dataclass
class Unbroken:
    """What a run does that nobody interrupts: its exit code, results, seconds to its first file and to its end, and the
    files and blocks of 4096 bytes that it adds."""

    code: int
    results: dict[str, Any]
    first: float
    seconds: float
    files: int
    blocks: int


def files_of(folder: Path) -> list[Path]:
    """All files but temporary ones, which nothing reads. A run may take folders away meanwhile."""
    found = (Path(parent) / name for parent, _, names in os.walk(folder) for name in names)
    return [
        path
        for path in sorted(found)
        if not any(part.startswith(".") or "tmp" in part for part in path.relative_to(folder).parts)
    ]


def unreadable(folder: Path) -> list[str]:
    """Files that their format's reader refuses."""
    found = []
    for path in files_of(folder):
        try:
            read(path)
        except Exception as error:  # whatever a damaged file does to its reader
            found.append(f"{path.relative_to(folder)}: {error!r}")
    return found


def read(path: Path) -> None:
    if path.suffix == ".json":
        json.loads(path.read_text())
    elif path.suffix == ".jsonl":
        # A line that a killed process left unfinished is dropped by the readers.
        for line in path.read_bytes().split(b"\n")[:-1]:
            json.loads(line)
    elif path.suffix in (".npz", ".zip"):
        with zipfile.ZipFile(path) as archive:
            if bad := archive.testzip():
                raise ValueError(f"{bad} is damaged")
    elif path.suffix in (".png", ".jpg"):
        from PIL import Image

        with Image.open(path) as image:
            image.load()
    elif path.suffix == ".safetensors":
        import ml_dtypes  # noqa: F401  # tells NumPy of bfloat16
        from safetensors.numpy import load_file

        load_file(path)
    elif path.suffix == ".obj" and not path.read_bytes().endswith(b"\n"):
        raise ValueError("it is cut short")


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_times(item) for key, item in value.items() if key not in _TIMES}
    return [without_times(item) for item in value] if isinstance(value, list) else value


def heads(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = {path.name: sha256(path) for path in files_of(folder) if path.suffix != ".json"}
    summary = folder / "summary.json"
    if summary.exists():
        for photo in json.loads(summary.read_text())["photos"]:
            if photo["status"] != "not reached":
                found[f"summary: {photo['name']}"] = without_times(photo)
    return found


def stored_faces(folder: Path) -> dict[str, Any]:
    from n2f_jax.data.manifest import ManifestIndex

    found: dict[str, Any] = {
        str(path.relative_to(folder)): sha256(path) for path in folder.rglob("*.face.zip")
    }
    for record in ManifestIndex(folder):
        found[f"manifest: {record.key}"] = [record.status, list(record.faces), list(record.sizes)]
    return found


def truths(folder: Path) -> dict[str, Any]:
    return {str(path.relative_to(folder)): sha256(path) for path in folder.rglob("*.truth.npz")}


def trained(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = {
        f"best/{path.name}": sha256(path)
        for path in files_of(folder / "best")
        if path.suffix == ".safetensors"
    }
    metrics = folder / "metrics.jsonl"
    if metrics.exists():
        for line in metrics.read_bytes().split(b"\n")[:-1]:
            values = without_times(json.loads(line))
            found[f"metrics: {values.get('step')} {values.get('kind', values.get('split', ''))}"] = values
    return found


def copy_tree(tree: Path) -> Path:
    """The packages and scripts as they are now; what this process starts from now on imports them from there."""
    shutil.rmtree(tree, ignore_errors=True)
    for part in _PARTS:
        shutil.copytree(TREE / part, tree / part, ignore=shutil.ignore_patterns("__pycache__"))
    os.environ["PYTHONPATH"] = os.pathsep.join([str(tree), *filter(None, [os.environ.get("PYTHONPATH")])])
    return tree


def cases(work: Path, num_photos: int) -> dict[str, Case]:
    tree = copy_tree(work / "tree")
    photos = make_photos(work / "photos", num_photos)
    network = [
        *(
            "--config=stage1:small",
            "--config.model.input_size=64",
            "--config.batch_size=4",
            "--config.total_steps=8",
            "--config.optimizer.warmup_steps=1",
        ),
        *(
            "--config.validation.every=4",
            "--config.validation.num_heads=4",
            "--config.validation.batch_size=4",
        ),
        *("--config.checkpoint.every=2", "--config.log_every=1"),
    ]
    found = [
        Case(
            "reconstruct",
            tree,
            lambda folder: [
                str(photos),
                "--out",
                str(folder),
                "--formats=npz,obj",
                "--no-picture",
                "--batch-size=1",
                "--refine=0",
            ],
            heads,
        ),
        Case(
            "preprocess", tree, lambda folder: [str(photos), "--out", str(folder), "--size=64"], stored_faces
        ),
        Case(
            "fit",
            tree,
            lambda folder: [str(folder), "--steps=20", "--batch-size=1"],
            truths,
            given=work / "preprocessed",
        ),
        Case("train", tree, lambda folder: [*network, "--workdir", str(folder)], trained),
    ]
    return {case.name: case for case in found}


def make_photos(folder: Path, count: int) -> Path:
    """The astronaut, shifted and lit differently, and last a cat."""
    import numpy as np
    import skimage.data
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    picture = skimage.data.astronaut()
    for i in range(count):
        shifted = np.roll(picture, (3 * i, -5 * i), axis=(0, 1)) * (0.8 + 0.02 * i)
        path = folder / f"{i:02d}.png"
        if not path.exists():
            Image.fromarray(np.clip(shifted, 0, 255).astype(np.uint8)).save(path)
    return folder


def start(command: list[str], log: Path) -> subprocess.Popen:
    with log.open("w") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT, start_new_session=True)
    atexit.register(process.kill)  # Ctrl-C does not reach it; where it has ended this does nothing
    return process


def wait_for_files(process: subprocess.Popen, folder: Path, count: int) -> None:
    while process.poll() is None and len(files_of(folder)) < count:
        time.sleep(0.02)


def run_unbroken(case: Case, folder: Path) -> Unbroken:
    case.prepare(folder)
    given, blocks = len(files_of(folder)), blocks_of(folder)
    begin = time.monotonic()
    process = start(case.command(folder), folder.with_suffix(".txt"))
    wait_for_files(process, folder, given + 1)
    first = time.monotonic() - begin
    code = process.wait()
    seconds = time.monotonic() - begin
    results = case.results(folder)
    if not results or code not in (0, 1):
        log = folder.with_suffix(".txt")
        last = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        raise SystemExit(f"{last}\n{case.name} fails without being interrupted (exit code {code}): see {log}")
    return Unbroken(code, results, first, seconds, len(files_of(folder)) - given, blocks_of(folder) - blocks)


def blocks_of(folder: Path) -> int:
    """What a tmpfs takes for the files; folders cost it nothing."""
    return sum(-(-path.stat().st_size // 4096) for path in folder.rglob("*") if path.is_file())


def by_signal(case: Case, whole: Unbroken, name: str, folder: Path, moment: random.Random) -> dict[str, Any]:
    """One stop by a signal, and the run after it. A run that is over before it is stopped is tried again."""
    for _ in range(_TRIES):
        case.prepare(folder)
        given = len(files_of(folder))
        process = start(case.command(folder), folder.with_suffix(".1.txt"))
        # By what is there, not by the clock: on a machine with other work too a run is stopped before its end.
        before = 0 if moment.random() < 0.2 else moment.randrange(whole.files)
        wait_for_files(process, folder, given + before)
        wait = moment.uniform(0, (whole.seconds - whole.first) / whole.files if before else whole.first)
        try:
            process.wait(wait)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.Signals[name])
        code = process.wait()
        if code != whole.code:
            break
    stopped = look(case, folder)
    second = start(case.command(folder), folder.with_suffix(".2.txt")).wait()
    return judge(whole, code, stopped, second, look(case, folder)) | {"after_seconds": round(wait, 2)}


def by_full_disk(case: Case, whole: Unbroken, folder: Path, moment: random.Random) -> dict[str, Any]:
    """One stop by a full disk, and the run after it with room."""
    outside = folder.with_name(f"{folder.name}-outside")
    shutil.rmtree(outside, ignore_errors=True)
    for part in ("stopped", "ended", "given"):
        (outside / part).mkdir(parents=True)
    case.prepare(outside / "given")
    case.prepare(folder)
    # With as much as the whole run adds nothing would be stopped.
    room = moment.randrange(whole.blocks)
    size = 4096 * max(blocks_of(outside / "given") + room, 1)
    arguments = ["sh", "-c", _FULL_DISK, "sh", str(size), str(folder), str(outside / "given"), str(outside)]
    command = ["unshare", "--map-root-user", "--mount", *arguments, *case.command(folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    if not (outside / "second").exists():
        raise OSError(f"no mount namespace with a tmpfs could be made: {done.stderr.strip()}")
    first, second = (int((outside / name).read_text()) for name in ("first", "second"))
    stopped, ended = look(case, outside / "stopped"), look(case, outside / "ended")
    return judge(whole, first, stopped, second, ended) | {"room_blocks": room}


def look(case: Case, folder: Path) -> dict[str, Any]:
    bad = unreadable(folder)
    return {
        "unreadable": bad,
        "results": {} if bad else case.results(folder),
        "changed": {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in files_of(folder)},
    }


def judge(
    whole: Unbroken, first: int, stopped: dict[str, Any], second: int, ended: dict[str, Any]
) -> dict[str, Any]:
    lost = [name for name, value in whole.results.items() if ended["results"].get(name) != value]
    finished = [
        name
        for name, value in stopped["results"].items()
        if whole.results.get(name) == value and name in stopped["changed"]
    ]
    again = [name for name in finished if stopped["changed"][name] != ended["changed"].get(name)]
    return {
        "exit_codes": [first, second],
        "unreadable": stopped["unreadable"] + ended["unreadable"],
        "lost": lost,
        "other_end": second != whole.code,
        "finished": len(finished),
        "again": len(again),
    }


def table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| command | stopped by | times | exit codes | unreadable | lost | other end | finished, of these again |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in dict.fromkeys(row["command"] for row in rows):
        for stop in dict.fromkeys(row["stop"] for row in rows):
            some = [row for row in rows if (row["command"], row["stop"]) == (name, stop)]
            if not some:
                continue
            codes = ", ".join(str(code) for code in sorted({row["exit_codes"][0] for row in some}))
            count = lambda key, some=some: sum(bool(row[key]) for row in some)  # noqa: E731
            total = lambda key, some=some: sum(row[key] for row in some)  # noqa: E731
            lines.append(
                f"| `{name}` | {stop} | {len(some)} | {codes} | {count('unreadable')} | {count('lost')} "
                f"| {count('other_end')} | {total('finished')}, {total('again')} |"
            )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="scratch folder")
    parser.add_argument(
        "--num", type=int, default=20, metavar="N", help="stops of each kind; default: %(default)s"
    )
    parser.add_argument(
        "--minutes",
        type=float,
        default=float("inf"),
        metavar="M",
        help="stop no more of a command after so many; default: no limit",
    )
    parser.add_argument("--only", nargs="+", choices=("reconstruct", "preprocess", "fit", "train"))
    parser.add_argument("--stops", nargs="+", choices=STOPS, default=STOPS)
    parser.add_argument("--photos", type=int, default=8, metavar="N", help="default: %(default)s")
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="of the moments; default: %(default)s"
    )
    flags = parser.parse_args()
    # A shell that starts this in the background has SIGINT ignored, and what is started here would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    work = flags.out.resolve()
    work.mkdir(parents=True, exist_ok=True)
    # Each program once, the smallest too.
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(work / "compiled"))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    chosen = cases(work, flags.photos)
    if flags.only is None or "fit" in flags.only:
        run_unbroken(chosen["preprocess"], work / "preprocessed")
    rows = []
    for case in (chosen[name] for name in flags.only or chosen):
        folder = work / case.name
        run_unbroken(case, folder)  # compiles
        whole = run_unbroken(case, folder)
        print(
            f"{case.name}: {whole.seconds:.1f} s, exit code {whole.code}, {len(whole.results)} results",
            flush=True,
        )
        moments = {stop: random.Random(f"{flags.seed} {case.name} {stop}") for stop in flags.stops}
        end = time.monotonic() + 60 * flags.minutes
        for number in range(flags.num):
            # In turn, so that all have been tried as often when the time is over.
            for stop in list(moments):
                if time.monotonic() > end:
                    break
                try:
                    if stop == "full disk":
                        row = by_full_disk(case, whole, folder, moments[stop])
                    else:
                        row = by_signal(case, whole, stop, folder, moments[stop])
                except OSError as error:
                    if stop != "full disk":
                        raise
                    print(f"{case.name}, {stop}: not tried: {error}", flush=True)
                    del moments[stop]
                    continue
                rows.append({"command": case.name, "stop": stop, "number": number} | row)
                if row["unreadable"] or row["lost"] or row["other_end"]:
                    print(json.dumps(rows[-1], indent=1), flush=True)
                    # What was on the tmpfs has been copied out of it.
                    left = folder.with_name(f"{folder.name}-outside") if stop == "full disk" else folder
                    shutil.copytree(left, work / f"{case.name}-{stop}-{number}", dirs_exist_ok=True)
                (work / "interrupts.json").write_text(json.dumps(rows, indent=1))
    print(table(rows))
    return int(any(row["unreadable"] or row["lost"] or row["other_end"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
