"""A trained network as a folder: ``config.json`` and ``model.safetensors``. No pickles.

``config.json`` holds all that is needed to use the weights: the network's sizes, the head model that its
coefficients belong to, how the input is prepared, and the weights' sha256. Loading checks each of them.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from flame_jax.files.outside import reason
from flame_jax.model import HeadModel
from n2f_jax.models.calibration import Calibration, calibrations_from_arrays, calibrations_to_arrays
from n2f_jax.models.described import DescriptionError, from_json
from n2f_jax.models.face_mesh_places import FaceMeshPlaces, places_from_arrays
from n2f_jax.models.folders import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    PretrainedError,
    read_description,
    read_weights,
    write_folder,
)
from n2f_jax.models.n2fnet import N2FNet, N2FNetConfig
from n2f_jax.models.parameters import flatten, from_dict, map_with_path, to_dict

FORMAT = "n2f-jax/n2fnet"
FORMAT_VERSION = 1
CALIBRATION_FILE = "calibration.safetensors"
FACE_MESH_FILE = "face_mesh.safetensors"
DEFAULT_CHECKPOINT = Path(__file__).parent / "assets" / "default"  # the one that ships

# What gives the coefficients their meaning. UV, landmarks and region masks do not: a file may lack them.
_HEAD_ARRAYS = (
    "v_template",
    "shapedirs",
    "exprdirs",
    "posedirs",
    "eyelids",
    "J_regressor",
    "weights",
    "faces",
)
# Of models whose joints are no function of their vertices.
_JOINT_ARRAYS = ("joint_template", "joint_shapedirs")


class HeadModelMismatch(PretrainedError):
    """The weights belong to another head model; the message lists what differs."""


@dataclasses.dataclass(frozen=True)
class HeadModelIdentity:
    """Which head model a network was trained for.

    Attributes:
        name: what the model calls itself.
        num_vertices, num_faces, num_shape, num_expression: its sizes.
        sha256: hash of each array that gives the coefficients their meaning.
    """

    name: str
    num_vertices: int
    num_faces: int
    num_shape: int
    num_expression: int
    sha256: Mapping[str, str]

    @classmethod
    def of(cls, model: HeadModel) -> HeadModelIdentity:
        """The identity of a head model in memory. Floats are hashed as float32, indices as int32."""
        return cls(
            name=model.name,
            num_vertices=model.num_vertices,
            num_faces=model.num_faces,
            num_shape=model.num_shape,
            num_expression=model.num_expression,
            sha256={
                name: _array_sha256(getattr(model, name))
                for name in (*_HEAD_ARRAYS, *_JOINT_ARRAYS)
                if getattr(model, name) is not None
            },
        )

    def differences(self, other: HeadModelIdentity) -> list[str]:
        """What differs between two identities, in words; empty if they are the same head."""
        found = [
            f"{field}: {getattr(self, field)} against {getattr(other, field)}"
            for field in ("num_vertices", "num_faces", "num_shape", "num_expression")
            if getattr(self, field) != getattr(other, field)
        ]
        names = (*_HEAD_ARRAYS, *_JOINT_ARRAYS)
        arrays = [name for name in names if self.sha256.get(name) != other.sha256.get(name)]
        if arrays:
            found.append(f"the values of {', '.join(arrays)}")
        if found and self.name != other.name:
            found.insert(0, f"name: {self.name!r} against {other.name!r}")
        return found


def identity_sha256(identity: HeadModelIdentity) -> str:
    """One hash over the hashes of a head model's arrays."""
    lines = "".join(f"{name} {identity.sha256[name]}\n" for name in sorted(identity.sha256))
    return hashlib.sha256(lines.encode()).hexdigest()


def _array_sha256(array: Any) -> str:
    host = np.asarray(jax.device_get(array))
    kind = "<i4" if np.issubdtype(host.dtype, np.integer) else "<f4"
    host = np.ascontiguousarray(host.astype(kind))
    digest = hashlib.sha256(repr(host.shape).encode())
    digest.update(host.data)
    return digest.hexdigest()


