"""A trained network as a folder for PyTorch, and back: bit-identical in float32. Needs no PyTorch itself.

The folder holds ``config.json``, ``model.safetensors``, ``head_model.safetensors`` where a head model was given,
``torch_n2fnet.py`` (the module that runs it) and a model card, ``README.md``. For a network with a correction on the
surface ``torch_correction.py`` and ``surface_places.safetensors`` lie there too, and ``calibration.safetensors`` (which
PyTorch does not read) where the checkpoint has one.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import jax
import numpy as np

import flame_jax
from flame_jax.model import HeadModel
from n2f_jax.export import torch_card
from n2f_jax.face_mesh.embedding import places_of_correction
from n2f_jax.models.calibration import calibrations_to_arrays
from n2f_jax.models.conversion import ConversionError
from n2f_jax.models.folders import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    PretrainedError,
    read_description,
    read_weights,
    write_folder,
)
from n2f_jax.models.n2fnet import N2FNet
from n2f_jax.models.n2fnet_conversion import n2fnet_from_torch, n2fnet_to_torch
from n2f_jax.models.parameters import from_dict, to_dict
from n2f_jax.models.pretrained import (
    CALIBRATION_FILE,
    FACE_MESH_FILE,
    HeadModelIdentity,
    Pretrained,
    abstract_network,
    check_head_model,
    describe,
    parse_description,
    read_calibration,
    read_face_mesh,
    save_pretrained,
)
from n2f_jax.models.surface import SurfacePlaces

# The same in torch_n2fnet.py, which cannot be imported without PyTorch.
FORMAT = "n2f-jax/n2fnet-torch"
FORMAT_VERSION = 1
HEAD_MODEL_FILE = "head_model.safetensors"
PLACES_FILE = "surface_places.safetensors"
MODULE_FILE = "torch_n2fnet.py"
CORRECTION_FILE = "torch_correction.py"
HEAD_ARRAYS = (
    *("v_template", "shapedirs", "exprdirs", "posedirs", "eyelids", "J_regressor", "weights"),
    "faces",
)


def write_torch_folder(
    folder: str | Path, pretrained: Pretrained, head_model: HeadModel | None = None, name: str = "N2FNet"
) -> Path:
    """Writes the folder that ``n2f_jax.export.torch_n2fnet.load`` reads.

    Args:
        folder: where to; made if needed.
        pretrained: the network (``from_pretrained``). Its parameters are written as float32.
        head_model: goes along, so that PyTorch gives vertices too. FLAME's licence holds for the copy. A network with a
            correction needs it anyway, for the part of it that the correction looks at; that of the open head is at
            hand.
        name: of the checkpoint, for the model card.

    Raises:
        HeadModelMismatch: the network was trained for another head model.
        PretrainedError: the network has a correction, was not trained for the open head and no head model is given.
    """
    if head_model is not None:
        check_head_model(pretrained.head_model, head_model, name)
    description = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        **describe(pretrained.config, pretrained.inputs, pretrained.head_model),
        "notes": dict(pretrained.notes),
        "weights": {"file": WEIGHTS_FILE, "dtype": "float32"},
    }
    weights = {"weights": n2fnet_to_torch(to_dict(pretrained.network))}
    if head_model is not None:
        description["head_model_weights"] = {"file": HEAD_MODEL_FILE, "dtype": "float32"}
        weights["head_model_weights"] = head_model_arrays(head_model)
    modules = [MODULE_FILE]
    places = _places(pretrained, head_model, name)
    if places is not None:
        description["places"] = {"file": PLACES_FILE, "dtype": "float32"}
        weights["places"] = {
            field.name: np.asarray(getattr(places, field.name)) for field in dataclasses.fields(places)
        }
        modules.append(CORRECTION_FILE)
    if pretrained.calibration:
        description["calibration"] = {"file": CALIBRATION_FILE}
        weights["calibration"] = calibrations_to_arrays(pretrained.calibration)
    if pretrained.face_mesh is not None:
        description["face_mesh"] = {"file": FACE_MESH_FILE}
        weights["face_mesh"] = pretrained.face_mesh.arrays()
    texts = {module: Path(__file__).with_name(module).read_text(encoding="utf-8") for module in modules}
    texts["README.md"] = torch_card.model_card(pretrained, name, head_model is not None)
    return write_folder(folder, description, weights, texts)


def _places(pretrained: Pretrained, model: HeadModel | None, name: str) -> SurfacePlaces | None:
    """Where the correction looks; None without one."""
    if pretrained.config.correction is None:
        return None
    if model is None:
        model = flame_jax.load_open_head()
        if pretrained.head_model.differences(HeadModelIdentity.of(model)):
            raise PretrainedError(
                f"{name} has a correction on the surface of {pretrained.head_model.name!r}: "
                "this head model is needed to export it"
            )
    return places_of_correction(model, pretrained.config.correction, pretrained.face_mesh)


def head_model_arrays(model: HeadModel) -> dict[str, np.ndarray]:
    """What the PyTorch head model needs, by name.

    Raises:
        PretrainedError: its joints are no function of its vertices, as GNM Head's, which the PyTorch module has not.
    """
    if model.joint_template is not None:
        raise PretrainedError(
            f"{model.name}: PyTorch's head has FLAME's joints, and this model's follow its shape alone; a network "
            "without a correction is exported without --head-model"
        )
    arrays = {name: np.asarray(jax.device_get(getattr(model, name))) for name in HEAD_ARRAYS}
    return arrays | {"parents": np.asarray(model.parents, np.int32)}


def read_torch_folder(folder: str | Path) -> Pretrained:
    """The network of such a folder.

    Raises:
        FileNotFoundError: the folder or a file is missing.
        PretrainedError: a file is truncated, damaged, of another format, or does not fit the configuration.
    """
    folder = Path(folder)
    description = read_description(folder, FORMAT, FORMAT_VERSION)
    config, inputs, identity = parse_description(description, folder / CONFIG_FILE)
    state = {
        key: np.asarray(value) for key, value in read_weights(folder, description.get("weights")).items()
    }
    try:
        tree = n2fnet_from_torch(state, config)
    except ConversionError as error:
        raise PretrainedError(f"{folder / WEIGHTS_FILE}: {error}") from error
    network: N2FNet = from_dict(abstract_network(config), jax.tree.map(jax.numpy.asarray, tree))
    calibration = read_calibration(folder, description, config)
    face_mesh = read_face_mesh(folder, description, identity)
    notes = description.get("notes", {})
    return Pretrained(network, config, inputs, identity, notes, calibration, face_mesh)


def save_back(folder: str | Path, out: str | Path) -> Path:
    """A PyTorch folder as a folder of ours, as ``save_pretrained`` writes them, float32.

    The weights may have been trained further in PyTorch: ``torch_n2fnet.save`` puts them into the folder.
    """
    pretrained = read_torch_folder(folder)
    return save_pretrained(
        out,
        pretrained.network,
        pretrained.config,
        head_model=pretrained.head_model,
        inputs=pretrained.inputs,
        notes=pretrained.notes,
        calibration=pretrained.calibration,
        face_mesh=pretrained.face_mesh,
    )
