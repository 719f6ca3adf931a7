"""From photographs to heads, in two steps: one for each photograph in any thread, one for a batch in one thread."""

from __future__ import annotations

import math
import time
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

_TRIALS = 3


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


class FoundFaces(NamedTuple):
    """Faces of a photograph of a size, and its focal length."""

    faces: list[FrontendFace]
    image_size: tuple[int, int]
    focal: Focal


class FrontendEngine:
    """Path ``'frontend'``: faces are found photograph by photograph; the network sees those of several at once.

    It sees them ``reconstructor.batch_size`` at a time or one by one, whichever a trial finds the faster for their
    number: both are compiled, and nothing else is.

    Args:
        reconstructor: with a front end.
        max_faces: of a photograph.
    """

    path: BatchPath = "frontend"

    def __init__(self, reconstructor: Reconstructor, max_faces: int):
        self._reconstructor, self._max_faces = reconstructor, max_faces
        self._worth: float = reconstructor.batch_size  # faces from which a full batch is the faster one

    def warm_up(self) -> str:
        found = self.prepare(Photograph(trial_picture(), FocalHints()))
        if not found.faces:
            raise NotServableError("the front end finds no face in the picture that a server is tried with")
        most = self._reconstructor.batch_size
        if not self._seconds([found], 1)[0][0].is_finite:
            raise NotServableError("the network gives no numbers for the picture that a server is tried with")
        if most == 1:
            return "one face at a time"
        one, all_ = self._seconds([found], 1)[1], self._seconds([found] * most, most)[1]
        self._worth = math.ceil(all_ / one) if all_ < most * one else math.inf
        together = f"{self._worth} or more are computed together" if self._worth <= most else "one by one"
        return f"faces take {1000 * one:.0f} ms each, {1000 * all_:.0f} ms as {most}: {together}"

    def _seconds(self, found: Sequence[FoundFaces], count: int) -> tuple[list[Head], float]:
        """Heads of so many faces at once, and the least time of a few trials after the one that compiles."""
        faces = [one.faces[0] for one in found][:count]
        arguments = (faces, [one.image_size for one in found], [one.focal for one in found])
        heads = self._reconstructor.from_faces(*arguments)
        return heads, _least_seconds(lambda: self._reconstructor.from_faces(*arguments))

    def prepare(self, photograph: Photograph) -> FoundFaces:
        size = photograph.image.shape[:2]
        faces = self._reconstructor.detect(photograph.image)[: self._max_faces]
        focal = resolve_focal(size, *photograph.focal, self._reconstructor.face_size(faces))
        return FoundFaces(faces, size, focal)

    def heads(self, prepared: Sequence[FoundFaces]) -> list[list[Head]]:
        rows = [(face, one.image_size, one.focal) for one in prepared for face in one.faces]
        heads: list[Head] = []
        while rows:
            count = self._reconstructor.batch_size if len(rows) >= self._worth else 1
            part, rows = rows[:count], rows[count:]
            heads += self._reconstructor.from_faces(*(list(x) for x in zip(*part, strict=True)))
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
