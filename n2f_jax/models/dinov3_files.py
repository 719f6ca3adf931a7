"""Files of pretrained DINOv3 backbones: Meta's, Hugging Face's and ours.

Read: Meta's ``.pth`` (by PyTorch, ``weights_only=True``), Hugging Face's folder or ``.safetensors`` file, whole or in
shards. Written: our folder, ``config.json`` and ``model.safetensors`` (``n2f_jax.models.folders``), whose record says
where the weights came from, which keys were left out, where the rotary periods are from, and how the first
convolution was made.
"""

from __future__ import annotations

import dataclasses
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
from flax import nnx

from flame_jax.files.outside import one_line, reason
from n2f_jax.models.conversion import ConversionError, detect_scheme, dinov3_from_torch
from n2f_jax.models.described import MAX_SIZE, DescriptionError, from_json
from n2f_jax.models.dinov3 import VARIANTS, DinoV3, DinoV3Config
from n2f_jax.models.folders import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    PretrainedError,
    read_description,
    read_safetensors,
    read_weights,
    write_folder,
)
from n2f_jax.models.parameters import Tree, flatten, from_dict, map_with_path, unflatten
from n2f_jax.runtime.fingerprints import sha256_file
from n2f_jax.runtime.json_values import is_file_name
from n2f_jax.runtime.outside_values import OutsideValueError, read_json

FORMAT = "n2f-jax/dinov3"
FORMAT_VERSION = 1
INDEX_FILE = "model.safetensors.index.json"
HEAD_CHANNELS = 64  # of every published DINOv3 ViT

# What a backbone does with its first convolution, which was trained on RGB.
CHANNEL_RULES: dict[int, str] = {
    3: "as in the file: x, y, z of the normals take the kernels of R, G, B",
    5: "u and v start at zero, x, y, z of the normals take the kernels of R, G, B: at first the network does not see "
    "UV and predicts as the one for normals",
    2: "u and v each take the mean of the kernels of R, G, B times 3/2: as much in sum as a grey image gave",
}


@dataclasses.dataclass(frozen=True)
class DinoV3Weights:
    """A backbone read from a file.

    Attributes:
        tree: our parameters, float32.
        config: the sizes found in the file.
        source: JSON values for the record: ``files`` (name → sha256), ``names`` (whose), ``ignored`` (keys),
            ``periods`` (``'file'`` or ``'recomputed'`` in float32), ``patch_embedding`` (the rule).
    """

    tree: Tree
    config: DinoV3Config
    source: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The published size with these sizes, or ``'custom'``."""
        return variant_name(self.config) or "custom"


def variant_name(config: DinoV3Config) -> str | None:
    """Which entry of ``VARIANTS`` has these sizes, whatever the input channels; None if none has."""
    for name, variant in VARIANTS.items():
        if sizes(variant) == sizes(config):
            return name
    return None


def sizes(config: DinoV3Config) -> dict[str, Any]:
    """The fields that the weights' shapes and meaning depend on, but the input channels."""
    fields = ("width", "depth", "num_heads", "mlp_width", "gated_mlp", "patch_size", "num_registers")
    return {field: getattr(config, field) for field in fields}


def read_dinov3(path: str | Path) -> DinoV3Weights:
    """Reads a backbone from any of the files named above.

    Raises:
        FileNotFoundError: there is no such file or folder.
        PretrainedError: it is truncated, damaged, no DINOv3 ViT, or asks for what this network does not do.
        ConversionError: keys are missing or unknown, or shapes do not fit; all of them are listed.
    """
    path = Path(path)
    if path.is_dir() and _is_ours(path):
        return _read_ours(path)
    state, described, files = read_state(path)
    try:
        config = infer_config(state, described)
        tree, report = dinov3_from_torch(state, config)
    except (ConversionError, PretrainedError) as error:
        raise type(error)(f"{path}: {error}") from error
    except (KeyError, ValueError, TypeError, IndexError, ZeroDivisionError) as error:
        # Names as a DINOv3 has them, of arrays that no network has.
        raise PretrainedError(
            f"{path} is no DINOv3 ViT: its arrays' shapes do not fit ({reason(error)})"
        ) from error
    source = {
        "files": {file.name: sha256_file(file) for file in files},
        "names": report.scheme,
        "ignored": list(report.ignored),
        "periods": report.periods,
        "patch_embedding": CHANNEL_RULES[3] if config.channels == 3 else "as in the file",
    }
    return DinoV3Weights(tree, config, source)


def save_dinov3(
    folder: str | Path, weights: DinoV3Weights, dtype: Literal["float32", "bfloat16"] = "float32"
) -> Path:
    """Writes our folder.

    Args:
        folder: where to; made if needed.
        weights: the backbone.
        dtype: of the matrices; vectors, tokens and periods stay float32.
    """

    def stored(path: str, leaf: Any) -> jnp.ndarray:
        return jnp.asarray(leaf, jnp.dtype(dtype) if path.endswith("/kernel") else jnp.float32)

    description = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "name": weights.name,
        "backbone": dataclasses.asdict(weights.config),
        "source": dict(weights.source),
        "weights": {"file": WEIGHTS_FILE, "dtype": dtype},
    }
    return write_folder(folder, description, {"weights": flatten(map_with_path(stored, weights.tree))})


