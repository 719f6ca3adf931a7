"""One photograph that somebody dropped, to pictures and files: what stands behind the page, and behind the notebook."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import tempfile
import threading
from collections import deque
from pathlib import Path

from PIL import Image

from n2f_jax.data.images import ImageError, read_image
from n2f_jax.geometry.focal import FocalHints
from n2f_jax.reconstruction import arkit_files
from n2f_jax.reconstruction.head import Head
from n2f_jax.reconstruction.output_files import OutputFiles
from n2f_jax.reconstruction.reconstructor import Reconstructor

MAX_BYTES = 32 << 20  # of a photograph's file
MAX_PIXELS = 64_000_000
MAX_FACES = 4  # of a photograph, the largest
KEPT = 20  # answers whose files stay; those of the oldest go
_STEM = "head"
_FORMATS = ("npz", "glb", "obj")


class PhotoError(ValueError):
    """A photograph that gives no head; one line for the person who dropped it."""


@dataclasses.dataclass(frozen=True)
class PhotoAnswer:
    """What a photograph gave.

    Attributes:
        heads: largest face first.
        overlay: picture of the photograph with the meshes on it.
        picture: photograph, input normals, mesh and rendered normals of the first head, side by side.
        mesh: ``.glb`` of the first head.
        files: to download: ``.npz``, ``.glb`` and ``.obj`` of every head, ARKit's weights of all (``.csv``).
        text: what to know of it, in Markdown.
    """

    heads: list[Head]
    overlay: Path
    picture: Path
    mesh: Path
    files: list[Path]
    text: str


class PhotoAnswers:
    """Answers photographs one after the other; files lie in a folder of its own, which ends with it.

    Args:
        reconstructor: with a front end.
        head_model: file of its head model, beside which correspondences are kept; None for the open head.
    """

    def __init__(self, reconstructor: Reconstructor, head_model: Path | None = None):
        self._reconstructor = reconstructor
        self._head_model = head_model
        self._folder = tempfile.TemporaryDirectory(prefix="n2f-app-")
        self._answers: deque[Path] = deque()
        self._lock = threading.Lock()
        self._units = None

    def close(self) -> None:
        self._folder.cleanup()

    def __call__(self, photo: str | Path | None) -> PhotoAnswer:
        """Reads a photograph and writes what it gives.

        Raises:
            PhotoError: no file, too large, no image, or no face in it.
        """
        if photo is None:
            raise PhotoError("Drop a photograph first.")
        path = Path(photo)
        _check_size(path)
        try:
            image, info = read_image(path)
        except ImageError as error:
            # Not the whole path: it is the server's, and says nothing to who dropped the file.
            reason = str(error).removeprefix(f"{path}: ")
            raise PhotoError(f"{path.name} cannot be read: {reason}") from error
        _check_pixels(*image.shape[1::-1])
        with self._lock:
            hints = FocalHints(exif=info.focal)
            heads = self._reconstructor.reconstruct([image], [hints], max_faces=MAX_FACES)[0]
            if not heads:
                raise PhotoError(
                    "No face was found. A face is found best where it is large, upright, and seen from the front."
                )
            return self._write(path.name, image, heads)

    def _write(self, source: str, image, heads: list[Head]) -> PhotoAnswer:
        folder = self._new_folder()
        model = self._reconstructor.head_model
        frame = self._reconstructor.inputs.normal_frame
        output = OutputFiles(folder, model, _FORMATS, picture=True, normal_frame=frame)
        files: list[Path] = []
        stems = [_STEM if i == 0 else f"{_STEM}_face{i + 1}" for i in range(len(heads))]
        written = [
            output.write_head(stem, source, image, head) for stem, head in zip(stems, heads, strict=True)
        ]
        files = [folder / one[kind] for one in written for kind in _FORMATS]
        overlay = folder / output.write_overlay(_STEM, image, heads)
        files.append(self._write_arkit(folder / f"{_STEM}_arkit.csv", stems, heads))
        return PhotoAnswer(
            heads, overlay, folder / written[0]["picture"], folder / written[0]["glb"], files, describe(heads)
        )

    def _write_arkit(self, path: Path, names: list[str], heads: list[Head]) -> Path:
        if self._units is None:
            self._units = arkit_files.units_of(
                self._reconstructor.head_model, self._head_model, lambda text: None
            )
        keys = ("shape", "expression", "jaw_pose", "eyelids", "eyes_pose")
        weights, left = arkit_files.heads_to_weights(
            self._units, [{key: getattr(head, key) for key in keys} for head in heads]
        )
        arkit_files.write_weights(path, names, weights, left)
        return path

    def _new_folder(self) -> Path:
        folder = Path(tempfile.mkdtemp(dir=self._folder.name))
        self._answers.append(folder)
        while len(self._answers) > KEPT:
            shutil.rmtree(self._answers.popleft(), ignore_errors=True)
        return folder


def describe(heads: list[Head]) -> str:
    """Pose, distance and confidence of the largest face in a few words, and what to be wary of."""
    head = heads[0]
    pitch, yaw, roll = head.angles()
    lines = [
        f"Pitch {pitch:+.0f}°, yaw {yaw:+.0f}°, roll {roll:+.0f}°; {head.translation[2]:.2f} m away "
        f"at a focal length of {head.intrinsics[0, 0]:.0f} pixels ({head.focal_source})."
    ]
    if len(heads) > 1:
        lines.insert(0, f"{len(heads)} faces; the largest is shown, the files have all.")
    if head.is_doubtful:
        lines.append(
            f"**Doubtful**: confidence {head.confidence:.2f}. Is it a face, and is nothing before it?"
        )
    elif head.confidence == head.confidence:  # not NaN
        lines.append(f"Confidence {head.confidence:.2f}.")
    return "  \n".join(lines)


def _check_size(path: Path) -> None:
    try:
        size = path.stat().st_size
    except OSError as error:
        raise PhotoError(f"{path.name} cannot be read: {error.strerror}") from error
    if size > MAX_BYTES:
        raise PhotoError(f"{path.name} has {size / 1e6:.0f} MB; at most {MAX_BYTES / 1e6:.0f} are taken.")
    # By the header, before anything is unpacked; what has none that Pillow knows is for ``read_image`` to refuse.
    size_said = (0, 0)
    with contextlib.suppress(OSError, ValueError, Image.DecompressionBombError), Image.open(path) as image:
        size_said = image.size
    _check_pixels(*size_said)


def _check_pixels(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise PhotoError(
            f"The photograph has {width} × {height} pixels; at most {MAX_PIXELS / 1e6:.0f} million are taken."
        )
