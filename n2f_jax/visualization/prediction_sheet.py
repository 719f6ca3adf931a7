"""Pages of a network's outputs: what it was shown, the true head, the predicted head, and how far they differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, UInt8

from n2f_jax.visualization.layout import GAP, pad, text_strip
from n2f_jax.visualization.sample_sheet import FULL_ANGLE, angle_panel, normal_panel, resized, table

LEGEND = f"input, true head, predicted head, angle between them (red: {FULL_ANGLE:.0f}°)"


def input_panel(
    inputs: Float[np.ndarray, "S S C"], mask: Float[np.ndarray, "S S"]
) -> UInt8[np.ndarray, "S S 3"]:
    """The network's input as colours: its normals where it has them, else UV as red and green."""
    if inputs.shape[-1] >= 3:
        normals = inputs[..., -3:] * mask[..., None]
        return normal_panel(normals, mask * (np.abs(normals).sum(-1) > 0))
    uv = np.clip(127.5 * (inputs + 1.0), 0, 255) * mask[..., None]
    return np.concatenate([uv, np.zeros_like(uv[..., :1])], axis=-1).astype(np.uint8)


def prediction_page(
    samples: Mapping[str, np.ndarray],
    chosen: Sequence[int],
    captions: Sequence[str],
    *,
    columns: int = 2,
    tile: int = 128,
) -> UInt8[np.ndarray, "H W 3"]:
    """Four panels for each chosen sample: input, true head, predicted head, error.

    Args:
        samples: of ``training.validation.Validation.heads``: ``inputs``, ``mask``, ``target_normals``, ``target_mask``,
            ``drawn_normals``, ``drawn_mask``.
        chosen: which samples.
        captions: one for each.
        columns: samples in a row.
        tile: side of a panel, pixels.
    """
    cells = []
    for i, caption in zip(chosen, captions, strict=True):
        true, drawn = samples["target_normals"][i], samples["drawn_normals"][i]
        panels = (
            input_panel(samples["inputs"][i], samples["mask"][i]),
            normal_panel(true, samples["target_mask"][i]),
            normal_panel(drawn, samples["drawn_mask"][i]),
            angle_panel(true, drawn),
        )
        line = np.concatenate([resized(panel, tile) for panel in panels], axis=1)
        cells.append(np.concatenate([line, text_strip(caption, line.shape[1], 24)]))
    page = table(cells, columns)
    return pad(np.concatenate([text_strip(LEGEND, page.shape[1], 28, center=False), page]), GAP // 2)
