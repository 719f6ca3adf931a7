"""An exported PyTorch folder as ONNX, by ``torch.onnx`` as it is. Needs PyTorch, onnx and onnxscript."""

from __future__ import annotations

import logging
from pathlib import Path

import torch
from torch import Tensor, nn

from n2f_jax.export.torch_n2fnet import N2FNet, Prediction
from n2f_jax.runtime.atomic_files import atomic_path

INPUTS = ("normals", "mask", "focal", "principal_point")
POINTS = "points"  # one more input of a network with a correction on the surface


class _Tuple(nn.Module):
    """The prediction as a plain tuple, without what is None."""

    def __init__(self, network: N2FNet):
        super().__init__()
        self.network = network

    def forward(
        self,
        normals: Tensor,
        mask: Tensor,
        focal: Tensor,
        principal_point: Tensor,
        points: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        prediction = self.network(normals, mask, focal, principal_point, points)
        return tuple(value for value in prediction if value is not None)


def input_names(network: N2FNet) -> list[str]:
    """The graph's inputs; with a correction ``points``, too, NaN where unknown: all of them, if there are none."""
    return [*INPUTS, *([] if network.correction is None else [POINTS])]


def output_names(network: N2FNet) -> list[str]:
    """The graph's outputs: the fields of ``Prediction``; ``vertices`` only with a head model."""
    return [name for name in Prediction._fields if name != "vertices" or network.head_model is not None]


def write_onnx(path: str | Path, network: N2FNet, size: int) -> Path:
    """Writes one self-contained ``.onnx`` file with any batch size.

    Args:
        path: the file.
        network: from ``torch_n2fnet.load``.
        size: side of the crop in pixels, fixed in the graph.

    Raises:
        ValueError: the network is too large for one file (ONNX holds 2 GiB).
    """
    total = sum(x.numel() * x.element_size() for x in network.state_dict().values())
    if total > 1.9 * 2**30:
        raise ValueError(f"the network has {total / 2**30:.1f} GiB; an ONNX file holds 2")
    batch = torch.export.Dim("batch")
    channels = network.config["backbone"]["channels"]
    example: tuple[Tensor, ...] = (
        torch.zeros(2, channels, size, size),
        torch.ones(2, size, size),
        torch.full((2,), 4.0 * size),
        torch.full((2, 2), size / 2),
    )
    if network.correction is not None:
        example += (torch.full((2, 468, 3), size / 2),)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    program = torch.onnx.export(
        _Tuple(network).eval(),
        example,
        input_names=input_names(network),
        output_names=output_names(network),
        dynamic_shapes=tuple({0: batch} for _ in example),
        dynamo=True,
        verbose=False,
    )
    path = Path(path)
    with atomic_path(path) as temporary:
        program.save(str(temporary), external_data=False)
    return path
