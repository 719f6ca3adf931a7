"""The track over its clip, as an H.264 video."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from flame_jax import HeadModel
from n2f_jax.reconstruction.pictures import HeadPaint
from n2f_jax.runtime.atomic_files import atomic_path
from n2f_jax.tracking.clips import Clip, ClipError, pyav
from n2f_jax.tracking.offline import decoded
from n2f_jax.tracking.track_file import LOST, SEEN, STATUSES
from n2f_jax.visualization.irises import iris_caps
from n2f_jax.visualization.overlay import View, draw_mesh

MAX_SIDE = 960  # of the video, pixels
_WINDOWS = (256, 384, 512, 768, 1280)
_ALPHA = 0.72
_BATCH = 16
_CLOCK = 90_000  # ticks a second
_INKS = {
    "seen": (120, 220, 120),
    "bridged": (255, 190, 60),
    "doubtful": (255, 140, 60),
    "lost": (230, 80, 80),
}


def write_overlay(
    path: Path,
    clip: Clip,
    track: Mapping[str, Any],
    model: HeadModel,
    max_side: int = MAX_SIDE,
) -> None:
    """Writes the video, whole or not at all, with the clip's own moments.

    Args:
        path: ``.mp4``.
        clip: that was tracked.
        track: of ``track_file.KEYS``.
        model: the head model.
        max_side: larger frames are shrunk to this.

    Raises:
        ClipError: the clip cannot be read, or PyAV has no H.264 encoder.
        OSError: the video cannot be written.
    """
    av = pyav()
    view = View.whole(clip.size, max_side)
    # H.264 halves the colours' sides.
    height, width = (max(2, side - side % 2) for side in view.size)
    painter = _Painter(model, track, view)
    with (
        atomic_path(path) as temporary,
        av.open(str(temporary), "w", format="mp4", options={"movflags": "faststart"}) as container,
    ):
        try:
            stream = container.add_stream("libx264", rate=Fraction(clip.rate).limit_denominator(1001))
        except (av.FFmpegError, ValueError) as error:
            raise ClipError(f"PyAV has no H.264 encoder: {error}") from error
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        stream.codec_context.time_base = Fraction(1, _CLOCK)
        stream.options = {"crf": "21", "preset": "veryfast"}

        def encode(picture: np.ndarray, seconds: float) -> None:
            shown = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            shown.pts, shown.time_base = round(seconds * _CLOCK), Fraction(1, _CLOCK)
            container.mux(stream.encode(shown))

        # One frame is encoded while the next is drawn.
        with ThreadPoolExecutor(1) as worker:
            pending = None
            for frame in clip.frames():
                if frame.index >= len(track["seconds"]):
                    break
                picture = painter(frame.index, frame.image)[:height, :width]
                if pending is not None:
                    pending.result()
                pending = worker.submit(encode, picture, frame.seconds)
            if pending is not None:
                pending.result()
        container.mux(stream.encode())


class _Painter:
    """Draws frames of a track one after the other; meshes are decoded some at a time."""

    def __init__(self, model: HeadModel, track: Mapping[str, Any], view: View):
        self._model, self._track, self._view = model, track, view
        self._paint = HeadPaint.of(model)
        self._faces = np.asarray(model.faces)
        self._first, self._vertices = -1, np.zeros((0, 0, 3), np.float32)

    def __call__(self, index: int, image: np.ndarray) -> np.ndarray:
        shown = self._view.cut(image) if self._view.scale == 1.0 else self._shrunk(image)
        status = STATUSES[int(self._track["status"][index])]
        if status != STATUSES[LOST]:
            shown = self._draw(index, shown)
        return _labelled(shown, status)

    def _shrunk(self, image: np.ndarray) -> np.ndarray:
        return cv2.resize(image, self._view.size[::-1], interpolation=cv2.INTER_AREA)

    def _draw(self, index: int, shown: np.ndarray) -> np.ndarray:
        rotation, translation = (
            np.asarray(self._track[key][index], np.float64) for key in ("rotation", "translation")
        )
        vertices, faces, colors = self._mesh(index), self._faces, self._paint.colors
        if self._paint.eyeballs is not None:
            gaze = Rotation.from_rotvec(self._track["eyes_pose"][index]).as_matrix()[:, :, 2]
            balls = (vertices[self._paint.eyeballs[0]], vertices[self._paint.eyeballs[1]])
            caps, cap_faces, cap_colors = iris_caps(balls, gaze)
            faces = np.concatenate([faces, cap_faces + len(vertices)])
            vertices, colors = np.concatenate([vertices, caps]), np.concatenate([colors, cap_colors])
        drawn = draw_mesh(
            vertices @ rotation.T + translation,
            faces,
            self._track["intrinsics"],
            self._view,
            colors,
            samples=1,
            windows=_WINDOWS,
        )
        if drawn is None:
            return shown
        layer = drawn.clay()
        # Only the part that is drawn is mixed: frames are large.
        left, top = layer.origin
        bottom = min(top + layer.coverage.shape[0], shown.shape[0])
        right = min(left + layer.coverage.shape[1], shown.shape[1])
        part = shown[top:bottom, left:right].astype(np.float32)
        values, coverage = (x[: bottom - top, : right - left] for x in (layer.values, layer.coverage))
        mixed = part * (1.0 - _ALPHA * coverage[..., None]) + _ALPHA * values
        shown = shown.copy()
        shown[top:bottom, left:right] = np.clip(np.rint(mixed), 0, 255)
        return shown

    def _mesh(self, index: int) -> np.ndarray:
        if not self._first <= index < self._first + len(self._vertices):
            rows = np.minimum(np.arange(index, index + _BATCH), len(self._track["seconds"]) - 1)
            self._first, self._vertices = index, np.asarray(decoded(self._model, self._track, rows)[0])
        return self._vertices[index - self._first]


def _labelled(image: np.ndarray, status: str) -> np.ndarray:
    """Marks frames that are not simply seen."""
    if status == STATUSES[SEEN]:
        return image
    scale = max(0.4, image.shape[0] / 900)
    image = np.ascontiguousarray(image)
    place = (int(12 * scale), int(28 * scale))
    cv2.putText(
        image, status, place, cv2.FONT_HERSHEY_SIMPLEX, 0.8 * scale, (0, 0, 0), max(2, round(5 * scale))
    )
    cv2.putText(
        image, status, place, cv2.FONT_HERSHEY_SIMPLEX, 0.8 * scale, _INKS[status], max(1, round(2 * scale))
    )
    return image
