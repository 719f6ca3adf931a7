"""``benchmark.py flame``: decoding FLAME in JAX and by smplx in PyTorch, in turns in one process a side.

Each side runs in a process of its own, so that its peak memory is its own, and is asked for one round at a time in
turns with the other, so that a machine that slows down slows both.
"""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import pickle
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

NUM_VERTICES, NUM_FACES, NUM_SHAPE, NUM_EXPRESSION = 5023, 9976, 300, 100
SIDES = ("flame_jax", "smplx")
WHAT = ("forward", "gradient")


def random_model(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """FLAME-named arrays of FLAME's sizes without meaning."""

    def rows_summing_to_one(*shape: int) -> np.ndarray:
        x = rng.uniform(0.01, 1.0, shape)
        return x / x.sum(-1, keepdims=True)

    return {
        "v_template": rng.normal(0, 0.1, (NUM_VERTICES, 3)),
        "shapedirs": rng.normal(0, 0.001, (NUM_VERTICES, 3, NUM_SHAPE + NUM_EXPRESSION)),
        "posedirs": rng.normal(0, 0.001, (NUM_VERTICES, 3, 36)),
        "J_regressor": rows_summing_to_one(5, NUM_VERTICES),
        "kintree_table": np.array([[2**32 - 1, 0, 1, 1, 1], [0, 1, 2, 3, 4]]),
        "weights": rows_summing_to_one(NUM_VERTICES, 5),
        "f": rng.integers(0, NUM_VERTICES, (NUM_FACES, 3)),
    }


def parameters(rng: np.random.Generator, batch: int) -> dict[str, np.ndarray]:
    """Coefficients and axis-angle poses."""
    values = {
        "shape": rng.normal(size=(batch, NUM_SHAPE)),
        "expression": rng.normal(size=(batch, NUM_EXPRESSION)),
    }
    values |= {key: rng.normal(0, 0.2, (batch, 3)) for key in ("root", "neck", "jaw", "left", "right")}
    return {key: value.astype(np.float32) for key, value in values.items()}


def jax_side(arrays: dict[str, np.ndarray]) -> Any:
    """``calls(batch parameters)``: functions that run forward and gradient once and wait for the result."""
    import jax
    import jax.numpy as jnp

    import flame_jax
    from flame_jax.loading import head_model_from_arrays
    from flame_jax.rotations import axis_angle_to_matrix, axis_angle_to_rotation_6d

    model = head_model_from_arrays({**arrays, "num_shape": np.array(NUM_SHAPE)}, "random")

    def decode(model, values):
        six = {key: axis_angle_to_rotation_6d(values[key]) for key in ("neck", "jaw", "left", "right")}
        params = flame_jax.FlameParams(
            shape=values["shape"],
            expression=values["expression"],
            jaw=six["jaw"],
            eyelids=jnp.zeros((values["shape"].shape[0], 2)),
            neck=six["neck"],
            eyes=jnp.stack([six["left"], six["right"]], axis=-2),
        )
        return flame_jax.decode(model, params, axis_angle_to_matrix(values["root"]))[0]

    forward = jax.jit(decode)
    gradient = jax.jit(jax.grad(lambda values, model: jnp.sum(decode(model, values) ** 2)))

    def calls(values):
        values = {key: jnp.array(value) for key, value in values.items()}
        return {
            "forward": lambda: jax.block_until_ready(forward(model, values)),
            "gradient": lambda: jax.block_until_ready(gradient(values, model)),
        }

    return calls


def torch_side(arrays: dict[str, np.ndarray]) -> Any:
    """The same by smplx, which reads its model from files."""
    import scipy.sparse
    import smplx
    import torch

    folder = tempfile.TemporaryDirectory()
    contents = {**arrays, "J_regressor": scipy.sparse.csc_matrix(arrays["J_regressor"])}
    (Path(folder.name) / "FLAME_NEUTRAL.pkl").write_bytes(pickle.dumps(contents))
    embedding = {"lmk_face_idx": np.arange(51), "lmk_b_coords": np.full((51, 3), 1 / 3)}
    (Path(folder.name) / "flame_static_embedding.pkl").write_bytes(pickle.dumps(embedding))
    with contextlib.redirect_stdout(io.StringIO()):
        reference = smplx.FLAME(folder.name, num_betas=NUM_SHAPE, num_expression_coeffs=NUM_EXPRESSION)
    names = {"shape": "betas", "root": "global_orient", "left": "leye_pose", "right": "reye_pose"}
    names |= {"expression": "expression", "neck": "neck_pose", "jaw": "jaw_pose"}

    def calls(values):
        leaves = {names[key]: torch.tensor(value) for key, value in values.items()}
        learnt = {key: value.clone().requires_grad_() for key, value in leaves.items()}

        def forward():
            with torch.no_grad():
                reference(**leaves)

        def gradient():
            for value in learnt.values():
                value.grad = None
            (reference(**learnt).vertices ** 2).sum().backward()

        return {"forward": forward, "gradient": gradient}

    return calls


def _peak_megabytes() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e3)


