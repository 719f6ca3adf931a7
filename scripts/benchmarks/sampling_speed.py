"""Times a batch of training samples, and what each degradation adds to it.

python scripts/benchmarks/sampling_speed.py [--size 256] [--batch-size 16] [--repeats 15]
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import sys
import time

import jax
from jaxtyping import Array

import flame_jax
from n2f_jax.data.assets import Assets
from n2f_jax.data.degradation_presets import CLEAN, ESTIMATED, Setting
from n2f_jax.data.sampler import Batch, SyntheticConfig, make_batch
from n2f_jax.render import HeadTopology

# The twin has errors of its own only where there are errors.
_WITH = {"mirror_shift": ("normal_noise_deg",)}


def sampling_speed(
    assets: Assets, config: SyntheticConfig, batch_size: int = 16, repeats: int = 15
) -> dict[str, float]:
    """Milliseconds a batch: clean, with each degradation of ``ESTIMATED`` alone, with all of them.

    All are compiled first and then timed in turns, so that other work on the machine meets all alike; medians.

    Args:
        assets: head model and what drawing needs.
        config: the sampler; its own degradations are switched off.
        batch_size: samples.
        repeats: batches of each.
    """
    clean = dataclasses.replace(config, **CLEAN)
    settings: dict[str, Setting] = {"clean": {}}
    for name, value in ESTIMATED.items():
        settings[name] = {name: value} | {other: ESTIMATED[other] for other in _WITH.get(name, ())}
    settings["all"] = ESTIMATED

    def draw_with(setting: Setting):
        sampler = dataclasses.replace(clean, **setting)

        def draw(key: Array, assets: Assets) -> Batch:
            batch = make_batch(
                key, assets.model, assets.topology, sampler, batch_size, coarse_mesh=assets.coarse_mesh
            )
            # What stage 1 needs; the rest would not be computed there either.
            return {name: batch[name] for name in ("normals", "mask", "params")}

        return jax.jit(draw).lower(jax.random.key(0), assets).compile()

    compiled = {name: draw_with(setting) for name, setting in settings.items()}
    times: dict[str, list[float]] = {name: [] for name in compiled}
    for index in range(repeats + 1):
        key = jax.random.key(index)
        for name, draw in compiled.items():
            start = time.perf_counter()
            jax.block_until_ready(draw(key, assets))
            if index:  # the first touches memory that the others find warm
                times[name].append(1e3 * (time.perf_counter() - start))
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--size", type=int, default=256, help="side of the maps, pixels")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=15, help="batches of each kind")
    flags = parser.parse_args()

    model = flame_jax.load_open_head()
    assets = Assets(model=model, topology=HeadTopology.from_model(model), coarse_mesh=None, metric=None)
    times = sampling_speed(assets, SyntheticConfig(image_size=flags.size), flags.batch_size, flags.repeats)
    clean = times["clean"]
    print(f"{flags.batch_size} samples of {flags.size}² pixels on {jax.devices()[0].device_kind}")
    print("| | ms a batch | over clean |\n|---|---|---|")
    for name, ms in times.items():
        print(f"| {name} | {ms:.1f} | {100 * (ms / clean - 1):+.0f} % |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
