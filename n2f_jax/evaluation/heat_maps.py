"""Errors as colours on a mesh, drawn from the front, as in the paper's figure 5."""

from __future__ import annotations

import numpy as np

from n2f_jax.evaluation.facescape import first_hits
from n2f_jax.mesh.closest_points import barycentric
from n2f_jax.mesh.normals import vertex_normals
from n2f_jax.mesh.triangle_mesh import TriangleMesh

COLOUR_MAP = "jet"  # the paper's: blue is near, red is far
UNMEASURED = (150, 150, 150)
BACKGROUND = (255, 255, 255)


def vertex_colours(errors_mm: np.ndarray, limit_mm: float) -> np.ndarray:
    """``(V, 3)`` uint8: blue at 0, red at ``limit_mm`` and beyond, grey where there is no error."""
    import matplotlib

    known = np.isfinite(errors_mm)
    share = np.clip(np.where(known, errors_mm, 0.0) / limit_mm, 0.0, 1.0)
    colours = (255.0 * matplotlib.colormaps[COLOUR_MAP](share)[:, :3]).round().astype(np.uint8)
    colours[~known] = UNMEASURED
    return colours


def draw(
    mesh: TriangleMesh,
    colours: np.ndarray,
    front: np.ndarray,
    up: np.ndarray,
    size: int = 320,
) -> np.ndarray:
    """``(size, size, 3)`` uint8: the mesh from the front, by parallel rays, colours dimmed where it turns away.

    Args:
        mesh: any size.
        colours: ``(V, 3)`` uint8.
        front: ``(3,)`` unit, from the face towards the viewer.
        up: ``(3,)`` unit, across ``front``.
    """
    right = np.cross(up, front)
    axes = np.stack([right, up, front])
    local = mesh.vertices @ axes.T
    low, high = local.min(axis=0), local.max(axis=0)
    centre, side = (low + high) / 2.0, 1.06 * max(high[:2] - low[:2])
    cells = ((np.arange(size) + 0.5) / size - 0.5) * side
    u, v = np.meshgrid(centre[0] + cells, centre[1] - cells)
    origins = np.stack([u, v, np.full_like(u, high[2] + side)], axis=-1).reshape(-1, 3)
    turned = TriangleMesh(local, mesh.faces)
    ray, triangle, distance = first_hits(turned, origins, np.tile([0.0, 0.0, -1.0], (size * size, 1)))
    points = origins[ray] - distance[:, None] * [0.0, 0.0, 1.0]
    weights = barycentric(turned, triangle, points)[:, :, None]
    corners = turned.faces[triangle]
    shade = np.abs((weights * vertex_normals(local, mesh.faces)[corners]).sum(axis=1)[:, 2])
    picture = np.empty((size * size, 3))
    picture[:] = BACKGROUND
    picture[ray] = (weights * colours[corners]).sum(axis=1) * (0.45 + 0.55 * shade[:, None])
    return np.clip(picture, 0, 255).astype(np.uint8).reshape(size, size, 3)


def colour_bar(limit_mm: float, width: int, height: int = 46) -> np.ndarray:
    """``(height, width, 3)`` uint8: the scale from 0 to ``limit_mm`` mm."""
    from PIL import Image, ImageDraw, ImageFont

    bar = vertex_colours(np.linspace(0.0, limit_mm, width - 60), limit_mm)
    strip = Image.new("RGB", (width, height), BACKGROUND)
    strip.paste(Image.fromarray(np.repeat(bar[None], 16, axis=0)), (30, 4))
    pen, font = ImageDraw.Draw(strip), ImageFont.load_default(size=14)
    for share, text in ((0.0, "0"), (0.5, f"{limit_mm / 2:g}"), (1.0, f"{limit_mm:g} mm")):
        pen.text((30 + share * (width - 61), 24), text, font=font, fill=(0, 0, 0), anchor="ma")
    return np.asarray(strip)