def load_dinov3(path: str | Path, config: DinoV3Config) -> Tree:
    """A pretrained backbone's parameters for the network ``config``, the first convolution made by the rule.

    Raises:
        FileNotFoundError, PretrainedError, ConversionError: as ``read_dinov3``; also if the sizes are others, which
            are then named.
    """
    weights = read_dinov3(path)
    found, wanted = sizes(weights.config), sizes(config)
    different = [
        f"{field}: {found[field]} there, {wanted[field]} here"
        for field in found
        if found[field] != wanted[field]
    ]
    if different:
        raise PretrainedError(
            f"{path} is a DINOv3 ViT {weights.name}, the network is another: {'; '.join(different)}"
        )
    return with_channels(weights, config.channels).tree


def with_channels(weights: DinoV3Weights, channels: int) -> DinoV3Weights:
    """The same backbone for another number of input channels, by ``CHANNEL_RULES``.

    Raises:
        PretrainedError: there is no rule.
    """
    if weights.config.channels == channels:
        return weights
    if weights.config.channels != 3 or channels not in CHANNEL_RULES:
        raise PretrainedError(
            f"the first convolution of {weights.config.channels} channels cannot be made one of {channels}; "
            f"from 3 there are {', '.join(map(str, CHANNEL_RULES))}"
        )
    kernel = np.asarray(weights.tree["patch_embedding"]["kernel"])  # (patch, patch, 3, width)
    if channels == 5:
        kernel = np.concatenate([np.zeros_like(kernel[:, :, :2]), kernel], axis=2)
    else:
        kernel = np.repeat(kernel.mean(axis=2, keepdims=True) * np.float32(1.5), 2, axis=2)
    tree = {**weights.tree, "patch_embedding": {**weights.tree["patch_embedding"], "kernel": kernel}}
    config = dataclasses.replace(weights.config, channels=channels)
    return DinoV3Weights(tree, config, {**weights.source, "patch_embedding": CHANNEL_RULES[channels]})


def read_state(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, Any] | None, list[Path]]:
    """Key → float32 array of a file or folder, what a ``config.json`` beside it says, and the files read.

    Raises:
        FileNotFoundError, PretrainedError: see ``read_dinov3``.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"there is no file or folder {path}")
    if path.is_file() and path.suffix in (".pth", ".pt", ".bin"):
        return _read_torch(path), None, [path]
    folder = path if path.is_dir() else path.parent
    if path.is_dir():
        files = _shards(folder)
    elif path.suffix == ".safetensors":
        files = [path]
    else:
        raise PretrainedError(f"{path} is neither .pth nor .safetensors, nor a folder")
    state: dict[str, np.ndarray] = {}
    for file in files:
        state |= {key: np.asarray(value) for key, value in read_safetensors(file).items()}
    return state, _read_json(folder / CONFIG_FILE) if (folder / CONFIG_FILE).is_file() else None, files


def infer_config(state: Mapping[str, np.ndarray], described: Mapping[str, Any] | None) -> DinoV3Config:
    """The network's sizes from the arrays' shapes.

    The number of heads is no shape: it is the description's, else by the number of rotary periods (a quarter of a
    head's channels), else by 64 channels a head.

    Args:
        state: the arrays.
        described: Hugging Face's ``config.json``, or None. What it says of the network's kind is checked.

    Raises:
        ConversionError: the names are no DINOv3 ViT's.
        PretrainedError: the description asks for another network than ours.
    """
    keys = {re.sub(r"^model\.layer\.", "layer.", key): np.shape(value) for key, value in state.items()}
    meta = detect_scheme(keys) == "meta"
    conv = keys.get("patch_embed.proj.weight" if meta else "embeddings.patch_embeddings.weight")
    registers = keys["storage_tokens"] if meta else keys.get("embeddings.register_tokens")
    meta_up = "blocks.0.mlp.{}.weight".format("w2" if "blocks.0.mlp.w2.weight" in keys else "fc1")
    up = keys.get(meta_up if meta else "layer.0.mlp.up_proj.weight")
    if conv is None or len(conv) != 4 or registers is None or len(registers) != 3 or up is None:
        raise ConversionError("the patch embedding, the register tokens or the first block is missing")
    width = conv[0]
    pattern = re.compile(r"(?:blocks|layer)\.(\d+)\.")
    numbers = {int(match[1]) for match in map(pattern.match, keys) if match}
    head_channels = HEAD_CHANNELS
    if meta and "rope_embed.periods" in keys:
        head_channels = 4 * int(np.prod(keys["rope_embed.periods"]))
    heads = max(1, width // head_channels)
    if described is not None:
        heads = _check_described(described, heads)
    return DinoV3Config(
        width=width,
        depth=max(numbers) + 1,
        num_heads=heads,
        mlp_width=up[0],
        gated_mlp=any(key.endswith(("mlp.gate_proj.weight", "mlp.w1.weight")) for key in keys),
        patch_size=conv[2],
        channels=conv[1],
        num_registers=registers[1],
    )


def _check_described(described: Mapping[str, Any], heads: int) -> int:
    """The number of heads by Hugging Face's description; refuses what our network does not do."""
    if described.get("model_type", "dinov3_vit") != "dinov3_vit":
        kind = one_line(repr(described["model_type"]), 60)
        raise PretrainedError(f"{CONFIG_FILE} describes a {kind}, not a 'dinov3_vit'")
    rope = described.get("rope_parameters") or {}
    if not isinstance(rope, dict):
        raise PretrainedError(f"{CONFIG_FILE}: rope_parameters is no object")
    found = {
        "rope_theta": described.get("rope_theta", rope.get("rope_theta", 100.0)),
        "layer_norm_eps": described.get("layer_norm_eps", 1e-5),
        "query_bias": described.get("query_bias", True),
        "key_bias": described.get("key_bias", False),
        "value_bias": described.get("value_bias", True),
        "hidden_act": described.get("hidden_act", "gelu"),
    }
    ours: dict[str, Any] = {
        "rope_theta": 100.0,
        "layer_norm_eps": 1e-5,
        "query_bias": True,
        "key_bias": False,
        "value_bias": True,
    }
    ours["hidden_act"] = "silu" if described.get("use_gated_mlp") else "gelu"
    wrong = [
        f"{key} is {one_line(str(found[key]), 60)}, here {ours[key]}"
        for key in ours
        if found[key] != ours[key]
    ]
    if wrong:
        raise PretrainedError(f"{CONFIG_FILE} describes another network: {'; '.join(wrong)}")
    heads = described.get("num_attention_heads", heads)
    if type(heads) is not int or not 1 <= heads <= MAX_SIZE:
        raise PretrainedError(f"{CONFIG_FILE}: num_attention_heads is {one_line(repr(heads), 60)}")
    return heads


