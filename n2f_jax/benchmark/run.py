"""Runs methods on sets of heads: timed head by head, slow ones in batches on the first few heads."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from tqdm import tqdm

from n2f_jax.benchmark.methods import Crops, Method, Prediction

_SLOW_BATCH = 8


@runtime_checkable
class HeadSet(Protocol):
    """Heads that methods are run on. Another set is another class with these."""

    def __len__(self) -> int:
        """How many heads there are."""

    def crops(self, index: int) -> Crops | None:
        """What methods are given of one head, B = 1; None where a front end finds no face."""

    def figures(self, index: int, prediction: Prediction) -> dict[str, float]:
        """A prediction (B = 1) against the head's ground truth."""


def run_methods(
    sets: Mapping[str, HeadSet],
    methods: Mapping[str, Method],
    finish: Callable[[str, str, int, Prediction, float], None],
    *,
    done: Callable[[str, str, int], bool] = lambda of, method, index: False,
    slow_heads: int = 24,
    timed_slow: int = 2,
    progress: bool = True,
) -> None:
    """Every method on every head that it accepts.

    Methods are run and timed head by head (batch 1), from crops in memory to parameters and camera; slow ones in
    batches on the first ``slow_heads`` of each set, and timed one by one on ``timed_slow`` heads of the first set.

    Args:
        sets: name → heads, as a benchmark's conditions.
        methods: name → method.
        finish: called with the names of set and method, the head's number, its prediction (B = 1), and the seconds it
            took, 0 where it was not timed.
        done: whether there is nothing to do, called with the names and the number.
        slow_heads, timed_slow: how many heads.
        progress: show bars.
    """
    seconds_of = _Stopwatch()
    slow = [name for name, method in methods.items() if method.slow]
    quick = [name for name in methods if name not in slow]
    for number, (of, heads) in enumerate(sets.items()):
        for index in tqdm(range(len(heads)), desc=of, unit="head", disable=not progress):
            todo = [name for name in quick if not done(of, name, index)]
            crops = heads.crops(index) if todo else None
            for name in todo:
                if crops is not None and methods[name].accepts(crops):
                    finish(of, name, index, *seconds_of(name, methods[name], crops))
        for name in slow:
            todo = [i for i in range(min(slow_heads, len(heads))) if not done(of, name, i)]
            todo = [i for i in todo if (given := heads.crops(i)) is not None and methods[name].accepts(given)]
            for index in [i for i in todo if number == 0 and i < timed_slow]:
                finish(of, name, index, *seconds_of(name, methods[name], heads.crops(index)))
                todo.remove(index)
            batches = range(0, len(todo), _SLOW_BATCH)
            for first in tqdm(batches, desc=f"{of}: {name}", unit="batch", disable=not progress or not todo):
                indices = todo[first : first + _SLOW_BATCH]
                # One program: a batch that is not full repeats its first head.
                padded = [*indices, *[indices[0]] * (_SLOW_BATCH - len(indices))]
                crops = jax.tree.map(lambda *x: jnp.concatenate(x), *(heads.crops(i) for i in padded))
                prediction = methods[name](crops)
                for row, index in enumerate(indices):
                    one = jax.tree.map(lambda x, row=row: x[row : row + 1], prediction)
                    finish(of, name, index, one, 0.0)


class _Stopwatch:
    """Takes a method's time; its first call, which compiles, does not count."""

    def __init__(self) -> None:
        self._warm: set[str] = set()

    def __call__(self, name: str, method: Method, crops: Crops) -> tuple[Prediction, float]:
        if name not in self._warm:
            jax.block_until_ready(method(crops))
            self._warm.add(name)
        begin = time.perf_counter()
        prediction = jax.block_until_ready(method(crops))
        return prediction, time.perf_counter() - begin
