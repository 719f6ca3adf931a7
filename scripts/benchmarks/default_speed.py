"""What the correction and the refinement cost: heads a second of the network without and with them, in turns.

    python scripts/benchmarks/default_speed.py [--rounds 40] [--batch 1]

From maps and points in memory to heads on the device: the network by itself, the network with its correction on the
surface, what ``Reconstructor`` makes of both (camera on the points, decoded) without refinement, and with the default
number of steps. Then what finding the face in a photograph in memory (scikit-image's astronaut) takes, and the whole
default from it to its head, one at a time. CPU time is that of all threads. Medians; ratios are medians of the rounds'
ratios, so that other work on the machine meets all.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import jax
import numpy as np
import skimage.data

from n2f_jax.geometry.focal import resolve_focal
from n2f_jax.models.correction import Scene
from n2f_jax.models.parameters import functional
from n2f_jax.models.pretrained import DEFAULT_CHECKPOINT, from_pretrained
from n2f_jax.reconstruction.face_batch import FaceBatch
from n2f_jax.reconstruction.reconstructor import Reconstructor
from n2f_jax.runtime import compilation_cache

PLAIN, CORRECTED = "network", "network with correction"
ANSWER, DEFAULT = "its heads", "with {} steps: the default"
FACE, PHOTOGRAPH = "finding the face of a photograph", "photograph to head"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--batch", type=int, default=1)
    flags = parser.parse_args()
    compilation_cache.enable()
    reconstructor = Reconstructor.from_pretrained(batch_size=1)
    image = np.ascontiguousarray(skimage.data.astronaut())
    calls = measured(reconstructor, image, flags.batch)
    times: dict[str, list[float]] = {name: [] for name in calls}
    busy: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for number in range(flags.rounds):
        for name in calls if number % 2 else reversed(calls):
            start, worked = time.perf_counter(), time.process_time()
            calls[name]()
            times[name].append(time.perf_counter() - start)
            busy[name].append(time.process_time() - worked)
    print(f"batch {flags.batch}, {flags.rounds} rounds")
    print(
        "| | heads a second | ms a head, median | least | CPU ms | times the network's |\n|---|---|---|---|---|---|"
    )
    for name, taken in times.items():
        count = 1 if name in (FACE, PHOTOGRAPH) else flags.batch
        ratio = statistics.median(a / b for a, b in zip(taken, times[PLAIN], strict=True))
        middle = statistics.median(taken) / count
        least, cpu = min(taken) / count, statistics.median(busy[name]) / count
        numbers = (
            f"{1 / middle:.1f} | {1000 * middle:.1f} | {1000 * least:.1f} | {1000 * cpu:.1f} | {ratio:.2f}"
        )
        print(f"| {name} | {numbers} |")


def measured(reconstructor: Reconstructor, image: np.ndarray, batch: int) -> dict[str, Callable[[], object]]:
    """Functions that return when all is computed."""
    size = image.shape[:2]
    faces = reconstructor.detect(image)[:1]
    focal = resolve_focal(size, None, None, reconstructor.face_size(faces))
    crops = FaceBatch.of_faces(
        faces, [size], [focal], size=reconstructor.inputs.size, channels="normals", padded_to=batch
    )
    forward, params = functional(from_pretrained(DEFAULT_CHECKPOINT, reconstructor.head_model).network)
    stage = reconstructor.stage

    @jax.jit
    def network(params, maps, mask):
        return forward(params, maps, mask)

    @jax.jit
    def corrected(params, places, maps, mask, focal, principal_point, points):
        return forward(params, maps, mask, Scene.of_crops(places, focal, principal_point, points))

    @jax.jit
    def answered(stage, *given):
        return stage.answer(*given)[0]

    @jax.jit
    def refined(stage, *given):
        return stage(*given)

    wait = jax.block_until_ready
    return {
        PLAIN: lambda: wait(network(params, crops.maps, crops.mask)),
        CORRECTED: lambda: wait(corrected(params, stage.places, *crops.inputs[:4], crops.points)),
        ANSWER: lambda: wait(answered(stage, *crops.inputs)),
        DEFAULT.format(stage.refine): lambda: wait(refined(stage, *crops.inputs)),
        FACE: lambda: reconstructor.detect(image),
        PHOTOGRAPH: lambda: reconstructor.reconstruct([image]),
    }


if __name__ == "__main__":
    main()
