"""A track as metrical-tracker leaves one, from which INSTA's own scripts make a data set.

Seen in Zielon/metrical-tracker at c2a5172 (``tracker.py``)::

    checkpoint/00000.frame        torch.save of FLAME's and the camera's parameters
    input/00000.png               the frame
    mesh/00000.ply, depth/00000.png (mm, 16 bits), canonical.obj

The head stays at FLAME's origin and the camera moves. PyTorch3D's camera has x to the left and y up, and multiplies
rows: ``x_p3d = x·R_p3d + t_p3d``. With P = diag(−1, −1, 1), ``R_p3d = (P·R)ᵀ`` and ``t_p3d = P·t``. Focal length and
principal point are in half the shorter side (its NDC): ``K[0, 0] = fl·s``, ``K[:2, 2] = (W, H)/2 − pp·s`` with
s = min(W, H)/2, pixels counted from the image's edge as ours are. Rotations are 6D, the first two rows.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from n2f_jax.mesh.writing import write_obj, write_ply
from n2f_jax.runtime.torch_file import write_torch_file
from n2f_jax.tracking.export_frame import ExportFrame, depth_map, names, save_png
from n2f_jax.tracking.flame_track import FlameTrack

_AXES = np.diag([-1.0, -1.0, 1.0])  # OpenCV's camera to PyTorch3D's
_NUM_TEXTURE = 140


class MetricalFolder:
    """Writes the folder; ``export_frame.ExportFolder``."""

    needs_matte = False

    def __init__(self, folder: Path, flame: FlameTrack, numbers: np.ndarray) -> None:
        self._folder, self._flame, self._numbers = folder, flame, numbers
        self._names = names(len(numbers))
        self._faces = np.asarray(flame.model.faces)
        for part in ("checkpoint", "input", "mesh", "depth"):
            (folder / part).mkdir(parents=True, exist_ok=True)

    def files(self, index: int) -> list[Path]:
        name = self._names[index]
        parts = (f"input/{name}.png", f"mesh/{name}.ply", f"depth/{name}.png", f"checkpoint/{name}.frame")
        return [self._folder / part for part in parts]

    def write(self, frame: ExportFrame) -> None:
        image, mesh, depth, checkpoint = self.files(frame.index)
        track = self._flame.track
        save_png(image, frame.image)
        write_ply(mesh, frame.flame.vertices, self._faces)
        size = frame.image.shape[:2]
        save_png(depth, depth_map(frame.flame, self._faces, np.asarray(track["intrinsics"]), size))
        write_torch_file(checkpoint, self._contents(frame))

    def finish(self) -> None:
        write_obj(self._folder / "canonical.obj", self._flame.canonical(), self._faces)

    def _contents(self, frame: ExportFrame) -> dict[str, Any]:
        flame, track = frame.flame, self._flame.track
        intrinsics = np.asarray(track["intrinsics"], np.float64)
        height, width = (int(n) for n in track["image_size"])
        scale = min(height, width) / 2
        row = lambda values: np.asarray(values, np.float32).reshape(1, -1)  # noqa: E731
        centre = np.array([width, height]) / 2
        return {
            "flame": {
                "exp": row(flame.expression),
                "shape": row(self._flame.shape),
                "tex": np.zeros((1, _NUM_TEXTURE), np.float32),
                "sh": np.zeros((1, 9, 3), np.float32),
                "eyes": row(rotation_6d(flame.eyes)),
                "eyelids": row(flame.eyelids),
                "jaw": row(rotation_6d(flame.jaw)),
            },
            "camera": {
                "R": row((_AXES @ flame.rotation).T[:2]),
                "t": row(_AXES @ flame.translation),
                "fl": np.array([[intrinsics[0, 0] / scale]], np.float32),
                "pp": row((centre - intrinsics[:2, 2]) / scale),
            },
            "opencv": {
                "R": flame.rotation[None].astype(np.float32),
                "t": row(flame.translation),
                "K": intrinsics[None].astype(np.float32),
            },
            "img_size": np.array([height, width], np.int64),
            "frame_id": self._names[frame.index],
            "global_step": 0,
            # Of ours, which other programs pass over.
            "n2f": {
                "frame": int(frame.number),
                "frames": len(track["seconds"]),
                "seconds": np.array(frame.seconds),
                "frame_rate": np.array(float(track["frame_rate"])),
            },
        }


def rotation_6d(axis_angle: np.ndarray) -> np.ndarray:
    """``(…, 3)`` to ``(…, 6)``, in float64."""
    flat = np.asarray(axis_angle, np.float64).reshape(-1, 3)
    return Rotation.from_rotvec(flat).as_matrix()[:, :2].reshape(*np.shape(axis_angle)[:-1], 6)
