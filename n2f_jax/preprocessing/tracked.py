"""What Pixel3DMM's tracker found, as pseudo ground truth beside the faces of the same images."""

from __future__ import annotations

import collections
import glob
from collections.abc import Callable
from pathlib import Path

import numpy as np
from tqdm import tqdm

from flame_jax import HeadModel
from n2f_jax.data.manifest import ManifestIndex, Record
from n2f_jax.data.preprocessed import StoredFace, StoredFaceError, face_path, read_face
from n2f_jax.data.pseudo_truth import PseudoTruth, truth_path, write_truth
from n2f_jax.frontends.files import FrontendFileError
from n2f_jax.frontends.pixel3dmm import COMMIT
from n2f_jax.frontends.pixel3dmm.folder import find_frame
from n2f_jax.frontends.pixel3dmm.tracking import TrackingError, camera_in_photo, read_frame, to_head
from n2f_jax.frontends.resample import Window
from n2f_jax.models.pretrained import HeadModelIdentity
from n2f_jax.preprocessing.inputs import in_shard
from n2f_jax.runtime.archives import is_whole_archive
from n2f_jax.runtime.display import printable
from n2f_jax.runtime.output_folder import stop_if_over


def write_tracked_truths(
    folder: str | Path,
    preprocessed_data: str | Path,
    tracking_output: str | Path,
    model: HeadModel,
    *,
    shard: tuple[int, int] = (0, 1),
    say: Callable[[str], None] = tqdm.write,
    progress: bool = True,
) -> collections.Counter[str]:
    """Writes ``.truth.npz`` for every face of a preprocessed folder that Pixel3DMM has tracked.

    Faces that have one already are left alone, so the same call resumes.

    Args:
        folder: preprocessed, from the images that Pixel3DMM was given or left in ``rgb/``.
        preprocessed_data: ``PIXEL3DMM_PREPROCESSED_DATA``, or one folder in it.
        tracking_output: ``PIXEL3DMM_TRACKING_OUTPUT``.
        model: the FLAME model that the tracker used, with its region masks.
        shard: (index, count) of this process, as in ``run``.
        say: called with a line for everything that goes wrong.
        progress: show a progress bar.

    Returns:
        How many were ``written``, were there ``before``, have ``no frame``, or are an ``error``.

    Raises:
        ManifestError: not a preprocessed folder.
        OutputError: nothing can be written any more; what is written stays.
        ValueError: the head model is not the tracker's (``tracking.to_head``).
    """
    folder, root, output = Path(folder), Path(preprocessed_data), Path(tracking_output)
    identity = HeadModelIdentity.of(model)
    counts: collections.Counter[str] = collections.Counter()
    index = ManifestIndex(folder)
    for record in tqdm(index, "tracked heads", len(index), unit="image", disable=not progress):
        if not record.faces or not in_shard(record.key, *shard):
            continue
        path = truth_path(folder, record.faces[0])  # Pixel3DMM looks at the largest face alone
        if is_whole_archive(path):
            counts["before"] += 1
            continue
        try:
            found = _find(record, root, output)
            if found is None:
                counts["no frame"] += 1
                continue
            face = read_face(face_path(folder, record.faces[0]))
            write_truth(path, truth_of_frame(*found, face, model, identity))
            counts["written"] += 1
        except (TrackingError, FrontendFileError, StoredFaceError, OSError) as error:
            if isinstance(error, OSError):
                stop_if_over(error, folder)
            counts["error"] += 1
            say(printable(f"{record.source}: {error}"))
    return counts


def truth_of_frame(
    frame: Path, window: Window, face: StoredFace, model: HeadModel, identity: HeadModelIdentity
) -> PseudoTruth:
    """One frame of the tracker, its camera carried to the stored crop.

    Args:
        frame: the ``.frame``.
        window: what the tracked image shows of the photograph.
        face: the stored face of the same photograph.
        model: the head model that the tracker used.
        identity: of that model.

    Raises:
        TrackingError: the file is damaged or no frame.
        ValueError: the head model is not the tracker's.
    """
    tracked = read_frame(frame)
    params, camera = to_head(tracked, model)
    camera = camera_in_photo(camera, tracked.size, window)
    scale = face.size / face.crop[2]
    centre = scale * (np.asarray(camera.principal_point, np.float64) - face.crop[:2])
    focal = scale * float(camera.focal)
    short = lambda values, count: np.pad(np.asarray(values), (0, count - len(values)))  # noqa: E731
    return PseudoTruth(
        # A tracker may have used fewer coefficients than the model has; the others are zero then.
        shape=short(params.shape, identity.num_shape),
        expression=short(params.expression, identity.num_expression),
        jaw=np.asarray(params.jaw),
        eyelids=np.asarray(params.eyelids),
        rotation=np.asarray(camera.rotation),
        translation=np.asarray(camera.translation),
        intrinsics=np.array([[focal, 0, centre[0]], [0, focal, centre[1]], [0, 0, 1]], np.float32),
        head_model=identity,
        method="Pixel3DMM's tracker",
        version=COMMIT,  # it numbers no releases
    )


def _find(record: Record, root: Path, output: Path) -> tuple[Path, Window] | None:
    """The frame that belongs to an image, and what it shows of it; None if it was not tracked."""
    try:
        data, name, is_crop = find_frame(root, Path(record.source))
    except FrontendFileError:
        return None
    height, width = record.image_size
    window = Window(0, 0, width, height) if is_crop else data.window(record.image_size)
    # The tracker adds its settings to the folder's name: NAME_nV1_noPho_uv2000.0_n1000.0.
    pattern = f"{glob.escape(data.path.name)}_nV*/checkpoint/{glob.escape(name)}.frame"
    frames = sorted(output.glob(pattern))
    if len(frames) > 1:
        listed = ", ".join(frame.parent.parent.name for frame in frames)
        raise TrackingError(f"it was tracked with several settings ({listed}): keep one of them in {output}")
    return (frames[0], window) if frames else None
