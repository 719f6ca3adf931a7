"""Running a ``.tflite`` network with ``ai-edge-litert``, imported only here."""

from __future__ import annotations

from pathlib import Path

import numpy as np


class TfliteModel:
    """A ``.tflite`` network on the CPU. One float32 input with a batch axis of one.

    An interpreter keeps its tensors, so one object serves one thread at a time.

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
        self._interpreter = Interpreter(model_path=str(path), num_threads=num_threads)
        self._interpreter.allocate_tensors()
        (self._input,) = self._interpreter.get_input_details()
        self._outputs = self._interpreter.get_output_details()

    @property
    def input_size(self) -> int:
        """Side of the square input image in pixels."""
        return int(self._input["shape"][1])

    def __call__(self, image: np.ndarray) -> list[np.ndarray]:
        """One ``(S, S, 3)`` float32 image (or what else the network takes) to the outputs, in the file's order, without
        batch axis."""
        self._run(image)
        return [self._interpreter.get_tensor(output["index"])[0] for output in self._outputs]

    def named(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """The same by the outputs' names, with all their axes."""
        self._run(image)
        return {output["name"]: self._interpreter.get_tensor(output["index"]) for output in self._outputs}

    def _run(self, image: np.ndarray) -> None:
        self._interpreter.set_tensor(self._input["index"], np.ascontiguousarray(image[None], np.float32))
        self._interpreter.invoke()