def _read_torch(path: Path) -> dict[str, np.ndarray]:
    try:
        import torch
    except ImportError as error:
        raise PretrainedError(
            f"{path}: reading a .pth needs PyTorch (pip install torch); .safetensors files do not"
        ) from error
    try:
        # Mapped, where the format allows: a large file is then not in memory twice.
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        raise PretrainedError(
            f"{path} is no PyTorch file, or holds more than tensors (which could run code), and was not loaded"
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise PretrainedError(f"{path} is truncated or no PyTorch file: {reason}") from error
    if not isinstance(state, Mapping) or not all(isinstance(x, torch.Tensor) for x in state.values()):
        keys = ", ".join(map(str, list(state)[:5])) if isinstance(state, Mapping) else type(state).__name__
        raise PretrainedError(f"{path} is no state dict of tensors: {keys}")
    return {str(key): value.to(torch.float32).numpy() for key, value in state.items()}


def _shards(folder: Path) -> list[Path]:
    whole, index = folder / WEIGHTS_FILE, folder / INDEX_FILE
    if whole.is_file():
        return [whole]
    if not index.is_file():
        raise FileNotFoundError(f"{folder} holds neither {WEIGHTS_FILE} nor {INDEX_FILE}")
    try:
        names = sorted(set(_read_json(index)["weight_map"].values()))
    except (KeyError, AttributeError, TypeError) as error:
        raise PretrainedError(f"{index} has no weight_map from names to files") from error
    # In the folder itself, whatever the index of a stranger says.
    if wrong := [name for name in names if not is_file_name(name) or "\\" in name]:
        raise PretrainedError(
            f"{index} names {one_line(repr(wrong[0]), 60)} as weights, which is no file's name"
        )
    files = [folder / name for name in names]
    for file in files:
        if not file.is_file():
            raise FileNotFoundError(f"{file} is missing; {INDEX_FILE} names it")
    return files


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = read_json(path)
    except OutsideValueError as error:
        raise PretrainedError(str(error)) from error
    if not isinstance(values, dict):
        raise PretrainedError(f"{path} is not a JSON object")
    return values


def _is_ours(folder: Path) -> bool:
    return (folder / CONFIG_FILE).is_file() and "format" in _read_json(folder / CONFIG_FILE)


def _read_ours(folder: Path) -> DinoV3Weights:
    description = read_description(folder, FORMAT, FORMAT_VERSION)
    try:
        config = from_json(DinoV3Config, description["backbone"], "backbone")
        source = description["source"]
        if not isinstance(source, dict):
            raise DescriptionError("source is no object")
    except KeyError as error:
        raise PretrainedError(f"{folder / CONFIG_FILE}: missing field: {reason(error)}") from error
    except DescriptionError as error:
        raise PretrainedError(f"{folder / CONFIG_FILE}: {error}") from error
    arrays = read_weights(folder, description.get("weights", {}))
    tree = unflatten({path: np.asarray(value) for path, value in arrays.items()})
    try:
        from_dict(nnx.eval_shape(lambda: DinoV3(config, rngs=nnx.Rngs(0))), tree)
    except ValueError as error:
        raise PretrainedError(f"{folder}: {error}") from error
    return DinoV3Weights(tree, config, source)
