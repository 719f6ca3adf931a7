"""From photographs to heads: load once, then jit-compiled batches.

>>> reconstructor = Reconstructor.from_pretrained()
>>> (heads,) = reconstructor.reconstruct([image])  # image: (H, W, 3) uint8 RGB
>>> heads[0].vertices, heads[0].rotation, heads[0].intrinsics
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

import flame_jax
from flame_jax import FlameParams, HeadModel
from flame_jax.rotations import matrix_to_axis_angle, rotation_6d_to_matrix
from n2f_jax.face_mesh.coarse_mesh import NUM_POINTS
from n2f_jax.face_mesh.embedding import face_mesh_embedding
from n2f_jax.fitting.camera import align_camera, rotation_to_z
from n2f_jax.fitting.gauss_newton import fit_images, gauss_newton_steps
from n2f_jax.fitting.head_tables import HeadTables
from n2f_jax.fitting.observations import Anchors, Observation
from n2f_jax.frontends.base import Frontend, FrontendFace
from n2f_jax.frontends.registry import FrontendOptions, make_frontend
from n2f_jax.geometry import Camera, Crop
from n2f_jax.geometry.camera import project_points
from n2f_jax.geometry.focal import resolve_focal
from n2f_jax.models.input_channels import join_maps, maps_of
from n2f_jax.models.n2fnet import camera_from_output
from n2f_jax.models.pretrained import DEFAULT_CHECKPOINT, HeadModelIdentity, Pretrained, from_pretrained
from n2f_jax.reconstruction.head import Head

Alignment = Literal["network", "landmarks"]
ALIGNMENTS: tuple[Alignment, ...] = ("network", "landmarks")
DEFAULT_ALIGNMENT: Alignment = "landmarks"
# Gauss–Newton steps (docs/fitting.md). The free front end's normals are smooth: more steps fit what it does not see.
DEFAULT_REFINE, DEFAULT_REFINE_FACE_MESH = 12, 2
NUM_INNER = 51  # landmarks 17 … 67: they are places on the skin, the contour is not


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class BatchResult:
    """What the compiled stage gives for a batch of B crops. A pytree.

    Attributes:
        params: FLAME parameters.
        camera: of the crop; rotation and translation are also those of the original image.
        vertices: ``(B, V, 3)`` head frame, metres.
        landmarks: ``(B, 68, 3)`` head frame, with the contour that the camera sees.
    """

    params: FlameParams
    camera: Camera
    vertices: Float[Array, "B V 3"]
    landmarks: Float[Array, "B 68 3"]


class Reconstructor:
    """Normal maps, or photographs, to heads.

    Attributes:
        head_model: what the coefficients are decoded with.
        inputs: how the network's input is prepared.
    """

    def __init__(
        self,
        pretrained: Pretrained,
        head_model: HeadModel,
        frontend: Frontend | None = None,
        *,
        alignment: Alignment = DEFAULT_ALIGNMENT,
        refine: int | None = 0,
        batch_size: int = 8,
        name: str = "",
    ):
        """Use ``from_pretrained`` unless the parts are already at hand.

        Args:
            pretrained: the network with its input description.
            head_model: the head model it was trained for.
            frontend: photographs to normal maps; None if only ``from_maps`` is used.
            alignment: ``'network'``: the camera is the network's. ``'landmarks'``: its pose is then moved by
                Levenberg–Marquardt until the mesh's inner 51 landmarks, and the points of the face mesh where
                they are embedded in the head model, lie on the front end's.
            refine: so many Gauss–Newton steps at most from the network's answer, on the front end's normals and mask
                and, with ``alignment='landmarks'``, on its points (``n2f_jax.fitting.gauss_newton``). 0: none; None:
                2 for the face mesh's maps, 12 for others, where the network takes head-frame normals, else none.
            batch_size: faces per call of the compiled stage. Batches are padded to 1 or to this, so there are
                at most two compilations.
            name: of the checkpoint, for the record.

        Raises:
            HeadModelMismatch: the network was trained for another head model.
            ValueError: an unknown alignment, a batch size below 1, a head model without landmarks, or steps of
                refinement below 0 or on maps that are not head-frame normals.
        """
        from n2f_jax.models.pretrained import check_head_model

        if alignment not in ALIGNMENTS:
            raise ValueError(f"alignment is one of {', '.join(ALIGNMENTS)}, not {alignment!r}")
        if batch_size < 1:
            raise ValueError(f"a batch holds at least one face, not {batch_size}")
        if head_model.landmarks is None:
            raise ValueError(f"head model {head_model.name!r} has no landmark embedding")
        inputs = pretrained.inputs
        refinable = inputs.channels == "normals" and inputs.normal_frame == "head"
        if refine is None:
            smooth = getattr(frontend, "name", "") == "face_mesh"
            refine = (DEFAULT_REFINE_FACE_MESH if smooth else DEFAULT_REFINE) if refinable else 0
        if refine < 0:
            raise ValueError(f"refinement takes 0 or more steps, not {refine}")
        if refine and not refinable:
            raise ValueError(
                f"refinement needs head-frame normals; {name or 'the network'} takes {inputs.channels} in the "
                f"{inputs.normal_frame} frame: use refine=0"
            )
        check_head_model(pretrained.head_model, head_model, name or "the network")
        self.head_model = head_model
        self.inputs = inputs
        self.frontend = frontend
        self.alignment = alignment
        self.refine = refine
        self.batch_size = batch_size
        self.checkpoint = name
        self.checkpoint_sha256 = _parameters_sha256(pretrained)
        self.head_model_sha256 = _identity_sha256(pretrained.head_model)
        self._faces = np.asarray(head_model.faces)
        self._embedding = face_mesh_embedding(head_model)
        if refine:
            self._fit = (HeadTables.from_model(head_model), Anchors.photograph(head_model, self._embedding))
        self._graph, self._state = nnx.split(pretrained.network)

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path | None = None,
        head_model: HeadModel | str | Path | None = None,
        frontend: Frontend | str | None = "face_mesh",
        frontend_options: FrontendOptions | None = None,
        **options: Any,
    ) -> Reconstructor:
        """Loads a checkpoint, its head model and a front end.

        Args:
            path: a folder written by ``save_pretrained``; None for the checkpoint that ships.
            head_model: a model, the path of one (``.npz``), or None for the free one that ships.
            frontend: a front end, the name of one (``frontends.registry.FRONTENDS``), or None if only
                ``from_maps`` is used.
            frontend_options: files and limits of a named front end; size and crop are the checkpoint's.
            **options: ``alignment``, ``refine``, ``batch_size``.

        Raises:
            FileNotFoundError, PretrainedError, HeadModelError: a part is missing, broken or does not fit.
        """
        path = Path(path) if path is not None else DEFAULT_CHECKPOINT
        if head_model is None:
            head_model = flame_jax.load_open_head()
        elif not isinstance(head_model, HeadModel):
            head_model = flame_jax.load_head_model(head_model)
        pretrained = from_pretrained(path, head_model)
        if isinstance(frontend, str):
            frontend = _checkpoint_frontend(frontend, pretrained, frontend_options)
        return cls(pretrained, head_model, frontend, name=path.name, **options)

    def detect(self, image: np.ndarray, source: Path | None = None) -> list[FrontendFace]:
        """The front end on one ``(H, W, 3)`` uint8 RGB image: its faces, the largest first.

        Args:
            image: upright.
            source: its file, for a front end that looks up what was computed before.
        """
        return self.detect_all([image], [source])[0]

    def detect_all(
        self, images: Sequence[np.ndarray], sources: Sequence[Path | None] | None = None
    ) -> list[list[FrontendFace]]:
        """``detect`` for several images, which a front end with networks sees as one batch."""
        if self.frontend is None:
            raise ValueError("this reconstructor has no front end; use from_maps, or load one with it")
        found = self.frontend([np.asarray(image) for image in images], sources)
        return [sorted(faces, key=lambda face: -float(face.crop.side)) for faces in found]

    def reconstruct(
        self,
        images: Sequence[np.ndarray],
        focals: Sequence[float | None] | None = None,
        max_faces: int | None = None,
    ) -> list[list[Head]]:
        """Heads of every image, the largest first; an empty list where no face was found.

        Args:
            images: ``(H, W, 3)`` uint8 RGB, upright.
            focals: focal length of each in pixels; None for 1.2·max(H, W).
            max_faces: of each image; None for all.
        """
        focals = [None] * len(images) if focals is None else focals
        faces, owners = [], []
        for index, found in enumerate(self.detect_all(images)):
            found = found[:max_faces]
            faces += found
            owners += [index] * len(found)
        heads: list[list[Head]] = [[] for _ in images]
        sizes = [images[owner].shape[:2] for owner in owners]
        lengths = [resolve_focal(images[owner].shape[:2], focals[owner]) for owner in owners]
        for owner, head in zip(owners, self.from_faces(faces, sizes, lengths), strict=True):
            heads[owner].append(head)
        return heads

    def from_faces(
        self,
        faces: Sequence[FrontendFace],
        image_sizes: Sequence[tuple[int, int]],
        focals: Sequence[tuple[float, str]],
    ) -> list[Head]:
        """Heads from what a front end found.

        Args:
            faces: of any images.
            image_sizes: (height, width) of each face's image.
            focals: focal length in pixels of each face's image and where it came from (``resolve_focal``).
        """
        name = getattr(self.frontend, "name", "maps")
        heads = []
        for start in range(0, len(faces), self.batch_size):
            part = slice(start, start + self.batch_size)
            heads += self._batch(faces[part], image_sizes[part], focals[part], name)
        return heads

    def from_maps(
        self,
        normals: Float[np.ndarray, "B S S 3"],
        masks: Float[np.ndarray, "B S S"],
        crops: Sequence[Crop],
        image_sizes: Sequence[tuple[int, int]],
        focals: Sequence[float | None] | None = None,
        landmarks: Sequence[np.ndarray] | None = None,
    ) -> list[Head]:
        """Heads from precomputed normal maps.

        Args:
            normals: unit normals in the frame that the checkpoint wants (``inputs.normal_frame``).
            masks: 1 on the face.
            crops: the square of the original image that each map shows.
            image_sizes: (height, width) of each original image.
            focals: in original pixels; None for 1.2·max(H, W).
            landmarks: ``(68, 2)`` each, original pixels. Without them the camera is the network's.
        """
        count = len(normals)
        focals = [None] * count if focals is None else focals
        nowhere = np.full((68, 2), np.nan, np.float32)
        faces = [
            FrontendFace(
                normals=normals[i],
                mask=masks[i],
                crop=crops[i],
                landmarks_68=nowhere if landmarks is None else landmarks[i],
                score=float("nan"),
            )
            for i in range(count)
        ]
        lengths = [resolve_focal(size, focal) for size, focal in zip(image_sizes, focals, strict=True)]
        return self.from_faces(faces, image_sizes, lengths)

    def infer(
        self,
        normals: Float[Array, "B S S C"],
        masks: Float[Array, "B S S"],
        focal: Float[Array, "B"],
        principal_point: Float[Array, "B 2"],
        landmarks: Float[Array, "B 68 2"],
        points: Float[Array, "B 468 2"],
    ) -> BatchResult:
        """The compiled stage alone, on arrays of crops; compiled anew for each batch size.

        Args:
            normals: ``S = inputs.size``; or what ``inputs.channels`` names, in that order along the last axis.
            masks: 1 on the face.
            focal: of the crop's camera, crop pixels.
            principal_point: of the crop's camera, crop pixels.
            landmarks: crop pixels; NaN where there are none.
            points: the face mesh's points, crop pixels; NaN where there are none. With neither, or with
                ``alignment='network'``, the camera is the network's.
        """
        result = _infer(
            self._graph,
            self._state,
            self.head_model,
            self._embedding,
            normals,
            masks,
            focal,
            principal_point,
            landmarks,
            points,
            size=self.inputs.size,
            alignment=self.alignment,
        )
        if not self.refine:
            return result
        aligned = self.alignment == "landmarks"
        found = landmarks if self._embedding is None else jnp.concatenate([landmarks, points], axis=1)
        seen = Observation(normals, masks, found if aligned else jnp.full_like(found, jnp.nan))
        config = dataclasses.replace(gauss_newton_steps(self.refine), align=aligned)
        return _refine(self.head_model, *self._fit, seen, result, config=config)

    def _batch(self, faces, image_sizes, focals, frontend: str) -> list[Head]:
        count, size = len(faces), self.inputs.size
        padded = 1 if count == 1 else self.batch_size
        rows = [*range(count), *[0] * (padded - count)]  # padding repeats the first face

        normals, masks = _stack([faces[i].normals for i in rows]), _stack([faces[i].mask for i in rows])
        if normals.shape[1:] != (size, size, 3) or masks.shape[1:] != (size, size):
            raise ValueError(f"the network takes maps of {size} pixels, got {normals.shape} {masks.shape}")
        x0y0 = np.array([np.asarray(faces[i].crop.x0y0) for i in rows], np.float32)
        side = np.array([float(faces[i].crop.side) for i in rows], np.float32)
        centres = np.array([image_sizes[i][::-1] for i in rows], np.float32) / 2
        lengths = np.array([focals[i][0] for i in rows], np.float32)
        landmarks = [faces[i].landmarks_68 for i in rows]
        empty = np.full((NUM_POINTS, 3), np.nan, np.float32)
        points = [empty if faces[i].points_468 is None else faces[i].points_468 for i in rows]

        scale = size / side

        def to_crop(pixels: np.ndarray) -> jax.Array:
            return jnp.asarray(scale[:, None, None] * (pixels - x0y0[:, None]), jnp.float32)

        result = self.infer(
            self._network_maps([faces[i] for i in rows], normals),
            masks,
            jnp.asarray(scale * lengths),
            jnp.asarray(scale[:, None] * (centres - x0y0)),
            to_crop(np.stack(landmarks)),
            to_crop(np.stack(points)[..., :2]),
        )
        result, normals, masks = jax.device_get((result, normals, masks))
        jaw = np.asarray(matrix_to_axis_angle(rotation_6d_to_matrix(jnp.asarray(result.params.jaw))))

        heads = []
        for i in range(count):
            focal, source = focals[i]
            height, width = image_sizes[i]
            intrinsics = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]], np.float64)
            rotation, translation = result.camera.rotation[i], result.camera.translation[i]
            in_camera = result.landmarks[i].astype(np.float64) @ rotation.T + translation
            found = faces[i].points_468
            heads.append(
                Head(
                    vertices=result.vertices[i],
                    faces=self._faces,
                    rotation=rotation,
                    translation=translation,
                    intrinsics=intrinsics,
                    landmarks_2d=project_points(in_camera, intrinsics).astype(np.float32),
                    landmarks_3d=result.landmarks[i],
                    shape=result.params.shape[i],
                    expression=result.params.expression[i],
                    jaw_pose=jaw[i],
                    eyelids=result.params.eyelids[i],
                    head_model=self.head_model.name,
                    head_model_sha256=self.head_model_sha256,
                    focal_source=source,
                    alignment=self._alignment_of(landmarks[i]),
                    image_size=(int(height), int(width)),
                    crop=np.array([*x0y0[i], side[i]], np.float32),
                    input_normals=normals[i],
                    input_mask=masks[i],
                    frontend=frontend,
                    frontend_score=float(faces[i].score),
                    frontend_landmarks=np.asarray(landmarks[i], np.float32),
                    frontend_points=np.zeros((0, 3), np.float32) if found is None else np.asarray(found),
                    checkpoint=self.checkpoint,
                )
            )
        return heads

    def _network_maps(self, faces: Sequence[FrontendFace], normals: jax.Array) -> jax.Array:
        """What ``inputs.channels`` names, along the last axis."""
        maps = {"normals": normals}
        if "uv" in maps_of(self.inputs.channels):
            if any(face.uv is None for face in faces):
                raise ValueError(
                    f"the checkpoint wants {self.inputs.channels}, and the front end gives no UV: pixel3dmm does with "
                    "--pixel3dmm_uv, precomputed where Pixel3DMM's UV network has run"
                )
            maps["uv"] = _stack([face.uv for face in faces])
        return join_maps(maps, self.inputs.channels)

    def _alignment_of(self, landmarks: np.ndarray) -> Alignment:
        return self.alignment if np.isfinite(landmarks[-NUM_INNER:]).any() else "network"


def _stack(maps: list[np.ndarray | jax.Array]) -> jax.Array:
    """One batch on the device: maps that are there already do not pass through the host."""
    if all(isinstance(image, jax.Array) for image in maps):
        return jnp.stack(maps).astype(jnp.float32)
    return jnp.asarray(np.stack(maps).astype(np.float32))


@functools.partial(jax.jit, static_argnames=("graph", "size", "alignment"))
def _infer(
    graph,
    state,
    model,
    embedding,
    normals,
    masks,
    focal,
    principal_point,
    landmarks,
    points,
    *,
    size,
    alignment,
):
    network = nnx.merge(graph, state)
    output = network(normals, masks)
    params = output.flame_params()
    vertices, _ = flame_jax.decode(model, params)
    camera = camera_from_output(output, focal, principal_point, size)
    if alignment == "landmarks":
        anchors = flame_jax.landmarks68(model, vertices)[:, -NUM_INNER:]
        targets, weights = landmarks[:, -NUM_INNER:], jnp.full(NUM_INNER, 1 / NUM_INNER)
        if embedding is not None:
            count = points.shape[1]
            mesh = flame_jax.points_on_mesh(vertices, model.faces, *embedding)
            anchors, targets = jnp.concatenate([anchors, mesh], 1), jnp.concatenate([targets, points], 1)
            weights = jnp.concatenate([weights, jnp.full(count, 1 / count)])
        align = jax.vmap(align_camera, in_axes=(0, 0, 0, None))
        camera = align(anchors, targets, camera, weights)
    return seen_head(model, params, camera, vertices)


@functools.partial(jax.jit, static_argnames="config")
def _refine(model, tables, anchors, seen, start, *, config):
    params, camera, _ = fit_images(tables, anchors, seen, start.params, start.camera, config)
    return seen_head(model, params, camera)


def seen_head(
    model: HeadModel, params: FlameParams, camera: Camera, vertices: Float[Array, "B V 3"] | None = None
) -> BatchResult:
    """Heads with the landmarks that their cameras see; decodes them where that was not done yet."""
    if vertices is None:
        vertices, _ = flame_jax.decode(model, params)
    # The outline is that of the view along the ray to the head, which need not be the optical axis.
    seen = jax.vmap(rotation_to_z)(camera.translation) @ camera.rotation
    yaw = flame_jax.yaw_from_rotation(jnp.asarray([1.0, -1.0, -1.0])[None, :, None] * seen)
    return BatchResult(params, camera, vertices, flame_jax.landmarks68(model, vertices, yaw))


def _checkpoint_frontend(name: str, pretrained: Pretrained, options: FrontendOptions | None) -> Frontend:
    """The named front end, set up as a checkpoint's input description asks.

    Raises:
        ValueError: an unknown name, or a checkpoint whose input no front end gives.
    """
    inputs = pretrained.inputs
    if inputs.normal_frame != "head" or not inputs.masked:
        raise ValueError(
            "front ends give maps of the face in the head frame; the checkpoint wants them in the "
            f"{inputs.normal_frame} frame{'' if inputs.masked else ' without a mask'}"
        )
    options = dataclasses.replace(
        options or FrontendOptions(), size=inputs.size, crop_scale=inputs.crop_scale
    )
    return make_frontend(name, options)


def _parameters_sha256(pretrained: Pretrained) -> str:
    """Of the network's parameters as loaded: two checkpoints of one name are told apart."""
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(nnx.state(pretrained.network)):
        digest.update(np.ascontiguousarray(jax.device_get(leaf)).data)
    return digest.hexdigest()


def _identity_sha256(identity: HeadModelIdentity) -> str:
    """One hash over the hashes of a head model's arrays."""
    lines = "".join(f"{name} {identity.sha256[name]}\n" for name in sorted(identity.sha256))
    return hashlib.sha256(lines.encode()).hexdigest()
