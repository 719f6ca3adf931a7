"""Faces that a front end found in any images, as one batch of arrays of a fixed size."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from n2f_jax.face_mesh.coarse_mesh import NUM_POINTS
from n2f_jax.frontends.base import FrontendFace
from n2f_jax.frontends.blendshapes import scores_of_units
from n2f_jax.frontends.face_landmarks import MeshedFace
from n2f_jax.geometry.crop import Crop, crop_intrinsics, to_crop
from n2f_jax.geometry.focal import Focal
from n2f_jax.models.input_channels import join_maps, maps_of
from n2f_jax.models.seen_shape import NUM_ACTIVATIONS


@dataclasses.dataclass(frozen=True)
class FaceBatch:
    """B crops, ready for the compiled stage.

    Attributes:
        normals: ``(B, S, S, 3)`` the front end's, in the network's frame.
        mask: ``(B, S, S)``.
        maps: ``(B, S, S, C)`` what the network is shown: the normals, UV, or both.
        crop: NumPy, of all faces.
        focal: ``(B,)`` of the crops' cameras, crop pixels.
        principal_point: ``(B, 2)`` of the crops' cameras, crop pixels.
        landmarks: ``(B, 68, 2)`` crop pixels; NaN where there are none.
        points: ``(B, 468, 3)`` crop pixels, and depth in the same scale, growing away from the camera; NaN where there
            are none.
        closure: ``(B, 2)`` of the eyes (``frontends.eyes.Eyes``); NaN where not known.
        gaze: ``(B, 3)`` likewise.
        scores: ``(B, 51)`` of ARKit's units; NaN where the front end gives none.
        activations: ``(B, 2, D)`` of the landmark network (``FrontendFace``); NaN where there are none.
    """

    normals: Float[Array, "B S S 3"]
    mask: Float[Array, "B S S"]
    maps: Float[Array, "B S S C"]
    crop: Crop
    focal: Float[Array, "B"]
    principal_point: Float[Array, "B 2"]
    landmarks: Float[Array, "B 68 2"]
    points: Float[Array, "B 468 3"]
    closure: Float[np.ndarray, "B 2"]
    gaze: Float[np.ndarray, "B 3"]
    scores: Float[np.ndarray, "B 51"]
    activations: Float[np.ndarray, "B 2 D"]

    @property
    def inputs(self) -> tuple[Array, ...]:
        """Arguments of ``Reconstructor.predict`` and ``answer``, in order."""
        cameras = self.focal, self.principal_point
        seen = jnp.asarray(self.scores), jnp.asarray(self.activations)
        return self.maps, self.mask, *cameras, self.landmarks, self.points, *seen

    @classmethod
    def of_faces(
        cls,
        faces: Sequence[FrontendFace],
        image_sizes: Sequence[tuple[int, int]],
        focals: Sequence[Focal],
        *,
        size: int,
        channels: str,
        padded_to: int,
        rotation: Float[Array, "3 3"] | None = None,
    ) -> FaceBatch:
        """Stacks the faces; the first is repeated until there are ``padded_to``.

        Args:
            faces: at least one.
            image_sizes: (height, width) of each face's image.
            focals: of each face's image.
            size: S, pixels.
            channels: of ``models.input_channels.CHANNELS``.
            padded_to: B.
            rotation: from the frame of the faces' normals to that of the batch's; None where they are one.

        Raises:
            ValueError: maps of another size, or no UV where ``channels`` asks for it.
        """
        rows = [*range(len(faces)), *[0] * (padded_to - len(faces))]
        faces = [faces[i] for i in rows]
        normals, mask = _stack([face.normals for face in faces]), _stack([face.mask for face in faces])
        if normals.shape[1:] != (size, size, 3) or mask.shape[1:] != (size, size):
            raise ValueError(f"the network takes maps of {size} pixels, got {normals.shape} {mask.shape}")
        if rotation is not None:
            normals = normals @ rotation.T
        crop = Crop(
            x0y0=np.array([np.asarray(face.crop.x0y0) for face in faces], np.float32),
            side=np.array([float(face.crop.side) for face in faces], np.float32),
        )
        centres = np.array([image_sizes[i][::-1] for i in rows], np.float32) / 2
        lengths = np.array([focals[i].pixels for i in rows], np.float32)
        focal, principal_point = crop_intrinsics(lengths, centres, crop, size)
        nowhere = np.full((NUM_POINTS, 3), np.nan, np.float32)
        points = np.stack([nowhere if face.points_468 is None else face.points_468 for face in faces])
        return cls(
            normals=normals,
            mask=mask,
            maps=_network_maps(faces, normals, channels),
            crop=crop,
            focal=jnp.asarray(focal),
            principal_point=jnp.asarray(principal_point),
            landmarks=_in_crop(np.stack([face.landmarks_68 for face in faces]), crop, size),
            points=_points_in_crop(points, crop, size),
            closure=_of_eyes(faces, "closure", 2),
            gaze=_of_eyes(faces, "gaze", 3),
            scores=np.stack([scores_of_units(face.blendshapes) for face in faces]),
            activations=np.stack([activations_of(face) for face in faces]),
        )


def activations_of(face: FrontendFace | MeshedFace) -> Float[np.ndarray, "2 D"]:
    """Of a face; NaN where there are none."""
    if face.activations is None:
        return np.full((2, NUM_ACTIVATIONS), np.nan, np.float32)
    return np.asarray(face.activations, np.float32)


def _in_crop(pixels: np.ndarray, crop: Crop, size: int) -> Float[Array, "B N 2"]:
    return to_crop(jnp.asarray(pixels, jnp.float32), crop, size)


def _points_in_crop(points: np.ndarray, crop: Crop, size: int) -> Float[Array, "B N 3"]:
    depth = points[..., 2:] * (size / np.asarray(crop.side, np.float32))[:, None, None]
    return jnp.concatenate([_in_crop(points[..., :2], crop, size), jnp.asarray(depth, jnp.float32)], axis=-1)


def _of_eyes(faces: Sequence[FrontendFace], name: str, count: int) -> Float[np.ndarray, "B K"]:
    """What the front ends saw of eyes, or NaN."""
    unknown = np.full(count, np.nan)
    return np.array(
        [unknown if face.eyes is None else getattr(face.eyes, name) for face in faces], np.float32
    )


def _network_maps(faces: Sequence[FrontendFace], normals: jax.Array, channels: str) -> jax.Array:
    """What ``channels`` names, along the last axis."""
    maps = {"normals": normals}
    if "uv" in maps_of(channels):
        if any(face.uv is None for face in faces):
            raise ValueError(
                f"the checkpoint wants {channels}, and the front end gives no UV: pixel3dmm does with "
                "--pixel3dmm-uv, precomputed where Pixel3DMM's UV network has run"
            )
        maps["uv"] = _stack([face.uv for face in faces])
    return join_maps(maps, channels)


def _stack(maps: list[np.ndarray | jax.Array]) -> jax.Array:
    """One batch on the device: maps that are there already do not pass through the host."""
    if all(isinstance(image, jax.Array) for image in maps):
        return jnp.stack(maps).astype(jnp.float32)
    return jnp.asarray(np.stack(maps).astype(np.float32))
