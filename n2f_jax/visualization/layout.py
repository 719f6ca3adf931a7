"""Pictures side by side, with captions."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

BACKGROUND = (24, 25, 28)
INK = (226, 228, 232)
FAINT = (150, 154, 162)
GAP = 10  # pixels between panels


def text_strip(
    text: str, width: int, height: int = 30, color: tuple[int, int, int] = INK, center: bool = True
) -> np.ndarray:
    """One line of text on the background, ``(height, width, 3)`` uint8, cut with an ellipsis if too long."""
    font = ImageFont.load_default(size=height * 0.56)
    strip = Image.new("RGB", (width, height), BACKGROUND)
    draw = ImageDraw.Draw(strip)
    if draw.textlength(text, font=font) > width - GAP:
        while text and draw.textlength(text + "…", font=font) > width - GAP:
            text = text[:-1]
        text += "…"
    left = (width - draw.textlength(text, font=font)) / 2 if center else GAP
    draw.text((left, height / 2), text, font=font, fill=color, anchor="lm")
    return np.asarray(strip)


def row(panels: Sequence[np.ndarray], captions: Sequence[str], title: str = "") -> np.ndarray:
    """Panels of one height side by side, a caption under each and, if given, a title above.

    Args:
        panels: ``(H, W_i, 3)`` uint8, all of one height.
        captions: one for each panel.
        title: a line above them all.
    """
    height = panels[0].shape[0]
    columns = []
    for panel, caption in zip(panels, captions, strict=True):
        columns.append(np.concatenate([panel, text_strip(caption, panel.shape[1], color=FAINT)]))
        columns.append(background(height + 30, GAP))
    joined = np.concatenate(columns[:-1], axis=1)
    if title:
        joined = np.concatenate([text_strip(title, joined.shape[1], 36, center=False), joined])
    return pad(joined, GAP)


def grid(
    tiles: Sequence[np.ndarray], captions: Sequence[str], columns: int | None = None, tile: int = 320
) -> np.ndarray:
    """A contact sheet: every tile fitted into a square of ``tile`` pixels, a caption under each."""
    if not tiles:
        raise ValueError("a contact sheet needs at least one picture")
    columns = columns or min(6, math.ceil(math.sqrt(len(tiles) * 1.6)))
    cells = []
    for picture, caption in zip(tiles, captions, strict=True):
        cell = np.concatenate([fit(picture, (tile, tile)), text_strip(caption, tile, 26, FAINT)])
        cells.append(pad(cell, GAP // 2))
    cells += [background(*cells[0].shape[:2])] * (-len(cells) % columns)
    rows = [np.concatenate(cells[i : i + columns], axis=1) for i in range(0, len(cells), columns)]
    return pad(np.concatenate(rows), GAP // 2)


def fit(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The whole image as large as it goes in ``size`` = (height, width), centred on the background."""
    height, width = size
    scale = min(height / image.shape[0], width / image.shape[1])
    inner = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    small = np.asarray(Image.fromarray(image).resize(inner, Image.Resampling.LANCZOS))
    canvas = background(height, width)
    top, left = (height - small.shape[0]) // 2, (width - small.shape[1]) // 2
    canvas[top : top + small.shape[0], left : left + small.shape[1]] = small
    return canvas


def background(height: int, width: int) -> np.ndarray:
    """``(height, width, 3)`` uint8 of the background colour."""
    return np.full((height, width, 3), BACKGROUND, np.uint8)


def pad(image: np.ndarray, border: int) -> np.ndarray:
    """The image with a border of the background colour."""
    canvas = background(image.shape[0] + 2 * border, image.shape[1] + 2 * border)
    canvas[border:-border, border:-border] = image
    return canvas
