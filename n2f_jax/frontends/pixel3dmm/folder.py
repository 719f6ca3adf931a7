"""What Pixel3DMM's scripts leave of a photograph, a folder of photographs or a video, at 98b5d79.

``PREPROCESSED_DATA/NAME/``: ``rgb/`` the frames, ``cropped/`` their 512² crops, ``crop_ymin_ymax_xmin_xmax.npy`` the
one crop of all frames, ``seg_og/`` class ids, ``p3dmm/normals/`` and ``p3dmm/uv_map/`` the predictions,
``PIPnet_landmarks/`` 98 points over the crop's side. Frames are called 00000, 00001, … in the order of their files'
names; NAME is the file's name less its last four letters, or the folder's.
"""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from flame_jax.files.outside import reason
from n2f_jax.frontends.face_classes import CLASS_NAMES
from n2f_jax.frontends.files import FrontendFileError
from n2f_jax.frontends.resample import Window
from n2f_jax.frontends.wflw import NUM_POINTS, wflw_to_ibug68
from n2f_jax.runtime.outside_values import numbers, read_array

CROP_FILE = "crop_ymin_ymax_xmin_xmax.npy"
_SUFFIXES = (".jpg", ".png")
_NORMALS = "scripts/network_inference.py model.prediction_type=normals"
_UV = "scripts/network_inference.py model.prediction_type=uv_map"
_SEGMENTATION = "scripts/run_facer_segmentation.py"
_CROPPING = "scripts/run_preprocessing.py"


@dataclasses.dataclass(frozen=True)
class FolderFrame:
    """One frame. All maps show ``window`` of the photograph.

    Attributes:
        normals: ``(H, W, 3)`` float32 of about unit length, head frame, everywhere.
        classes: ``(H, W)`` uint8, ids of ``face_classes``; None where no frame of the folder has any.
        uv: ``(H, W, 2)`` float32 in [−1, 1] as in ``FrontendFace``; None where Pixel3DMM's UV network did not run.
        landmarks_68: ``(68, 2)`` float32 pixels of the photograph.
        window: what the maps show of it.
        files: role → the file.
    """

    normals: Float[np.ndarray, "H W 3"]
    classes: UInt8[np.ndarray, "H W"] | None
    uv: Float[np.ndarray, "H W 2"] | None
    landmarks_68: Float[np.ndarray, "68 2"]
    window: Window
    files: dict[str, Path]


class Pixel3dmmFolder:
    """One ``PREPROCESSED_DATA/NAME``.

    Raises:
        FrontendFileError: it is no such folder.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        if not is_frame_folder(self.path):
            raise FrontendFileError(
                f"{self.path} is no folder of Pixel3DMM's scripts: it has no p3dmm/normals; run {_NORMALS}"
            )

    @functools.cached_property
    def frames(self) -> list[str]:
        """Names of the frames with normals, in order."""
        return sorted(file.stem for file in (self.path / "p3dmm" / "normals").glob("*.png"))

    def window(self, image_size: tuple[int, int]) -> Window:
        """What the crops show of photographs of that (height, width): all of it where they were not cropped.

        Raises:
            FrontendFileError: the file of the crop is damaged, or the crop lies outside the photograph.
        """
        height, width = image_size
        path = self.path / CROP_FILE
        if not path.is_file():
            return Window(0, 0, width, height)
        try:
            y0, y1, x0, x1 = (int(x) for x in numbers(read_array(path), np.int64).reshape(4))
        except (ValueError, OSError) as error:
            raise FrontendFileError(f"{path} does not hold four numbers: run {_CROPPING} again") from error
        window = Window(x0, y0, min(x1, width), min(y1, height))
        if x0 < 0 or y0 < 0 or window.width < 1 or window.height < 1:
            raise FrontendFileError(
                f"{path} is a crop of x {x0}…{x1}, y {y0}…{y1}, which is not in an image of {width} × {height}"
            )
        return window

    def read(self, frame: str, image_size: tuple[int, int], is_crop: bool = False) -> FolderFrame:
        """One frame of the folder.

        Args:
            frame: its name.
            image_size: (height, width) of the photograph, or of the crop with ``is_crop``.
            is_crop: the image at hand is ``cropped/`` itself and not the photograph.

        Raises:
            FrontendFileError: a file is missing or damaged, of another photograph, or its sizes do not agree; the
                message names it and the script that writes it.
        """
        predictions = self.path / "p3dmm"
        files = {
            "normals": predictions / "normals" / f"{frame}.png",
            "landmarks": self.path / "PIPnet_landmarks" / f"{frame}.npy",
        }
        # A folder without any was never segmented; one that lacks a frame's is damaged.
        if (self.path / "seg_og").is_dir():
            files["classes"] = self.path / "seg_og" / f"{frame}.png"
        if (uv_file := predictions / "uv_map" / f"{frame}.png").is_file():
            files["uv"] = uv_file
        if not is_crop:
            self._check_size(frame, image_size)
        height, width = image_size
        window = Window(0, 0, width, height) if is_crop else self.window(image_size)

        normals = _decode(_read_image(files["normals"], _NORMALS), 3)
        classes = uv = None
        if "classes" in files:
            classes = _read_image(files["classes"], _SEGMENTATION)
            classes = classes[..., 0] if classes.ndim == 3 else classes
            # Where its parser saw nothing Pixel3DMM writes 20: the number of classes and one.
            classes = np.where(classes < len(CLASS_NAMES), classes, 0).astype(np.uint8)
        if "uv" in files:
            # Red is u, green is v from the top: 1 − v of the texture.
            uv = _decode(_read_image(files["uv"], _UV), 2) * np.array([1, -1], np.float32)
        for role, found in (("classes", classes), ("uv", uv)):
            if found is not None and found.shape[:2] != normals.shape[:2]:
                height, width = found.shape[:2]
                raise FrontendFileError(
                    f"{files[role]} has {width} × {height} pixels, the normals {normals.shape[1]} × "
                    f"{normals.shape[0]}: they are not of one run"
                )
        points = self._landmarks(files["landmarks"])
        points = points * [window.width, window.height] + [window.x0, window.y0]
        return FolderFrame(normals, classes, uv, points.astype(np.float32), window, files)

    def _landmarks(self, path: Path) -> Float[np.ndarray, "68 2"]:
        """Over the crop's sides, 0 … 1."""
        if not path.is_file():
            raise FrontendFileError(
                f"{path} is missing: {_CROPPING} writes it where PIPNet's detector is sure of a face (0.99)"
            )
        try:
            points = read_array(path)
        except (ValueError, OSError) as error:
            raise FrontendFileError(f"{path} is damaged: run {_CROPPING} again") from error
        if points.shape != (NUM_POINTS, 2) or not np.isfinite(points).all():
            raise FrontendFileError(f"{path} does not hold PIPNet's {NUM_POINTS} landmarks of WFLW")
        return wflw_to_ibug68(points)

    def _check_size(self, frame: str, image_size: tuple[int, int]) -> None:
        """Against ``rgb/``, the photograph as Pixel3DMM saw it: it takes no account of EXIF's orientation."""
        for suffix in _SUFFIXES:
            path = self.path / "rgb" / f"{frame}{suffix}"
            if path.is_file():
                try:
                    with Image.open(path) as image:
                        width, height = image.size
                except Exception as error:  # Pillow's plugins have many ways to say that a file is broken
                    raise FrontendFileError(f"{path} is damaged ({reason(error)})") from error
                if (height, width) != tuple(image_size):
                    raise FrontendFileError(
                        f"Pixel3DMM saw {path} with {width} × {height} pixels, the photograph has {image_size[1]} × "
                        f"{image_size[0]}: another photograph, or one turned by EXIF; use the files of {path.parent}"
                    )
                return


