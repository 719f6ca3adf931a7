"""Small sets to fine-tune on that anyone can make: sampled heads as the free front end sees them, and free photographs.

They stand in for CelebA-HQ with pseudo ground truth and for 300W, in the same files, so that both stages of
fine-tuning run end to end without gated data. What is learnt from them is not what is learnt from those.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterator
from pathlib import Path

import cv2
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray
from PIL import Image
from tqdm import tqdm

import flame_jax
import n2f_jax
from flame_jax import FlameParams, HeadModel
from n2f_jax.data import degrade
from n2f_jax.data.manifest import ManifestIndex, ManifestWriter, Record
from n2f_jax.data.preprocessed import StoredFace, face_id, face_path, write_face
from n2f_jax.data.pseudo_truth import PseudoTruth, truth_path, write_truth
from n2f_jax.data.pts import write_pts
from n2f_jax.data.sampler import SyntheticConfig, coarse_points, sample_camera, sample_keys, sample_params
from n2f_jax.face_mesh.coarse_mesh import CoarseMesh, coarse_maps, load_coarse_mesh
from n2f_jax.frontends.registry import FrontendOptions, make_frontend
from n2f_jax.geometry.camera import Camera, intrinsics_matrix
from n2f_jax.geometry.crop import Crop, crop_camera, landmark_crop, to_crop
from n2f_jax.models.pretrained import HeadModelIdentity
from n2f_jax.runtime.atomic_files import atomic_path

# The "photograph" of a sampled head: a square about the face, as CelebA-HQ's are.
_PHOTO_SIZE = 512
_PHOTO_SCALE = 2.2
_BATCH = 16

# What the small stage-1 config samples, with the errors of the front end's points.
RENDERED = SyntheticConfig(closed_eyes_share=0.1, point_noise=0.008, point_z_scale=0.06)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ObservedHeads:
    """Sampled heads and what the free front end makes of them; B heads, maps of S pixels.

    Attributes:
        params: FLAME parameters.
        camera: of the stored crop.
        crop: of the photograph, its pixels.
        landmarks: ``(B, 68, 2)`` the front end's, pixels of the stored crop.
        points: ``(B, 468, 3)`` its mesh's, likewise, and depth in the same scale.
        normals, mask: ``(B, S, S, 3)`` and ``(B, S, S)``.
    """

    params: FlameParams
    camera: Camera
    crop: Crop
    landmarks: Float[Array, "B 68 2"]
    points: Float[Array, "B 468 3"]
    normals: Float[Array, "B S S 3"]
    mask: Float[Array, "B S S"]


@functools.partial(jax.jit, static_argnames=("config", "size", "crop_scale"))
def observe_heads(
    key: PRNGKeyArray,
    indices: Int[Array, " B"],
    model: HeadModel,
    mesh: CoarseMesh,
    *,
    config: SyntheticConfig,
    size: int,
    crop_scale: float,
) -> ObservedHeads:
    """Samples heads as training does, and makes of them what the free front end does.

    Unlike training's crop, which is cut on landmarks of the mesh, this one is cut on the front end's landmarks with
    all their errors, as it will be on a photograph.

    Args:
        key: of the set.
        indices: of the heads; head i is the same whatever else is drawn.
        model: the open head, in which the front end's points are embedded.
        mesh: the front end's mesh.
        config: the sampler's numbers (static).
        size: S (static).
        crop_scale: side of the stored crop over the longer side of the landmarks' box (static).
    """

    def observe(sample_key: PRNGKeyArray) -> ObservedHeads:
        params_key, camera_key, noise_key = jax.random.split(sample_key, 3)
        params = sample_params(params_key, model, config)
        camera = sample_camera(camera_key, config)
        vertices, _ = flame_jax.decode(model, params)
        points = coarse_points(mesh, model, vertices, camera)
        photo = landmark_crop(points[mesh.ibug68, :2], _PHOTO_SCALE)
        # The error of the points is in units of the network's crop.
        side = round(_PHOTO_SIZE * config.crop_scale / _PHOTO_SCALE)
        points = degrade.perturb_points(
            noise_key,
            _points_in_crop(points, photo, _PHOTO_SIZE),
            noise=config.point_noise,
            z_scale=config.point_z_scale,
            size=side,
        )
        landmarks = points[mesh.ibug68, :2]
        crop = landmark_crop(landmarks, crop_scale)
        points = _points_in_crop(points, crop, size)
        normals, mask = coarse_maps(points, size, mesh)
        return ObservedHeads(
            params=params,
            camera=crop_camera(crop_camera(camera, photo, _PHOTO_SIZE), crop, size),
            crop=crop,
            landmarks=to_crop(landmarks, crop, size),
            points=points,
            normals=normals,
            mask=mask,
        )

    return jax.vmap(observe)(sample_keys(key, indices))


def write_rendered_set(
    folder: str | Path,
    count: int,
    size: int,
    *,
    crop_scale: float = 1.4,
    margin: float = 1.25,
    seed: int = 0,
    config: SyntheticConfig = RENDERED,
    progress: bool = True,
) -> int:
    """A preprocessed folder of sampled open heads with their exact parameters as pseudo ground truth.

    Resumes; head i is the same however many there are.

    Args:
        folder: to fill.
        count: heads.
        size: of the network's input in pixels.
        crop_scale: side of the network's crop over the longer side of the landmarks' box.
        margin: side of what is stored over the network's crop.
        seed: of the set. Training and validation draw from other streams, so no head of theirs is in it.
        config: the sampler.
        progress: show a progress bar.

    Returns:
        How many were written now.

    Raises:
        OSError, ManifestError: the folder cannot be written, or another process writes it.
    """
    model, mesh = flame_jax.load_open_head(), load_coarse_mesh()
    identity = HeadModelIdentity.of(model)
    stored_size = size + 2 * round(0.5 * size * (margin - 1))
    key = jax.random.fold_in(jax.random.key(seed), _STREAM)
    mesh = jax.tree.map(jnp.asarray, mesh)
    with ManifestWriter(folder, "rendered") as manifest:
        index = ManifestIndex(folder)
        missing = [i for i in range(count) if index.find(_key(seed, i)) is None]
        for start in tqdm(range(0, len(missing), _BATCH), "heads", disable=not progress):
            part = missing[start : start + _BATCH]
            # Padded, so that there is one compilation.
            padded = jnp.asarray(part + [part[0]] * (_BATCH - len(part)), jnp.int32)
            observed = observe_heads(
                key,
                padded,
                model,
                mesh,
                config=config,
                size=stored_size,
                crop_scale=crop_scale * stored_size / size,
            )
            observed = jax.device_get((observed, intrinsics_matrix(observed.camera)))
            for row, number in enumerate(part):
                _write_head(folder, number, seed, jax.tree.map(lambda x, row=row: x[row], observed), identity)
                name = face_id(_key(seed, number))
                size_in_photo = (_PHOTO_SIZE, _PHOTO_SIZE)
                manifest.write(Record(_key(seed, number), "ok", faces=(name,), image_size=size_in_photo))
    return len(missing)


def write_photo_set(folder: str | Path, size: int, crop_scale: float = 1.4, progress: bool = True) -> Path:
    """Free photographs, varied, with the free front end's landmarks as ``.pts`` files beside them: a stand-in for 300W.

    Two photographs of two people, each mirrored, turned and squeezed: enough to run on, not to learn from. Preprocess
    the folder as any other.

    Args:
        folder: to fill with ``NAME_….png`` and ``.pts``.
        size, crop_scale: of the network; the front end is asked for them, though only its landmarks are kept.
        progress: show a progress bar.

    Returns:
        The folder.

    Raises:
        ImportError: scikit-image or Matplotlib is missing (extra ``demo``).
        AssetError: the front end's networks are not in the cache.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    frontend = make_frontend("face_mesh", FrontendOptions(size=size, crop_scale=crop_scale, max_faces=1))
    for name, image in tqdm(list(_varied_photographs()), "photographs", disable=not progress):
        if (folder / f"{name}.pts").exists():
            continue
        faces = frontend(image)
        if not faces:
            continue  # turned too far for it
        with atomic_path(folder / f"{name}.png") as temporary:
            Image.fromarray(image).save(temporary)
        write_pts(folder / f"{name}.pts", faces[0].landmarks_68)
    return folder


