"""What compiling the program from photographs to heads takes, and its parts alone; on the clock and of CPU time.

    python scripts/benchmarks/compile_speed.py [--batch 1] [--parts detector landmarks network all]

The parts are the detector with its second looks, landmarks with confidence and eyes, the network with what follows it
(one crop for each photograph), and the whole. Nothing is taken from the cache of compiled programs, or put there.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from n2f_jax.face_mesh.coarse_mesh import NUM_POINTS
from n2f_jax.frontends.device_detector import Detections
from n2f_jax.frontends.device_images import ImageLevels
from n2f_jax.models.input_channels import CHANNELS
from n2f_jax.reconstruction.reconstructor import Reconstructor

SIDE, LEVELS = 512, 5
PARTS = ("detector", "landmarks", "network", "all")


def parts(reconstructor: Reconstructor, batch: int) -> dict[str, tuple[Callable[..., Any], tuple[Any, ...]]]:
    """Functions and the shapes of their arguments."""
    program = reconstructor.program
    faces, weights = program._faces, program.weights

    def floats(*shape: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((batch, *shape), jnp.float32)

    images = jax.ShapeDtypeStruct((batch, SIDE, SIDE, 3), jnp.uint8)
    detections = Detections(floats(4), floats(6, 2), floats(), jax.ShapeDtypeStruct((batch,), jnp.bool_))
    size, channels = reconstructor.inputs.size, CHANNELS[reconstructor.inputs.channels]
    crops = (floats(size, size, channels), floats(size, size), floats(), floats(2), floats(68, 2))

    def detector(weights, images):
        return faces._detector(weights, ImageLevels.of(images, LEVELS), min(8, batch))

    def landmarks(weights, images, detections):
        numbers = jnp.arange(batch, dtype=jnp.int32)
        return faces._landmarker(weights, ImageLevels.of(images, LEVELS), numbers, detections)

    return {
        "detector": (detector, (weights["faces"]["detector"], images)),
        "landmarks": (landmarks, (weights["faces"]["landmarker"], images, detections)),
        "network": (
            lambda stage, *crops: stage(*crops),
            (weights["stage"], *crops, floats(NUM_POINTS, 3)),
        ),
        "all": (program.apply, (weights, images, floats())),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    flags = parser.parse_args()
    jax.config.update("jax_enable_compilation_cache", False)
    made = parts(Reconstructor.from_pretrained(), flags.batch)
    print("| part | traced, s | CPU | compiled, s | CPU |\n|---|---|---|---|---|")
    for name in flags.parts:
        function, arguments = made[name]
        times = [(time.perf_counter(), time.process_time())]
        lowered = jax.jit(function).lower(*arguments)
        times.append((time.perf_counter(), time.process_time()))
        lowered.compile()
        times.append((time.perf_counter(), time.process_time()))
        taken = [f"{b - a:.1f}" for x, y in itertools.pairwise(times) for a, b in zip(x, y, strict=True)]
        print(f"| {name} | {' | '.join(taken)} |", flush=True)


if __name__ == "__main__":
    main()
