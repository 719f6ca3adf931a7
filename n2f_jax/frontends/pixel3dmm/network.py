"""Pixel3DMM's network (Giebenhain et al. 2025, sec. 3.2; ``Network`` of its repository at 98b5d79) in plain PyTorch:
no Lightning, pytorch3d, nvdiffrast, timm or MICA. Parameters have the names of its checkpoints, less ``net.``.

A DINO ViT gives one feature a 16-pixel patch; a transformer without positions of its own mixes them; three transposed
convolutions bring 32² tokens to 256², and a linear map turns each into 2 × 2 pixels.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from n2f_jax.frontends.pixel3dmm.vit import VisionTransformer

# Channels of each prediction, in the order in which the network puts them; 'pos_map', 'uv_map' and 'normals' come
# with a second one under ``pred_disentangled``.
_CHANNELS = {"pos_map": 3, "uv_map": 2, "normals": 3, "albedo": 3, "nocs": 3}
_DISENTANGLED = ("pos_map", "uv_map", "normals")


@dataclasses.dataclass(frozen=True)
class NetworkConfig:
    """Sizes; all but ``num_heads`` and ``channels`` are those of a checkpoint's tensors.

    Attributes:
        backbone_width, backbone_depth, backbone_hidden, patch, grid: of the ViT.
        width, depth, num_heads: of the mixing transformer.
        num_views, view_width: a network for several views appends so many channels to the features that say which
            view it is; 0 for a network of one view.
        position_side: learned positions for so many patches a side are added to the features; 0 for none.
        output_patch: each token of the last layer becomes so many pixels squared.
        num_channels: of the output.
        channels: prediction → its first and last + 1 channel of the output.
    """

    backbone_width: int
    backbone_depth: int
    backbone_hidden: int
    patch: int
    grid: int
    width: int
    depth: int
    num_heads: int
    num_views: int
    view_width: int
    position_side: int
    output_patch: int
    num_channels: int
    channels: Mapping[str, tuple[int, int]]


def prediction_channels(
    predictions: Sequence[str], disentangled: bool
) -> tuple[dict[str, tuple[int, int]], int]:
    """Prediction → channels of the output, and their number, for a network that predicts those."""
    channels, start = {}, 0
    for name, count in _CHANNELS.items():
        if name in predictions:
            channels[name] = (start, start + count)
            start += count * (2 if disentangled and name in _DISENTANGLED else 1)
    return channels, start


class _Encoder(nn.Module):
    """Only for its name: the ViT is ``img_encoder.model`` in the checkpoints."""

    def __init__(self, config: NetworkConfig):
        super().__init__()
        self.model = VisionTransformer(
            config.backbone_width, config.backbone_depth, config.backbone_hidden, config.patch, config.grid
        )


class _MixingLayer(nn.Module):
    """Two attention and feed-forward pairs. The residuals start from the normalised input, as in the original."""

    def __init__(self, width: int, num_heads: int):
        super().__init__()
        self.norm1, self.norm2, self.norm3, self.norm4 = (nn.LayerNorm(width) for _ in range(4))
        self.self_attn, self.self_attn2 = (
            nn.MultiheadAttention(width, num_heads, bias=False, batch_first=True) for _ in range(2)
        )
        self.mlp, self.mlp2 = (
            nn.Sequential(
                nn.Linear(width, 4 * width),
                nn.GELU(),
                nn.Identity(),  # dropout of rate 0 there; keeps the numbers of the layers
                nn.Linear(4 * width, width),
            )
            for _ in range(2)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm1(x)
        x = x + self.self_attn(x, x, x, need_weights=False)[0]
        x = x + self.mlp(self.norm2(x))
        x = self.norm3(x)
        x = x + self.self_attn2(x, x, x, need_weights=False)[0]
        return x + self.mlp2(self.norm4(x))


class _Mixer(nn.Module):
    def __init__(self, config: NetworkConfig):
        super().__init__()
        self.down_proj = nn.Linear(config.backbone_width + config.view_width, config.width)
        self.layers = nn.ModuleList(
            [_MixingLayer(config.width, config.num_heads) for _ in range(config.depth)]
        )


class Pixel3dmmNetwork(nn.Module):
    """Images → what the checkpoint was trained to predict, in the network's own conventions (``predict``)."""

    def __init__(self, config: NetworkConfig):
        super().__init__()
        self.config = config
        self.img_encoder = _Encoder(config)
        if side := config.position_side:
            self.patch_pos_enc = nn.Parameter(torch.zeros(1, config.backbone_width, side, side))
        if config.num_views:
            self.view_embed = nn.Parameter(torch.zeros(1, config.num_views, config.view_width, 1, 1))
        self.vol_decoder = _Mixer(config)
        self.t_conv1, self.t_conv2, self.t_conv3 = (
            nn.ConvTranspose2d(config.width, config.width, 2, stride=2) for _ in range(3)
        )
        outputs = config.output_patch**2 * config.num_channels
        self.token_2_patch_content = nn.Linear(config.width, outputs)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """``(B, 3, H, W)`` RGB in [0, 1], sides of whole patches → prediction → ``(B, C, H, W)``."""
        features = self.img_encoder.model(images)
        batch, _, rows, columns = features.shape
        if self.config.position_side:
            features = features + self.patch_pos_enc
        if self.config.num_views:
            view = self.view_embed[:, 0].expand(batch, -1, rows, columns).to(features.dtype)
            features = torch.cat([features, view], dim=1)
        tokens = self.vol_decoder.down_proj(features.flatten(2).transpose(1, 2))
        for layer in self.vol_decoder.layers:
            tokens = layer(tokens)
        features = tokens.transpose(1, 2).reshape(batch, -1, rows, columns)
        for upsample in (self.t_conv1, self.t_conv2, self.t_conv3):
            features = F.gelu(upsample(features))
        patches = self.token_2_patch_content(features.permute(0, 2, 3, 1))
        side, channels = self.config.output_patch, self.config.num_channels
        patches = patches.reshape(*patches.shape[:3], side, side, channels)
        image = patches.permute(0, 5, 1, 3, 2, 4).reshape(batch, channels, patches.shape[1] * side, -1)
        return {name: image[:, start:stop] for name, (start, stop) in self.config.channels.items()}
