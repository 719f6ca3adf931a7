"""The parts of ``gpu_figures.py``, each measured in a process of its own: ``gpu_parts.py PART``.

Programs of a part are traced one after the other and compiled side by side, since compiling is what takes the time.
A figure is the rate of calls that are queued one behind the other, as in a loop that trains or serves; "one at a time"
waits for each.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from gpu_figures import PARTS, row

OUTPUTS = 6  # of the network: four of the head, two of the camera
MATRIX_RATE = "matrix_rate.txt"
NETWORK_OUTPUT = "network_output.npy"


@dataclasses.dataclass(frozen=True)
class Setting:
    """How a part is to be run.

    Attributes:
        out: where ``figures.md`` is.
        scratch: what parts leave for one another.
        deadline: of ``time.monotonic``.
        tiny: sizes for a CPU.
    """

    out: Path
    scratch: Path
    deadline: float
    tiny: bool

    def row(self, what: str, batch: int | str, figure: float, unit: str, remarks: str = "") -> None:
        """A row of the table; three digits and more of large numbers."""
        digits = f"{figure:,.0f}" if figure >= 1000 else f"{figure:.3g}"
        row(self.out, what, batch, digits, unit, remarks)

    def left(self) -> float:
        """Seconds."""
        return self.deadline - time.monotonic()

    @property
    def measured_seconds(self) -> float:
        """That one figure is measured for."""
        return 0.1 if self.tiny else 0.6

    @property
    def variant(self) -> str:
        """The backbone's name."""
        return "tiny" if self.tiny else "L"

    def batches(self, *batches: int) -> list[int]:
        """Those, or two small ones."""
        return [1, 2] if self.tiny else list(batches)

    def matrix_rate(self) -> float:
        """Operations a second of a large bf16 product, as measured by an earlier part; NaN before."""
        path = self.scratch / MATRIX_RATE
        return float(path.read_text()) if path.is_file() else float("nan")


