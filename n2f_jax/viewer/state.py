"""What a viewer shows and what can be done to it, without any window: a head of a source, moved by hand, as a mesh."""

from __future__ import annotations

import dataclasses
import threading

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, UInt8
from scipy.spatial.transform import Rotation

from flame_jax import FlameParams, HeadModel, decode
from flame_jax.rotations import axis_angle_to_rotation_6d
from n2f_jax.evaluation.heat_maps import vertex_colours
from n2f_jax.evaluation.regions import template_of
from n2f_jax.geometry.alignment import AlignmentError, Similarity
from n2f_jax.mesh.normals import vertex_normals
from n2f_jax.reconstruction.pictures import HeadPaint
from n2f_jax.viewer import controls, normal_pictures
from n2f_jax.viewer.colors import confidence_colors, region_weights
from n2f_jax.viewer.scan import LIMIT_MM, Scan
from n2f_jax.viewer.sources import SeenHead, Source, ViewError
from n2f_jax.visualization.irises import iris_caps
from n2f_jax.visualization.overlay import normals_to_rgb

CLAY, NORMALS, CONFIDENCE, ERROR = "clay", "normals", "confidence", "error to the scan"
# Behind the head's origin, metres: where the photograph hangs.
_BACKDROP = 0.25


@dataclasses.dataclass(frozen=True)
class ShownMesh:
    """A head as it is drawn, in the frame of the photograph's camera (x right, y down, z forward), metres.

    Attributes:
        vertices: ``(N, 3)`` the head's V vertices, then those of the irises.
        faces: ``(F, 3)``.
        colors: ``(N, 3)`` sRGB.
        num_head: V.
    """

    vertices: Float[np.ndarray, "N 3"]
    faces: Int[np.ndarray, "F 3"]
    colors: UInt8[np.ndarray, "N 3"]
    num_head: int


@dataclasses.dataclass(frozen=True)
class Backdrop:
    """The photograph as a plane of the camera's frame, where every ray through a pixel meets that pixel.

    Attributes:
        centre: ``(3,)`` of the plane, metres.
        width, height: of the plane, metres.
        corners: ``(4, 3)`` from the top left one, clockwise.
    """

    centre: Float[np.ndarray, "3"]
    width: float
    height: float
    corners: Float[np.ndarray, "4 3"]


