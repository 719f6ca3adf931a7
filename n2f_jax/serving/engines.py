"""From photographs to heads, in two steps: one for each photograph in any thread, one for a batch in one thread."""

from __future__ import annotations

import math
import statistics
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from n2f_jax.frontends.base import FrontendFace
from n2f_jax.geometry.focal import Focal, FocalHints, resolve_focal
from n2f_jax.reconstruction.head import Head
from n2f_jax.reconstruction.reconstructor import BatchPath, Reconstructor
from n2f_jax.serving.canvas import Placement, on_canvas
from n2f_jax.serving.requests import Photograph
from n2f_jax.serving.trial_picture import trial_picture

_TRIALS = 5  # of each kind that are looked at, at the start and later
_AGAIN = 64


class NotServableError(RuntimeError):
    """The trial picture gave no head."""


class Engine(Protocol):
    """What a server computes with.

    Attributes:
        path: as of ``Reconstructor.reconstruct_batch``.
    """

    path: BatchPath

    def warm_up(self) -> str:
        """Compiles everything, on a picture of a head; what was found out, in one line.

        Raises:
            NotServableError: it gives no head.
        """
        ...

    def prepare(self, photograph: Photograph) -> object:
        """What of a photograph can be done without the others. Any number of threads may call it at once."""
        ...

    def heads(self, prepared: Sequence[object]) -> list[list[Head]]:
        """Heads of each photograph, the largest first; in one thread."""
        ...


class BatchChoice:
    """From how many faces on a full batch is faster than one by one, by the medians of the last calls of either kind.

    What was measured while the machine did something else is forgotten in time: whichever way is not taken is taken
    for one call after every ``_AGAIN`` faces, where there are enough to fill a batch.

    Args:
        most: faces of a full batch.
    """

    def __init__(self, most: int):
        self.most = most
        self._singly, self._together = (deque[float](maxlen=_TRIALS) for _ in range(2))
        self._since = 0  # faces since the other way was taken

    @property
    def worth(self) -> float:
        """So many; infinite where one by one is always the faster way."""
        if not (self._singly and self._together):
            return self.most
        one, all_ = statistics.median(self._singly), statistics.median(self._together)
        return math.ceil(all_ / one) if all_ < self.most * one else math.inf

    def next(self, waiting: int) -> int:
        """How many of so many faces are to be computed next: one, or up to a full batch."""
        together = waiting >= self.worth
        if waiting >= self.most and self._since >= _AGAIN:
            self._since, together = 0, not together
        count = min(waiting, self.most) if together else 1
        self._since += count
        return count

    def took(self, faces: int, seconds: float) -> None:
        """How long so many took: one by itself, or several in the program for a full batch."""
        (self._together if faces > 1 else self._singly).append(seconds)

    def __str__(self) -> str:
        one, all_ = (1000 * statistics.median(x) for x in (self._singly, self._together))
        way = f"{self.worth} or more are computed together" if self.worth <= self.most else "one by one"
        return f"faces take {one:.0f} ms each, {all_:.0f} ms as {self.most}: {way}"


class FoundFaces(NamedTuple):
    """Faces of a photograph of a size, and its focal length."""

    faces: list[FrontendFace]
    image_size: tuple[int, int]
    focal: Focal


_Row = tuple[FrontendFace, tuple[int, int], Focal]


