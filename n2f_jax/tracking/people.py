"""Who is who: faces of consecutive frames become people, by where they are and what they look like."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.optimize import linear_sum_assignment

from n2f_jax.frontends.base import SAME_FACE
from n2f_jax.geometry.boxes import bounding_box, box_overlap
from n2f_jax.tracking.appearance import likeness
from n2f_jax.tracking.first_pass import CHANGED, difference
from n2f_jax.tracking.shards import Faces, Shard

# Likeness from which a face that comes back, or stands elsewhere after a cut, is taken for the same person's.
_ALIKE = 0.80
# Seconds within which a face that is gone is looked for near the place where it was.
_NEAR = 0.5
_LEARNING = 0.1  # of what a person looks like, by frame
MAX_PEOPLE = 1000


class PeopleError(ValueError):
    """The person that was asked for is not in the clip; the message says who is."""


@dataclasses.dataclass
class Person:
    """Somebody in a clip.

    Attributes:
        frames: in how many they are seen.
        first, last: numbers of frames.
        size: mean side of their crops, pixels.
    """

    frames: int = 0
    first: int = 0
    last: int = 0
    size: float = 0.0
    box: Float[np.ndarray, "4"] = dataclasses.field(default_factory=lambda: np.zeros(4))
    seconds: float = 0.0
    looks: Float[np.ndarray, " A"] = dataclasses.field(default_factory=lambda: np.zeros(0))

    def add(self, frame: int, seconds: float, box: np.ndarray, size: float, looks: np.ndarray) -> None:
        """They are seen in another frame."""
        if self.frames == 0:
            self.first, self.looks = frame, looks.astype(np.float64)
        else:
            mixed = (1.0 - _LEARNING) * self.looks + _LEARNING * looks
            self.looks = mixed / max(float(np.linalg.norm(mixed)), 1e-9)
        self.size += (size - self.size) / (self.frames + 1)
        self.frames, self.last, self.seconds, self.box = self.frames + 1, frame, seconds, box

    @property
    def weight(self) -> float:
        """By which people are ranked: how long, and how large."""
        return self.frames * self.size


@dataclasses.dataclass
class Cast:
    """Everybody in a clip.

    Attributes:
        people: the longest and largest first.
        owner: ``(K,)`` of all faces of the clip, in order: the number of their person in ``people``.
        seconds: ``(T,)`` moments of the frames.
        cut: ``(T,)`` where another shot begins.
    """

    people: list[Person]
    owner: Int[np.ndarray, " K"]
    seconds: Float[np.ndarray, " T"]
    cut: Bool[np.ndarray, " T"]

    def person(self, number: int) -> Person:
        """Number 1 is the first.

        Raises:
            PeopleError: there is no such person, or nobody.
        """
        if not self.people:
            raise PeopleError("no face in any frame of the clip")
        if not 1 <= number <= len(self.people):
            seen = "; ".join(
                f"{i}: {one.frames} frames from {one.first} to {one.last}"
                for i, one in enumerate(self.people[:5], 1)
            )
            raise PeopleError(
                f"there is no person {number}: the clip has {len(self.people)} ({seen}"
                f"{'; …' if len(self.people) > 5 else ''})"
            )
        return self.people[number - 1]


def find_people(shards: Iterable[Shard]) -> Cast:
    """Links the faces of a clip, frame by frame."""
    people: list[Person] = []
    owner, seconds, cut = [], [], []
    before: np.ndarray | None = None
    for shard in shards:
        places = np.searchsorted(shard.faces.frame, np.arange(shard.start, shard.start + len(shard) + 1))
        boxes = [bounding_box(landmarks) for landmarks in shard.faces.landmarks]
        for i in range(len(shard)):
            changed = before is not None and difference(shard.thumbnails[i], before) > CHANGED
            before = shard.thumbnails[i]
            rows = range(int(places[i]), int(places[i + 1]))
            moment = float(shard.seconds[i])
            found = _matched(people, shard.faces, boxes, rows, moment, changed)
            for row, person in zip(rows, found, strict=True):
                person = len(people) if person is None else person
                if person == len(people):
                    people.append(Person())
                people[person].add(
                    shard.start + i,
                    moment,
                    boxes[row],
                    float(shard.faces.crop[row, 2]),
                    shard.faces.appearance[row],
                )
                owner.append(person)
            seconds.append(moment)
            cut.append(changed)
    order = sorted(range(len(people)), key=lambda i: -people[i].weight)
    rank = np.argsort(order).astype(np.int64) if order else np.zeros(0, np.int64)
    owners = rank[np.array(owner, np.int64)] if owner else np.zeros(0, np.int64)
    return Cast([people[i] for i in order], owners, np.array(seconds), np.array(cut, bool))


def _matched(
    people: list[Person], faces: Faces, boxes: list[np.ndarray], rows: range, moment: float, changed: bool
) -> list[int | None]:
    """The person of each face of a frame; None for somebody new."""
    if not people or not rows:
        return [None] * len(rows)
    scores = np.zeros((len(rows), len(people)))
    for j, person in enumerate(people):
        near = not changed and moment - person.seconds <= _NEAR
        for i, row in enumerate(rows):
            overlap = box_overlap(boxes[row], person.box) if near else 0.0
            alike = likeness(faces.appearance[row], person.looks)
            if overlap >= SAME_FACE:
                scores[i, j] = 1.0 + overlap + max(alike, 0.0)
            elif alike >= _ALIKE:
                scores[i, j] = alike
    taken = linear_sum_assignment(-scores)
    found: list[int | None] = [None] * len(rows)
    for i, j in zip(*taken, strict=True):
        if scores[i, j] > 0:
            found[int(i)] = int(j)
    # A clip of more people than that is a crowd whose faces are not told apart.
    full = len(people) >= MAX_PEOPLE
    return [int(scores[i].argmax()) if one is None and full else one for i, one in enumerate(found)]
