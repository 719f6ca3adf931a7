"""``benchmark.py network``: N2FNet in JAX and the same weights in PyTorch, in turns in one process a side.

Each side runs in a process of its own, so that its threads and its peak memory are its own, and is asked for one call
at a time in turns with the others, so that a machine that slows down slows all. PyTorch is the module that ships
(``n2f_jax/export/torch_n2fnet.py``), eager, through ``torch.compile``, and so with frozen weights.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import resource
import shutil
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

# What each process measures, and what is measured besides when asked for: inductor with the weights frozen, so that it
# packs them for its own products (and holds them twice), and bfloat16 on float32 parameters.
SIDES = ("jax float32", "torch eager", "torch compile")
EXTRA = {"frozen": "torch frozen", "bfloat16": "jax bfloat16"}


def network_config(variant: str, dtype: str = "float32") -> Any:
    from n2f_jax.models.n2fnet import n2fnet_config

    return n2fnet_config(variant, dtype=dtype)


def random_tree(variant: str, convert: Callable[[str, np.ndarray], Any]) -> dict[str, Any]:
    """``convert(path, array)`` of random parameters, the same on every side and nowhere zero.

    One array at a time, so that the process does not hold the network twice.
    """
    from flax import nnx

    from n2f_jax.models.n2fnet import N2FNet
    from n2f_jax.models.parameters import map_with_path, to_dict

    rng = np.random.default_rng(0)

    def draw(path: str, leaf: Any) -> Any:
        if path.endswith("periods"):
            return convert(path, (100.0 ** (np.arange(leaf.size) / leaf.size)).astype(np.float32))
        scale = (leaf.size // leaf.shape[-1]) ** -0.5 if path.endswith("kernel") else 0.3
        value = rng.standard_normal(leaf.shape, np.float32)
        value *= np.float32(scale)
        value += np.float32(path.endswith(("scale", "gamma")))
        return convert(path, value)

    config = network_config(variant)
    return map_with_path(draw, to_dict(nnx.eval_shape(lambda: N2FNet(config, rngs=nnx.Rngs(0)))))


def inputs(batch: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    normals = rng.uniform(-1, 1, (batch, size, size, 3)).astype(np.float32)
    return normals, (rng.uniform(size=(batch, size, size)) > 0.3).astype(np.float32)


def jax_side(variant: str, dtype: str) -> Callable[[int], tuple[Callable[[], np.ndarray], float]]:
    """``prepare(batch)`` → a call that gives all outputs side by side, and the seconds that compiling took."""
    import jax
    import jax.numpy as jnp
    from flax import nnx

    from n2f_jax.models.n2fnet import N2FNet
    from n2f_jax.models.parameters import functional

    config = network_config(variant, dtype)
    apply, _ = functional(nnx.eval_shape(lambda: N2FNet(config, rngs=nnx.Rngs(0))))
    params = random_tree(variant, lambda _, value: jnp.asarray(value))
    forward = jax.jit(apply)

    def prepare(batch: int) -> tuple[Callable[[], np.ndarray], float]:
        normals, mask = (jnp.asarray(x) for x in inputs(batch, config.input_size))
        start = time.perf_counter()
        compiled = forward.lower(params, normals, mask).compile()
        seconds = time.perf_counter() - start

        def call() -> np.ndarray:
            return np.concatenate(jax.tree.leaves(compiled(params, normals, mask)), axis=-1)

        call()
        return call, seconds

    return prepare


def torch_side(variant: str, mode: str) -> Callable[[int], tuple[Callable[[], np.ndarray], float]]:
    """The same by PyTorch; compiling is the first call's time less the second's."""
    os.environ["TORCHINDUCTOR_FORCE_DISABLE_CACHES"] = "1"  # compile times are those of a first run
    warnings.filterwarnings("ignore", module="torch._dynamo.pgo")  # which says that they are off
    import torch

    from n2f_jax.export.torch_n2fnet import unfilled
    from n2f_jax.models.n2fnet_conversion import n2fnet_to_torch

    if mode != "eager" and not any(map(shutil.which, (os.environ.get("CXX", "g++"), "clang++"))):
        raise RuntimeError("torch.compile needs a C++ compiler, which is not here")
    torch.set_num_threads(os.cpu_count() or 1)  # as many as JAX uses
    config = network_config(variant)
    network = unfilled(dataclasses.asdict(config))
    state: dict[str, Any] = {}

    def convert(path: str, value: np.ndarray) -> None:
        ((key, array),) = n2fnet_to_torch({path: value}).items()
        state[key] = torch.from_numpy(array)

    random_tree(variant, convert)
    network.load_state_dict(state, assign=True)
    network = network.eval()
    if mode == "frozen":
        import torch._inductor.config

        torch._inductor.config.freezing = True
    forward = network if mode == "eager" else torch.compile(network, dynamic=False)

    def prepare(batch: int) -> tuple[Callable[[], np.ndarray], float]:
        if mode != "eager":
            torch._dynamo.reset()  # the code of another batch size, with its copy of the weights
        normals, mask = inputs(batch, config.input_size)
        images, mask = torch.from_numpy(normals.transpose(0, 3, 1, 2).copy()), torch.from_numpy(mask)

        def call() -> np.ndarray:
            with torch.inference_mode():
                return torch.cat(forward(images, mask)[:6], dim=-1).numpy()

        start = time.perf_counter()
        call()
        first = time.perf_counter() - start
        start = time.perf_counter()
        call()
        return call, max(0.0, first - (time.perf_counter() - start))

    return prepare


def _peak_megabytes() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e3)


def _serve(side: str, variant: str, connection: Any) -> None:
    """Answers ``("prepare", batch)`` and ``("time", None)`` until None comes."""

    try:
        framework, what = side.split()
        prepare = {"jax": jax_side, "torch": torch_side}[framework](variant, what)
        connection.send(None)
        call: Callable[[], np.ndarray] = lambda: np.zeros(0)  # noqa: E731
        while (request := connection.recv()) is not None:
            task, argument = request
            if task == "prepare":
                call, seconds = prepare(argument)
                connection.send((seconds, call(), _peak_megabytes()))
            else:
                start = time.perf_counter()
                call()
                connection.send(time.perf_counter() - start)
    except EOFError:
        pass
    except Exception as error:
        reason = str(error).strip().splitlines()
        connection.send(RuntimeError(f"{type(error).__name__}: {reason[0] if reason else ''}"))


class Worker:
    """One side in its own process."""

    def __init__(self, context: Any, side: str, variant: str):
        self.side = side
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(side, variant, theirs), daemon=True)
        self._process.start()
        theirs.close()
        self._answer()

    def ask(self, task: str, argument: Any = None) -> Any:
        self._connection.send((task, argument))
        return self._answer()

    def _answer(self) -> Any:
        answer = self._connection.recv()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self) -> None:
        self._connection.send(None)
        self._process.join()


def compare(variant: str, batches: list[int], rounds: int, extra: list[str]) -> None:
    """Prints the table.

    Args:
        variant: DINOv3's size.
        batches: images of a call.
        rounds: calls of each side that are measured, in turns.
        extra: keys of ``EXTRA``.
    """
    context = multiprocessing.get_context("spawn")
    workers: list[Worker] = []
    for side in (*SIDES, *(EXTRA[name] for name in extra)):
        try:
            workers.append(Worker(context, side, variant))
        except (RuntimeError, EOFError) as error:
            print(f"{side} is left out: {error}")
    import jax

    versions = f"jax {jax.__version__}"
    try:
        import torch

        versions += f", torch {torch.__version__}"
    except ImportError:
        pass
    print(f"N2FNet {variant}, {network_config(variant).input_size}², {os.cpu_count()} cores, {versions}")
    print(
        f"{'batch':>5}  {'side':<14} {'ms median':>10} {'ms least':>9} {'images/s':>9} {'compile s':>10} "
        f"{'peak MB':>8}  difference"
    )
    for batch in batches:
        prepared = {}
        for worker in list(workers):
            try:
                prepared[worker.side] = worker.ask("prepare", batch)
            except (RuntimeError, EOFError) as error:
                print(f"{worker.side} is left out from here: {error}")
                workers.remove(worker)
        times: dict[str, list[float]] = {worker.side: [] for worker in workers}
        for turn in range(rounds):
            for worker in workers if turn % 2 == 0 else reversed(workers):
                times[worker.side].append(worker.ask("time"))
        reference = prepared["jax float32"][1]
        for side, values in times.items():
            seconds, output, peak = prepared[side]
            median, least = float(np.median(values)), min(values)
            gap = np.abs(output - reference).max() / np.abs(reference).max()
            print(
                f"{batch:>5}  {side:<14} {1e3 * median:>10.0f} {1e3 * least:>9.0f} {batch / median:>9.2f} "
                f"{seconds:>10.1f} {peak:>8.0f}  {gap:.1e}",
                flush=True,
            )
        torch_sides = [side for side in times if side.startswith("torch")]
        for name, statistic in (("median", np.median), ("least", min)):
            if torch_sides:
                best = min(torch_sides, key=lambda side: float(statistic(times[side])))
                ratio = float(statistic(times[best])) / float(statistic(times["jax float32"]))
                print(f"       JAX is {ratio:.2f} times as fast as {best} by the {name}")
    print(
        "compile: JAX's without its persistent cache; PyTorch's is the first call less the second. Peak memory of the "
        "process so far.\ndifference: largest of all outputs to JAX's float32, relative"
    )
    for worker in workers:
        worker.close()
