"""Speed, measured on this machine.

    python scripts/benchmark.py render [--sizes 128 256] [--batches 1 16] [--repeats 30]
    python scripts/benchmark.py flame [--batches 1 64 1024] [--seconds 4]
    python scripts/benchmark.py network [--batches 1 4 16] [--rounds 8] [--also frozen bfloat16]

``render``: the open head, neutral and filling the crop, random small rotations; normals and mask in the head
frame, read back to NumPy. Forward, and forward + backward of a loss on normals and the antialiased mask by
vertices and camera. Prints the median and the least wall time per frame, and frames per second.

``flame``: decoding a random model of FLAME's sizes (5,023 vertices, 300 + 100 directions) from shape, expression,
neck, jaw and eyes, forward and with the gradient by all of them, here and by smplx in PyTorch, in turns in one run.
Prints medians, their ratio, the share of the machine's own matrix-product speed and memory bandwidth that is
reached, and peak memory.

``network``: normal map and mask to parameters and camera, ViT-L/16 with both heads at 256², random weights, here and by
the same weights in PyTorch, eager and compiled, in turns in one run. Prints medians, least times, compile times, peak
memory and how far the answers are apart.
"""

import argparse
import platform
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # from a clone, uninstalled


def milliseconds(function, arguments, repeats: int) -> tuple[float, float]:
    """Median and least wall time of a call in milliseconds, its results read back; the first call is not counted."""
    import jax
    import numpy as np

    def call():
        return jax.tree.map(np.asarray, function(*arguments))

    call()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return 1e3 * float(np.median(times)), 1e3 * min(times)


def benchmark_render(flags: argparse.Namespace) -> None:
    import jax
    import jax.numpy as jnp

    import flame_jax
    from flame_jax.rotations import euler_to_matrix
    from n2f_jax.geometry import Camera, crop_camera, frontal_rotation, landmark_crop, project
    from n2f_jax.render import HeadTopology, render_head

    model = flame_jax.load_open_head()
    topology = HeadTopology.from_model(model)
    device = jax.devices()[0]
    print(
        f"{device.platform} {device.device_kind}, {platform.processor() or platform.machine()}, jax {jax.__version__}"
    )
    print(f"open head: {model.num_vertices} vertices, {model.num_faces} triangles")
    print(
        f"{'size':>5} {'batch':>5}  {'what':<18} {'ms/frame median':>15} {'least':>7} {'frames/s':>9}  not drawn"
    )

    def scene(batch: int, size: int):
        angles = 0.3 * jax.random.normal(jax.random.key(0), (batch, 3))
        camera = Camera(
            rotation=frontal_rotation(euler_to_matrix(angles)),
            translation=jnp.broadcast_to(jnp.asarray([0.0, 0.0, 1.0]), (batch, 3)),
            focal=jnp.full(batch, 1000.0),
            principal_point=jnp.full((batch, 2), 500.0),
        )
        vertices, _ = flame_jax.decode(model, flame_jax.FlameParams.neutral(model, (batch,)))
        crop = landmark_crop(project(flame_jax.landmarks68(model, vertices), camera), 1.25)
        return vertices, crop_camera(camera, crop, size)

    for size in flags.sizes:
        # The topology is an argument, as in training: its arrays are no constants of the program.
        def forward(topology, vertices, camera, size=size):
            maps = render_head(topology, vertices, camera, size)
            return maps.normals, maps.mask

        def loss(vertices, camera, topology, size=size):
            maps = render_head(topology, vertices, camera, size, antialias=True)
            return (maps.normals[..., 0] ** 2).mean() + ((maps.mask - 0.5) ** 2).mean()

        backward = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))
        forward_jit = jax.jit(forward)
        for batch in flags.batches:
            vertices, camera = jax.jit(scene, static_argnums=(0, 1))(batch, size)
            missed = int(
                jax.jit(render_head, static_argnums=3)(topology, vertices, camera, size).overflow.sum()
            )
            for name, function, arguments in (
                ("forward", forward_jit, (topology, vertices, camera)),
                ("forward + backward", backward, (vertices, camera, topology)),
            ):
                median, least = (x / batch for x in milliseconds(function, arguments, flags.repeats))
                print(
                    f"{size:>5} {batch:>5}  {name:<18} {median:>15.2f} {least:>7.2f} {1e3 / median:>9.0f}  {missed}",
                    flush=True,
                )


def benchmark_flame(flags: argparse.Namespace) -> None:
    import flame_speed

    flame_speed.compare(flags.batches, flags.seconds)


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
    render.add_argument("--repeats", type=int, default=30)
    render.set_defaults(run=benchmark_render)
    flame = commands.add_parser(
        "flame", help="decoding FLAME, beside smplx in PyTorch (pip install .[torch])"
    )
    flame.add_argument("--batches", type=int, nargs="+", default=[1, 64, 1024], metavar="B")
    flame.add_argument("--seconds", type=float, default=4.0, help="spent on each figure")
    flame.set_defaults(run=benchmark_flame)
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
