"""What is written of one frame of a clip, whatever the format."""

from __future__ import annotations

import dataclasses
import functools
import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

import cv2
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8, UInt16

from n2f_jax.render.head_maps import render_mesh_maps
from n2f_jax.runtime.atomic_files import atomic_path
from n2f_jax.tracking.flame_track import FlameFrame, FlameTrack

_WINDOWS = (512, 1024, 2032)  # sides of the squares that depth is drawn in, each compiled once
_PNG = [cv2.IMWRITE_PNG_COMPRESSION, 2]


@dataclasses.dataclass(frozen=True)
class ExportFrame:
    """One frame that is written.

    Attributes:
        index: among the frames written, from 0 without gaps.
        number: among the clip's.
        seconds: its moment.
        image: ``(H, W, 3)`` RGB.
        matte: ``(H, W)`` 0 … 255; None where the format needs none.
        flame: the head.
    """

    index: int
    number: int
    seconds: float
    image: UInt8[np.ndarray, "H W 3"]
    matte: UInt8[np.ndarray, "H W"] | None
    flame: FlameFrame


class ExportFolder(Protocol):
    """One format's folder.

    Attributes:
        needs_matte: whether ``ExportFrame.matte`` is used.
    """

    needs_matte: bool

    def __init__(self, folder: Path, flame: FlameTrack, numbers: np.ndarray) -> None: ...

    def files(self, index: int) -> list[Path]:
        """What ``write`` makes of a frame."""

    def write(self, frame: ExportFrame) -> None:
        """Writes a frame's files, each whole or not at all."""

    def finish(self) -> None:
        """Writes what is of all frames, when theirs are there."""


def names(count: int) -> list[str]:
    """00000, 00001, …: of one length, for programs that sort texts."""
    digits = max(5, len(str(count - 1)))
    return [f"{index:0{digits}d}" for index in range(count)]


def save_png(path: Path, image: np.ndarray) -> None:
    """Writes grey, RGB or RGBA, 8 or 16 bits, atomically.

    Raises:
        OSError: it cannot be written.
    """
    if image.ndim == 3:
        image = cv2.cvtColor(image, cv2.COLOR_RGBA2BGRA if image.shape[2] == 4 else cv2.COLOR_RGB2BGR)
    # Encoded in memory, so that an error in writing is the system's own.
    done, data = cv2.imencode(".png", image, _PNG)
    if not done:
        raise OSError(f"{path}: the PNG could not be made")
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def save_npz(path: Path, arrays: Mapping[str, Any]) -> None:
    """Writes a compressed ``.npz``, atomically.

    Raises:
        OSError: it cannot be written.
    """
    stream = io.BytesIO()
    np.savez_compressed(stream, allow_pickle=False, **arrays)
    with atomic_path(path) as temporary:
        temporary.write_bytes(stream.getvalue())


def write_transforms(path: Path, whole: Mapping[str, Any], frames: Iterable[Mapping[str, Any]]) -> None:
    """Writes JSON with one entry a frame, atomically and frame by frame.

    Raises:
        OSError: it cannot be written.
    """
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as stream:
        stream.write(json.dumps(whole)[:-1] + ', "frames": [')
        for index, frame in enumerate(frames):
            stream.write((",\n" if index else "\n") + json.dumps(frame))
        stream.write("\n]}\n")


def over_white(
    image: UInt8[np.ndarray, "H W 3"], matte: UInt8[np.ndarray, "H W"]
) -> UInt8[np.ndarray, "H W 3"]:
    """The person before white."""
    share = cv2.cvtColor(matte, cv2.COLOR_GRAY2RGB)
    return cv2.add(cv2.multiply(image, share, scale=1 / 255.0), cv2.bitwise_not(share))


def depth_map(
    flame: FlameFrame,
    faces: Int[np.ndarray, "F 3"],
    intrinsics: Float[np.ndarray, "3 3"],
    size: tuple[int, int],
) -> UInt16[np.ndarray, "H W"]:
    """Depth of the head along the optical axis in millimetres, 0 where there is none.

    Args:
        flame: the frame.
        faces: triangles.
        intrinsics: K of the frame.
        size: height and width of the frame.
    """
    depth = np.zeros(size, np.uint16)
    in_camera = flame.vertices @ flame.rotation.T + flame.translation
    if (in_camera[:, 2] <= 0.01).any():
        return depth
    pixels = in_camera @ intrinsics.T
    pixels = pixels[:, :2] / pixels[:, 2:]
    limit = np.array(size[::-1])
    low = np.clip(np.floor(pixels.min(axis=0)), 0, limit).astype(int)
    high = np.clip(np.ceil(pixels.max(axis=0)), 0, limit).astype(int)
    if (high <= low).any():
        return depth
    extent = int((high - low).max())
    window = next((side for side in _WINDOWS if side >= extent), _WINDOWS[-1])
    drawn = _draw_depth(
        jnp.asarray(in_camera, jnp.float32),
        jnp.asarray(faces),
        jnp.float32(intrinsics[0, 0]),
        jnp.asarray(intrinsics[:2, 2] - low, jnp.float32),
        window,
    )
    width, height = np.minimum(high - low, window)
    part = np.rint(1e3 * np.asarray(drawn)[:height, :width])
    depth[low[1] : low[1] + height, low[0] : low[0] + width] = np.clip(part, 0, 65535)
    return depth


@functools.partial(jax.jit, static_argnames="size")
def _draw_depth(
    vertices: Float[Array, "V 3"],
    faces: Int[Array, "F 3"],
    focal: Float[Array, ""],
    principal_point: Float[Array, "2"],
    size: int,
) -> Float[Array, "S S"]:
    maps = render_mesh_maps(vertices, vertices, faces, focal, principal_point, size)
    return jnp.where(maps.mask > 0, maps.depth, 0.0)
