"""A mesh drawn over its photograph, at the photograph's own pixels."""

from __future__ import annotations

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from PIL import Image

from n2f_jax.mesh.colors import linear_to_srgb, srgb_to_linear
from n2f_jax.render import rasterize, shade, vertex_normals

# Sides of the square windows that the mesh is drawn in: few, since each is compiled once. The rasteriser goes
# up to 2040.
WINDOWS = (1024, 2032)
CLAY = (206, 210, 216)  # sRGB
# Lights in a frame with x right, y up, z towards the viewer: direction, strength.
_LIGHTS = (((-0.45, 0.50, 0.74), 0.76), ((0.75, 0.10, 0.65), 0.28), ((0.0, -0.4, 0.9), 0.10))
_AMBIENT = 0.15
_GLOSS, _GLOSS_POWER = 0.10, 28.0


@dataclasses.dataclass(frozen=True)
class View:
    """A rectangle of the original image shown at some scale: shown pixel = ``scale`` · (pixel − corner).

    Attributes:
        corner: (u, v) of its top left corner in the original image.
        scale: shown pixels per original pixel.
        size: (height, width) in shown pixels.
    """

    corner: tuple[float, float]
    scale: float
    size: tuple[int, int]

    @classmethod
    def whole(cls, image_size: tuple[int, int], max_side: int) -> View:
        """The whole image, at its own resolution or shrunk to ``max_side``."""
        scale = min(1.0, max_side / max(image_size))
        return cls((0.0, 0.0), scale, tuple(max(1, math.floor(n * scale + 1e-6)) for n in image_size))

    @classmethod
    def around(cls, box: np.ndarray, image_size: tuple[int, int], margin: float, height: int) -> View:
        """A square about a box (u0, v0, u1, v1), as far as the image reaches, ``height`` pixels high.

        Args:
            box: in original pixels.
            image_size: height and width of the original image.
            margin: side of the square over the longer side of the box.
            height: of the view in shown pixels.
        """
        low, high = np.asarray(box[:2], float), np.asarray(box[2:], float)
        limit = np.array(image_size[::-1], float)
        half = 0.5 * margin * max(float((high - low).max()), 8.0)
        centre = np.clip(0.5 * (low + high), 0, limit)
        low, high = np.maximum(centre - half, 0), np.minimum(centre + half, limit)
        scale = height / (high[1] - low[1])
        width = max(1, math.floor(scale * (high[0] - low[0]) + 1e-6))
        return cls((float(low[0]), float(low[1])), float(scale), (height, width))

    def intrinsics(self, intrinsics: np.ndarray) -> np.ndarray:
        """K of the view from K of the original image; ``(3, 3)``."""
        u0, v0 = self.corner
        shift = np.array([[self.scale, 0, -self.scale * u0], [0, self.scale, -self.scale * v0], [0, 0, 1]])
        return shift @ np.asarray(intrinsics, np.float64)

    def cut(self, image: np.ndarray) -> np.ndarray:
        """What the view shows of an ``(H, W, 3)`` uint8 image that it lies within."""
        height, width = self.size
        # Pillow's boxes count from the edges, as this project's pixels do; shrinking averages over areas.
        box = np.array([0, 0, width, height]) / self.scale + np.tile(self.corner, 2)
        limit = np.tile(image.shape[1::-1], 2)
        box = tuple(float(x) for x in np.clip(box, 0, limit))
        shown = Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC, box=box)
        return np.asarray(shown)


@dataclasses.dataclass(frozen=True)
class Layer:
    """A drawn mesh, premultiplied by its coverage, at ``origin`` (left, top) of a view.

    Attributes:
        values: ``(h, w, C)`` float32, what was interpolated, times the coverage.
        coverage: ``(h, w)`` float32 in [0, 1].
        origin: column and row of its first pixel in the view.
    """

    values: np.ndarray
    coverage: np.ndarray
    origin: tuple[int, int]

    def over(self, image: np.ndarray, alpha: float = 1.0) -> np.ndarray:
        """Lays the layer, whose values are sRGB in 0 … 255, over a picture of the view's size."""
        result = image.astype(np.float32)
        left, top = self.origin
        bottom = min(top + self.coverage.shape[0], image.shape[0])
        right = min(left + self.coverage.shape[1], image.shape[1])
        values, coverage = (x[: bottom - top, : right - left] for x in (self.values, self.coverage))
        below = result[top:bottom, left:right]
        result[top:bottom, left:right] = below * (1 - alpha * coverage[..., None]) + alpha * values
        return np.clip(np.rint(result), 0, 255).astype(np.uint8)


