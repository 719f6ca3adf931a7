"""Times a batch of training samples, and what each degradation adds to it.

python scripts/sampling_speed.py [--size 256] [--batch-size 16] [--repeats 15]
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # from a clone, uninstalled


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--size", type=int, default=256, help="side of the maps, pixels")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=15, help="batches of each kind")
    flags = parser.parse_args()

    import jax

    import flame_jax
    from n2f_jax.data.sampling_speed import sampling_speed
    from n2f_jax.data.synthetic import SyntheticConfig
    from n2f_jax.evaluation.synthetic import Assets
    from n2f_jax.render import HeadTopology

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
