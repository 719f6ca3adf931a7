"""Running a ``.tflite`` network on one image at a time: with ``ai-edge-litert``, imported only here, or in JAX.

LiteRT is the faster one on a CPU (0.7 against 2.9 ms for the short-range detector on two cores); where it has no wheel
(Intel Macs), JAX runs the same file.
"""

from __future__ import annotations

import functools
import importlib.util
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

import jax
import numpy as np

from n2f_jax.frontends.tflite_graph import TfliteGraph, tensor_name

Runtime = Literal["litert", "jax"]


def available_runtime() -> Runtime:
    """``'litert'`` where it is installed, else ``'jax'``."""
    return "litert" if importlib.util.find_spec("ai_edge_litert") else "jax"


def open_network(
    path: Path, num_threads: int = 1, runtime: Runtime | None = None, tensors: Sequence[int] = ()
) -> TfliteModel | JaxModel:
    """A network of one image at a time.

    Args:
        path: the file.
        num_threads: threads of LiteRT's interpreter.
        runtime: what runs it; None for ``available_runtime()``.
        tensors: numbers of tensors between input and outputs that are wanted too.

    Raises:
        ImportError: what reads or runs it is not installed.
        ValueError: another name of a runtime.
    """
    runtime = runtime or available_runtime()
    if runtime not in get_args(Runtime):
        raise ValueError(f"networks run in {' or '.join(get_args(Runtime))}, not {runtime!r}")
    return JaxModel(path, tensors) if runtime == "jax" else TfliteModel(path, num_threads, tensors)


class TfliteModel:
    """A ``.tflite`` network on the CPU. One float32 input with a batch axis of one.

    Any number of threads may call one object: an interpreter keeps its tensors, so a lock lets one in at a time. An
    interpreter for each thread would take 40 MB more a thread for the face mesh's networks, and is not faster: four
    threads on two cores find 7.7 faces a second with the lock and 7.9 without, as most of their time is spent outside.

    Pickles and copies hold the path, and the file is read again.

    Args:
        path: the file.
        num_threads: threads of the interpreter.
        tensors: as of ``open_network``; they come after the outputs, by name as ``tensor_NUMBER``.

    Raises:
        ImportError: ``ai-edge-litert`` is not installed.
    """

    def __init__(self, path: Path, num_threads: int = 1, tensors: Sequence[int] = ()):
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError as error:
            raise ImportError(
                "LiteRT is the package ai-edge-litert: pip install 'n2f-jax[face-mesh]' (there is no such wheel for "
                "Intel Macs, where the networks run in JAX)"
            ) from error
        self._made_of = (path, num_threads, tensors)
        self._lock = threading.Lock()
        content = {"model_content": _with_outputs(path, tensors)} if tensors else {"model_path": str(path)}
        self._interpreter = Interpreter(**content, num_threads=num_threads)
        self._interpreter.allocate_tensors()
        (self._input,) = self._interpreter.get_input_details()
        self._outputs = self._interpreter.get_output_details()
        own = [output["name"] for output in self._outputs[: len(self._outputs) - len(tensors)]]
        self._names = own + [tensor_name(number) for number in tensors]

    def __reduce__(self):
        return type(self), self._made_of

    @property
    def input_size(self) -> int:
        """Side of the square input image in pixels."""
        return int(self._input["shape"][1])

    def __call__(self, image: np.ndarray) -> list[np.ndarray]:
        """One ``(S, S, 3)`` float32 image (or what else the network takes) to the outputs, in the file's order, without
        batch axis."""
        return [output[0] for output in self._run(image)]

    def named(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """The same by the outputs' names, with all their axes."""
        return dict(zip(self._names, self._run(image), strict=True))

    def _run(self, image: np.ndarray) -> list[np.ndarray]:
        batch = np.ascontiguousarray(image[None], np.float32)
        with self._lock:
            self._interpreter.set_tensor(self._input["index"], batch)
            self._interpreter.invoke()
            # Copies, which the next call does not touch.
            return [self._interpreter.get_tensor(output["index"]) for output in self._outputs]


class JaxModel:
    """The same network in JAX, on its default device; any number of threads may call one object.

    Args:
        path: the file.
        tensors: as of ``TfliteModel``.

    Raises:
        ImportError: ``tflite`` is not installed.
        TfliteError: the file is damaged, or holds an operator that is not known.
    """

    def __init__(self, path: Path, tensors: Sequence[int] = ()):
        self._made_of = (path, tensors)
        self._graph = TfliteGraph(path)
        self._weights = jax.device_put(self._graph.weights)
        self._names = [*self._graph.outputs, *map(tensor_name, tensors)]
        self._apply = jax.jit(functools.partial(self._graph.apply, tensors=tuple(tensors)))

    def __reduce__(self):
        return type(self), self._made_of

    @property
    def input_size(self) -> int:
        """As of ``TfliteModel``, and so are the calls."""
        return self._graph.input_size

    def __call__(self, image: np.ndarray) -> list[np.ndarray]:
        return [output[0] for output in self.named(image).values()]

    def named(self, image: np.ndarray) -> dict[str, np.ndarray]:
        outputs = self._apply(self._weights, np.ascontiguousarray(image[None], np.float32))
        # Copies: what comes from a device cannot be written to.
        return {name: np.array(outputs[name][0]) for name in self._names}


def _with_outputs(path: Path, tensors: Sequence[int]) -> bytes:
    """The file with further tensors among its graph's outputs: an interpreter keeps no others."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
    (graph,) = model.subgraphs
    graph.outputs = [*graph.outputs, *tensors]
    builder = flatbuffers.Builder(0)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())
