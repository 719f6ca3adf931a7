"""Reconstructed heads to rigs: what one command and one output format write."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import UInt8

from flame_jax import FlameParams, HeadModel
from flame_jax.rotations import axis_angle_to_rotation_6d
from n2f_jax.fitting.arkit import ArkitUnits
from n2f_jax.models.pretrained import HeadModelIdentity, identity_sha256
from n2f_jax.rig.camera import PhotoCamera, in_world
from n2f_jax.rig.projection import PhotoView
from n2f_jax.rig.rig import Rig
from n2f_jax.rig.texture import face_skin
from n2f_jax.rig.writing import write_rig

TARGETS = ("arkit", "expression", "both")


@dataclasses.dataclass(frozen=True)
class RigOptions:
    """What is in the file.

    Attributes:
        targets: of ``TARGETS``.
        camera: the photograph's camera at the world's origin, and the head where it was seen.
        texture_size: side, pixels.
    """

    targets: str = "arkit"
    camera: bool = False
    texture_size: int = 1024


@dataclasses.dataclass(frozen=True)
class RigReport:
    """What was written.

    Attributes:
        targets: how many.
        rms_mm, most_mm: distances of the rig's vertices from the decoder's, as photographed or over the track's frames.
        dropped_weight: the most that a vertex lost of its skinning weights.
        camera: what was written, or None.
    """

    targets: int
    rms_mm: float
    most_mm: float
    dropped_weight: float
    camera: PhotoCamera | None

    def lines(self) -> list[str]:
        """For the screen."""
        said = [
            f"{self.targets} morph targets; {self.rms_mm:.3f} mm from the decoder's head, at most {self.most_mm:.3f}"
        ]
        if self.dropped_weight > 1e-6:
            said.append(
                f"four joints a vertex: up to {100 * self.dropped_weight:.1f} % of a vertex's weights left out"
            )
        if self.camera is not None and max(map(abs, self.camera.off_centre)) > 0.5:
            u, v = self.camera.off_centre
            extras = self.camera.extras
            said.append(
                f"the principal point lies {u:+.1f}, {v:+.1f} pixels off the middle, which glTF's cameras cannot have: "
                f"in Blender set the lens's shift to {extras['shift_x']:.5f}, {extras['shift_y']:.5f}"
            )
        return said


def require_own(model: HeadModel, values: Mapping[str, Any], name: str) -> None:
    """Refuses a head or a track whose coefficients are another model's.

    Raises:
        ValueError: it is.
    """
    if values["head_model_sha256"] != identity_sha256(HeadModelIdentity.of(model)):
        raise ValueError(
            f"{name} is of the head model {values['head_model']!r}, whose arrays are not those of {model.name!r}: name "
            "its own by --head-model"
        )


def write_head_rig(
    path: str | Path,
    model: HeadModel,
    units: ArkitUnits | None,
    heads: Sequence[Mapping[str, Any]],
    images: Sequence[UInt8[np.ndarray, "H W 3"]],
    options: RigOptions,
) -> RigReport:
    """Writes the rig of the person of the first head.

    Args:
        path: ``.glb``.
        model: the heads' model.
        units: ARKit's on it (``reconstruction.arkit_files.units_of``); may be None for targets ``expression``.
        heads: of one person, by ``reconstruction.head_file.KEYS``.
        images: their photographs, in the same order; none for plain skin.
        options: what is in the file.

    Raises:
        ValueError: a photograph is not of the size that its head says, or numbers of heads and photographs differ.
        ImportError: pygltflib is not installed.
        OSError: it cannot be written.
    """
    if images and len(images) != len(heads):
        raise ValueError(f"{len(heads)} heads and {len(images)} photographs: one for each, in the same order")
    for head, image in zip(heads, images, strict=False):
        if tuple(image.shape[:2]) != tuple(int(side) for side in head["image_size"]):
            height, width = (int(side) for side in head["image_size"])
            raise ValueError(
                f"a photograph of {image.shape[1]} × {image.shape[0]} pixels, its head is of one of {width} × {height}"
            )
    first = heads[0]
    params = _params(first)
    own = np.asarray(first["expression"], np.float64)[None] if options.targets != "arkit" else None
    rig = Rig.of(
        model,
        first["shape"],
        units if options.targets != "expression" else None,
        own,
        (np.asarray(first["expression"], np.float64), np.asarray(first["eyelids"], np.float64)),
    )
    views = [
        PhotoView(image, head["vertices"], head["rotation"], head["translation"], head["intrinsics"])
        for head, image in zip(heads, images, strict=False)
    ]
    skin = face_skin(model, rig.vertices, views, options.texture_size)
    motion = in_world(first["rotation"][None], first["translation"][None])
    pose = rig.pose(params, motion, captured=True)
    rms, most = rig.error_mm(params, pose, motion)
    camera = None
    if options.camera:
        height, width = (int(side) for side in first["image_size"])
        camera = PhotoCamera(np.asarray(first["intrinsics"], np.float64), (height, width))
    about = {key: str(first[key]) for key in ("head_model", "head_model_sha256") if key in first}
    write_rig(
        path, rig, skin, pose if options.camera else None, camera=camera, extras={**about, "reach": rig.reach}
    )
    return RigReport(len(rig.targets.names), rms, most, rig.skeleton.dropped, camera)


def _params(head: Mapping[str, Any]) -> FlameParams:
    shape, expression, jaw, eyelids, eyes = (
        jnp.asarray(np.asarray(head[key])[None], jnp.float32)
        for key in ("shape", "expression", "jaw_pose", "eyelids", "eyes_pose")
    )
    params = FlameParams.resting(shape, expression, axis_angle_to_rotation_6d(jaw), eyelids)
    return dataclasses.replace(params, eyes=axis_angle_to_rotation_6d(eyes))
