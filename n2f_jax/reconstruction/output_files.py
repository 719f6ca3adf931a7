"""The files of one photograph: parameters, meshes, pictures; and the contact sheet of a run."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from flame_jax import HeadModel
from n2f_jax.fitting.arkit import ArkitUnits
from n2f_jax.mesh.colors import region_colors
from n2f_jax.mesh.writing import glb_content, write_glb, write_obj, write_ply
from n2f_jax.reconstruction.arkit_files import units_of
from n2f_jax.reconstruction.head import Head
from n2f_jax.rig.from_head import RigOptions, write_head_rig
from n2f_jax.runtime.atomic_files import atomic_path
from n2f_jax.runtime.display import printable

MESH_FORMATS = ("obj", "glb", "ply")
FORMATS = ("npz", *MESH_FORMATS, "rig")
MAX_SHEET = 60  # photographs on the contact sheet


class MeshWriter:
    """Writes meshes of one head model with its texture coordinates and region colours."""

    def __init__(self, model: HeadModel):
        self._uv, self._uv_faces = np.asarray(model.uv), np.asarray(model.uv_faces)
        self._colors = region_colors(model)

    def write(self, path: Path, vertices: np.ndarray, faces: np.ndarray) -> None:
        """Writes ``(V, 3)`` vertices and ``(F, 3)`` faces in the format of the path's suffix.

        Raises:
            ValueError: not one of ``MESH_FORMATS``, or not this head model's vertices.
            OSError: it cannot be written.
        """
        self._check(vertices)
        kind = path.suffix[1:]
        if kind == "obj":
            write_obj(path, vertices, faces, self._uv, self._uv_faces)
        elif kind == "glb":
            write_glb(path, vertices, faces, self._uv, self._uv_faces, self._colors)
        elif kind == "ply":
            write_ply(path, vertices, faces, self._colors)
        else:
            raise ValueError(f"no mesh format {kind!r}; there are {', '.join(MESH_FORMATS)}")

    def glb(self, vertices: np.ndarray, faces: np.ndarray) -> bytes:
        """The content of the file ``.glb``.

        Raises:
            ValueError: not this head model's vertices.
        """
        self._check(vertices)
        return glb_content(vertices, faces, self._uv, self._uv_faces, self._colors)

    def _check(self, vertices: np.ndarray) -> None:
        if len(vertices) != len(self._colors):
            count = len(self._colors)
            raise ValueError(
                f"{len(vertices)} vertices, the head model has {count}: name the right one (--head-model)"
            )


class OutputFiles:
    """Writes heads of one head model into a folder.

    Args:
        folder: it exists.
        model: the head model.
        formats: of ``FORMATS``.
        picture: also the side-by-side picture of each head and the overlay of each photograph (needs OpenCV).
        normal_frame: of the network's input: that in which normals are drawn.
    """

    def __init__(
        self,
        folder: Path,
        model: HeadModel,
        formats: Sequence[str],
        picture: bool,
        normal_frame: str = "head",
    ):
        self.folder, self.formats, self.picture, self._normal_frame = folder, formats, picture, normal_frame
        self._meshes, self._model = MeshWriter(model), model
        if picture:
            from n2f_jax.reconstruction.pictures import HeadPaint

            self._paint = HeadPaint.of(model)

    def head_files(self, stem: str) -> dict[str, str]:
        """Names of all files of one head by kind; the picture last."""
        files = {kind: f"{stem}_rig.glb" if kind == "rig" else f"{stem}.{kind}" for kind in self.formats}
        return files | ({"picture": f"{stem}_picture.png"} if self.picture else {})

    @functools.cached_property
    def _units(self) -> ArkitUnits:
        return units_of(self._model, None)

    def overlay_file(self, stem: str) -> str:
        return f"{stem}_overlay.jpg"

    def write_head(self, stem: str, source: str, image: np.ndarray, head: Head) -> dict[str, str]:
        """All files of one head; the picture last.

        Args:
            stem: what the files' names begin with.
            source: file name of the photograph.
            image: ``(H, W, 3)`` uint8 RGB, the photograph.
            head: reconstructed from it.

        Returns:
            File names by kind.

        Raises:
            OSError: they cannot be written.
        """
        files = self.head_files(stem)
        for kind in self.formats:
            path = self.folder / files[kind]
            if kind == "npz":
                head.save(path, source=source)
            elif kind == "rig":
                write_head_rig(path, self._model, self._units, [vars(head)], [image], RigOptions())
            else:
                self._meshes.write(path, head.vertices, head.faces)
        if self.picture:
            from n2f_jax.reconstruction.pictures import head_picture

            pitch, yaw, roll = head.angles()
            title = f"{printable(source)}   pitch {pitch:+.0f}°  yaw {yaw:+.0f}°  roll {roll:+.0f}°"
            if np.isfinite(head.confidence):
                title += f"   confidence {head.confidence:.2f}" + (" (doubtful)" if head.is_doubtful else "")
            picture = head_picture(image, head, self._paint, title, normal_frame=self._normal_frame)
            write_image(self.folder / files["picture"], picture)
        return files

    def write_overlay(self, stem: str, image: np.ndarray, heads: Sequence[Head]) -> str:
        """The photograph with the meshes on it; its file name."""
        from n2f_jax.reconstruction.pictures import photo_overlay

        name = self.overlay_file(stem)
        write_image(self.folder / name, photo_overlay(image, heads, self._paint))
        return name


def write_contact_sheet(path: Path, overlays: Sequence[Path], captions: Sequence[str]) -> None:
    """The first ``MAX_SHEET`` overlays on one page; no file where there is none."""
    from n2f_jax.visualization.layout import grid

    tiles = []
    for overlay in overlays[:MAX_SHEET]:
        with Image.open(overlay) as image:
            image.thumbnail((640, 640))
            tiles.append(np.asarray(image.convert("RGB")))
    if tiles:
        write_image(path, grid(tiles, [printable(caption) for caption in captions[:MAX_SHEET]]))


def write_image(path: Path, image: np.ndarray) -> None:
    """Writes ``(H, W, 3)`` uint8 RGB atomically, in the format of the path's suffix.

    Raises:
        OSError: it cannot be written.
    """
    with atomic_path(path) as temporary:
        jpeg = {"quality": 93, "subsampling": 0} if path.suffix == ".jpg" else {}
        Image.fromarray(image).save(temporary, **jpeg)
