"""A small Pixel3DMM checkpoint of random weights, with everything in it that Lightning writes."""

import collections
import pathlib
import sys
import types

import torch

from n2f_jax.frontends.pixel3dmm.network import NetworkConfig, Pixel3dmmNetwork, prediction_channels

SETTINGS = {
    "feature_map_type": "DINO",
    "prediction_type": "normals",
    "num_heads": 2,
    "conv_dec": True,
    "use_uv_enc": False,
    "pred_disentangled": False,
    "n_facial_components": 0,
}


class _Node:
    """Pickles as OmegaConf's containers and leaves do: a class of that name and its ``__dict__``."""

    def __init__(self, **state):
        self.__dict__.update(state)


DictConfig = type("DictConfig", (_Node,), {"__module__": "omegaconf.dictconfig"})
ListConfig = type("ListConfig", (_Node,), {"__module__": "omegaconf.listconfig"})
AnyNode = type("AnyNode", (_Node,), {"__module__": "omegaconf.nodes"})
Metadata = type("Metadata", (_Node,), {"__module__": "omegaconf.base"})


def omega(value):
    """As OmegaConf keeps it."""
    if isinstance(value, dict):
        return DictConfig(_metadata=Metadata(key=None), _content={k: omega(v) for k, v in value.items()})
    if isinstance(value, list):
        return ListConfig(_metadata=Metadata(key=None), _content=[omega(item) for item in value])
    return AnyNode(_metadata=Metadata(key=None), _val=value)


def random_network(predictions=("normals",), seed=0, **changes):
    channels, count = prediction_channels(predictions, changes.pop("disentangled", False))
    sizes = {
        "backbone_width": 64, "backbone_depth": 1, "backbone_hidden": 128, "patch": 16, "grid": 3,
        "width": 32, "depth": 1, "num_heads": 2, "num_views": 2, "view_width": 4, "position_side": 0,
        "output_patch": 2, "num_channels": count, "channels": channels,
    }  # fmt: skip
    network = Pixel3dmmNetwork(NetworkConfig(**(sizes | changes)))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return network.eval()


def write_checkpoint(path, network, settings=None, drop=(), **extra):
    """``torch.save`` of what Lightning 2.1 would save; ``settings`` change ``SETTINGS``, None leaves all out."""
    modules = {name: types.ModuleType(name) for name in ("omegaconf", "omegaconf.base", "omegaconf.nodes")}
    modules |= {name: types.ModuleType(name) for name in ("omegaconf.dictconfig", "omegaconf.listconfig")}
    for kind in (DictConfig, ListConfig, AnyNode, Metadata):
        setattr(modules[kind.__module__], kind.__name__, kind)
    state = {f"net.{name}": tensor for name, tensor in network.state_dict().items() if name not in drop}
    state["net.dir_norm.norm.weight"] = torch.ones(64)  # in every checkpoint, without a use
    state["vertex_weight_mask"] = torch.zeros(1, 9, 3)
    contents = {
        "epoch": 3,
        "pytorch-lightning_version": "2.1.0",
        "state_dict": collections.OrderedDict(state),
        "callbacks": {
            "ModelCheckpoint": {"dirpath": pathlib.PurePosixPath("/there"), "best": torch.tensor(0.1)}
        },
        "optimizer_states": [{"state": {0: {"step": torch.tensor(5.0)}}, "param_groups": [{"lr": 1e-4}]}],
    }
    if settings is not None:
        contents["hparams_name"] = "cfg"
        contents["hyper_parameters"] = omega({"n_views": 2, "gpu_id": [0], "model": SETTINGS | settings})
    sys.modules.update(modules)
    try:
        torch.save(contents | extra, path)
    finally:
        for name in modules:
            del sys.modules[name]
    return path
