"""How much one server takes."""

from __future__ import annotations

import dataclasses
import math


@dataclasses.dataclass(frozen=True)
class Limits:
    """What is refused, and how much is done at once.

    Attributes:
        max_bytes: of a request's body.
        max_pixels: of a photograph; held against its header, before it is unpacked.
        max_faces: of a photograph, the largest.
        max_inside: photographs from the first byte of their request to the last of their answer; more are told to come
            again. With ``max_bytes`` it bounds the memory.
        seconds: from a request's first byte to its answer.
        batch: photographs that are computed together, at most.
        wait: seconds that the first of a batch waits for others.
        threads: that unpack photographs, look for faces and pack answers.
        canvas: side in pixels to which photographs are brought on the path ``'device'``, whose program is for one size.
        drain: seconds that new photographs are still told that the server stops, before it hangs up.

    Raises:
        ValueError: a number that cannot be.
    """

    max_bytes: int = 20 << 20
    max_pixels: int = 50_000_000
    max_faces: int = 4
    max_inside: int = 64
    seconds: float = 30.0
    batch: int = 8
    wait: float = 0.004
    threads: int = 2
    canvas: int = 1024
    drain: float = 0.5

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            least = 0 if field.name in ("wait", "drain") else 1
            if not least <= value < math.inf:
                raise ValueError(f"{field.name} is a number from {least} on, not {value}")
        if self.canvas % 2:
            raise ValueError(f"the canvas has an even number of pixels, not {self.canvas}")
