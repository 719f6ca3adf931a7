"""What photographs show of points of a head: colour, and how well each is seen."""

from __future__ import annotations

import dataclasses

import cv2
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from n2f_jax.geometry.camera import project_points
from n2f_jax.mesh.normals import vertex_normals
from n2f_jax.render import render_mesh_maps
from n2f_jax.rig.places import Places

_ROW = 4096
_WINDOW = 1024  # side of the depth map, pixels
# Metres behind the nearest surface at which a point is hidden: more than a pixel's slope, less than a lid's fold.
_BEHIND = 0.003
# Cosine of the angle between surface and view, below which nothing is believed, and above which everything is.
_GRAZING, _FACING = 0.2, 0.55
# Of colours near black, whose ratios mean nothing; sRGB steps of 255.
_FLOOR = 16.0
_SMOOTH = 0.012  # of the head's size in the picture: what the colours of vertices are averaged over


@dataclasses.dataclass(frozen=True)
class PhotoView:
    """The person in one photograph.

    Attributes:
        image: ``(H, W, 3)`` sRGB.
        vertices: ``(V, 3)`` the head as it was then, head frame, metres.
        rotation, translation: ``x_cam = R x_head + t``.
        intrinsics: ``(3, 3)`` K, pixels.
    """

    image: UInt8[np.ndarray, "H W 3"]
    vertices: Float[np.ndarray, "V 3"]
    rotation: Float[np.ndarray, "3 3"]
    translation: Float[np.ndarray, "3"]
    intrinsics: Float[np.ndarray, "3 3"]


@dataclasses.dataclass(frozen=True)
class Seen:
    """Colours of the texture's N points and of the head's V vertices; log of sRGB (``to_log``).

    Attributes:
        points: ``(N, 3)``.
        points_weight: ``(N,)`` 0 not seen … 1 seen well.
        vertices: ``(V, 3)`` averaged over the skin around.
        vertices_weight: ``(V,)``.
    """

    points: Float[np.ndarray, "N 3"]
    points_weight: Float[np.ndarray, " N"]
    vertices: Float[np.ndarray, "V 3"]
    vertices_weight: Float[np.ndarray, " V"]


def to_log(srgb: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """sRGB 0 … 255 to a scale on which light's strength is a sum."""
    return np.log(np.asarray(srgb, np.float32) + np.float32(_FLOOR))


def from_log(value: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """The way back, within 0 … 255."""
    return np.clip(np.exp(value) - _FLOOR, 0.0, 255.0)


def look(view: PhotoView, faces: Int[np.ndarray, "F 3"], places: Places) -> Seen:
    """What a photograph shows of a head.

    Args:
        view: photograph and head.
        faces: of the head.
        places: of the texture's points.
    """
    in_camera = view.vertices.astype(np.float64) @ view.rotation.T + view.translation
    normals = vertex_normals(view.vertices, faces) @ view.rotation.T
    pixels = project_points(in_camera, view.intrinsics)
    low, high = pixels.min(axis=0), pixels.max(axis=0)
    size = max(float((high - low).max()), 1.0)
    depth = _depth(in_camera, faces, view.intrinsics, low, size)
    blurred = cv2.GaussianBlur(view.image, (0, 0), max(_SMOOTH * size, 0.5))

    def at(points: Places, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        place, normal = points.on(in_camera), points.on(normals)
        pixel = project_points(place, view.intrinsics).astype(np.float32)
        colors = _sampled(image, pixel)
        cosine = -(place * normal).sum(axis=1) / np.maximum(
            np.linalg.norm(place, axis=1) * np.linalg.norm(normal, axis=1), 1e-12
        )
        share = np.clip((cosine - _GRAZING) / (_FACING - _GRAZING), 0.0, 1.0)
        share = share * share * (3.0 - 2.0 * share)
        column, row = np.clip(((pixel - low) * (_WINDOW / size)).astype(int), 0, _WINDOW - 1).T
        inside = ((pixel >= 0.5) & (pixel <= np.array(view.image.shape[1::-1]) - 0.5)).all(axis=1)
        share = share * (inside & (place[:, 2] < depth[row, column] + _BEHIND) & (place[:, 2] > 0.0))
        return to_log(colors), share.astype(np.float32)

    return Seen(*at(places, view.image), *at(Places.of_vertices(len(in_camera)), blurred))


def _sampled(image: UInt8[np.ndarray, "H W 3"], pixel: Float[np.ndarray, "N 2"]) -> UInt8[np.ndarray, "N 3"]:
    """Colours between pixels; beyond the image its border's."""
    rows = -(-len(pixel) // _ROW)  # OpenCV's sides end at 32,767
    # OpenCV counts from pixels' centres.
    table = np.pad(pixel - np.float32(0.5), ((0, rows * _ROW - len(pixel)), (0, 0))).reshape(rows, _ROW, 2)
    found = cv2.remap(image, table, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return found.reshape(-1, 3)[: len(pixel)]


def _depth(in_camera, faces, intrinsics, low, size):
    """``(W, W)`` nearest depth of each pixel and those about it; infinite where there is none."""
    scale = _WINDOW / size
    # One focal length serves the renderer; where pixels are no squares the other axis is stretched.
    stretch = intrinsics[1, 1] / intrinsics[0, 0]
    points = in_camera * [1.0, stretch, 1.0]
    depth = np.asarray(
        _draw_depth(
            jnp.asarray(points, jnp.float32),
            jnp.asarray(faces, jnp.int32),
            jnp.float32(scale * intrinsics[0, 0]),
            jnp.asarray(scale * (intrinsics[:2, 2] - low), jnp.float32),
        )
    )
    depth = np.where(depth > 0.0, depth, np.inf).astype(np.float32)
    return cv2.erode(depth, np.ones((3, 3), np.uint8), borderType=cv2.BORDER_REPLICATE)


@jax.jit
def _draw_depth(
    points: Float[Array, "V 3"], faces: Int[Array, "F 3"], focal: Float[Array, ""], center: Float[Array, "2"]
) -> Float[Array, "H W"]:
    return render_mesh_maps(points, jnp.ones_like(points), faces, focal, center, _WINDOW).depth
