"""What Pixel3DMM's tracker saves, ``checkpoint/NNNNN.frame``, as FLAME parameters and a camera in our conventions.

A ``.frame`` is ``torch.save`` of a dict of NumPy arrays: a zip archive with one pickle. It is read without PyTorch
and without running the pickle (``flame_jax.files.restricted_pickle``).

The tracker poses the mesh as ``x_gl = R_base·(R·v + t) + t_base``, v with neck, jaw and eyes posed about FLAME's
joints and the root at rest, in an OpenGL camera frame (y up, z backward). With D = diag(1, −1, −1) the same in ours:
``R_cam = D·R_base·R``, ``t_cam = D·(R_base·t + t_base)``. It renders ``size``² pixels with focal length ``fl·size``
and principal point ``(size/2 + 0.5)·(1 + pp)``, pixels counted from the image's edge as ours are.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

import flame_jax
from flame_jax import FlameParams, HeadModel
from flame_jax.files import restricted_pickle
from flame_jax.files.budget import Budget
from flame_jax.files.npz import ArrayFileError, open_zip
from flame_jax.files.outside import OutsideFileError, read_regular_file, reason
from flame_jax.files.pickle_opcodes import RefusedPickle
from flame_jax.rotations import IDENTITY_6D, matrix_to_rotation_6d, rotation_6d_to_matrix
from n2f_jax.face_mesh.map_frames import FLAME_VERTICES
from n2f_jax.frontends.resample import Window
from n2f_jax.geometry.alignment import procrustes
from n2f_jax.geometry.camera import Camera
from n2f_jax.runtime.outside_values import is_rotation

_MAX_BYTES = 1 << 24  # the tracker writes some kilobytes
_OPENGL_TO_OPENCV = np.diag([1.0, -1.0, -1.0])


class TrackingError(ValueError):
    """A file that is no ``.frame`` of Pixel3DMM's tracker; the message names it and says what is wrong."""


@dataclasses.dataclass(frozen=True)
class TrackedFrame:
    """One frame as the tracker saved it, only the camera turned to our axes. NumPy, float64.

    Attributes:
        shape: ``(S,)`` FLAME's identity coefficients, 300.
        expression: ``(E,)`` 100.
        jaw, neck: ``(6,)`` the first two rows of a rotation matrix, as optimised: not quite orthonormal.
        eyes: ``(2, 6)`` in the order of FLAME's joints, left then right.
        eyelids: ``(2,)`` left, right; displacements added after skinning.
        rotation: ``(3, 3)`` R of ``x_cam = R·v + t`` for the mesh v **with** its neck rotation.
        translation: ``(3,)`` t, metres.
        focal: pixels of the tracked image.
        principal_point: ``(2,)`` pixels of the tracked image, from its left and top edge.
        size: side of the tracked image in pixels: the whole of ``cropped/NNNNN.jpg`` resized.
        frame_id: number of the frame.
    """

    shape: Float[np.ndarray, "S"]
    expression: Float[np.ndarray, "E"]
    jaw: Float[np.ndarray, "6"]
    neck: Float[np.ndarray, "6"]
    eyes: Float[np.ndarray, "2 6"]
    eyelids: Float[np.ndarray, "2"]
    rotation: Float[np.ndarray, "3 3"]
    translation: Float[np.ndarray, "3"]
    focal: float
    principal_point: Float[np.ndarray, "2"]
    size: int
    frame_id: int


def read_frame(path: str | Path) -> TrackedFrame:
    """Reads one ``.frame``; see ``TrackedFrame`` and ``to_head``.

    A file has at most 16 MiB, and so has what is in it; reading takes a few times that.

    Raises:
        TrackingError: missing, no regular file, larger, not written by ``torch.save``, asks for what no such file
            needs (nothing in it has been run), lacks a field that the tracker at 98b5d79 writes, or holds what is no
            finite number, rotation, image or focal length.
    """
    path = Path(path)
    return frame_of(path, read_pickle(path))


