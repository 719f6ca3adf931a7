"""Pages of training samples: what the network is fed, and what each degradation does alone."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, UInt8

import flame_jax
from flame_jax.rotations import matrix_to_euler
from n2f_jax.data.assets import Assets
from n2f_jax.data.degradation_presets import CLEAN, STRONG
from n2f_jax.data.sampler import Batch, SyntheticConfig, make_batch
from n2f_jax.geometry.camera import frontal_rotation
from n2f_jax.visualization.layout import BACKGROUND, GAP, background, pad, text_strip
from n2f_jax.visualization.overlay import normals_to_rgb

FULL_ANGLE = 15.0  # degrees at which the difference is drawn in full red


def sample_page(
    assets: Assets,
    config: SyntheticConfig,
    *,
    num: int = 24,
    seed: int = 0,
    columns: int = 4,
    tile: int = 192,
) -> UInt8[np.ndarray, "H W 3"]:
    """The first samples of a batch: input normals and mask side by side, and what was drawn.

    Args:
        assets: head model and what drawing needs.
        config: the sampler.
        num: how many samples; they are one batch.
        seed: of the batch.
        columns: samples in a row.
        tile: side of a panel, pixels.
    """
    batch = draw_batch(assets, config, num, seed)
    panels = [
        _beside(normal_panel(n, m), mask_panel(m), tile)
        for n, m in zip(batch["normals"], batch["mask"], strict=True)
    ]
    cells = [
        np.concatenate([panel, text_strip(text, panel.shape[1], 24)])
        for panel, text in zip(panels, captions(batch, config), strict=True)
    ]
    return table(cells, columns)


def degradation_page(
    assets: Assets, config: SyntheticConfig, *, num: int = 3, seed: int = 0, tile: int = 128
) -> UInt8[np.ndarray, "H W 3"]:
    """A row for each degradation alone, at its strong setting: clean, degraded, mask, and by how many degrees.

    In the mask's panel what is left is white, what was taken away red, what was added blue.

    Args:
        assets: head model and what drawing needs.
        config: the sampler; its own degradations are switched off.
        num: heads, the same in every row.
        seed: of the batch.
        tile: side of a panel, pixels.
    """
    clean_config = dataclasses.replace(config, **CLEAN)
    clean = draw_batch(assets, clean_config, num, seed)
    rows = []
    for name, setting in STRONG.items():
        batch = draw_batch(assets, dataclasses.replace(clean_config, **setting), num, seed)
        cells = []
        for i in range(num):
            before, after = clean["mask"][i], batch["mask"][i]
            panels = (
                normal_panel(clean["normals"][i], before),
                normal_panel(batch["normals"][i], after),
                mask_change_panel(before, after),
                angle_panel(clean["normals"][i], batch["normals"][i]),
            )
            cells.append(np.concatenate([resized(panel, tile) for panel in panels], axis=1))
            cells.append(background(tile, GAP))
        line = np.concatenate(cells[:-1], axis=1)
        text = ", ".join(f"{key}={value}" for key, value in setting.items())
        title = text if name in setting else f"{name}: {text}"
        angles = [_angles(clean["normals"][i], batch["normals"][i]) for i in range(num)]
        both = np.concatenate([a[a >= 0] for a in angles])
        title += f"; angle: median {np.median(both):.2f}°, most {both.max():.2f}°"
        rows += [text_strip(title, line.shape[1], 28, center=False), line]
    legend = (
        f"clean, degraded, mask (red: taken away, blue: added), angle between them (red: {FULL_ANGLE:.0f}°)"
    )
    return pad(np.concatenate([text_strip(legend, rows[0].shape[1], 28, center=False), *rows]), GAP)


def draw_batch(assets: Assets, config: SyntheticConfig, num: int, seed: int) -> Batch:
    """A batch of ``make_batch``, jitted, as NumPy arrays."""

    @jax.jit
    def draw(key: Array, assets: Assets) -> Batch:
        return make_batch(key, assets.model, assets.topology, config, num, coarse_mesh=assets.coarse_mesh)

    return jax.device_get(draw(jax.random.key(seed), assets))


def captions(batch: Batch, config: SyntheticConfig) -> list[str]:
    """Of each sample: camera angles, distance, focal length, jaw angle, share of the crop in the mask."""
    camera = batch["camera"]
    phi = np.degrees(np.asarray(matrix_to_euler(frontal_rotation(jnp.asarray(camera.rotation)))))
    jaw = flame_jax.rotations.rotation_6d_to_matrix(jnp.asarray(batch["params"].jaw))
    jaw = np.degrees(np.asarray(matrix_to_euler(jaw)))[:, 0]
    front_end = config.num_front_end(len(phi))
    return [
        f"{i}{' front end' if i < front_end else ''}: turned {x:.0f} {y:.0f} {z:.0f}°, "
        f"{depth:.2f} m, jaw {angle:.0f}°, {100 * mask.mean():.0f} %"
        for i, ((x, y, z), depth, angle, mask) in enumerate(
            zip(phi, camera.translation[:, 2], jaw, batch["mask"], strict=True)
        )
    ]


def normal_panel(normals: np.ndarray, mask: np.ndarray) -> UInt8[np.ndarray, "S S 3"]:
    """Normals as they are as colours, on the background where the mask is empty.

    A normal outside the mask, or none inside it, is drawn magenta: neither may be.
    """
    length = np.linalg.norm(normals, axis=-1)
    colors = np.where((length > 0)[..., None], normals_to_rgb(normals), np.array(BACKGROUND, np.float32))
    wrong = (length > 0) != (mask > 0)
    return np.where(wrong[..., None], np.array((255, 0, 255)), np.rint(colors)).astype(np.uint8)


def mask_panel(mask: np.ndarray) -> UInt8[np.ndarray, "S S 3"]:
    return np.repeat((255 * mask).astype(np.uint8)[..., None], 3, axis=-1)


def mask_change_panel(before: np.ndarray, after: np.ndarray) -> UInt8[np.ndarray, "S S 3"]:
    """White what both have, red what only the first has, blue what only the second."""
    table = np.array([BACKGROUND, (70, 130, 255), (225, 70, 50), (255, 255, 255)], np.uint8)
    return table[2 * (before > 0).astype(int) + (after > 0)]


def angle_panel(before: np.ndarray, after: np.ndarray) -> UInt8[np.ndarray, "S S 3"]:
    """The angle between two maps where both have a normal, from white (0) to red."""
    angle = _angles(before, after)
    share = np.clip(angle / FULL_ANGLE, 0, 1)[..., None]
    colors = (1 - share) * np.array((250, 250, 250)) + share * np.array((225, 50, 40))
    return np.where((angle >= 0)[..., None], colors, np.array(BACKGROUND)).astype(np.uint8)


def _angles(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Degrees between two maps' normals; −1 where one has none."""
    both = (np.abs(before).sum(-1) > 0) & (np.abs(after).sum(-1) > 0)
    # The chord keeps its digits at small angles, the arc cosine does not.
    chord = np.linalg.norm(before.astype(np.float64) - after, axis=-1)
    return np.where(both, np.degrees(2 * np.arcsin(np.clip(0.5 * chord, 0, 1))), -1.0)


def resized(panel: np.ndarray, tile: int) -> np.ndarray:
    """A square panel at a side of ``tile`` pixels."""
    from PIL import Image

    small = Image.fromarray(panel).resize((tile, tile), Image.Resampling.LANCZOS)
    return np.asarray(small) if panel.shape[0] != tile else panel


def _beside(left: np.ndarray, right: np.ndarray, tile: int) -> np.ndarray:
    return np.concatenate([resized(left, tile), resized(right, tile)], axis=1)


def table(cells: list[np.ndarray], columns: int) -> np.ndarray:
    """Cells of one size in rows."""
    framed = [pad(cell, GAP // 2) for cell in cells]
    framed += [background(*framed[0].shape[:2])] * (-len(framed) % columns)
    rows = [np.concatenate(framed[i : i + columns], axis=1) for i in range(0, len(framed), columns)]
    return pad(np.concatenate(rows), GAP // 2)
