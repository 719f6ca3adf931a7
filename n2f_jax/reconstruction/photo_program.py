"""From photographs of one size to heads in one compiled program: detection, landmarks, maps, network, refinement and
meshes, without leaving the device.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Float, UInt8

from n2f_jax.face_mesh.coarse_mesh import coarse_maps
from n2f_jax.frontends import Landmarks
from n2f_jax.frontends.blendshapes import OF_UNITS
from n2f_jax.frontends.device_faces import DeviceFaces, FoundFaces
from n2f_jax.frontends.device_landmarks import MeshedFaces
from n2f_jax.frontends.work_queue import for_each
from n2f_jax.geometry.crop import Crop, crop_intrinsics, landmark_crop, to_crop
from n2f_jax.geometry.focal import DEFAULT_FOCAL, FACE_DISTANCE, FACE_EXTENT
from n2f_jax.reconstruction.prediction import HeadStage, PredictedHeads, see_eyes

_AXIS = "data"


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class PhotoHeads:
    """What the program says of B photographs, each with room for F heads, the largest first.

    Attributes:
        found: the front end's faces.
        focal: ``(B,)`` pixels.
        crop: ``(B, F)``.
        normals: ``(B, F, S, S, 3)``.
        mask: ``(B, F, S, S)``.
        heads: ``(B, F, ...)``.
        wanted: ``(B, F)`` which of them there are.
    """

    found: FoundFaces
    focal: Float[Array, "B"]
    crop: Crop
    normals: Float[Array, "B F S S 3"]
    mask: Float[Array, "B F S S"]
    heads: PredictedHeads
    wanted: Bool[Array, "B F"]


class PhotoProgram:
    """The way of the face mesh front end's default settings, on the device.

    >>> program = PhotoProgram(reconstructor.stage, crop_scale=1.4, landmarks="v2")
    >>> answers = program.heads(program.weights, images, focals)  # compiled once per shape of the images

    Args:
        stage: from crops to heads (``Reconstructor.stage``).
        crop_scale: side of the crop over the longer side of the 68 landmarks' box.
        landmarks: of ``FaceMeshFrontend``.
        min_score: likewise.
        max_faces: F, heads of each photograph; those of more faces are unsettled.
        every_face: as ``FaceLandmarker``'s.
        devices: that share each batch; None for all of the default backend. One that does not divide evenly stays on
            the first.

    Attributes:
        weights: arguments of ``heads`` and ``apply``; on the device.
        heads: the compiled function: ``weights``, ``(B, H, W, 3)`` uint8 RGB, ``(B,)`` focal lengths in pixels (NaN
            where not given) to ``PhotoHeads``.

    Raises:
        AssetError, ImportError: the networks of the front end, or what reads them, are not there.
    """

    def __init__(
        self,
        stage: HeadStage,
        crop_scale: float,
        landmarks: Landmarks,
        min_score: float = 0.5,
        max_faces: int = 4,
        every_face: bool = True,
        devices: Sequence[jax.Device] | None = None,
    ):
        self._faces = DeviceFaces(landmarks, min_score, every_face)
        self._crop_scale, self.max_faces, self._every_face = crop_scale, max_faces, every_face
        self._devices = list(jax.devices() if devices is None else devices)
        self.weights: dict[str, Any] = jax.device_put({"faces": self._faces.weights, "stage": stage})
        self.heads = jax.jit(self._sharded)

    def _sharded(self, weights, images, focals) -> PhotoHeads:
        devices = self._devices
        if len(devices) == 1 or len(images) % len(devices):
            return self.apply(weights, images, focals)
        mesh = Mesh(np.array(devices), (_AXIS,))
        whole, split = PartitionSpec(), PartitionSpec(_AXIS)
        apply = jax.shard_map(
            self.apply, mesh=mesh, in_specs=(whole, split, split), out_specs=split, check_vma=False
        )
        images, focals = (
            jax.lax.with_sharding_constraint(x, NamedSharding(mesh, split)) for x in (images, focals)
        )
        return apply(weights, images, focals)

    def apply(
        self, weights: dict[str, Any], images: UInt8[Array, "B H W 3"], focals: Float[Array, "B"]
    ) -> PhotoHeads:
        """The same, to be traced, on one device.

        Args:
            weights: as ``weights``.
            images: upright RGB.
            focals: in pixels; NaN for one by the sizes of image and face (``geometry.focal``).
        """
        count, height, width, _ = images.shape
        found = self._faces.find(weights["faces"], images)
        places = self.max_faces
        crowded = found.valid[:, places:].any(axis=1) & self._every_face
        found = dataclasses.replace(found, settled=found.settled & ~crowded)
        faces, valid = jax.tree.map(lambda x: x[:, :places], (found.faces, found.valid))
        wanted = valid & found.settled[:, None]
        face_size = jax.vmap(MeshedFaces.size)(faces)[:, 0]  # the largest
        assumed = jnp.maximum(DEFAULT_FOCAL * max(height, width), face_size * (FACE_DISTANCE / FACE_EXTENT))
        focal = jnp.where(jnp.isfinite(focals), focals, assumed)
        stage = weights["stage"]
        items = jax.tree.map(
            lambda x: x.reshape(-1, *x.shape[2:]), (faces, jnp.repeat(focal[:, None], places, axis=1))
        )
        centre = jnp.array([[width / 2, height / 2]], jnp.float32)
        of_faces = functools.partial(self._of_faces, stage, centre)
        # Eight at once are as quick, face by face, as more.
        crop, normals, mask, heads = jax.tree.map(
            lambda x: x.reshape(count, places, *x.shape[1:]),
            for_each(of_faces, items, wanted.reshape(-1), min(count, 8)),
        )
        return PhotoHeads(found, focal, crop, normals, mask, heads, wanted)

    def _of_faces(self, stage: HeadStage, centre, item):
        """Crops, maps and heads of n faces."""
        faces, focal = item
        landmarks, size = faces.landmarks_68(), stage.size
        crop = landmark_crop(landmarks, self._crop_scale)
        depth = faces.points[..., 2:] * (size / crop.side)[:, None, None]
        points = jnp.concatenate([to_crop(faces.points[..., :2], crop, size), depth], axis=-1)
        normals, mask = jax.vmap(functools.partial(coarse_maps, size=size))(points)
        normals = stage.own_normals(normals)
        crop_focal, principal = crop_intrinsics(focal, jnp.broadcast_to(centre, (len(focal), 2)), crop, size)
        landmarks, scores = to_crop(landmarks, crop, size), faces.blendshapes[:, OF_UNITS]
        seen = landmarks, points, scores, faces.activations
        heads = stage(normals, mask, crop_focal, principal, *seen)
        return crop, normals, mask, see_eyes(stage.model, heads, faces.closure, faces.gaze)
