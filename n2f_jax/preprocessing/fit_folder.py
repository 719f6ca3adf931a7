"""Pseudo ground truth for a folder of preprocessed faces: the network's predictions, refined, beside each face."""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

import n2f_jax
from flame_jax import landmarks68
from n2f_jax.data.face_views import View, face_view, landmark_square
from n2f_jax.data.manifest import ManifestIndex
from n2f_jax.data.preprocessed import StoredFace, StoredFaceError, face_path, list_faces, read_face
from n2f_jax.data.pseudo_truth import (
    SUFFIX,
    PseudoTruth,
    PseudoTruthError,
    read_truth,
    truth_path,
    write_truth,
)
from n2f_jax.face_mesh.coarse_mesh import NUM_POINTS
from n2f_jax.geometry.camera import project
from n2f_jax.metrics.map_errors import mean_normal_angle
from n2f_jax.models.pretrained import HeadModelIdentity
from n2f_jax.preprocessing.inputs import in_shard
from n2f_jax.reconstruction.prediction import NUM_INNER, PredictedHeads
from n2f_jax.reconstruction.reconstructor import Reconstructor
from n2f_jax.render import HeadTopology, render_head
from n2f_jax.runtime.archives import is_whole_archive
from n2f_jax.runtime.display import printable
from n2f_jax.runtime.output_folder import stop_if_over

NO_LANDMARKS = "no landmarks"


def fit_folder(
    folder: str | Path,
    reconstructor: Reconstructor,
    *,
    shard: tuple[int, int] = (0, 1),
    say: Callable[[str], None] = tqdm.write,
    progress: bool = True,
) -> collections.Counter[str]:
    """Writes ``.truth.npz`` for every face of a preprocessed folder that has none.

    Faces are shown as training shows them, the box of the front end's landmarks at the network's size. The camera is
    that of the stored crop with its own intrinsics. ``errors`` of each file: ``landmarks_px``, mean distance of the
    inner 51 landmarks in pixels of the stored crop, and ``normals_deg``, mean angle from the stored normals.

    Args:
        folder: preprocessed (``scripts/preprocess.py``).
        reconstructor: its ``refine`` is the number of steps, its ``batch_size`` how many faces are fitted at once.
        shard: (index, count): this process does the images of one of ``count`` parts, as in preprocessing.
        say: called with a line for everything that goes wrong.
        progress: show a progress bar.

    Returns:
        How many were ``written``, were there ``before``, have ``no landmarks``, or are an ``error``.

    Raises:
        ManifestError: not a preprocessed folder.
        PseudoTruthError: faces have files of another head model.
        OutputError: nothing can be written any more; what is written stays.
    """
    folder = Path(folder)
    tell: Callable[[str], None] = lambda line: say(printable(line))  # noqa: E731
    list_faces(folder)  # raises where there are none to be expected
    index = ManifestIndex(folder)
    names = [name for record in index if in_shard(record.key, *shard) for name in record.faces]
    topology = HeadTopology.from_model(reconstructor.head_model)
    identity = HeadModelIdentity.of(reconstructor.head_model)
    counts: collections.Counter[str] = collections.Counter()
    with tqdm(total=len(names), desc="fitting", unit="face", disable=not progress) as bar:
        for batch in _batches(
            _faces(folder, names, reconstructor, identity, counts, tell, bar), reconstructor.batch_size
        ):
            for path, truth in _fit(batch, folder, reconstructor, topology, identity):
                try:
                    write_truth(path, truth)
                    counts["written"] += 1
                except (ValueError, OSError) as error:
                    if isinstance(error, OSError):
                        stop_if_over(error, folder)
                    counts["error"] += 1
                    tell(f"{path}: {error}")
                bar.update()
    return counts


def _faces(
    folder, names, reconstructor, identity, counts, say, bar
) -> Iterator[tuple[str, StoredFace, View, float]]:
    """What is to be done: id, face, what the network is shown, and the side of that in stored pixels."""
    for name in names:
        if is_whole_archive(truth_path(folder, name)):
            _check_model(truth_path(folder, name), identity)
            counts["before"] += 1
            bar.update()
            continue
        try:
            face = read_face(face_path(folder, name))
        except StoredFaceError as error:
            counts["error"] += 1
            say(str(error))
            bar.update()
            continue
        if not np.isfinite(face.landmarks_68).all():
            counts[NO_LANDMARKS] += 1
            bar.update()
            continue
        square = landmark_square(face.landmarks_68, reconstructor.inputs.crop_scale)
        view = face_view(face, square, reconstructor.inputs.size, reconstructor.map_rotations)
        yield name, face, view, float(square[2])


def _check_model(path: Path, identity: HeadModelIdentity) -> None:
    """Refuses what was fitted with another head model; damaged files are left to their readers."""
    try:
        there = read_truth(path).head_model
    except PseudoTruthError:
        return
    if there.differences(identity):
        raise PseudoTruthError(
            f"{path} was fitted with the head model {there.name!r}, not {identity.name!r}: remove the folder's "
            f"*{SUFFIX}, or fit a copy of the folder"
        )


def _batches(items: Iterator, size: int) -> Iterator[list]:
    batch = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _fit(batch, folder, reconstructor, topology, identity) -> Iterator[tuple[Path, PseudoTruth]]:
    count, size = len(batch), reconstructor.inputs.size
    padded = [*batch, *[batch[0]] * (reconstructor.batch_size - count)]
    views = {
        key: jnp.asarray(np.stack([view[key] for _, _, view, _ in padded]))
        for key in ("normals", "mask", "focal", "principal_point", "landmarks_2d")
    }
    nowhere = jnp.asarray(np.full((len(padded), NUM_POINTS, 3), np.nan, np.float32))
    result = reconstructor.predict(*views.values(), nowhere)
    # Of another head model, whose frame may be another.
    normals = views["normals"]
    if reconstructor.normals_rotation is not None:
        normals = normals @ reconstructor.normals_rotation.T
    errors = jax.device_get(
        _errors(reconstructor.head_model, topology, normals, views["mask"], views["landmarks_2d"], result)
    )
    result = jax.device_get(result)
    for i, (name, face, _, side) in enumerate(batch):
        own = {key: float(value[i]) for key, value in errors.items()}
        own["landmarks_px"] *= side / size
        yield (
            truth_path(folder, name),
            PseudoTruth(
                shape=result.params.shape[i],
                expression=result.params.expression[i],
                jaw=result.params.jaw[i],
                eyelids=result.params.eyelids[i],
                rotation=result.camera.rotation[i],
                translation=result.camera.translation[i],
                intrinsics=face.intrinsics.astype(np.float32),
                head_model=identity,
                method=f"{reconstructor.checkpoint}, {reconstructor.refine} Gauss–Newton steps",
                version=n2f_jax.__version__,
                errors=own,
            ),
        )


@jax.jit
def _errors(model, topology, normals, mask, landmarks, result: PredictedHeads):
    size = mask.shape[-1]
    found = project(landmarks68(model, result.vertices), result.camera)
    off = jnp.linalg.norm((found - landmarks)[:, -NUM_INNER:], axis=-1)
    maps = render_head(topology, result.vertices, result.camera, size)
    return {
        "landmarks_px": off.mean(axis=-1),
        "normals_deg": mean_normal_angle(maps.normals, maps.mask, normals, mask, if_apart=0.0),
    }