def is_frame_folder(path: Path) -> bool:
    return (path / "p3dmm" / "normals").is_dir()


def find_frame(root: Path, source: Path) -> tuple[Pixel3dmmFolder, str, bool]:
    """Where Pixel3DMM's output for a photograph lies.

    Args:
        root: ``PREPROCESSED_DATA``, or one folder in it.
        source: the photograph: a file that Pixel3DMM was given, alone or in a folder, or one of
            ``rgb/`` or ``cropped/``.

    Returns:
        The folder, the frame's name, and whether the source is the crop itself.

    Raises:
        FrontendFileError: there is none; the message says where it was looked for.
    """
    source = Path(source).absolute()
    owner = source.parent.parent
    if source.parent.name in ("rgb", "cropped") and is_frame_folder(owner):
        return Pixel3dmmFolder(owner), source.stem, source.parent.name == "cropped"
    alone, together = source.name[:-4], source.parent.name
    folders = [root] if is_frame_folder(root) else [root / alone, root / together]
    for folder in filter(is_frame_folder, folders):
        found = Pixel3dmmFolder(folder)
        if folder.name == alone and found.frames == ["00000"]:
            return found, "00000", False
        names = _names_in_order(source.parent)
        if folder.name == together and source.name in names:
            return found, f"{names[source.name]:05d}", False
    raise FrontendFileError(
        f"nothing of Pixel3DMM's for {source.name} in {root}: looked for {alone}/ with one frame, and for {together}/ "
        "with a frame for each file of the photograph's folder"
    )


@functools.lru_cache(maxsize=64)
def _names_in_order(folder: Path) -> dict[str, int]:
    """File name → number of the frame: Pixel3DMM sorts what the folder lists, whatever it is."""
    return {name: index for index, name in enumerate(sorted(file.name for file in folder.iterdir()))}


def _read_image(path: Path, script: str) -> np.ndarray:
    if not path.is_file():
        raise FrontendFileError(f"{path} is missing: run {script}")
    try:
        with Image.open(path) as image:
            return np.asarray(image)
    except Exception as error:  # Pillow's plugins have many ways to say that a file is broken
        raise FrontendFileError(f"{path} is damaged: run {script} again ({reason(error)})") from error


def _decode(image: np.ndarray, channels: int) -> np.ndarray:
    """8 bits → [−1, 1]. Pixel3DMM cuts fractions off when it writes, so the middle of each step is the best guess."""
    if image.ndim != 3 or image.shape[2] < channels or image.dtype != np.uint8:
        raise FrontendFileError(
            f"a map of Pixel3DMM's is an 8-bit RGB image, not {image.shape} {image.dtype}"
        )
    steps = image[..., :channels].astype(np.float32)
    return np.minimum((steps + 0.5) * np.float32(2 / 255) - 1, 1)
