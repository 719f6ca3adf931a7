"""FaRL's face parser (Zheng et al., CVPR 2022) from its TorchScript file, placed as facer 0.0.5 places it.

facer itself (detector, downloads, drawing) is not needed: the file holds the whole network, 448² RGB in [0, 1] →
19 class logits a pixel. What facer does around it, an upright-turned square from five points there and back, is here.
Like facer, and unlike Pixel3DMM's preprocessing, it sees the head in the photograph and not in Pixel3DMM's crop, which
cuts the hair off. Classes: ``n2f_jax.frontends.face_classes``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F

from n2f_jax.frontends.face_classes import CLASS_NAMES
from n2f_jax.frontends.files import FrontendFileError, require_file
from n2f_jax.frontends.resample import Window
from n2f_jax.geometry.crop import Crop, crop_image

FILE_NAME = "face_parsing.farl.celebm.main_ema_181500_jit.pt"
WHERE = f"{FILE_NAME} is on facer's releases page (models-v1), and where facer has run in {{hub}}"
FLAG = "--farl-weights"
INPUT_SIZE = 448
CUT_SIZE = 640  # of ``cut_for_parser``: a square of 448² fits in, however it is turned
# Faces that go through the network at once.
BATCH_SIZE = 8


class FarlParser:
    """Crops and five points on each face → class ids.

    Args:
        weights: the TorchScript file; None: where facer keeps it.
        device: of the network.

    Raises:
        FrontendFileError: missing, no TorchScript, or a parser with other classes.
    """

    def __init__(self, weights: str | Path | None = None, device: str | torch.device = "cpu"):
        hub = Path(torch.hub.get_dir()) / "checkpoints"
        if weights is None and (hub / FILE_NAME).is_file():
            weights = hub / FILE_NAME
        self.path = require_file(weights, "FaRL's face parser", FLAG, WHERE.format(hub=hub))
        self.device = torch.device(device)
        try:
            self._network = torch.jit.load(str(self.path), map_location=self.device).eval()
        except RuntimeError as error:
            raise FrontendFileError(
                f"{self.path} is not TorchScript, or is cut off: {WHERE.format(hub=hub)}"
            ) from error

    def __call__(self, crops: Tensor, points: Tensor) -> Tensor:
        """Class ids, ``(B, H, W)`` uint8; background (0) outside the square that the parser sees.

        Args:
            crops: ``(B, H, W, 3)`` uint8 RGB, one face each.
            points: ``(B, 5, 2)`` pixels of the crop (centres at +0.5): the eyes' middles, the nose's tip, the mouth's
                corners, each pair from the image's left.

        Raises:
            FrontendFileError: the network has not the 19 classes of farl/celebm/448.
        """
        parts = [
            self._parse(crops[start : start + BATCH_SIZE], points[start : start + BATCH_SIZE])
            for start in range(0, len(crops), BATCH_SIZE)
        ]
        return torch.cat(parts)

    @torch.no_grad()
    def _parse(self, crops: Tensor, points: Tensor) -> Tensor:
        images = crops.to(self.device).permute(0, 3, 1, 2).float() / 255
        to_square = square_of_points(points.to(self.device, torch.float32))
        size = images.shape[2:]
        square = F.grid_sample(
            images, _grid(to_square, (INPUT_SIZE, INPUT_SIZE), size, True), align_corners=False
        )
        logits = self._network(square)[0]
        if logits.shape[1] != len(CLASS_NAMES):
            raise FrontendFileError(
                f"{self.path} tells {logits.shape[1]} classes apart; the mask is defined on the {len(CLASS_NAMES)} of "
                f"farl/celebm/448 (the LaPa model has 11): take {FILE_NAME}"
            )
        back = _grid(to_square, size, logits.shape[2:], False)
        logits = F.grid_sample(logits, back, align_corners=False)
        return logits.argmax(dim=1).to(torch.uint8)


def cut_for_parser(
    image: UInt8[np.ndarray, "H W 3"], points: Float[np.ndarray, "5 2"]
) -> tuple[UInt8[np.ndarray, "640 640 3"], Float[np.ndarray, "5 2"], Window]:
    """What the parser needs of a photograph: an upright square around its own, at the scale of its input.

    facer samples the photograph itself, without averaging where it is large.

    Args:
        image: the photograph.
        points: five points of a face (``FarlParser``), pixels of the photograph.

    Returns:
        The cut, black beyond the photograph; the points in its pixels; and what it shows.
    """
    matrix = square_of_points(torch.from_numpy(np.asarray(points, np.float32))[None])[0].double().numpy()
    middle = np.linalg.solve(matrix[:, :2], INPUT_SIZE / 2 - matrix[:, 2])
    side = CUT_SIZE / np.linalg.norm(matrix[0, :2])
    x0, y0 = (float(x) for x in middle - side / 2)
    cut = crop_image(image, Crop(x0y0=np.array([x0, y0]), side=np.float64(side)), CUT_SIZE)
    scaled = (np.asarray(points) - [x0, y0]) * (CUT_SIZE / side)
    return cut, scaled.astype(np.float32), Window(x0, y0, x0 + float(side), y0 + float(side))


def square_of_points(points: Tensor) -> Tensor:
    """``(B, 2, 3)`` similarity from pixels of the crop to pixels of the parser's 448² input (both from the edges).

    facer's square: its middle a tenth of the way from the eyes to the mouth, its half side twice the eyes' distance or
    1.8 times that from eyes to mouth, turned to the face. (The alignment of FFHQ and CelebAMask-HQ.)
    """
    eyes = (points[:, 0] + points[:, 1]) / 2 + 0.5  # + 0.5 as in facer
    mouth = (points[:, 3] + points[:, 4]) / 2 + 0.5
    across, down = points[:, 1] - points[:, 0], mouth - eyes
    x_axis = across - _quarter_turn(down)
    x_axis = F.normalize(x_axis, dim=1)
    half = torch.maximum(2 * across.norm(dim=1), 1.8 * down.norm(dim=1))
    centre = eyes + 0.1 * down
    axes = torch.stack([x_axis, _quarter_turn(x_axis)], dim=1) * (INPUT_SIZE / 2 / half)[:, None, None]
    shift = INPUT_SIZE / 2 - axes @ centre[:, :, None]
    return torch.cat([axes, shift], dim=2)


def _quarter_turn(vectors: Tensor) -> Tensor:
    return torch.stack([-vectors[:, 1], vectors[:, 0]], dim=1)


def _grid(to_square: Tensor, output: tuple[int, int], source: tuple[int, int], inverse: bool) -> Tensor:
    """``grid_sample``'s grid that draws an image of size ``output`` from one of size ``source``.

    ``inverse``: the output is the square, the source the crop; else the other way round.
    """
    axes, shift = to_square[:, :, :2], to_square[:, :, 2]
    if inverse:
        axes = torch.linalg.inv(axes)
        shift = -(axes @ shift[:, :, None])[:, :, 0]
    rows = torch.arange(output[0], device=axes.device) + 0.5
    columns = torch.arange(output[1], device=axes.device) + 0.5
    v, u = torch.meshgrid(rows, columns, indexing="ij")
    places = torch.stack([u, v], dim=-1) @ axes.transpose(1, 2)[:, None] + shift[:, None, None]
    return places / places.new_tensor([source[1], source[0]]) * 2 - 1
