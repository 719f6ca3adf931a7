"""Speed, measured on this machine.

    python scripts/benchmarks/speed.py render [--sizes 128 256] [--batches 1 16] [--rounds 60]
    python scripts/benchmarks/speed.py render --plot growth.png
    python scripts/benchmarks/speed.py render --budgets 1000
    python scripts/benchmarks/speed.py render --head-model gnm/
    python scripts/benchmarks/speed.py flame [--batches 1 64 1024] [--seconds 4]
    python scripts/benchmarks/speed.py train [--variant paper --batch 2 --remat --memory-batch 16]
    python scripts/benchmarks/speed.py memory
    python scripts/benchmarks/speed.py network [--batches 1 4 16] [--rounds 8] [--also frozen bfloat16]

``render``: the open head, neutral and filling the crop, random small rotations; normals and mask in the head
frame, read back to NumPy, in turns with llvmpipe (moderngl and Mesa's EGL) and Embree (embreex) where they are
installed; and forward + backward of a loss on normals and the antialiased mask by vertices and camera. Prints the
median and the least wall time per frame, frames per second, and the median over llvmpipe's. ``--head-model``: that
model beside the open head, in turns.

``flame``: decoding a random model of FLAME's sizes (5,023 vertices, 300 + 100 directions) from shape, expression,
neck, jaw and eyes, forward and with the gradient by all of them, here and by smplx in PyTorch, in turns in one run.
Prints medians, their ratio, the share of the machine's own matrix-product speed and memory bandwidth that is
reached, and peak memory.

``network``: normal map and mask to parameters and camera, ViT-L/16 with both heads at 256², random weights, here and by
the same weights in PyTorch, eager and compiled, in turns in one run. Prints medians, least times, compile times, peak
memory and how far the outputs are apart.
"""

import argparse
import os
import sys
from pathlib import Path


def benchmark_render(flags: argparse.Namespace) -> None:
    # One virtual device a core, over which a batch is spread; decided before JAX is imported.
    os.environ.setdefault("XLA_FLAGS", f"--xla_force_host_platform_device_count={os.cpu_count()}")
    import render_speed

    if flags.plot:
        render_speed.growth(flags.plot, flags.rounds)
    elif flags.budgets:
        for size in flags.sizes:
            render_speed.budgets(flags.budgets, size)
    elif flags.head_model:
        render_speed.compare_models(flags.head_model, flags.sizes, flags.batches, flags.rounds)
    else:
        render_speed.compare(flags.sizes, flags.batches, flags.rounds)


def benchmark_flame(flags: argparse.Namespace) -> None:
    import flame_speed

    flame_speed.compare(flags.batches, flags.seconds)


def benchmark_train(flags: argparse.Namespace) -> None:
    import train_speed

    train_speed.take_apart(
        flags.variant, flags.batch, flags.repeats, flags.remat, flags.stage, flags.memory_batch
    )


def benchmark_memory(flags: argparse.Namespace) -> None:
    import train_memory

    train_memory.table(train_memory.ROWS)


def benchmark_network(flags: argparse.Namespace) -> None:
    import network_speed

    network_speed.compare(flags.variant, flags.batches, flags.rounds, flags.also)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    commands = parser.add_subparsers(dest="command", required=True)
    render = commands.add_parser("render", help="frames per second of the renderer")
    render.add_argument("--sizes", type=int, nargs="+", default=[128, 256], metavar="S")
    render.add_argument("--batches", type=int, nargs="+", default=[1, 16], metavar="B")
    render.add_argument("--rounds", type=int, default=60, help="turns (fewer for a batch)")
    render.add_argument(
        "--plot", type=Path, metavar="PNG", help="measure growth with triangles and pixels instead"
    )
    render.add_argument(
        "--budgets", type=int, metavar="HEADS", help="how full the static budgets are instead"
    )
    render.add_argument(
        "--head-model",
        type=Path,
        action="append",
        metavar="FILE",
        help="beside the open head; again for more",
    )
    render.set_defaults(run=benchmark_render)
    flame = commands.add_parser(
        "flame", help="decoding FLAME, beside smplx in PyTorch (pip install .[torch])"
    )
    flame.add_argument("--batches", type=int, nargs="+", default=[1, 64, 1024], metavar="B")
    flame.add_argument("--seconds", type=float, default=4.0, help="spent on each figure")
    flame.set_defaults(run=benchmark_flame)
    train = commands.add_parser("train", help="a training step, taken apart")
    train.add_argument("--variant", choices=("paper", "small"), default="small")
    train.add_argument("--stage", choices=("stage1", "joint"), default="stage1")
    train.add_argument("--batch", type=int, default=16)
    train.add_argument("--repeats", type=int, default=5)
    train.add_argument("--remat", action="store_true", help="compute activations again in the backward pass")
    train.add_argument("--memory-batch", type=int, default=0, help="count the memory of this batch size too")
    train.set_defaults(run=benchmark_train)
    memory = commands.add_parser("memory", help="what a training step needs, by config and batch")
    memory.set_defaults(run=benchmark_memory)
    network = commands.add_parser("network", help="ViT-L/16 and heads, beside PyTorch (pip install .[torch])")
    network.add_argument("--variant", default="L", help="DINOv3 size; default: %(default)s")
    network.add_argument("--batches", type=int, nargs="+", default=[1, 4, 16], metavar="B")
    network.add_argument("--rounds", type=int, default=8, help="calls of each side, in turns")
    network.add_argument(
        "--also",
        nargs="+",
        default=[],
        choices=("frozen", "bfloat16"),
        help="torch.compile with frozen weights; JAX in bfloat16",
    )
    network.set_defaults(run=benchmark_network)
    flags = parser.parse_args()
    flags.run(flags)
    return 0


if __name__ == "__main__":
    sys.exit(main())