def frame_of(path: Path, contents: Any) -> TrackedFrame:
    """What ``read_pickle`` gave of a ``.frame``, checked; errors as ``read_frame``, which name ``path``."""
    if not isinstance(contents, Mapping) or not {"flame", "camera", "img_size"} <= contents.keys():
        raise TrackingError(
            f"{path} is no frame of Pixel3DMM's tracker: it has no 'flame', 'camera', 'img_size'"
        )
    flame, camera = contents["flame"], contents["camera"]

    def array(group: Any, key: str, count: int | None = None) -> np.ndarray:
        """One row; the tracker keeps a batch axis of one in front."""
        if not isinstance(group, Mapping) or key not in group:
            raise TrackingError(f"{path} has no {key!r}: it is not of Pixel3DMM's tracker at 98b5d79")
        values = as_numbers(group[key])
        # Beyond a million no metre, coefficient or share of an image is meant, and float32 would make it infinite.
        if values is None or not (np.abs(values) < 1e6).all():
            raise TrackingError(f"{path}: {key!r} is not finite numbers")
        if values.ndim and values.shape[0] == 1:
            values = values[0]
        if (count is not None and values.size != count) or (count is None and values.ndim != 1):
            raise TrackingError(
                f"{path}: {key!r} has shape {values.shape}; the tracker writes one head a file"
            )
        return values.astype(np.float64).reshape(-1)

    def rotation_6d(key: str, rows: int = 1) -> np.ndarray:
        values = array(flame, key, 6 * rows)
        for one in values.reshape(rows, 6):
            if np.linalg.norm(np.cross(one[:3], one[3:])) < 1e-6:
                raise TrackingError(f"{path}: {key!r} is no rotation: its rows are zero or parallel")
        return values

    sides = as_numbers(contents["img_size"])
    if sides is None or sides.size != 2 or not (sides == sides.flat[0]).all() or not 1 <= sides.flat[0] < 1e5:
        raise TrackingError(f"{path}: 'img_size' is no two sides; the tracker's images are square")
    size = int(sides.flat[0])
    frame_id = as_numbers(contents.get("frame_id", 0))
    if frame_id is None or frame_id.size != 1 or not 0 <= frame_id.flat[0] < 2**31:
        raise TrackingError(f"{path}: 'frame_id' is no number of a frame")
    base = array(camera, "R_base_0", 9).reshape(3, 3)
    if not is_rotation(base):
        raise TrackingError(f"{path}: 'R_base_0' is no rotation")
    head = _rotation(rotation_6d("R"))
    principal = (size / 2 + 0.5) * (1 + array(camera, "pp", 2))
    focal = float(array(camera, "fl", 1)[0]) * size
    if focal <= 0:
        raise TrackingError(f"{path}: 'fl' is {focal / size:g}; a focal length is above 0")
    return TrackedFrame(
        shape=array(flame, "shape"),
        expression=array(flame, "exp"),
        jaw=rotation_6d("jaw"),
        neck=rotation_6d("neck"),
        eyes=rotation_6d("eyes", 2).reshape(2, 6),
        eyelids=array(flame, "eyelids", 2),
        rotation=_OPENGL_TO_OPENCV @ base @ head,
        translation=_OPENGL_TO_OPENCV @ (base @ array(flame, "t", 3) + array(camera, "t_base_0", 3)),
        focal=focal,
        principal_point=principal,
        size=size,
        frame_id=int(frame_id.flat[0]),
    )