@dataclasses.dataclass(frozen=True)
class InputSpec:
    """How the network's input is made from a face; what inference has to repeat.

    Attributes:
        size: side of the square crop in pixels.
        crop_scale: side of the crop over the larger side of the box of the 68 landmarks.
        normal_frame: ``'head'`` or ``'camera'``.
        channels: what the channels hold: ``'normals'``, ``'uv'`` or ``'uv+normals'``.
        mask: what the mask covers.
        masked: whether the input is multiplied by the mask (the paper's S_face) or left as it is.
        preprocessing: value range and everything else, in words.
    """

    size: int
    crop_scale: float
    normal_frame: Literal["head", "camera"] = "head"
    channels: Literal["normals", "uv", "uv+normals"] = "normals"
    mask: str = "visible face region, eyeballs and inner mouth, depth-tested against the whole head"
    masked: bool = True
    preprocessing: str = "values in [-1, 1] as they are, no mean or deviation; zero outside the mask"


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """A loaded folder.

    Attributes:
        network: the network, float32 parameters.
        config: its configuration.
        inputs: how its input is prepared.
        head_model: which head model its coefficients belong to.
        notes: whatever was saved with it about its training.
        calibration: what its answers are worth, by kind of input (``calibration.KINDS``); those that were measured.
        face_mesh: where the face mesh's points are on its head model; None for the open head, whose places ship, and
            where they were not known.
    """

    network: N2FNet
    config: N2FNetConfig
    inputs: InputSpec
    head_model: HeadModelIdentity
    notes: Mapping[str, Any]
    calibration: Mapping[str, Calibration] = dataclasses.field(default_factory=dict)
    face_mesh: FaceMeshPlaces | None = None


def save_pretrained(
    folder: str | Path,
    network: N2FNet | Mapping[str, Any],
    config: N2FNetConfig,
    *,
    head_model: HeadModel | HeadModelIdentity,
    inputs: InputSpec,
    notes: Mapping[str, Any] | None = None,
    dtype: Literal["float32", "bfloat16"] = "float32",
    calibration: Mapping[str, Calibration] | None = None,
    face_mesh: FaceMeshPlaces | None = None,
) -> Path:
    """Writes a network to a folder (made if needed). The same network gives the same bytes.

    Args:
        folder: where to.
        network: the module, or its parameters as a nested dict.
        config: its configuration.
        head_model: the head model it was trained for.
        inputs: how its input is prepared.
        notes: JSON values to keep with it: training steps, data, figures.
        dtype: of the matrices in the file. With ``'bfloat16'`` vectors (norms, biases, LayerScale, rotary
            periods) and tokens stay float32: they are small and rounding them costs accuracy.
        calibration: what its answers are worth, by kind of input.
        face_mesh: where the face mesh's points are on a head model that is not the open head.

    Returns:
        The folder.

    Raises:
        PretrainedError: config, head model and input do not agree, or the parameters are not the config's.
    """
    if dtype not in ("float32", "bfloat16"):
        raise ValueError(f"dtype must be 'float32' or 'bfloat16', not {dtype!r}")
    identity = head_model if isinstance(head_model, HeadModelIdentity) else HeadModelIdentity.of(head_model)
    _check_agreement(config, identity, inputs)
    tree = to_dict(network) if isinstance(network, nnx.Module) else network
    try:
        from_dict(abstract_network(config), tree)
    except ValueError as error:
        raise PretrainedError(str(error)) from error

    def stored(path: str, leaf: Any) -> Any:
        matrix = path.endswith("/kernel")
        return jnp.asarray(leaf, jnp.dtype(dtype) if matrix else jnp.float32)

    description = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        **describe(config, inputs, identity),
        "weights": {"file": WEIGHTS_FILE, "dtype": dtype},
        "notes": dict(notes or {}),
    }
    weights = {"weights": flatten(map_with_path(stored, tree))}
    if calibration:
        description["calibration"] = {"file": CALIBRATION_FILE}
        weights["calibration"] = calibrations_to_arrays(calibration)
    if face_mesh is not None:
        description["face_mesh"] = {"file": FACE_MESH_FILE}
        weights["face_mesh"] = face_mesh.arrays()
    return write_folder(folder, description, weights)


def describe(config: N2FNetConfig, inputs: InputSpec, identity: HeadModelIdentity) -> dict[str, Any]:
    """What ``config.json`` holds about a network: its sizes, its input, its head model."""
    return {
        "network": dataclasses.asdict(config),
        "inputs": dataclasses.asdict(inputs),
        "head_model": {**dataclasses.asdict(identity), "sha256": dict(identity.sha256)},
    }


def parse_description(
    description: Mapping[str, Any], source: str | Path
) -> tuple[N2FNetConfig, InputSpec, HeadModelIdentity]:
    """The other way.

    Raises:
        PretrainedError: a field is missing or unknown, a value is not what its field holds (``described.from_json``),
            or they do not agree with each other.
    """
    try:
        missing = [key for key in ("network", "inputs", "head_model") if key not in description]
        if missing:
            raise DescriptionError(f"missing or unknown field: {', '.join(missing)}")
        config = from_json(N2FNetConfig, description["network"], "network")
        inputs = from_json(InputSpec, description["inputs"], "inputs")
        identity = from_json(HeadModelIdentity, description["head_model"], "head_model")
        _check_agreement(config, identity, inputs)
    except ValueError as error:
        raise PretrainedError(f"{source}: {error}") from error
    return config, inputs, identity


