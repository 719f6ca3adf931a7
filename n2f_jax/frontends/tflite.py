"""Running a ``.tflite`` network with ``ai-edge-litert``, imported only here."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np


class TfliteModel:
    """A ``.tflite`` network on the CPU. One float32 input with a batch axis of one.

    Any number of threads may call one object: an interpreter keeps its tensors, so a lock lets one in at a time. An
    interpreter for each thread would take 40 MB more a thread for the face mesh's networks, and is not faster: four
    threads on two cores find 7.7 faces a second with the lock and 7.9 without, as most of their time is spent outside.

    Pickles and copies hold the path, and the file is read again.

    Args:
        path: the file.
        num_threads: threads of the interpreter.

    Raises:
        ImportError: ``ai-edge-litert`` is not installed.
    """

    def __init__(self, path: Path, num_threads: int = 1):
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError as error:
            raise ImportError(
                "the face mesh front end needs ai-edge-litert: pip install 'n2f-jax[face-mesh]' "
                "(there is no such wheel for Intel Macs)"
            ) from error
        self._made_of = (path, num_threads)
        self._lock = threading.Lock()
        self._interpreter = Interpreter(model_path=str(path), num_threads=num_threads)
        self._interpreter.allocate_tensors()
        (self._input,) = self._interpreter.get_input_details()
        self._outputs = self._interpreter.get_output_details()

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
        names = [output["name"] for output in self._outputs]
        return dict(zip(names, self._run(image), strict=True))

    def _run(self, image: np.ndarray) -> list[np.ndarray]:
        batch = np.ascontiguousarray(image[None], np.float32)
        with self._lock:
            self._interpreter.set_tensor(self._input["index"], batch)
            self._interpreter.invoke()
            # Copies, which the next call does not touch.
            return [self._interpreter.get_tensor(output["index"]) for output in self._outputs]