class FrontendEngine:
    """Path ``'frontend'``: faces are found photograph by photograph; the network sees those of several at once.

    It sees them ``reconstructor.batch_size`` at a time or one by one, whichever is the faster for their number by what
    both took lately (``BatchChoice``): both are compiled, and nothing else is.

    Args:
        reconstructor: with a front end.
        max_faces: of a photograph.
        clock: seconds.
    """

    path: BatchPath = "frontend"

    def __init__(
        self,
        reconstructor: Reconstructor,
        max_faces: int,
        clock: Callable[[], float] = time.perf_counter,
    ):
        self._reconstructor, self._max_faces, self._clock = reconstructor, max_faces, clock
        self.choice = BatchChoice(reconstructor.batch_size)

    def warm_up(self) -> str:
        found = self.prepare(Photograph(trial_picture(), FocalHints()))
        if not found.faces:
            raise NotServableError("the front end finds no face in the picture that a server is tried with")
        row = (found.faces[0], found.image_size, found.focal)
        if not self._heads([row])[0].is_finite:
            raise NotServableError("the network gives no numbers for the picture that a server is tried with")
        most = self._reconstructor.batch_size
        if most == 1:
            return "one face at a time"
        self._heads([row] * most)  # compiles
        for _ in range(_TRIALS):  # in turns, so that other work on the machine meets both
            self._timed([row])
            self._timed([row] * most)
        return str(self.choice)

    def _timed(self, rows: list[_Row]) -> list[Head]:
        start = self._clock()
        heads = self._heads(rows)
        self.choice.took(len(rows), self._clock() - start)
        return heads

    def _heads(self, rows: list[_Row]) -> list[Head]:
        faces, sizes, focals = (list(x) for x in zip(*rows, strict=True))
        return self._reconstructor.from_faces(faces, sizes, focals)

    def prepare(self, photograph: Photograph) -> FoundFaces:
        size = photograph.image.shape[:2]
        faces = self._reconstructor.detect(photograph.image)[: self._max_faces]
        focal = resolve_focal(size, *photograph.focal, self._reconstructor.face_size(faces))
        return FoundFaces(faces, size, focal)

    def heads(self, prepared: Sequence[FoundFaces]) -> list[list[Head]]:
        rows = [(face, one.image_size, one.focal) for one in prepared for face in one.faces]
        heads: list[Head] = []
        while rows:
            count = self.choice.next(len(rows))
            part, rows = rows[:count], rows[count:]
            heads += self._timed(part)
        rest = iter(heads)
        return [[next(rest) for _ in one.faces] for one in prepared]


class Placed(NamedTuple):
    """A photograph on a canvas."""

    canvas: np.ndarray
    placement: Placement
    focal: FocalHints


class DeviceEngine:
    """Path ``'device'``: the whole way of a batch is one compiled program, for 1 photograph and for ``batch``.

    Every photograph is brought to one size (``serving.canvas``). What the program does not settle goes the other way.

    Args:
        reconstructor: with a program.
        max_faces: of a photograph.
        batch: photographs of a call.
        side: of the canvas.
    """

    path: BatchPath = "device"

    def __init__(self, reconstructor: Reconstructor, max_faces: int, batch: int, side: int):
        self._reconstructor, self._max_faces, self._batch, self._side = (
            reconstructor,
            max_faces,
            batch,
            side,
        )
        self._others = FrontendEngine(reconstructor, max_faces)

    def warm_up(self) -> str:
        self._others.warm_up()
        placed = self.prepare(Photograph(trial_picture(), FocalHints()))
        taken = []
        for count in sorted({1, self._batch}):
            if not self.heads([placed] * count)[0]:
                raise NotServableError("no head in the picture that a server is tried with")
            seconds = _least_seconds(lambda count=count: self.heads([placed] * count))
            taken.append(f"{1000 * seconds:.0f} ms for {count}")
        return f"photographs on {self._side}² take {', '.join(taken)}"

    def prepare(self, photograph: Photograph) -> Placed:
        canvas, placement = on_canvas(photograph.image, self._side)
        return Placed(canvas, placement, placement.focal_on_canvas(photograph.focal))

    def heads(self, prepared: Sequence[Placed]) -> list[list[Head]]:
        found = self._reconstructor.reconstruct_batch(
            [one.canvas for one in prepared],
            [one.focal for one in prepared],
            max_faces=self._max_faces,
            path="device",
            padded_to=1 if len(prepared) == 1 else self._batch,
        )
        return [
            [one.placement.of_photograph(head) for head in heads]
            for one, heads in zip(prepared, found, strict=True)
        ]


def make_engine(
    reconstructor: Reconstructor, max_faces: int, batch: int, side: int, path: BatchPath | None = None
) -> FrontendEngine | DeviceEngine:
    """The engine of a path.

    Args:
        reconstructor: with a front end; its ``batch_size`` is for faces.
        max_faces: of a photograph.
        batch: photographs at once.
        side: of the canvas of the path ``'device'``.
        path: None for ``reconstructor.batch_path()``.

    Raises:
        ValueError: the reconstructor's front end has no program for that path.
    """
    if (path or reconstructor.batch_path()) == "frontend":
        return FrontendEngine(reconstructor, max_faces)
    reconstructor.program  # noqa: B018  # raises where there is none
    return DeviceEngine(reconstructor, max_faces, batch, side)


def _least_seconds(function: Callable[[], object]) -> float:
    taken = []
    for _ in range(_TRIALS):
        start = time.perf_counter()
        function()
        taken.append(time.perf_counter() - start)
    return min(taken)