def from_pretrained(folder: str | Path, head_model: HeadModel | None = None) -> Pretrained:
    """Reads a folder written by ``save_pretrained``.

    Args:
        folder: the folder.
        head_model: the head model that the coefficients will be decoded with; checked against the one the
            network was trained for. None leaves the check to the caller (``Pretrained.head_model``).

    ``config.json`` has at most 16 MiB, and a network at most 200 blocks; the weights take twice their file's size.

    Raises:
        MissingPretrainedError: the folder or one of its files is missing; a ``PretrainedError``.
        HeadModelMismatch: the head model is another one; the message says what differs; a ``PretrainedError``.
        PretrainedError: a file is truncated, damaged, of another format, or does not fit the configuration.
    """
    folder = Path(folder)
    description = read_description(folder, FORMAT, FORMAT_VERSION)
    config, inputs, identity = parse_description(description, folder / CONFIG_FILE)
    if head_model is not None:
        check_head_model(identity, head_model, folder)
    tree = read_weights(folder, description.get("weights", {}))
    try:
        abstract = abstract_network(config)
    except Exception as error:  # sizes that do not go together fail wherever they first meet
        raise PretrainedError(
            f"{folder / CONFIG_FILE}: no network has these sizes: {reason(error)}"
        ) from error
    try:
        network = from_dict(abstract, tree)
    except ValueError as error:
        raise PretrainedError(f"{folder}: {error}") from error
    calibration = read_calibration(folder, description, config)
    face_mesh = read_face_mesh(folder, description, identity)
    notes = description.get("notes", {})
    if not isinstance(notes, dict):
        raise PretrainedError(f"{folder / CONFIG_FILE}: its notes are no object")
    return Pretrained(network, config, inputs, identity, notes, calibration, face_mesh)


def read_face_mesh(
    folder: Path, description: Mapping[str, Any], identity: HeadModelIdentity
) -> FaceMeshPlaces | None:
    """Where the face mesh's points are on a folder's head model; None where the folder does not say.

    Raises:
        MissingPretrainedError: the file is missing.
        PretrainedError: it is truncated or damaged, or not of this head model.
    """
    if "face_mesh" not in description:
        return None
    arrays = read_weights(folder, description["face_mesh"])
    try:
        return places_from_arrays(arrays, identity.num_faces)
    except ValueError as error:
        raise PretrainedError(f"{folder / FACE_MESH_FILE}: {error}") from error


def read_calibration(
    folder: Path, description: Mapping[str, Any], config: N2FNetConfig
) -> dict[str, Calibration]:
    """What the answers of a folder's network are worth, by kind of input; empty where the folder does not say.

    Raises:
        MissingPretrainedError: the file is missing.
        PretrainedError: it is truncated or damaged, or not of this network.
    """
    if "calibration" not in description:
        return {}
    arrays = read_weights(folder, description["calibration"])
    try:
        return calibrations_from_arrays(arrays, config.num_shape, config.num_expression + 5)
    except ValueError as error:
        raise PretrainedError(f"{folder / CALIBRATION_FILE}: {error}") from error


def check_head_model(trained_for: HeadModelIdentity, model: HeadModel, source: str | Path) -> None:
    """Raises unless ``model`` is the head model that a network was trained for.

    Args:
        trained_for: from the network's folder.
        model: the head model at hand.
        source: where the network comes from, for the message.

    Raises:
        HeadModelMismatch: something differs; the message says what.
    """
    differences = trained_for.differences(HeadModelIdentity.of(model))
    if differences:
        raise HeadModelMismatch(
            f"{source} was trained for the head model {trained_for.name!r}, not for this one "
            f"({model.name!r}). What differs (trained for, against this one):\n  " + "\n  ".join(differences)
        )


def config_from_dict(values: Mapping[str, Any]) -> N2FNetConfig:
    """A network's configuration from ``dataclasses.asdict`` of one, as JSON gives it back.

    Raises:
        ValueError: a field is missing or unknown, or a value is not what its field holds.
    """
    return from_json(N2FNetConfig, values, "network")


def abstract_network(config: N2FNetConfig) -> N2FNet:
    """The network with shapes in place of arrays, to be filled by ``parameters.from_dict``."""
    return nnx.eval_shape(lambda: N2FNet(config, rngs=nnx.Rngs(0)))


def _check_agreement(config: N2FNetConfig, identity: HeadModelIdentity, inputs: InputSpec) -> None:
    channels = {"normals": 3, "uv": 2, "uv+normals": 5}.get(inputs.channels)
    pairs = [
        ("shape coefficients", config.num_shape, identity.num_shape, "head model"),
        ("expression coefficients", config.num_expression, identity.num_expression, "head model"),
        ("pixels along the input's side", config.input_size, inputs.size, "input description"),
        ("input channels", config.backbone.channels, channels, "input description"),
    ]
    wrong = [f"{what}: the network has {a}, the {b_name} {b}" for what, a, b, b_name in pairs if a != b]
    if wrong:
        raise PretrainedError("; ".join(wrong))
