"""A track as VHAP exports one, which GaussianAvatars trains on.

Seen in ShenhanQian/VHAP at 4b64ab7 (``export_as_nerf_dataset.py``) and ShenhanQian/GaussianAvatars at 30cc4bd
(``scene/dataset_readers.py``, ``flame_model/flame.py``)::

    images/00000_00.png           the person before white        (frame, camera)
    fg_masks/00000_00.png         the matte, 8 bits
    flame_param/00000.npz         one frame of FLAME
    canonical_flame_param.npz     the person at rest with an open mouth
    transforms.json, transforms_{train,val,test}.json

The camera stands still and the head moves. World axes are OpenGL's camera's (y up, z to the viewer), the world's origin
is the mean of the heads' translations, and ``transform_matrix`` takes an OpenGL camera to it. With D = diag(1, −1, −1),
``x_world = D·x_cam − m``. FLAME turns about its root joint J, which moves with shape and expression:
``x_world = R_g(v − J) + J + τ``, so ``R_g = D·R`` and ``τ = D·t − m − J + R_g·J``. Pixels count from the image's edge.

FLAME has no lids there: expressions take over what they can of them (``flame_track.lids_as_expression``). What they
were is kept beside, in ``n2f_expression`` and ``n2f_eyelids``, which other programs pass over.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float, UInt8
from scipy.spatial.transform import Rotation

from n2f_jax.tracking.export_frame import (
    ExportFrame,
    names,
    over_white,
    save_npz,
    save_png,
    write_transforms,
)
from n2f_jax.tracking.flame_track import NUM_EXPRESSION, FlameFrame, FlameTrack, neck_rim

_AXES = np.diag([1.0, -1.0, -1.0])  # OpenCV's camera to OpenGL's, and back
_TEETH = 120  # vertices that VHAP and GaussianAvatars add behind FLAME's
_OPEN_MOUTH = 0.3  # radians, of their canonical parameters
_TRAIN_SHARE = 0.7  # of the frames, the first; the rest are for testing, as VHAP divides
_SOFT_NECK = 0.15  # of the neck's width, over which what is below it fades


class VhapFolder:
    """Writes the folder; ``export_frame.ExportFolder``. VHAP's own result (``tracked_flame_params_0.npz``) too."""

    needs_matte = True

    def __init__(self, folder: Path, flame: FlameTrack, numbers: np.ndarray) -> None:
        self._folder, self._flame, self._numbers = folder, flame, numbers
        self._names = names(len(numbers))
        self._rim = neck_rim(flame.model)
        # The heads' place, but for how the root joint turns, which is centimetres.
        self._origin = (np.asarray(flame.track["translation"], np.float64)[numbers] @ _AXES).mean(axis=0)
        for part in ("images", "fg_masks", "flame_param"):
            (folder / part).mkdir(parents=True, exist_ok=True)

    def files(self, index: int) -> list[Path]:
        name = self._names[index]
        parts = (f"images/{name}_00.png", f"fg_masks/{name}_00.png", f"flame_param/{name}.npz")
        return [self._folder / part for part in parts]

    def write(self, frame: ExportFrame) -> None:
        image, mask, params = self.files(frame.index)
        assert frame.matte is not None
        intrinsics = np.asarray(self._flame.track["intrinsics"])
        matte = above_neck(frame.matte, frame.flame, self._rim, intrinsics)
        save_png(mask, matte)
        save_png(image, over_white(frame.image, matte))
        save_npz(params, self._person() | self._params(frame.flame, self._origin))

    def finish(self) -> None:
        rest = {
            **self._person(),
            "translation": np.zeros((1, 3), np.float32),
            "rotation": np.zeros((1, 3), np.float32),
            "neck_pose": np.zeros((1, 3), np.float32),
            "jaw_pose": np.array([[_OPEN_MOUTH, 0, 0]], np.float32),
            "eyes_pose": np.zeros((1, 6), np.float32),
            "expr": np.zeros((1, NUM_EXPRESSION), np.float32),
        }
        save_npz(self._folder / "canonical_flame_param.npz", rest)
        self._write_tracked()
        count = len(self._numbers)
        train = math.ceil(_TRAIN_SHARE * count)
        # transforms.json last: it says that all is there.
        for part, chosen in (
            ("_train", range(train)),
            ("_val", range(0)),
            ("_test", range(train, count)),
            ("", range(count)),
        ):
            # VHAP's validation is of other cameras at the training's moments: there are none.
            moments = range(train) if part == "_val" else chosen
            cameras = [] if part == "_val" else [0]
            self._write_transforms(part, chosen, moments, cameras)

    def _write_transforms(self, part: str, chosen: range, moments: range, cameras: list[int]) -> None:
        track = self._flame.track
        camera = camera_fields(np.asarray(track["intrinsics"]), track["image_size"])
        placed = np.eye(4)
        placed[:3, 3] = -self._origin

        def frame(index: int) -> dict[str, Any]:
            number, name = int(self._numbers[index]), self._names[index]
            return {
                "timestep_index": index,
                "timestep_index_original": number,
                "timestep_id": name,
                "camera_index": 0,
                "camera_id": "0",
                **camera,
                "transform_matrix": placed.tolist(),
                "file_path": f"images/{name}_00.png",
                "fg_mask_path": f"fg_masks/{name}_00.png",
                "flame_param_path": f"flame_param/{name}.npz",
                "seconds": float(track["seconds"][number]),
            }

        whole = {
            **camera,
            "timestep_indices": list(moments),
            "camera_indices": cameras,
            "frame_rate": float(track["frame_rate"]),
            "frame_count": len(track["seconds"]),
        }
        write_transforms(self._folder / f"transforms{part}.json", whole, map(frame, chosen))

    def _params(self, flame: FlameFrame, origin: np.ndarray) -> dict[str, Any]:
        turn = _AXES @ flame.rotation
        moved = _AXES @ flame.translation - origin - flame.root_joint + turn @ flame.root_joint
        return {
            "translation": moved[None].astype(np.float32),
            "rotation": Rotation.from_matrix(turn).as_rotvec()[None].astype(np.float32),
            "neck_pose": np.zeros((1, 3), np.float32),
            "jaw_pose": flame.jaw[None],
            "eyes_pose": flame.eyes.reshape(1, 6),
            "expr": flame.expression_with_lids[None],
            "n2f_expression": flame.expression[None],
            "n2f_eyelids": flame.eyelids[None],
        }

    def _person(self) -> dict[str, Any]:
        offset = np.zeros((1, self._flame.model.num_vertices + _TEETH, 3), np.float32)
        return {"shape": self._flame.shape, "static_offset": offset}

    def _write_tracked(self) -> None:
        """What VHAP's tracker leaves: all frames in one file, seen by a camera at (0, 0, 1)."""
        track = self._flame.track
        height, width = (int(n) for n in track["image_size"])
        away = np.array([0.0, 0.0, -1.0])
        sizes = {
            "translation": 3,
            "rotation": 3,
            "neck_pose": 3,
            "jaw_pose": 3,
            "eyes_pose": 6,
            "expr": NUM_EXPRESSION,
        }
        rows = {key: np.zeros((len(self._numbers), size), np.float32) for key, size in sizes.items()}
        for index, number in enumerate(self._numbers):
            params = self._params(self._flame.frame(int(number), mesh=False), away)
            for key, values in rows.items():
                values[index] = params[key][0]
        focal = float(np.asarray(track["intrinsics"])[0, 0]) / max(height, width)
        save_npz(
            self._folder / "tracked_flame_params_0.npz",
            {
                **rows,
                **self._person(),
                "focal_length": np.array([focal], np.float32),
                "timestep_id": np.array(self._names),
                "n_processed_frames": np.array(len(self._numbers)),
                "image_size": np.array([height, width]),
            },
        )