def free_photographs() -> dict[str, np.ndarray]:
    """Portraits in the public domain that installed packages hold: ``(H, W, 3)`` uint8 RGB by name.

    Raises:
        ImportError: scikit-image or Matplotlib is missing (extra ``demo``).
    """
    import matplotlib
    import skimage.data

    sample = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
    with Image.open(sample) as image:
        return {"eileen_collins": skimage.data.astronaut(), "grace_hopper": np.asarray(image.convert("RGB"))}


# No stream of training's or evaluation's keys.
_STREAM = 0x4F50454E


def _key(seed: int, number: int) -> str:
    return f"rendered-{seed}/{number:06d}"


def _write_head(
    folder: str | Path, number: int, seed: int, observed: tuple, identity: HeadModelIdentity
) -> None:
    head, intrinsics = observed
    name = face_id(_key(seed, number))
    write_face(
        face_path(folder, name),
        StoredFace(
            normals=head.normals,
            mask=head.mask,
            crop=np.array([*head.crop.x0y0, head.crop.side], np.float64),
            landmarks_68=head.landmarks,
            intrinsics=intrinsics.astype(np.float64),
            focal_source="sampled",
            image_size=(_PHOTO_SIZE, _PHOTO_SIZE),
            source="",
            score=1.0,
            provenance={"frontend": "face_mesh, of a sampled head", "version": n2f_jax.__version__},
        ),
    )
    write_truth(
        truth_path(folder, name),
        PseudoTruth(
            shape=head.params.shape,
            expression=head.params.expression,
            jaw=head.params.jaw,
            eyelids=head.params.eyelids,
            rotation=head.camera.rotation,
            translation=head.camera.translation,
            intrinsics=intrinsics,
            head_model=identity,
            method="sampled: exact",
            version=n2f_jax.__version__,
        ),
    )