class ViewerState:
    """One head at a time of a source. Any number of threads may call it.

    Args:
        model: the head model of the source's heads.
        source: heads and their pictures.
        scan: to measure against, or None.

    Attributes:
        controls: what can be moved.
        colorings: the ways to colour that there are.
        index: number of the head or frame that is shown.
        is_eyeball: ``(V,)`` which vertices are an eyeball's.

    Raises:
        ViewError: the source's heads are not of this head model.
    """

    def __init__(self, model: HeadModel, source: Source, scan: Scan | None = None):
        self.model, self.source, self.scan = model, source, scan
        self.controls = controls.controls_of(model)
        self._lock = threading.RLock()
        self._paint = HeadPaint.of(model)
        self._faces = np.asarray(model.faces)
        self._template = template_of(model)
        self._weights = None if model.landmarks is None else region_weights(model)
        self.colorings = (CLAY, NORMALS) if self._weights is None else (CLAY, NORMALS, CONFIDENCE)
        if scan is not None:
            if model.landmarks is None:
                raise ViewError(f"head model {model.name!r} has no landmarks to lay over a scan")
            self.colorings += (ERROR,)
        seen = np.isin(self._faces, self._template.visible).all(axis=1)
        self._outer_faces = self._faces[seen]
        self.is_eyeball = np.zeros(model.num_vertices, bool)
        if self._paint.eyeballs is not None:
            self.is_eyeball[np.concatenate(self._paint.eyeballs)] = True
        self._coloring = CLAY
        self._placed: Similarity | None = None
        self._scan_note = ""
        self._head: SeenHead | None = None
        self._edited: SeenHead | None = None
        self.index = 0
        self.select(0)

    @property
    def is_track(self) -> bool:
        return self.source.seconds is not None

    @property
    def coloring(self) -> str:
        return self._coloring

    @coloring.setter
    def coloring(self, value: str) -> None:
        if value not in self.colorings:
            raise ValueError(f"no colours {value!r}; there are {', '.join(self.colorings)}")
        with self._lock:
            self._coloring = value

    def select(self, index: int) -> None:
        """Shows another head or frame, as it was found: what was moved by hand is gone.

        Raises:
            IndexError: there is none of that number.
            ViewError: it is of another head model.
        """
        if not 0 <= index < len(self.source.names):
            raise IndexError(index)
        head = self.source.head(index)
        sizes = (self.model.num_shape, self.model.num_expression)
        if head is not None and (len(head.shape), len(head.expression)) != sizes:
            raise ViewError(
                f"{self.source.names[index]} has {len(head.shape)} + {len(head.expression)} coefficients, the head "
                f"model {self.model.name!r} {sizes[0]} + {sizes[1]}: name the right one (--head-model)"
            )
        with self._lock:
            self.index, self._head, self._edited = index, head, head
            self._placed, self._scan_note = None, ""

    def values(self) -> dict[str, float]:
        """The number of every control; none where the frame's head is lost."""
        head = self._edited
        return {} if head is None else {one.name: controls.read(head, one.name) for one in self.controls}

    def set(self, name: str, value: float) -> None:
        """Moves the head by one control; nothing in a frame whose head is lost.

        Raises:
            KeyError: there is no such control.
        """
        with self._lock:
            if self._edited is not None:
                self._edited = controls.write(self._edited, name, value)

    def reset(self) -> None:
        """The head as it was found."""
        with self._lock:
            self._edited = self._head

    def relax(self) -> None:
        """No expression, mouth and eyes as modelled."""
        with self._lock:
            if self._edited is not None:
                self._edited = controls.at_rest(self._edited)

    def frame_at(self, seconds: float) -> int:
        """The number of a track's frame that is seen at a moment; beyond the end the last one."""
        assert self.source.seconds is not None
        return int(
            np.clip(
                np.searchsorted(self.source.seconds, seconds, side="right") - 1, 0, len(self.source.names) - 1
            )
        )

    def vertices(self) -> Float[np.ndarray, "V 3"] | None:
        """The head's mesh in its own frame, metres; None in a frame whose head is lost."""
        return None if self._edited is None else self._decoded(self._edited)

    def mesh(self, outside_only: bool = False) -> ShownMesh | None:
        """The head as it is drawn; None in a frame whose head is lost.

        Args:
            outside_only: without the cavity of the mouth and what is in it, which would show through a clear head.
        """
        with self._lock:
            head, coloring = self._edited, self._coloring
        if head is None:
            return None
        vertices, faces = self._decoded(head), self._outer_faces if outside_only else self._faces
        colors = self._colors(head, vertices, coloring)
        num_head = len(vertices)
        if self._paint.eyeballs is not None:
            gaze = Rotation.from_rotvec(head.eyes_pose).as_matrix()[:, :, 2]
            balls = (vertices[self._paint.eyeballs[0]], vertices[self._paint.eyeballs[1]])
            caps, cap_faces, cap_colors = iris_caps(balls, gaze)
            faces = np.concatenate([faces, cap_faces + num_head])
            vertices, colors = np.concatenate([vertices, caps]), np.concatenate([colors, cap_colors])
        posed = vertices @ head.rotation.T + head.translation
        return ShownMesh(posed.astype(np.float32), faces, colors.astype(np.uint8), num_head)

    def backdrop(self) -> Backdrop | None:
        """Where the photograph hangs behind the head; None in a frame whose head is lost."""
        head = self._head
        if head is None:
            return None
        # Fixed while a slider moves the head, unless it would come before the picture.
        depth = max(float(head.translation[2]), float(self._edited.translation[2])) + _BACKDROP  # type: ignore[union-attr]
        height, width = head.image_size
        u, v = np.array([0.0, width, width, 0.0]), np.array([0.0, 0.0, height, height])
        rays = np.stack([u, v, np.ones(4)], axis=1) @ np.linalg.inv(head.intrinsics).T
        corners = depth * rays
        size = corners[2] - corners[0]
        return Backdrop(corners.mean(axis=0), float(size[0]), float(size[1]), corners)

    def field_of_view(self, aspect: float) -> float:
        """Vertical angle in radians under which a window of this width over height holds the whole photograph.

        The window looks along the camera's axis, from the camera.
        """
        backdrop = self.backdrop()
        if backdrop is None:
            return 0.6
        across, down = np.abs(backdrop.corners[:, :2] / backdrop.corners[:, 2:]).max(axis=0)
        return float(2.0 * np.arctan(max(down, across / max(aspect, 1e-3))))

    def pivot(self) -> Float[np.ndarray, "3"]:
        """The point on the camera's axis that is as far away as the head."""
        return np.array([0.0, 0.0, 1.0 if self._head is None else float(self._head.translation[2])])

    def head_place(self) -> Float[np.ndarray, "3"]:
        """Where the head is, in the camera's frame."""
        return self.pivot() if self._head is None else np.asarray(self._head.translation)

    def input_normals(self) -> UInt8[np.ndarray, "S S 3"] | None:
        """What the network saw, where that can be drawn again."""
        return None if self._head is None else normal_pictures.input_normals(self._head)

    def rendered_normals(self) -> UInt8[np.ndarray, "S S 3"] | None:
        """The same part of the photograph with the normals of the head as it is now."""
        head = self._edited
        return (
            None if head is None else normal_pictures.rendered_normals(head, self._decoded(head), self._faces)
        )

    def scan_in_view(self) -> Float[np.ndarray, "N 3"] | None:
        """The scan's vertices where it lies over the head, in the camera's frame; None without one."""
        placed, head = self._scan_place(), self._head
        if self.scan is None or placed is None or head is None:
            return None
        return (placed.inverse(self.scan.mesh.vertices) @ head.rotation.T + head.translation).astype(
            np.float32
        )

    def errors_mm(self) -> Float[np.ndarray, " V"] | None:
        """Distance of each visible vertex from the scan, NaN elsewhere; None without a scan, or where none fits."""
        placed, head = self._scan_place(), self._edited
        if self.scan is None or placed is None or head is None:
            return None
        return self.scan.errors_mm(placed, self._template, self._decoded(head))

    def text(self) -> str:
        """What is known of the head, in a few lines of Markdown."""
        name = self.source.names[self.index]
        head = self._head
        if head is None:
            return f"**{name}**, frame {self.index}: lost"
        lines = [f"**{name}**" + (f", frame {self.index}: {head.status}" if head.status else "")]
        if np.isfinite(head.confidence):
            lines.append(f"confidence {head.confidence:.2f}")
        if note := self.source.note(self.index):
            lines.append(note)
        if self._coloring == ERROR:
            errors = self.errors_mm()
            if errors is None:
                lines.append(self._scan_note)
            else:
                face = errors[self._template.regions.get("face", self._template.visible)]
                mean = float(np.nanmean(face)) if np.isfinite(face).any() else float("nan")
                lines.append(f"face {mean:.2f} mm from the scan in the mean; red is {LIMIT_MM:g} mm and more")
        return "  \n".join(lines)

    def _colors(self, head: SeenHead, vertices: np.ndarray, coloring: str) -> np.ndarray:
        if coloring == NORMALS:
            return normals_to_rgb(vertex_normals(vertices, self._faces)).round()
        if coloring == CONFIDENCE and self._weights is not None:
            return confidence_colors(self._weights, head.region_confidence)
        if coloring == ERROR and (errors := self.errors_mm()) is not None:
            return vertex_colours(errors, LIMIT_MM)
        return self._paint.colors

    def _scan_place(self) -> Similarity | None:
        """Where the scan lies, by the head as it was found: what is moved by hand then differs from it."""
        with self._lock:
            if self.scan is None or self._head is None or self._scan_note:
                return None
            if self._placed is None:
                try:
                    self._placed = self.scan.place(self._template, self._decoded(self._head))
                except AlignmentError as error:
                    self._scan_note = str(error)
            return self._placed

    def _decoded(self, head: SeenHead) -> np.ndarray:
        coefficients = (head.shape, head.expression, head.jaw_pose, head.eyelids, head.eyes_pose)
        return np.asarray(
            _decode(self.model, *(jnp.asarray(x, jnp.float32) for x in coefficients)), np.float64
        )


@jax.jit
def _decode(model, shape, expression, jaw, eyelids, eyes):
    """``(V, 3)`` of one head, compiled once: all heads of a model have the same sizes."""
    params = FlameParams.resting(shape, expression, axis_angle_to_rotation_6d(jaw), eyelids)
    params = dataclasses.replace(params, eyes=axis_angle_to_rotation_6d(eyes))
    return decode(model, params)[0]
