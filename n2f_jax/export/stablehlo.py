"""Programs on disk, by ``jax.export`` (StableHLO): from photographs, or from maps, to heads, with their weights.

What is loaded needs JAX and this module, and neither the network's code nor the front end's: the program is traced and
lowered already, and is compiled for the device when it is called first.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export as jax_export
from jaxtyping import Array

from flame_jax.files.outside import reason
from n2f_jax.face_mesh.coarse_mesh import NUM_POINTS
from n2f_jax.models.calibration import NUM_SCORES
from n2f_jax.models.folders import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    PretrainedError,
    read_description,
    read_weights,
    write_folder,
)
from n2f_jax.models.input_channels import CHANNELS
from n2f_jax.models.seen_shape import NUM_ACTIVATIONS
from n2f_jax.reconstruction.prediction import PredictedHeads
from n2f_jax.reconstruction.reconstructor import Reconstructor

FORMAT, FORMAT_VERSION = "n2f-jax/program", 1
PROGRAM_FILE = "program.safetensors"
_PROGRAM = "stablehlo"  # the one array of that file, bytes
PLATFORMS = ("cpu", "cuda", "rocm", "tpu")


def write_maps_program(
    folder: str | Path, reconstructor: Reconstructor, batch: int, platforms: Sequence[str] = ()
) -> Path:
    """The network with what follows it: what ``Reconstructor.predict`` does, for a batch of one size.

    Args:
        folder: made if needed.
        reconstructor: needs no front end.
        batch: B.
        platforms: of ``PLATFORMS`` that the program is to run on; none for the one that JAX runs on here.

    Raises:
        ValueError: an unknown platform, or a batch below 1.
    """
    size, channels = reconstructor.inputs.size, CHANNELS[reconstructor.inputs.channels]
    shapes = {
        "maps": (batch, size, size, channels),
        "masks": (batch, size, size),
        "focal": (batch,),
        "principal_point": (batch, 2),
        "landmarks": (batch, 68, 2),
        "points": (batch, NUM_POINTS, 3),
        "scores": (batch, NUM_SCORES),
        "activations": (batch, 2, NUM_ACTIVATIONS),
    }
    inputs = {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in shapes.items()}

    def heads(stage, *maps):
        return _of_heads(stage(*maps))

    return _write(folder, heads, reconstructor.stage, inputs, platforms, {"of": "maps"}, reconstructor)


def write_photo_program(
    folder: str | Path,
    reconstructor: Reconstructor,
    batch: int,
    image_size: tuple[int, int],
    platforms: Sequence[str] = (),
) -> Path:
    """The whole way, from photographs of one size (``Reconstructor.program``).

    ``settled`` of its answers tells which photographs it is the answer of, ``wanted`` which of their heads there are.

    Args:
        folder, batch, platforms: as ``write_maps_program``.
        reconstructor: with the face mesh front end.
        image_size: H, W.

    Raises:
        ValueError: as ``write_maps_program``; or another front end.
    """
    program = reconstructor.program
    inputs = {
        "images": jax.ShapeDtypeStruct((batch, *image_size, 3), jnp.uint8),
        "focals": jax.ShapeDtypeStruct((batch,), jnp.float32),
    }

    def heads(weights, images, focals):
        answers = program.apply(weights, images, focals)
        found = answers.found.faces
        return _of_heads(answers.heads) | {
            "settled": answers.found.settled,
            "wanted": answers.wanted,
            "focal": answers.focal,
            "confidence": found.confidence[:, : program.max_faces],
            "face_points": found.points[:, : program.max_faces],
        }

    return _write(folder, heads, program.weights, inputs, platforms, {"of": "photographs"}, reconstructor)


def _of_heads(heads: PredictedHeads) -> dict[str, Array]:
    """Parameters, pose and mesh, by names of a head file where it has them; rotations of joints as 6D."""
    params = heads.params
    return {
        "vertices": heads.vertices,
        "landmarks_3d": heads.landmarks,
        "rotation": heads.camera.rotation,
        "translation": heads.camera.translation,
        "shape": params.shape,
        "expression": params.expression,
        "jaw_6d": params.jaw,
        "eyes_6d": params.eyes,
        "eyelids": params.eyelids,
    }


def _write(
    folder: str | Path,
    function: Callable[..., dict[str, Array]],
    weights: Any,
    inputs: dict[str, jax.ShapeDtypeStruct],
    platforms: Sequence[str],
    about: dict[str, Any],
    reconstructor: Reconstructor,
) -> Path:
    if unknown := [name for name in platforms if name not in PLATFORMS]:
        raise ValueError(f"platforms are {', '.join(PLATFORMS)}, not {', '.join(map(repr, unknown))}")
    if min(min(value.shape, default=1) for value in inputs.values()) < 1:
        raise ValueError("a batch, an image's height and its width are at least 1")
    leaves, tree = jax.tree.flatten(weights)
    shapes = [jax.ShapeDtypeStruct(np.shape(leaf), leaf.dtype) for leaf in leaves]

    def flat(leaves, *arguments):
        return function(jax.tree.unflatten(tree, leaves), *arguments)

    export = jax_export.export(jax.jit(flat), platforms=platforms or None)
    exported = export(shapes, *inputs.values())
    description = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        **about,
        "inputs": {
            name: {"shape": list(value.shape), "dtype": value.dtype.name} for name, value in inputs.items()
        },
        "platforms": list(exported.platforms),
        "checkpoint": reconstructor.checkpoint,
        "head_model": reconstructor.head_model.name,
        "head_model_sha256": reconstructor.head_model_sha256,
        "program": {"file": PROGRAM_FILE},
        "weights": {"file": WEIGHTS_FILE},
    }
    arrays = {
        "program": {_PROGRAM: np.frombuffer(bytes(exported.serialize()), np.uint8)},
        "weights": {f"{number:05d}": leaf for number, leaf in enumerate(leaves)}
        | {"faces": np.asarray(reconstructor.head_model.faces)},
    }
    return write_folder(folder, description, arrays)


@dataclasses.dataclass(frozen=True)
class ExportedProgram:
    """A program that was written to a folder. Load only folders of people whom you trust: a program is code.

    >>> program = ExportedProgram.load("program")
    >>> heads = program(images=photographs, focals=numpy.full(8, numpy.nan, "float32"))

    Attributes:
        about: what ``config.json`` says: the inputs with their shapes, the platforms, checkpoint and head model.
        faces: ``(F, 3)`` of the meshes.
    """

    about: dict[str, Any]
    faces: np.ndarray
    _exported: jax_export.Exported
    _weights: list[Array]

    @classmethod
    def load(cls, folder: str | Path) -> ExportedProgram:
        """Reads a folder whose files are checked against the sizes and hashes that it says.

        Raises:
            PretrainedError: a file is missing or damaged, or of another JAX than this one can read.
        """
        about = read_description(folder, FORMAT, FORMAT_VERSION)
        path = Path(folder) / CONFIG_FILE
        try:
            entries = [about[name] for name in ("program", "weights")]
            inputs = {name: (tuple(x["shape"]), np.dtype(x["dtype"])) for name, x in about["inputs"].items()}
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise PretrainedError(f"{path}: missing or unknown field: {reason(error)}") from error
        program, weights = (read_weights(folder, entry) for entry in entries)
        try:
            stored = np.asarray(program[_PROGRAM])
            exported = jax_export.deserialize(bytearray(stored.astype(np.uint8).tobytes()))
            faces = np.asarray(weights.pop("faces"))
            expected = exported.in_avals[: -len(inputs)]
            arrays = [weights[f"{number:05d}"].astype(x.dtype) for number, x in enumerate(expected)]
            found = [(x.shape, x.dtype) for x in exported.in_avals[-len(inputs) :]]
            if [x.shape for x in arrays] != [x.shape for x in expected] or found != list(inputs.values()):
                raise ValueError("program, weights and description do not belong together")
        except Exception as error:  # of what a damaged program makes its parsers raise
            raise PretrainedError(f"{path.parent}: the program cannot be read: {reason(error)}") from error
        return cls(about, faces, exported, arrays)

    def __call__(self, **inputs: Any) -> dict[str, Array]:
        """Its answers by name.

        Args:
            inputs: by the names of ``about['inputs']``, with those shapes.

        Raises:
            TypeError: others than those.
            ValueError: another shape, or a platform that the program was not written for.
        """
        wanted = self.about["inputs"]
        if set(inputs) != set(wanted):
            raise TypeError(f"the program takes {', '.join(wanted)}, not {', '.join(inputs) or 'nothing'}")
        for name, about in wanted.items():
            if np.shape(inputs[name]) != tuple(about["shape"]):
                raise ValueError(
                    f"{name} has the shape {tuple(about['shape'])}, not {np.shape(inputs[name])}"
                )
        arrays = [jnp.asarray(inputs[name], about["dtype"]) for name, about in wanted.items()]
        return self._exported.call(self._weights, *arrays)

    def __str__(self) -> str:
        return json.dumps({name: self.about[name] for name in ("of", "inputs", "platforms", "head_model")})
