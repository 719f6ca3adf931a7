"""Pixel3DMM's Lightning checkpoints, ``normals.ckpt`` and ``uv.ckpt``, as networks ready to run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from n2f_jax.frontends.files import FrontendFileError, require_file
from n2f_jax.frontends.pixel3dmm import COMMIT
from n2f_jax.frontends.pixel3dmm.network import NetworkConfig, Pixel3dmmNetwork, prediction_channels
from n2f_jax.frontends.torch_checkpoint import read_lightning

WHERE = "install_preprocessing_pipeline.sh of Pixel3DMM's repository fetches uv.ckpt and normals.ckpt"
FLAGS = {"normals": "--pixel3dmm-normals", "uv_map": "--pixel3dmm-uv"}
_PREFIX = "net."
# In every checkpoint and used by none of its released settings.
_UNUSED = (
    "dir_norm.",
    "dir_norm_uv.",
    "uv_enc_mlp.",
    "vol_decoder.norm.",
    "t_conv3_conf.",
    "token_2_patch_conf.",
)
# Settings under which the original needs more than an image.
_UNSUPPORTED = ("use_uv_enc", "use_plucker", "prior_input")
_NUM_HEADS = 8  # configs/base.yaml; asked for only where the checkpoint has lost its settings


def load_network(
    path: str | Path | None, prediction: str, device: str | torch.device = "cpu"
) -> Pixel3dmmNetwork:
    """The network of a checkpoint, for inference.

    Args:
        path: the ``.ckpt``.
        prediction: what it has to predict: ``'normals'`` or ``'uv_map'``.
        device: where to.

    Raises:
        FrontendFileError: missing, no Lightning checkpoint, of another network, or trained for something else.
    """
    path = require_file(path, f"Pixel3DMM's checkpoint for {prediction}", FLAGS[prediction], WHERE)
    tensors, parameters = read_lightning(path)
    state = {
        name.removeprefix(_PREFIX): tensor
        for name, tensor in tensors.items()
        if name.startswith(_PREFIX) and not name.removeprefix(_PREFIX).startswith(_UNUSED)
    }
    try:
        config = network_config(state, _settings(parameters), default_prediction=prediction)
    except (KeyError, ValueError) as error:
        reason = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise FrontendFileError(
            f"{path} is no checkpoint of Pixel3DMM at {COMMIT}: {reason}. {WHERE}"
        ) from error
    if prediction not in config.channels:
        raise FrontendFileError(
            f"{path} predicts {', '.join(config.channels)}, not {prediction}: {FLAGS[prediction]} takes the other one"
        )
    with torch.device("meta"):
        network = Pixel3dmmNetwork(config)
    expected = network.state_dict()
    wrong = sorted(
        [f"no {name}" for name in expected.keys() - state.keys()]
        + [f"unknown {name}" for name in state.keys() - expected.keys()]
        + [
            f"{name} is {tuple(state[name].shape)}, expected {tuple(expected[name].shape)}"
            for name in expected.keys() & state.keys()
            if state[name].shape != expected[name].shape
        ]
    )
    if wrong:
        more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise FrontendFileError(
            f"{path} does not fit Pixel3DMM's network at {COMMIT}: {'; '.join(wrong[:5])}{more}"
        )
    network = Pixel3dmmNetwork(config)
    network.load_state_dict({name: tensor.float() for name, tensor in state.items()})
    return network.eval().requires_grad_(False).to(device)


def network_config(
    state: Mapping[str, torch.Tensor], settings: Mapping[str, Any], default_prediction: str
) -> NetworkConfig:
    """Sizes from the tensors' shapes, and from the settings what shapes do not say.

    Args:
        state: parameters by name, without the prefix.
        settings: ``cfg.model`` of the training; empty where the file has none.
        default_prediction: what a checkpoint without settings predicts.

    Raises:
        KeyError: a parameter is missing.
        ValueError: the settings are of a network that needs more than an image, or has another backbone.
    """
    if (backbone := settings.get("feature_map_type", "DINO")) != "DINO":
        raise ValueError(f"its backbone is {backbone}, the released ones' is DINO")
    for name in _UNSUPPORTED:
        if settings.get(name):
            raise ValueError(f"it was trained with {name}, and needs more than an image")
    if settings.get("n_facial_components"):
        raise ValueError("it predicts FLAME parameters, not maps")
    if not settings.get("conv_dec", True):
        raise ValueError("it was trained without transposed convolutions (conv_dec)")
    predictions = settings.get("prediction_type", default_prediction)
    predictions = predictions.split(",") if isinstance(predictions, str) else list(predictions)
    channels, num_channels = prediction_channels(predictions, bool(settings.get("pred_disentangled")))

    vit = "img_encoder.model."
    width, _, patch, _ = state[f"{vit}patch_embed.proj.weight"].shape
    num_positions = state[f"{vit}pos_embed"].shape[1] - 1
    grid = round(num_positions**0.5)
    if grid * grid != num_positions:
        raise ValueError(f"its backbone has {num_positions} positions, which is no square")
    views = state.get("view_embed")
    positions = state.get("patch_pos_enc")
    outputs = state["token_2_patch_content.weight"].shape[0]
    output_patch = round((outputs / max(num_channels, 1)) ** 0.5)
    if output_patch**2 * num_channels != outputs:
        raise ValueError(f"its last layer has {outputs} outputs, which do not make {', '.join(predictions)}")
    return NetworkConfig(
        backbone_width=width,
        backbone_depth=_count(state, f"{vit}blocks."),
        backbone_hidden=state[f"{vit}blocks.0.mlp.fc1.weight"].shape[0],
        patch=patch,
        grid=grid,
        width=state["vol_decoder.down_proj.weight"].shape[0],
        depth=_count(state, "vol_decoder.layers."),
        num_heads=int(settings.get("num_heads", _NUM_HEADS)),
        num_views=0 if views is None else views.shape[1],
        view_width=0 if views is None else views.shape[2],
        position_side=0 if positions is None else positions.shape[-1],
        output_patch=output_patch,
        num_channels=num_channels,
        channels=channels,
    )


def _count(state: Mapping[str, Any], prefix: str) -> int:
    return len({name.removeprefix(prefix).split(".")[0] for name in state if name.startswith(prefix)})


def _settings(parameters: Mapping[str, Any]) -> Mapping[str, Any]:
    """``cfg.model`` of the hyper-parameters, stored under the argument's name or on its own."""
    config = parameters.get("cfg", parameters)
    model = config.get("model", {}) if isinstance(config, Mapping) else {}
    return model if isinstance(model, Mapping) else {}