def camera_fields(intrinsics: Float[np.ndarray, "3 3"], size: Any) -> dict[str, float]:
    """The camera as ``transforms.json`` has it: pixels and radians."""
    height, width = (int(n) for n in size)
    fl_x, fl_y = float(intrinsics[0, 0]), float(intrinsics[1, 1])
    return {
        "cx": float(intrinsics[0, 2]),
        "cy": float(intrinsics[1, 2]),
        "fl_x": fl_x,
        "fl_y": fl_y,
        "h": height,
        "w": width,
        "camera_angle_x": 2 * math.atan(width / (2 * fl_x)),
        "camera_angle_y": 2 * math.atan(height / (2 * fl_y)),
    }


def above_neck(
    matte: UInt8[np.ndarray, "H W"],
    flame: FlameFrame,
    rim: np.ndarray,
    intrinsics: Float[np.ndarray, "3 3"],
) -> UInt8[np.ndarray, "H W"]:
    """The matte without what lies below FLAME's neck, which has no surface to be bound to.

    The border is a line through the rim's foremost point, as steep as from its one side to the other.

    Args:
        matte: 0 … 255.
        flame: the frame.
        rim: ``neck_rim``.
        intrinsics: K.
    """
    if not len(rim):
        return matte
    chosen = np.concatenate([flame.vertices[rim], flame.vertices.mean(axis=0, keepdims=True)])
    in_camera = chosen @ flame.rotation.T + flame.translation
    if (in_camera[:, 2] <= 0.01).any():
        return matte
    pixels = in_camera @ intrinsics.T
    right, left, front, middle = pixels[:, :2] / pixels[:, 2:]
    along = left - right
    width = float(np.linalg.norm(along))
    if width < 1.0:
        return matte
    down = np.array([-along[1], along[0]]) / width
    down *= np.sign((front - middle) @ down) or 1.0
    rows, columns = (np.arange(n, dtype=np.float32) + 0.5 for n in matte.shape)
    below = ((columns - front[0]) * down[0])[None] + ((rows - front[1]) * down[1])[:, None]
    share = np.clip(0.5 - below / (_SOFT_NECK * width), 0.0, 1.0).astype(np.float32)
    return cv2.multiply(matte, share, dtype=cv2.CV_8U)