@dataclasses.dataclass(frozen=True)
class DrawnMesh:
    """A mesh drawn into a part of a view, ``samples``² values for each shown pixel.

    Attributes:
        camera_normals: ``(h, w, 3)`` in the camera frame (y down, z forward), not of unit length.
        normals: ``(h, w, 3)`` in the frame that was asked for, not of unit length.
        colors: ``(h, w, 3)`` linear.
        covered: ``(h, w)`` 0 or 1.
        samples: along each side of a pixel.
        origin: column and row of the first pixel in the view.
    """

    camera_normals: np.ndarray
    normals: np.ndarray
    colors: np.ndarray
    covered: np.ndarray
    samples: int
    origin: tuple[int, int]

    def clay(self) -> Layer:
        """Lit, in its own colours."""
        return self._layer(lit(self.camera_normals, self.colors))

    def normal_colors(self) -> Layer:
        """``normals`` as colours."""
        return self._layer(normals_to_rgb(self.normals))

    def _layer(self, srgb: np.ndarray) -> Layer:
        n = self.samples
        height, width = (side // n for side in self.covered.shape)
        values = (srgb * self.covered[..., None]).reshape(height, n, width, n, 3).mean(axis=(1, 3))
        coverage = self.covered.reshape(height, n, width, n).mean(axis=(1, 3))
        return Layer(values, coverage, self.origin)


@functools.partial(jax.jit, static_argnames="size")
def _draw(
    vertices_cam: Float[Array, "V 3"],
    normals: Float[Array, "V 3"],
    colors: Float[Array, "V 3"],
    faces: Int[Array, "F 3"],
    focal: Float[Array, ""],
    principal_point: Float[Array, "2"],
    size: int,
) -> tuple[Float[Array, "H W 9"], Float[Array, "H W"]]:
    attributes = jnp.concatenate([vertex_normals(vertices_cam, faces), normals, colors], axis=-1)
    face = rasterize(vertices_cam, faces, focal, principal_point, (size, size)).face
    values, _, _ = shade(face, vertices_cam, faces, focal, principal_point, attributes[faces])
    return values, (face >= 0).astype(jnp.float32)


def draw_mesh(
    vertices_cam: np.ndarray | jax.Array,
    faces: np.ndarray | jax.Array,
    intrinsics: np.ndarray | jax.Array,
    view: View,
    colors: np.ndarray | None = None,
    normals: np.ndarray | None = None,
    samples: int = 2,
    windows: tuple[int, ...] = WINDOWS,
) -> DrawnMesh | None:
    """Draws a mesh into a view of its photograph, with four samples a pixel.

    Args:
        vertices_cam: ``(V, 3)`` camera frame, metres.
        faces: ``(F, 3)``.
        intrinsics: K of the original image.
        view: what to show; the mesh is placed by the same mapping as the photograph.
        colors: ``(V, 3)`` sRGB 0 … 255; plain clay if None.
        normals: ``(V, 3)`` for ``DrawnMesh.normal_colors``, in any frame; zeros if None.
        samples: along each side of a pixel, where the window reaches so far; else 1.
        windows: sides of the windows that are drawn in, each compiled once; one that is too large is cut.

    Returns:
        The drawing, or None where the mesh is not in view.
    """
    matrix = view.intrinsics(intrinsics)
    front = vertices_cam[vertices_cam[:, 2] > 0.01]
    if not len(front):
        return None
    pixels = (front @ matrix.T)[:, :2] / front[:, 2:]
    limit = np.array(view.size[::-1])
    low = np.clip(np.floor(pixels.min(axis=0)) - 1, 0, limit).astype(int)
    high = np.clip(np.ceil(pixels.max(axis=0)) + 1, 0, limit).astype(int)
    if (high <= low).any():
        return None
    extent = int((high - low).max())
    samples = samples if samples * extent <= windows[-1] else 1
    window = next((side for side in windows if side >= samples * extent), windows[-1])
    colors = np.tile(np.array(CLAY, np.float32), (len(vertices_cam), 1)) if colors is None else colors
    values, covered = _draw(
        jnp.asarray(vertices_cam, jnp.float32),
        jnp.asarray(np.zeros_like(vertices_cam) if normals is None else normals, jnp.float32),
        jnp.asarray(srgb_to_linear(colors), jnp.float32),
        jnp.asarray(faces),
        jnp.float32(samples * matrix[0, 0]),
        jnp.asarray(samples * (matrix[:2, 2] - low), jnp.float32),
        window,
    )
    width, height = np.minimum(samples * (high - low), window)
    values, covered = np.asarray(values)[:height, :width], np.asarray(covered)[:height, :width]
    return DrawnMesh(
        camera_normals=values[..., :3],
        normals=values[..., 3:6],
        colors=values[..., 6:],
        covered=covered,
        samples=samples,
        origin=(int(low[0]), int(low[1])),
    )


def lit(normals: np.ndarray, albedo: np.ndarray) -> np.ndarray:
    """Shades by normals of the camera frame (y down, z forward): ``(…, 3)`` sRGB 0 … 255, albedo linear."""
    length = np.linalg.norm(normals, axis=-1, keepdims=True)
    n = normals * np.array([1.0, -1.0, -1.0], np.float32) / np.maximum(length, 1e-9)
    light = np.full(n.shape[:-1], _AMBIENT, np.float32) * (0.8 + 0.2 * n[..., 1])
    gloss = np.zeros_like(light)
    for direction, strength in _LIGHTS:
        unit = np.array(direction) / np.linalg.norm(direction)
        light += strength * np.maximum(n @ unit, 0.0)
        half = unit + np.array([0.0, 0.0, 1.0])  # between the light and the viewer
        half /= np.linalg.norm(half)
        gloss += strength * np.maximum(n @ half, 0.0) ** _GLOSS_POWER
    return linear_to_srgb(albedo * light[..., None] + _GLOSS * gloss[..., None])


def normals_to_rgb(normals: np.ndarray) -> np.ndarray:
    """Normals of any length as colours 0 … 255, ``(n/‖n‖ + 1)/2``; float."""
    length = np.linalg.norm(normals, axis=-1, keepdims=True)
    return (normals / np.maximum(length, 1e-9) + 1.0) * 127.5
