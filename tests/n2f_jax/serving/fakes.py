"""A service without networks: it sees the mean head once for each hundred levels of a photograph's first pixel."""

from __future__ import annotations

import dataclasses
import io
import sys
import threading
import time

import numpy as np
from PIL import Image

import flame_jax
from n2f_jax.reconstruction.output_files import MeshWriter
from n2f_jax.serving import Limits
from n2f_jax.serving.answers import Answers
from n2f_jax.serving.service import Service
from tests.n2f_jax.reconstruction.fakes import mean_head

FAILS, HAS_NO_NUMBERS = 66, 77  # levels of photographs that make it fail


class FakeEngine:
    path = "frontend"

    def __init__(self, model, seconds=0.0, broken=False):
        self.model, self.seconds, self.broken = model, seconds, broken
        self.batches, self.focals = [], []
        self.go_on = threading.Event()
        self.go_on.set()

    def warm_up(self):
        if self.broken:
            raise RuntimeError("no face")
        return "all is well"

    def prepare(self, photograph):
        self.focals.append(photograph.focal)
        return photograph.image.shape[:2], int(photograph.image[0, 0, 0])

    def heads(self, prepared):
        self.go_on.wait(10)
        time.sleep(self.seconds)
        self.batches.append(len(prepared))
        if FAILS in [level for _, level in prepared]:
            raise RuntimeError("a line\nand another")
        return [self.heads_of(*one) for one in prepared]

    def heads_of(self, size, level):
        head = mean_head(self.model, size)
        if level == HAS_NO_NUMBERS:
            return [dataclasses.replace(head, vertices=np.full_like(head.vertices, np.nan))]
        return [head] * (level // 100)


def png(level=100, size=(9, 12), **options):
    stream = io.BytesIO()
    Image.fromarray(np.full((*size, 3), level, np.uint8)).save(stream, "PNG", **options)
    return stream.getvalue()


def make_service(engine, said=lambda line: None, **limits):
    return Service(engine, Answers(MeshWriter(engine.model)), Limits(**limits), said)


def main(seconds: str) -> None:
    """A server in a process of its own, whose batches take some time."""
    from n2f_jax.serving.server import Server, listen

    service = make_service(FakeEngine(flame_jax.load_open_head(), float(seconds)), print_line, batch=4)
    with listen("127.0.0.1", 0) as sock:
        print_line(str(sock.getsockname()[1]))
        Server(service, access_log=False, said=print_line).run([sock])
    print_line(service.account())


def print_line(line):
    print(line, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
