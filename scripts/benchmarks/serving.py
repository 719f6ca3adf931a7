"""``n2f serve`` under load over the loopback: one photograph at a time against batches, and a stop in the midst of it.

    python scripts/benchmarks/serving.py [--seconds 6] [--rounds 5] [--clients 16] [--path frontend]

Two servers: one that computes photographs singly (``--batch 1 --wait 0``), asked by one client and by many, and one
with batches, asked by many. They take turns for some seconds each, so that other work on the machine meets all three;
ratios are medians of the rounds' ratios. Every answer is held against what the photograph gave when it was alone. Then
the server with batches is told to stop under load, and what it let in is held against what clients got. Photographs
are those of ``batch_speed.py`` as JPEG files. CPU time is the server's own.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import http.client
import io
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import numpy as np
from batch_speed import photographs
from PIL import Image

MAX_REQUESTS = 2000  # of one turn
PHOTOGRAPHS = 16
# That landmarks may differ by from when a photograph was alone: the program for a batch rounds otherwise (0.11 seen).
# One photograph's differ from another's by more than two.
PIXELS = 0.25
STARTING_SECONDS = 1800


@dataclasses.dataclass
class Server:
    """A running ``n2f serve``."""

    process: subprocess.Popen
    port: int

    def get(self, path: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()

    def metric(self, name: str) -> float:
        return float(re.search(rf"^{name} (\S+)$", self.get("/metrics")[1], re.MULTILINE).group(1))

    def cpu_seconds(self) -> float:
        with open(f"/proc/{self.process.pid}/stat") as file:  # noqa: PTH123
            fields = file.read().rsplit(")", 1)[1].split()
        return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def serving(*flags: str) -> Iterator[Server]:
    """A server that has said where it is; it may still compile."""
    command = [sys.executable, "-m", "n2f_jax.cli.main", "serve", "--port", "0", *flags]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline()
            if not (found := re.search(r"http://127.0.0.1:(\d+)", line)):
                raise SystemExit(f"the server did not start: {line}")
            yield Server(process, int(found.group(1)))
        finally:
            process.kill()


def wait_until_ready(server: Server) -> None:
    end = time.monotonic() + STARTING_SECONDS
    while server.get("/health")[0] != 200:
        if time.monotonic() > end or server.process.poll() is not None:
            raise SystemExit("the server did not get ready")
        time.sleep(0.5)
    print(f"{' '.join(server.process.args[3:])}: {server.process.stdout.readline().strip()}", flush=True)


@dataclasses.dataclass
class Turn:
    """What some clients saw for some seconds."""

    latencies: list[float] = dataclasses.field(default_factory=list)
    refused: int = 0
    unanswered: int = 0
    failed: list[str] = dataclasses.field(default_factory=list)
    wrong: int = 0
    seconds: float = 0.0

    @property
    def rate(self) -> float:
        return len(self.latencies) / self.seconds


def load(
    server: Server,
    files: list[bytes],
    clients: int,
    seconds: float,
    expected: list[np.ndarray] | None = None,
    until_refused: bool = False,
) -> Turn:
    """Each client sends one photograph after the other on a connection of its own."""
    turn, lock, start = Turn(), threading.Lock(), time.perf_counter()
    numbers = iter(range(MAX_REQUESTS))

    def client() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
        while time.perf_counter() - start < seconds:
            with lock:
                if (number := next(numbers, None)) is None:
                    return
            which, sent = number % len(files), time.perf_counter()
            try:
                connection.request("POST", "/v1/heads", files[which])
                answer = connection.getresponse()
                body = answer.read()
            except (OSError, http.client.HTTPException):
                with lock:
                    turn.unanswered += 1
                return
            taken = time.perf_counter() - sent
            with lock:
                if answer.status == 503 and until_refused:
                    turn.refused += 1
                    return
                if answer.status != 200:
                    turn.failed.append(f"{answer.status}: {body[:300]!r}")
                    return
                turn.latencies.append(taken)
                if expected is not None:
                    found = landmarks(body)
                    apart = np.abs(found - expected[which]).max() if len(found) else np.inf
                    turn.wrong += bool(apart > PIXELS)

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    turn.seconds = time.perf_counter() - start
    if turn.failed:
        raise SystemExit(f"{len(turn.failed)} requests failed: {turn.failed[0]}")
    return turn


def landmarks(body: bytes) -> np.ndarray:
    heads = json.loads(body)["heads"]
    return np.array(heads[0]["landmarks_2d"]) if heads else np.zeros((0, 2))


def stop_under_load(server: Server, files: list[bytes], clients: int) -> None:
    """Prints who got what when the server was told to stop."""
    before = server.metric("n2f_accepted_total")
    threading.Timer(2.0, lambda: server.process.send_signal(signal.SIGTERM)).start()
    turn = load(server, files, clients, 60, until_refused=True)
    code = server.process.wait(60)
    said = server.process.stdout.read()
    let_in, answered = map(int, re.search(r"(\d+) photographs were let in, (\d+) answered", said).groups())
    print(
        f"\nTold to stop under the load of {clients} clients: {let_in - before:.0f} photographs were let in since, "
        f"{len(turn.latencies)} answers came to clients; {turn.refused} were told that it stops, {turn.unanswered} "
        f"hung up on; of all its {let_in} it answered {answered}; exit code {code}"
    )
    if len(turn.latencies) != let_in - before or answered != let_in or code != 0:
        raise SystemExit("something was lost")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=6)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--path", choices=("frontend", "device"))
    flags = parser.parse_args()
    files = []
    for image in photographs(PHOTOGRAPHS):
        stream = io.BytesIO()
        Image.fromarray(image).save(stream, "JPEG", quality=92)
        files.append(stream.getvalue())
    path = ("--path", flags.path) if flags.path else ()
    with contextlib.ExitStack() as stack:
        servers = []
        # One after the other: the second finds compiled what the first has kept.
        for own in (("--batch", str(flags.batch)), ("--batch", "1", "--wait", "0")):
            servers.append(stack.enter_context(serving(*own, *path)))
            wait_until_ready(servers[-1])
        batched, single = servers
        connection = http.client.HTTPConnection("127.0.0.1", single.port, timeout=120)
        expected = []
        for file in files:
            connection.request("POST", "/v1/heads", file)
            expected.append(landmarks(connection.getresponse().read()))
        connection.close()
        modes = {
            "one at a time": (single, 1),
            f"singly, {flags.clients} clients": (single, flags.clients),
            f"batches of {flags.batch}, {flags.clients} clients": (batched, flags.clients),
        }
        turns: dict[str, list[Turn]] = {name: [] for name in modes}
        busy = dict.fromkeys(modes, 0.0)
        for number in range(flags.rounds + 1):
            for name in list(modes)[:: 1 if number % 2 else -1]:
                server, clients = modes[name]
                before = server.cpu_seconds()
                seconds = flags.seconds if number else 2.0  # the first is for warmth
                turn = load(server, files, clients, seconds, expected)
                if number:
                    turns[name].append(turn)
                    busy[name] += server.cpu_seconds() - before
        print(f"\nload of the machine: {os.getloadavg()[0]:.1f} in the last minute, {os.cpu_count()} cores")
        headings = ("photographs a second", "of one at a time", "p50, ms", "p99, ms", "CPU ms each")
        print(f"| | {' | '.join(headings)} | answers | other than alone |\n{'|---' * (len(headings) + 3)}|")
        base = turns["one at a time"]
        for name, taken in turns.items():
            ratio = statistics.median(a.rate / b.rate for a, b in zip(taken, base, strict=True))
            latencies = 1000 * np.array([x for turn in taken for x in turn.latencies])
            print(
                f"| {name} | {statistics.median(turn.rate for turn in taken):.1f} | {ratio:.2f} | "
                f"{np.percentile(latencies, 50):.0f} | {np.percentile(latencies, 99):.0f} | "
                f"{1000 * busy[name] / len(latencies):.0f} | {len(latencies)} | {sum(t.wrong for t in taken)} |"
            )
        if sum(turn.unanswered for taken in turns.values() for turn in taken):
            raise SystemExit("requests went unanswered")
        count = batched.metric("n2f_batch_size_count")
        print(f"\nbatches of {batched.metric('n2f_batch_size_sum') / count:.1f} photographs on average")
        stop_under_load(batched, files, flags.clients)


if __name__ == "__main__":
    main()