def seconds_a_call(call: Callable[[], Any], wait: Callable[[Any], Any], spend: float) -> tuple[float, float]:
    """Seconds of a call in a queue of calls, and of one that is waited for.

    Args:
        call: starts the work.
        wait: for what a call gave.
        spend: seconds on each of the two, about.
    """
    wait(call())
    start = time.perf_counter()
    wait(call())
    once = max(time.perf_counter() - start, 1e-5)
    count = int(np.clip(spend / once, 3, 200))
    alone = []
    for _ in range(count):
        start = time.perf_counter()
        wait(call())
        alone.append(time.perf_counter() - start)
    # Three queues, of which the best: whatever else the host does can only slow one down.
    queued = []
    for _ in range(3):
        start = time.perf_counter()
        for _ in range(length := max(2, count // 3)):
            last = call()
        wait(last)
        queued.append((time.perf_counter() - start) / length)
    return min(queued), float(np.median(alone))


def compiled_together(lowered: Sequence[Any]) -> tuple[list[Any], float]:
    """Compiles lowered programs side by side, and the seconds that took."""
    start = time.perf_counter()
    with ThreadPoolExecutor(len(lowered)) as pool:
        return list(pool.map(lambda program: program.compile(), lowered)), time.perf_counter() - start


def network_operations(config: Any) -> float:
    """Multiplications and additions of one image's forward pass, the large matrix products alone."""
    backbone = config.backbone
    width, hidden = backbone.width, backbone.mlp_width
    patches = (config.input_size // backbone.patch_size) ** 2
    tokens = patches + 1 + backbone.num_registers

    def layer(tokens: int, hidden: int) -> float:
        return 2.0 * tokens * (4 * width**2 + 2 * width * hidden) + 4.0 * tokens**2 * width

    return backbone.depth * layer(tokens, hidden) + 2 * layer(patches, config.head_mlp_ratio * width)


def render(setting: Setting) -> None:
    """The rasteriser: normals and mask of the open head."""
    import jax

    from n2f_jax.render import render_head

    spend = setting.measured_seconds
    size = 64 if setting.tiny else 256
    batches = setting.batches(1, 16, 128)
    scene = scene_on_cpu(max(batches), size)
    arguments = {count: jax.device_put((scene.topology, *first_heads(scene, count))) for count in batches}

    @jax.jit
    def draw(topology, vertices, camera):
        maps = render_head(topology, vertices, camera, size)
        return maps.normals, maps.mask

    programs, took = compiled_together([draw.lower(*arguments[count]) for count in batches])
    for count, program in zip(batches, programs, strict=True):
        of_batch = arguments[count]
        call = functools.partial(program, *of_batch)
        queued, alone = seconds_a_call(call, jax.block_until_ready, spend)
        _, read = seconds_a_call(lambda call=call: jax.device_get(call()), lambda x: x, spend / 2)
        remarks = (
            f"{size}² normals and mask; one at a time {1e3 * alone:.3g} ms, read back {1e3 * read:.3g} ms"
        )
        setting.row("rasteriser", count, count / queued, "frames/s", remarks)
    setting.row("rasteriser, compiling", "all", took, "s")


def scene_on_cpu(batch: int, size: int) -> Any:
    """``render_speed.Scene``: made operation by operation, each of which a GPU would compile for itself."""
    import jax
    import render_speed

    with jax.default_device(jax.devices("cpu")[0]):
        scene = render_speed.Scene.of_heads(batch, size)
        for name in ("vertices", "topology", "camera"):
            setattr(scene, name, jax.tree.map(np.asarray, getattr(scene, name)))
    return scene


def first_heads(scene: Any, count: int) -> tuple[Any, Any]:
    """Vertices and cameras of the first heads of a scene."""
    import jax

    return jax.tree.map(lambda leaf: leaf[:count], (scene.vertices, scene.camera))


def measure_matrix_rate(setting: Setting) -> None:
    """Of a large bf16 product of random numbers; a card is faster at zeros."""
    import jax
    import jax.numpy as jnp

    side = 256 if setting.tiny else 8192
    first, second = (jax.random.normal(jax.random.key(seed), (side, side), jnp.bfloat16) for seed in range(2))
    product = jax.jit(jnp.matmul)
    seconds, _ = seconds_a_call(
        lambda: product(first, second), jax.block_until_ready, setting.measured_seconds
    )
    device = jax.devices()[0].device_kind
    (setting.scratch / MATRIX_RATE).write_text(str(2 * side**3 / seconds))
    setting.row(
        "matrix product, bf16", side, 2e-12 * side**3 / seconds, "TFLOP/s", f"{device}, jax {jax.__version__}"
    )


def network(setting: Setting) -> None:
    """N2FNet's inference in bfloat16, weights and all; random weights, as ``torch`` has them."""
    import jax
    import jax.numpy as jnp
    from flax import nnx
    from network_speed import inputs, network_config, random_tree

    from n2f_jax.models.n2fnet import N2FNet
    from n2f_jax.models.parameters import functional

    measure_matrix_rate(setting)
    config = network_config(setting.variant, "bfloat16")
    apply, _ = functional(nnx.eval_shape(lambda: N2FNet(config, rngs=nnx.Rngs(0))))

    def convert(path: str, value: np.ndarray) -> jax.Array:
        return jnp.asarray(value, jnp.float32 if path.endswith("periods") else jnp.bfloat16)

    params = random_tree(setting.variant, convert)
    forward = jax.jit(lambda *arguments: jax.tree.leaves(apply(*arguments))[:OUTPUTS])
    # The middle batch first: should time run out, it says most.
    batches = setting.batches(16, 128, 1)
    arguments = {count: jax.device_put(inputs(count, config.input_size)) for count in batches}
    programs, took = compiled_together([forward.lower(params, *arguments[count]) for count in batches])
    for count, program in zip(batches, programs, strict=True):
        call = functools.partial(program, params, *arguments[count])
        if count == batches[0]:
            output = np.concatenate([np.asarray(leaf, np.float32) for leaf in call()], axis=-1)
            np.save(setting.scratch / NETWORK_OUTPUT, output)
        network_row(setting, "N2FNet, JAX", config, count, call, jax.block_until_ready)
    setting.row("N2FNet, JAX, compiling", "all", took, "s")


def network_row(
    setting: Setting,
    what: str,
    config: Any,
    count: int,
    call: Callable[[], Any],
    wait: Callable[[Any], Any],
    remarks: str = "",
) -> None:
    """Images a second of one batch size, and their share of the matrix rate."""
    queued, alone = seconds_a_call(call, wait, setting.measured_seconds)
    share = network_operations(config) * count / queued / setting.matrix_rate()
    remarks = f"{100 * share:.1f} % of the matrix rate; one at a time {1e3 * alone:.3g} ms{remarks}"
    setting.row(f"{what}, bf16", count, count / queued, "images/s", remarks)


def torch_network(
    setting: Setting,
) -> tuple[Any, Any, Callable[[int], Callable[[], Any]], Callable[[Any], Any]]:
    """The same network in PyTorch: config, module, ``calls(batch)(forward)`` and what waits for the device."""
    import torch
    from network_speed import inputs, network_config, random_tree

    from n2f_jax.export.torch_n2fnet import unfilled
    from n2f_jax.models.n2fnet_conversion import n2fnet_to_torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    config = network_config(setting.variant)
    state: dict[str, Any] = {}

    def convert(path: str, value: np.ndarray) -> None:
        ((key, array),) = n2fnet_to_torch({path: value}).items()
        dtype = torch.float32 if path.endswith("periods") else torch.bfloat16
        state[key] = torch.from_numpy(array).to(device, dtype)

    random_tree(setting.variant, convert)
    module = unfilled(dataclasses.asdict(config))
    module.load_state_dict(state, assign=True)
    module = module.to(device).eval()

    def calls(count: int, forward: Any = None) -> Callable[[], Any]:
        normals, mask = inputs(count, config.input_size)
        images = torch.from_numpy(normals.transpose(0, 3, 1, 2).copy()).to(device)
        weights = torch.from_numpy(mask).to(device)

        def call() -> Any:
            # Normalisation and rotary angles stay float32, as in JAX; products and attention are bf16.
            with torch.inference_mode(), torch.autocast(device, torch.bfloat16):
                return (forward or module)(images, weights)[:OUTPUTS]

        return call

    def wait(result: Any) -> Any:
        if device == "cuda":
            torch.cuda.synchronize()
        return result

    return config, module, calls, wait


def torch(setting: Setting) -> None:
    """The same weights in PyTorch, eager, and how far the two are apart."""
    import torch as pytorch

    config, _, calls, wait = torch_network(setting)
    for count in setting.batches(16, 128, 1):
        call = calls(count)
        network_row(setting, "N2FNet, PyTorch eager", config, count, call, wait)
        saved = setting.scratch / NETWORK_OUTPUT
        if saved.is_file() and (ours := np.load(saved)).shape[0] == count:
            theirs = pytorch.cat([part.float() for part in call()], dim=-1).cpu().numpy()
            gap = np.abs(ours - theirs).max() / np.abs(theirs).max()
            setting.row(
                "N2FNet, JAX to PyTorch", count, gap, "relative", f"torch {pytorch.__version__}, bf16"
            )


def torch_compile(setting: Setting) -> None:
    """PyTorch's compiler on the same network."""
    import torch as pytorch

    config, module, calls, wait = torch_network(setting)
    forward = pytorch.compile(module, dynamic=False)
    (count,) = setting.batches(16)[-1:]
    call = calls(count, forward)
    start = time.perf_counter()
    wait(call())
    remarks = f"; the first call {time.perf_counter() - start:.0f} s"
    network_row(setting, "N2FNet, PyTorch compiled", config, count, call, wait, remarks)


def train(setting: Setting) -> None:
    """A step of stage 1 and the data generation in it, at batches of 16 and of the largest that fits."""
    import jax
    from network_speed import random_tree
    from train_speed import prepared

    from n2f_jax.training.step import initial_state, make_train_step, step_key

    variant, dtype = ("small", "float32") if setting.tiny else ("paper", "bfloat16")
    parts = prepared(variant, 16, remat=False, stage="stage1", dtype=dtype)
    # Drawn by NumPy: a program that draws them all would be one more to compile.
    params = random_tree(setting.variant, lambda _, value: jax.numpy.asarray(value))
    state = initial_state(params, parts.optimizer, parts.groups)
    del params

    def programs(count: int) -> tuple[Any, Any]:
        objective = parts.objective_of(count)
        step = make_train_step(objective, parts.optimizer, parts.groups, seed=0)
        data = jax.jit(lambda assets, number: objective.batch(step_key(0, number), assets))
        return step.lower(state, parts.assets), data.lower(parts.assets, np.int32(0))

    def measure(count: int, step: Any, data: Any, took: float) -> None:
        nonlocal state

        def one() -> Any:
            nonlocal state
            try:
                state, metrics = step(state, parts.assets)
            except ValueError:  # a compiled program takes its arguments only where it was compiled for
                state = jax.device_put(state, step.input_shardings[0][0])
                state, metrics = step(state, parts.assets)
            return metrics

        queued, _ = seconds_a_call(one, jax.block_until_ready, setting.measured_seconds)
        drawn, _ = seconds_a_call(
            lambda: data(parts.assets, np.int32(1)), jax.block_until_ready, setting.measured_seconds / 2
        )
        # A pass backward costs about two forward.
        share = 3 * network_operations(parts.network) * count / queued / setting.matrix_rate()
        remarks = (
            f"{1e3 * queued:.4g} ms a step, of which data {100 * drawn / queued:.1f} % ({1e3 * drawn:.3g} ms); "
            f"{100 * share:.1f} % of the matrix rate; {memory_bytes(step) / 1e9:.1f} GB; compiling {took:.0f} s"
        )
        setting.row(
            f"training, {parts.network.backbone.dtype}, stage 1", count, count / queued, "images/s", remarks
        )

    sizes = [2, 4] if setting.tiny else [16, 128]
    lowered = [programs(count) for count in sizes]
    start = time.perf_counter()
    with ThreadPoolExecutor(2 * len(sizes)) as pool:
        compiling = [[pool.submit(program.compile) for program in pair] for pair in lowered]
        fits = False
        for count, pair in zip(sizes, compiling, strict=True):
            step, data = (future.result() for future in pair)
            if fits := memory_bytes(step) < memory_limit():
                try:
                    measure(count, step, data, time.perf_counter() - start)
                except jax.errors.JaxRuntimeError as error:
                    fits = False
                    row(setting.out, "training", count, "—", "", str(error).splitlines()[0][:200])
                    break  # the state was donated to the step that failed
            else:
                note = f"needs {memory_bytes(step) / 1e9:.0f} GB of {memory_limit() / 1e9:.0f}"
                row(setting.out, "training", count, "—", "", note)
    # One size more, if what the others took says that there is time for it.
    took = time.perf_counter() - start
    per_image = memory_bytes(step) / sizes[-1]
    more = 2 * sizes[-1] if fits and 2 * sizes[-1] * per_image < memory_limit() else sizes[-1] // 2
    if (fits and more < sizes[-1]) or setting.left() < took + 10:
        return
    start = time.perf_counter()
    (step, data), _ = compiled_together(programs(more))
    measure(more, step, data, time.perf_counter() - start)


def memory_bytes(program: Any) -> float:
    """What a compiled program needs on its device."""
    analysis = program.memory_analysis()
    return float(analysis.argument_size_in_bytes + analysis.temp_size_in_bytes)


def memory_limit() -> float:
    """What there is on the device; inf where it does not say."""
    import jax

    statistics = jax.devices()[0].memory_stats() or {}
    return float(statistics.get("bytes_limit", float("inf")))


def gauss_newton(setting: Setting) -> None:
    """The shipped checkpoint with two Gauss–Newton steps, and without."""
    import jax
    import jax.numpy as jnp

    import flame_jax
    from n2f_jax.face_mesh.coarse_mesh import NUM_POINTS
    from n2f_jax.geometry import project
    from n2f_jax.reconstruction.reconstructor import Reconstructor
    from n2f_jax.render import render_head

    with_steps, without = (
        Reconstructor.from_pretrained(frontend=None, maps="face_mesh_v2", refine=steps) for steps in (2, 0)
    )
    size = with_steps.inputs.size
    batches = setting.batches(1, 64)
    scene = scene_on_cpu(max(batches), size)
    cpu = jax.devices("cpu")[0]
    with jax.default_device(cpu):
        landmarks = project(flame_jax.landmarks68(flame_jax.load_open_head(), scene.vertices), scene.camera)
    vertices, camera = first_heads(scene, max(batches))
    draw = jax.jit(lambda *arguments: render_head(*arguments, size))
    maps = draw(scene.topology, vertices, camera)
    everything = (
        *(maps.normals, maps.mask, camera.focal, camera.principal_point, np.asarray(landmarks)),
        np.full((max(batches), NUM_POINTS, 3), np.nan, np.float32),
    )
    arguments = {count: [jnp.asarray(x[:count]) for x in everything] for count in batches}
    start = time.perf_counter()
    with ThreadPoolExecutor(len(batches)) as pool:  # compiled on the first call
        for result in pool.map(lambda count: with_steps.predict(*arguments[count]), batches):
            jax.block_until_ready(result)
    took = time.perf_counter() - start
    for count in batches:
        of_batch = arguments[count]
        whole, _ = seconds_a_call(
            lambda of_batch=of_batch: with_steps.predict(*of_batch),
            jax.block_until_ready,
            setting.measured_seconds,
        )
        network_alone, _ = seconds_a_call(
            lambda of_batch=of_batch: without.predict(*of_batch),
            jax.block_until_ready,
            setting.measured_seconds / 2,
        )
        steps = max(whole - network_alone, 1e-9)
        remarks = (
            f"{1e3 * steps:.3g} ms a call, as the difference to a call without; shipped checkpoint, {size}²"
        )
        setting.row("Gauss–Newton alone, 2 steps", count, count / steps, "heads/s", remarks)
        setting.row("network, alignment and Gauss–Newton", count, count / whole, "heads/s")
    setting.row("Gauss–Newton, compiling", "all", took, "s")


def photograph(setting: Setting) -> None:
    """From a photograph whose face is found already to its head, all networks of random weights."""
    import gpu_photograph

    gpu_photograph.measure(setting)


RUN = {
    "render": render,
    "network": network,
    "torch": torch,
    "torch_compile": torch_compile,
    "train": train,
    "gauss_newton": gauss_newton,
    "photograph": photograph,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--scratch", type=Path, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--tiny", action="store_true")
    flags = parser.parse_args()
    setting = Setting(flags.out, flags.scratch, time.monotonic() + flags.seconds, flags.tiny)
    try:
        RUN[flags.part](setting)
    except ImportError as error:
        row(flags.out, flags.part, "", "—", "", f"left out: {error}")
    except Exception as error:
        reason = (str(error).strip().splitlines() or [""])[0][:300]
        row(flags.out, flags.part, "", "—", "", f"{type(error).__name__}: {reason}")
        if flags.tiny:
            raise


if __name__ == "__main__":
    main()
