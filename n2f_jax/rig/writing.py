"""A rig as binary glTF 2.0."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from scipy.spatial.transform import Rotation

from n2f_jax.mesh.colors import srgb_to_linear
from n2f_jax.mesh.normals import vertex_normals
from n2f_jax.mesh.writing import split_seams
from n2f_jax.rig.camera import PhotoCamera
from n2f_jax.rig.gltf import TRIANGLES, VERTICES, GltfWriter, pygltflib
from n2f_jax.rig.rig import Pose, Rig

_NEAR = 0.01  # metres, as our renderer's
_LEAST_NORMAL = 1e-5  # a change of a normal below this is none
# Nodes' translations that move by less than this, metres, are not animated.
_LEAST_MOTION = 1e-8


@dataclasses.dataclass(frozen=True)
class Animation:
    """Poses at moments; T frames.

    Attributes:
        seconds: ``(T,)`` rising, from 0 or later.
        pose: at each.
        name: of the animation.
    """

    seconds: Float[np.ndarray, " T"]
    pose: Pose
    name: str


@dataclasses.dataclass(frozen=True)
class Skin:
    """How the head is coloured.

    Attributes:
        image: an image file of the texture, PNG or JPEG; None where there is none.
        mime: ``image/png`` or ``image/jpeg``.
        colors: ``(V, 3)`` sRGB of the vertices, taken where there is no image.
    """

    image: bytes | None = None
    mime: str = "image/png"
    colors: UInt8[np.ndarray, "V 3"] | None = None


def write_rig(
    path: str | Path,
    rig: Rig,
    skin: Skin,
    pose: Pose | None = None,
    animation: Animation | None = None,
    camera: PhotoCamera | None = None,
    extras: Mapping[str, Any] | None = None,
) -> None:
    """Writes one skinned mesh ``head`` with its joints, targets and material.

    The mesh's first V vertices are the head model's in their order; those on seams of the texture follow again.

    Args:
        path: the file.
        rig: the person.
        skin: texture or colours.
        pose: one pose in which the file opens; None for the bind pose, or the animation's first.
        animation: of the joints' nodes and the targets' weights.
        camera: at the world's origin, node ``camera``.
        extras: for the asset: what the head was made from.

    Raises:
        ImportError: pygltflib is not installed.
        OSError: it cannot be written.
    """
    gltf = pygltflib()
    writer = GltfWriter()
    document = writer.document
    if extras:
        document.asset.extras = dict(extras)
    if pose is None:
        pose = rig.at_rest() if animation is None else _first(animation.pose)

    names, parents = rig.skeleton.names, rig.skeleton.parents
    document.nodes.append(gltf.Node(name="head", mesh=0, skin=0))
    for joint, name in enumerate(names):
        node = gltf.Node(
            name=name,
            translation=[float(x) for x in pose.translations[0, joint]],
            rotation=[
                float(x) for x in Rotation.from_matrix(pose.rotations[0, joint]).as_quat(canonical=True)
            ],
            children=[1 + child for child, parent in enumerate(parents) if parent == joint],
        )
        document.nodes.append(node)
    scene = [0, *(1 + joint for joint, parent in enumerate(parents) if parent < 0)]
    _write_mesh(writer, rig, skin, pose)
    bind = np.tile(np.eye(4, dtype=np.float32), (len(names), 1, 1))
    bind[:, :3, 3] = -rig.skeleton.joints
    document.skins.append(
        gltf.Skin(
            name="head",
            joints=[1 + joint for joint in range(len(names))],
            skeleton=1,
            inverseBindMatrices=writer.accessor(bind),
        )
    )
    if camera is not None:
        lens = gltf.Perspective(yfov=camera.yfov, aspectRatio=camera.aspect, znear=_NEAR)
        document.cameras.append(
            gltf.Camera(type="perspective", perspective=lens, name="camera", extras=camera.extras)
        )
        document.nodes.append(gltf.Node(name="camera", camera=0))
        scene.append(len(document.nodes) - 1)
    document.scenes.append(gltf.Scene(nodes=scene, name="head"))
    if animation is not None:
        _write_animation(writer, animation)
    writer.save(path)


def _first(pose: Pose) -> Pose:
    return Pose(pose.rotations[:1], pose.translations[:1], pose.weights[:1])


def _write_mesh(writer: GltfWriter, rig: Rig, skin: Skin, pose: Pose) -> None:
    gltf, document = pygltflib(), writer.document
    faces = np.asarray(rig.model.faces)
    attributes = gltf.Attributes()
    has_uv = rig.model.uv.shape[0] > 0
    if has_uv:
        split, vertex_of, uv_of = split_seams(faces, np.asarray(rig.model.uv_faces), len(rig.vertices))
        texture = np.asarray(rig.model.uv, np.float32)[uv_of]
        # glTF counts v downwards.
        attributes.TEXCOORD_0 = writer.accessor(
            np.stack([texture[:, 0], 1.0 - texture[:, 1]], axis=1).astype(np.float32), VERTICES
        )
    else:
        split, vertex_of = faces, np.arange(len(rig.vertices))

    def rows(values: np.ndarray, dtype: type = np.float32) -> np.ndarray:
        return np.ascontiguousarray(values[vertex_of], dtype)

    normals = vertex_normals(rig.vertices, faces)
    lone = ~normals.any(axis=1)  # without a triangle; glTF allows no zeros
    attributes.POSITION = writer.accessor(rows(rig.vertices), VERTICES, bounds=True)
    attributes.NORMAL = writer.accessor(rows(np.where(lone[:, None], [0.0, 0.0, 1.0], normals)), VERTICES)
    attributes.JOINTS_0 = writer.accessor(rows(rig.skeleton.influences, np.uint8), VERTICES)
    attributes.WEIGHTS_0 = writer.accessor(rows(rig.skeleton.weights), VERTICES)
    material = gltf.PbrMetallicRoughness(
        baseColorFactor=[1.0, 1.0, 1.0, 1.0], metallicFactor=0.0, roughnessFactor=0.7
    )
    if skin.image is not None and has_uv:
        texture_index = writer.texture(skin.image, skin.mime, "skin")
        material.baseColorTexture = gltf.TextureInfo(index=texture_index, texCoord=0)
    elif skin.colors is not None:
        linear = srgb_to_linear(skin.colors)  # as glTF's vertex colours are
        rgba = np.concatenate([linear, np.ones((len(linear), 1))], axis=1)
        attributes.COLOR_0 = writer.accessor(rows(rgba), VERTICES)
    document.materials.append(gltf.Material(name="skin", pbrMetallicRoughness=material))

    targets = []
    for offset in rig.targets.offsets:
        change = (
            vertex_normals(rig.vertices + offset, faces) - normals if offset.any() else np.zeros_like(normals)
        )
        change[np.abs(change) < _LEAST_NORMAL] = 0.0
        targets.append(
            gltf.Attributes(
                POSITION=writer.accessor(rows(offset), VERTICES, bounds=True),
                NORMAL=writer.accessor(rows(change), VERTICES),
            )
        )
    primitive = gltf.Primitive(
        attributes=attributes,
        indices=writer.accessor(_indices(split, len(vertex_of)), TRIANGLES),
        material=0,
        mode=4,
        targets=targets,
    )
    document.meshes.append(
        gltf.Mesh(
            name="head",
            primitives=[primitive],
            weights=[float(x) for x in pose.weights[0]],
            # Not in the standard, but where all programs look for them.
            extras={"targetNames": list(rig.targets.names)},
        )
    )


def _indices(faces: np.ndarray, count: int) -> np.ndarray:
    return np.ascontiguousarray(faces.reshape(-1), np.uint16 if count < 65535 else np.uint32)


def _write_animation(writer: GltfWriter, animation: Animation) -> None:
    gltf, pose = pygltflib(), animation.pose
    times = writer.accessor(np.asarray(animation.seconds, np.float32), bounds=True)
    made = gltf.Animation(name=animation.name)

    def channel(node: int, path: str, values: np.ndarray) -> None:
        output = writer.accessor(np.ascontiguousarray(values, np.float32))
        made.samplers.append(gltf.AnimationSampler(input=times, output=output, interpolation="LINEAR"))
        made.channels.append(
            gltf.AnimationChannel(
                sampler=len(made.samplers) - 1, target=gltf.AnimationChannelTarget(node=node, path=path)
            )
        )

    for joint in range(pose.rotations.shape[1]):
        turns, places = pose.rotations[:, joint], pose.translations[:, joint]
        if joint == 0 or np.abs(turns - np.eye(3)).max() > 1e-9:
            channel(1 + joint, "rotation", _steady(Rotation.from_matrix(turns).as_quat()))
        if joint == 0 or np.ptp(places, axis=0).max() > _LEAST_MOTION:
            channel(1 + joint, "translation", places)
    channel(0, "weights", pose.weights.reshape(-1))
    writer.document.animations.append(made)


def _steady(quaternions: Float[np.ndarray, "T 4"]) -> Float[np.ndarray, "T 4"]:
    """Each on its predecessor's side, so that players take the shorter way between them."""
    turned = (quaternions[1:] * quaternions[:-1]).sum(axis=1) < 0.0
    return quaternions * np.concatenate([[1.0], np.where(np.cumsum(turned) % 2 == 1, -1.0, 1.0)])[:, None]