def _points_in_crop(points: Float[Array, "n 3"], crop: Crop, size: int) -> Float[Array, "n 3"]:
    """Pixels of the crop; depth is scaled alike."""
    scale = size / crop.side
    return jnp.concatenate([to_crop(points[:, :2], crop, size), scale * points[:, 2:]], axis=1)


def _varied_photographs() -> Iterator[tuple[str, np.ndarray]]:
    """Each photograph mirrored or not, turned by up to 20°, and squeezed or stretched by 7 %."""
    for name, image in free_photographs().items():
        for side, picture in (("", image), ("_mirrored", image[:, ::-1])):
            for degrees in (-20, -10, 0, 10, 20):
                for width in (0.93, 1.0, 1.07):
                    label = f"{name}{side}_{degrees % 360:03d}_{round(100 * width)}"
                    yield label, _vary(np.ascontiguousarray(picture), degrees, width)


def _vary(image: np.ndarray, degrees: float, width: float) -> np.ndarray:
    """Turned about the image's centre, then ``width`` times as wide; what comes in at the border is mirrored."""
    height, old = image.shape[:2]
    new = round(old * width)
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    linear = np.array([[cos * new / old, sin * new / old], [-sin, cos]])
    # Between the image's edges; cv2 counts from the first pixel's centre.
    shift = np.array([new, height]) / 2 - linear @ (np.array([old, height]) / 2 - 0.5) - 0.5
    matrix = np.concatenate([linear, shift[:, None]], axis=1)
    return cv2.warpAffine(
        image, matrix, (new, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101
    )