def _serve(side: str, connection: Any) -> None:
    """Answers ``(batch, what, seconds)`` with the times of single calls, until None comes."""

    arrays = random_model(np.random.default_rng(0))
    make = {"flame_jax": jax_side, "smplx": torch_side}[side](arrays)
    prepared: dict[int, Any] = {}
    while (request := connection.recv()) is not None:
        batch, what, seconds = request
        if batch not in prepared:
            prepared.clear()
            prepared[batch] = make(parameters(np.random.default_rng(1), batch))
        call = prepared[batch][what]
        call()
        times, end = [], time.perf_counter() + seconds
        while time.perf_counter() < end or len(times) < 3:
            start = time.perf_counter()
            call()
            times.append(time.perf_counter() - start)
        connection.send((times, _peak_megabytes()))


def machine_limits() -> tuple[float, float]:
    """Multiply-adds a second of a large float32 matrix product, and bytes a second of a large copy, here."""
    a = np.random.default_rng(0).normal(size=(2048, 2048)).astype(np.float32)
    big = np.zeros(1 << 26, np.float32)

    def best(function, count):
        times = []
        for _ in range(count):
            start = time.perf_counter()
            function()
            times.append(time.perf_counter() - start)
        return min(times)

    return 2048**3 / best(lambda: a @ a, 5), 2 * big.nbytes / best(big.copy, 5)


def cost(batch: int) -> tuple[float, float]:
    """Multiply-adds and bytes of one forward pass: the blendshape products, and reading and writing each array once."""
    coordinates = 3 * NUM_VERTICES
    directions = NUM_SHAPE + NUM_EXPRESSION + 36
    multiply_adds = batch * (coordinates * directions + NUM_VERTICES * (5 * 12 + 9) + 5 * coordinates)
    return multiply_adds, 4.0 * (coordinates * directions + 2 * batch * coordinates)


def compare(batches: list[int], seconds: float) -> None:
    """Prints the table."""
    products, bandwidth = machine_limits()  # before the workers start, which would share the cores with it
    context = multiprocessing.get_context("spawn")
    workers = {}
    for side in SIDES:
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(side, theirs), daemon=True)
        process.start()
        workers[side] = (process, ours)
    print(
        f"this machine: {products / 1e9:.0f} G multiply-adds/s (2048² product), {bandwidth / 1e9:.1f} GB/s (copy)"
    )
    print(
        f"{'batch':>6} {'what':<9} {'flame_jax ms':>13} {'smplx ms':>10} {'times as fast':>14}  {'at least':>9}"
    )
    peaks = {}
    for batch in batches:
        for what in WHAT:
            times: dict[str, list[float]] = {side: [] for side in SIDES}
            for _ in range(4):
                for side in SIDES:
                    connection = workers[side][1]
                    connection.send((batch, what, seconds / 4))
                    part, peaks[side, batch] = connection.recv()
                    times[side] += part
            ours, theirs = (1e3 * float(np.median(times[side])) for side in SIDES)
            multiply_adds, moved = cost(batch)
            # The gradient does the products once more, with the directions transposed, and reads them again.
            factor = 1 if what == "forward" else 2
            bound = 1e3 * factor * max(multiply_adds / products, moved / bandwidth)
            print(
                f"{batch:>6} {what:<9} {ours:>13.2f} {theirs:>10.2f} {theirs / ours:>14.2f}  {bound:>9.2f}",
                flush=True,
            )
    print(
        "at least: the blendshape products, or each array read and written once, whichever takes longer at the speeds\n"
        "of the first line, which are NumPy's"
    )
    for side in SIDES:
        shown = ", ".join(f"{peaks[side, batch]:.0f} MB at {batch}" for batch in batches)
        print(f"peak memory of {side} so far: {shown}")
        workers[side][1].send(None)
        workers[side][0].join()
