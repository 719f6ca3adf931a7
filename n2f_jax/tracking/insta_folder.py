"""A track as INSTA's scripts prepare one from metrical-tracker's.

Seen in Zielon/INSTA at 9c17968 (``scripts/transforms.py``, ``instant-ngp/src/nerf_loader.cu``)::

    images/00000.png              RGBA, the matte as alpha
    meshes/00000.obj, flame/exp/00000.txt, depth/00000.png (mm, 16 bits), canonical.obj
    transforms.json, transforms_{train,val,test}.json

The head stays at FLAME's origin, and ``transform_matrix`` is the inverse of ``x_cam = R·x + t`` in OpenCV's axes;
pixels count from the image's edge. ``x_fov`` and ``y_fov`` are in degrees. Its ``seg_mask/`` is a face parser's, which
is not written; INSTA goes without where there is none. Its ``scripts/simplification.py`` changes the meshes' topology.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from n2f_jax.mesh.writing import write_obj
from n2f_jax.runtime.atomic_files import atomic_path
from n2f_jax.tracking.export_frame import ExportFrame, depth_map, names, save_png, write_transforms
from n2f_jax.tracking.flame_track import FlameTrack
from n2f_jax.tracking.vhap_folder import camera_fields

_TEST_SHARE, _MOST_TEST = 0.3, 350  # frames for testing: the last ones; INSTA's script takes 350
_VALIDATION = 20


class InstaFolder:
    """Writes the folder; ``export_frame.ExportFolder``."""

    needs_matte = True

    def __init__(self, folder: Path, flame: FlameTrack, numbers: np.ndarray) -> None:
        self._folder, self._flame, self._numbers = folder, flame, numbers
        self._names = names(len(numbers))
        self._faces = np.asarray(flame.model.faces)
        for part in ("images", "meshes", "flame/exp", "depth"):
            (folder / part).mkdir(parents=True, exist_ok=True)

    def files(self, index: int) -> list[Path]:
        name = self._names[index]
        parts = (f"images/{name}.png", f"depth/{name}.png", f"meshes/{name}.obj", f"flame/exp/{name}.txt")
        return [self._folder / part for part in parts]

    def write(self, frame: ExportFrame) -> None:
        image, depth, mesh, expression = self.files(frame.index)
        assert frame.matte is not None
        save_png(image, np.dstack([frame.image, frame.matte]))
        intrinsics = np.asarray(self._flame.track["intrinsics"])
        save_png(depth, depth_map(frame.flame, self._faces, intrinsics, frame.image.shape[:2]))
        write_obj(mesh, frame.flame.vertices, self._faces)
        with atomic_path(expression) as temporary:
            np.savetxt(temporary, frame.flame.expression, fmt="%.8f")

    def finish(self) -> None:
        write_obj(self._folder / "canonical.obj", self._flame.canonical(), self._faces)
        count = len(self._numbers)
        train = count - min(_MOST_TEST, math.floor(_TEST_SHARE * count))
        for part, chosen in (
            ("_train", range(train)),
            ("_test", range(train, count)),
            ("_val", range(max(0, count - _VALIDATION), count)),
            ("", range(count)),
        ):
            self._write_transforms(part, chosen)

    def _write_transforms(self, part: str, chosen: range) -> None:
        track = self._flame.track
        camera = camera_fields(np.asarray(track["intrinsics"]), track["image_size"])

        def frame(index: int) -> dict[str, Any]:
            number, name = int(self._numbers[index]), self._names[index]
            seen = np.eye(4)
            seen[:3, :3], seen[:3, 3] = track["rotation"][number], track["translation"][number]
            return {
                "transform_matrix": np.linalg.inv(seen).tolist(),
                "file_path": f"images/{name}.png",
                "mesh_path": f"meshes/{name}.obj",
                "exp_path": f"flame/exp/{name}.txt",
                "depth_path": f"depth/{name}.png",
                "seg_mask_path": f"seg_mask/{name}.png",
            }

        whole = {
            **camera,
            "x_fov": math.degrees(camera["camera_angle_x"]),
            "y_fov": math.degrees(camera["camera_angle_y"]),
            "integer_depth_scale": 0.001,
        }
        write_transforms(self._folder / f"transforms{part}.json", whole, map(frame, chosen))
