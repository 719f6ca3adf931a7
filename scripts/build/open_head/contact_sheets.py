"""Contact sheets of the free head: random heads, single components, jaw and eyelids, random expressions."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float

from flame_jax import HeadModel
from open_head.posing import pose_heads
from open_head.preview import View, shade_grey

HEAD = View((0.0, -0.005, 0.0), 0.30, 240)
FACE = View((0.0, -0.022, 0.0), 0.17, 240)
SIDE_YAW = 0.9


def random_heads(model: HeadModel, seed: int = 1) -> Float[np.ndarray, "H W"]:
    """18 heads with coefficients from N(0, 1), each from the front and from the side."""
    shape = np.random.default_rng(seed).standard_normal((18, model.num_shape))
    side = dataclasses.replace(HEAD, yaw=SIDE_YAW)
    cells = [_draw(model, head, view) for head in pose_heads(model, shape=shape) for view in (HEAD, side)]
    return _grid(cells, 6)


def single_components(model: HeadModel, count: int = 12, amount: float = 2.5) -> Float[np.ndarray, "H W"]:
    """The first shape components at minus and plus ``amount``, each from the front and from the side."""
    shape = np.kron(np.eye(model.num_shape)[:count], [[-amount], [amount]])
    side = dataclasses.replace(HEAD, yaw=SIDE_YAW)
    cells = [_draw(model, head, view) for head in pose_heads(model, shape=shape) for view in (HEAD, side)]
    return _grid(cells, 8)


def jaw_and_eyelids(model: HeadModel) -> Float[np.ndarray, "H W"]:
    """The mean head with the jaw at 0 … 24° from two sides, and the eyelids from −0.3 to 1."""
    jaw = np.zeros((6, 3))
    jaw[:, 0] = np.deg2rad([0.0, 4.0, 8.0, 12.0, 18.0, 24.0])
    opened = list(pose_heads(model, jaw=jaw))
    lids = np.array([[-0.3, -0.3], [0, 0], [0.5, 0.5], [1, 1], [1, 0], [0, 1]])
    cells = [_draw(model, head, FACE) for head in opened]
    cells += [_draw(model, head, dataclasses.replace(FACE, yaw=0.7)) for head in opened]
    cells += [_draw(model, head, FACE) for head in pose_heads(model, eyelids=lids)]
    return _grid(cells, 6)


def random_expressions(model: HeadModel, seed: int = 1) -> Float[np.ndarray, "H W"]:
    """Twelve expressions from N(0, 1), as the sampler draws them, then six from N(0, 2²)."""
    rng = np.random.default_rng(seed)
    expression = rng.standard_normal((18, model.num_expression)) * np.repeat([1.0, 2.0], [12, 6])[:, None]
    return _grid([_draw(model, head, FACE) for head in pose_heads(model, expression=expression)], 6)


SHEETS = {
    "open_head_random": random_heads,
    "open_head_components": single_components,
    "open_head_jaw_eyelids": jaw_and_eyelids,
    "open_head_expressions": random_expressions,
}


def write_sheets(model: HeadModel, folder: Path | str) -> list[Path]:
    """Draws every sheet of ``SHEETS`` into a folder as JPEG and returns their paths."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, draw in SHEETS.items():
        paths.append(folder / f"{name}.jpg")
        picture = np.round(draw(model).clip(0.0, 1.0) * 255).astype(np.uint8)
        cv2.imwrite(str(paths[-1]), picture, [cv2.IMWRITE_JPEG_QUALITY, 85])
    return paths


def _draw(model: HeadModel, vertices: Float[np.ndarray, "V 3"], view: View) -> Float[np.ndarray, "S S"]:
    albedo = np.ones(len(vertices))
    albedo[np.asarray(model.masks["eyeballs"])] = 1.2
    return shade_grey(vertices, np.asarray(model.faces), view, albedo)


def _grid(cells: list[Float[np.ndarray, "S S"]], columns: int) -> Float[np.ndarray, "H W"]:
    cells = cells + [np.ones_like(cells[0])] * (-len(cells) % columns)
    return np.vstack([np.hstack(cells[i : i + columns]) for i in range(0, len(cells), columns)])
