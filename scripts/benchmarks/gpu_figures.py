"""What a large GPU does with this package, in minutes: one row a figure, as soon as it is there.

    python scripts/benchmarks/gpu_figures.py [--out FOLDER] [--seconds 200] [--parts network render …] [--tiny]

Each part runs in a process of its own with a time of its own, so that a part that fails, hangs or runs out of memory
costs no other part anything; rows go to the screen and to FOLDER/figures.md. ``--tiny`` tries everything at sizes that
suit two CPU cores. The parts are in ``gpu_parts.py``; ``scripts/on_gpu.sh`` runs tests first.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# In this order, with the seconds that each may take; what is cheap and what most depends on comes first.
PARTS = {
    "network": 65,
    "torch": 30,
    "render": 45,
    "train": 100,
    "gauss_newton": 50,
    "photograph": 60,
    "torch_compile": 60,
}
# A part that has less than this left does not begin: its imports alone would take it.
LEAST_SECONDS = 12
# JAX and PyTorch share the card, and a step may fill it. The CPU prepares what a GPU would compile bit by bit.
ENVIRONMENT = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.92"}
HEADER = "| what | batch | figure | unit | remarks |\n|---|---|---|---|---|\n"


def run_part(name: str, seconds: float, out: Path, scratch: Path, tiny: bool) -> None:
    """One part in its own process group, ended when its time is over; a failure is a row."""
    command = [sys.executable, str(Path(__file__).with_name("gpu_parts.py")), name]
    command += ["--out", str(out), "--scratch", str(scratch), "--seconds", f"{seconds:.0f}"]
    start = time.monotonic()
    environment = {**ENVIRONMENT, **os.environ}
    if name.startswith("torch"):
        environment["JAX_PLATFORMS"] = "cpu"  # it gives shapes there; the card is PyTorch's
    process = subprocess.Popen(command + ["--tiny"] * tiny, start_new_session=True, env=environment)
    try:
        code = process.wait(timeout=seconds)
        problem = f"ended with {code}" if code else ""
    except subprocess.TimeoutExpired:
        problem = f"not done after {seconds:.0f} s"
    except BaseException:
        _end(process)
        raise
    if process.poll() is None:
        _end(process)
    if problem:
        row(out, name, "", "—", "", problem)
    print(f"-- {name}: {time.monotonic() - start:.0f} s", flush=True)


def _end(process: subprocess.Popen[bytes]) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def row(out: Path, what: str, batch: int | str, figure: str, unit: str, remarks: str = "") -> None:
    """Prints a row of the table and appends it to ``out/figures.md``."""
    line = f"| {what} | {batch} | {figure} | {unit} | {remarks} |"
    print(line, flush=True)
    with (out / "figures.md").open("a", encoding="utf-8") as file:
        file.write(line + "\n")


def main() -> int:
    start = time.monotonic()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument(
        "--out", type=Path, default=os.environ.get("OUT"), help="folder; default: the environment's OUT"
    )
    parser.add_argument("--seconds", type=float, default=200.0, help="for all parts together")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART")
    parser.add_argument("--tiny", action="store_true", help="small sizes and no time limits, for a CPU")
    flags = parser.parse_args()
    if flags.out is None:
        parser.error("name a folder with --out, or in the environment's OUT")
    flags.out.mkdir(parents=True, exist_ok=True)
    file = flags.out / "figures.md"
    if not file.is_file():
        file.write_text(HEADER, encoding="utf-8")
    # Whoever ends this process ends the part that runs.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory(prefix="n2f-jax-figures-") as scratch:
        for name in flags.parts:
            left = flags.seconds - (time.monotonic() - start)
            if flags.tiny:
                run_part(name, 600, flags.out, Path(scratch), tiny=True)
            elif left < LEAST_SECONDS:
                row(flags.out, name, "", "—", "", "no time left")
            else:
                run_part(name, min(left, PARTS[name]), flags.out, Path(scratch), tiny=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