def to_head(frame: TrackedFrame, model: HeadModel) -> tuple[FlameParams, Camera]:
    """FLAME parameters with the neck at rest, and the camera of the tracked image that shows the same head.

    Our heads have no neck pose of their own (design of the network and of the head-frame normals). So the neck's
    rotation is folded into the camera: ``v_neck ≈ Q·v + s`` by Procrustes on the face region, ``R ← R·Q``,
    ``t ← t + R·s``. Face, jaw and eyes turn with the neck rigidly; pose correctives and the neck's skin do not.

    Args:
        frame: from ``read_frame``.
        model: the FLAME model that the tracker used (2020, or 2023 without jaw), with its region masks.

    Returns:
        Parameters (float32, no batch axes, rotations orthonormal) and the camera in pixels of ``frame.size``²;
        ``camera_in_photo`` carries it to the photograph.

    Raises:
        ValueError: the model is not FLAME, has fewer coefficients than the frame, or has no ``'face'`` region.
    """
    if model.num_vertices != FLAME_VERTICES:
        raise ValueError(
            f"Pixel3DMM tracks FLAME ({FLAME_VERTICES} vertices); head model {model.name!r} has "
            f"{model.num_vertices}: load FLAME's own files (docs/flame.md)"
        )
    if frame.shape.size > model.num_shape or frame.expression.size > model.num_expression:
        raise ValueError(
            f"the frame has {frame.shape.size} shape and {frame.expression.size} expression coefficients, head "
            f"model {model.name!r} has {model.num_shape} and {model.num_expression}"
        )
    if "face" not in model.masks:
        raise ValueError(f"head model {model.name!r} has no 'face' region: load it with FLAME_masks.pkl")

    def orthonormal(rotation_6d: np.ndarray) -> jnp.ndarray:
        return matrix_to_rotation_6d(rotation_6d_to_matrix(jnp.asarray(rotation_6d, jnp.float32)))

    params = FlameParams(
        shape=jnp.asarray(frame.shape, jnp.float32),
        expression=jnp.asarray(frame.expression, jnp.float32),
        jaw=orthonormal(frame.jaw),
        eyelids=jnp.asarray(frame.eyelids, jnp.float32),
        neck=orthonormal(frame.neck),
        eyes=orthonormal(frame.eyes),
    )
    at_rest = dataclasses.replace(params, neck=jnp.asarray(IDENTITY_6D))
    face = np.asarray(model.masks["face"])
    motion = procrustes(flame_jax.decode(model, at_rest)[0][face], flame_jax.decode(model, params)[0][face])
    turn, shift = np.asarray(motion.rotation, np.float64), np.asarray(motion.translation, np.float64)
    camera = Camera(
        rotation=jnp.asarray(frame.rotation @ turn, jnp.float32),
        translation=jnp.asarray(frame.rotation @ shift + frame.translation, jnp.float32),
        focal=jnp.asarray(frame.focal, jnp.float32),
        principal_point=jnp.asarray(frame.principal_point, jnp.float32),
    )
    return at_rest, camera


def camera_in_photo(camera: Camera, size: int, window: Window) -> Camera:
    """The camera that sees in the photograph what ``camera`` sees in ``size``² pixels of its window.

    A window that is a pixel or two off square (``crop.face_window``) gives two focal lengths; their mean is taken.

    Args:
        camera: of the tracked image.
        size: its side, ``TrackedFrame.size``.
        window: ``folder.Pixel3dmmFolder.window``.
    """
    scale = np.array([window.width, window.height], np.float32) / np.float32(size)
    corner = np.array([window.x0, window.y0], np.float32)
    return dataclasses.replace(
        camera,
        focal=camera.focal * scale.mean(),
        principal_point=camera.principal_point * scale + corner,
    )


def _rotation(rotation_6d: np.ndarray) -> np.ndarray:
    """Rows by Gram–Schmidt, in float64."""
    first = rotation_6d[:3] / np.linalg.norm(rotation_6d[:3])
    second = rotation_6d[3:] - (first @ rotation_6d[3:]) * first
    second /= np.linalg.norm(second)
    return np.stack([first, second, np.cross(first, second)])


def as_numbers(value: Any) -> np.ndarray | None:
    """An array of numbers, one number, or a flat list of them; None for anything else."""
    if isinstance(value, (list, tuple)):
        # Lists within lists may be ragged, or one list many times.
        flat = len(value) <= 1000 and all(isinstance(item, (int, float)) for item in value)
        value = np.array([float(item) for item in value if abs(item) < 1e300]) if flat else None
    elif isinstance(value, (int, float)):
        value = np.array(float(value)) if abs(value) < 1e300 else None
    return value if isinstance(value, np.ndarray) and value.dtype.kind in "fiu" else None


def read_pickle(path: Path) -> Any:
    """The one pickle of a ``torch.save`` archive of at most 16 MiB, made of NumPy arrays and plain containers alone.

    Raises:
        TrackingError: missing, larger, damaged, or it asks for what no such file needs; nothing in it has been run.
    """
    try:
        file = read_regular_file(path, _MAX_BYTES, "frames")
        with open_zip(file) as archive:
            names = [name for name in archive.namelist() if name.endswith("/data.pkl")]
            if len(names) != 1:
                raise TrackingError(f"{path} was not written by torch.save: it holds no data.pkl")
            if archive.getinfo(names[0]).file_size > _MAX_BYTES:
                raise TrackingError(f"{path} is far larger than a frame")
            data = archive.read(names[0])
        return restricted_pickle.loads(data, budget=Budget(len(data), base_bytes=_MAX_BYTES))
    except TrackingError:
        raise
    except (OutsideFileError, ArrayFileError, RefusedPickle) as error:
        raise TrackingError(f"{path} {error}") from error
    except Exception as error:  # zipfile and zlib have many ways to say that a file is broken
        raise TrackingError(
            f"{path} was not written by torch.save, or is cut off: {reason(error)}"
        ) from error
