"""Where the face mesh's 468 points and the 68 landmarks lie on a head model's surface.

The face mesh looks at grey renders of the mean head from several sides; each point is triangulated from all
views (casting it onto the surface view by view fails at the face's outline, where it grazes), made
symmetric and put on the surface. Two parts need more care: lids and lips, where a millimetre decides on
which side of an opening a point lies, and the jaw line, which in a photograph is an outline and no fixed
set of points.

Everything here is NumPy on one mesh, run once by ``scripts/build/embed_landmarks.py``.
"""

from __future__ import annotations

import dataclasses
import math

import jax.numpy as jnp
import numpy as np
import trimesh
from scipy.optimize import linear_sum_assignment

import flame_jax
from face_mesh_embedding import topology_source as source
from flame_jax import FlameParams, HeadModel
from n2f_jax.frontends.face_landmarks import FaceLandmarker
from n2f_jax.render import rasterize

YAWS = (-36, -24, -12, 0, 12, 24, 36)
PITCHES = (-16, 0, 16)
CONTOUR_BINS = 79  # bin 0 frontal, then −1 … −39°, then +1 … +39°: see flame_jax.LandmarkEmbedding
_CAMERA_DISTANCE = 1.2
_IMAGE_SIZE = 640
_FINE_SIZE = 2000
_LIGHT = np.array([0.25, 0.45, 0.86])


@dataclasses.dataclass(frozen=True)
class View:
    """A render of the head: which triangle at which pixel, and the way back onto the surface.

    Attributes:
        rotation: ``(3, 3)`` head frame to camera frame.
        vertices: ``(V, 3)`` in the camera frame.
        faces: ``(F, 3)``.
        focal: in pixels; the principal point is the image's centre.
        face: ``(S, S)`` triangle at each pixel, −1 for none.
    """

    rotation: np.ndarray
    vertices: np.ndarray
    faces: np.ndarray
    focal: float
    face: np.ndarray

    def cast(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Triangle (−1: none) and barycentric coordinates of the surface seen at ``(n, 2)`` pixels."""
        size = self.face.shape[0]
        index = np.floor(pixels).astype(int)
        inside = ((index >= 0) & (index < size)).all(axis=1)
        index = np.clip(index, 0, size - 1)
        face = np.where(inside, self.face[index[:, 1], index[:, 0]], -1)
        rays = np.concatenate([(pixels - size / 2) / self.focal, np.ones((len(pixels), 1))], axis=1)
        corners = self.vertices[self.faces[face]]
        # ray · s = Σ b_k corner_k, b up to scale; clipped, as the ray may pass beside the pixel's triangle.
        weights = np.linalg.solve(corners.transpose(0, 2, 1), rays[..., None])[..., 0]
        weights = np.clip(weights, 0, None)
        return face, weights / weights.sum(axis=1, keepdims=True)

    def project(self, points: np.ndarray) -> np.ndarray:
        """``(n, 2)`` pixels of points in the head frame."""
        camera = points @ self.rotation.T + [0, 0, _CAMERA_DISTANCE]
        return camera[:, :2] / camera[:, 2:] * self.focal + self.face.shape[0] / 2


def render_view(
    vertices: np.ndarray, faces: np.ndarray, yaw: float, pitch: float = 0.0, size: int = _IMAGE_SIZE
) -> View:
    """Draws the head turned by ``yaw`` about y, then by ``pitch`` about x (degrees, head frame, y up)."""
    yaw, pitch = math.radians(yaw), math.radians(pitch)
    about_y = np.array([[math.cos(yaw), 0, math.sin(yaw)], [0, 1, 0], [-math.sin(yaw), 0, math.cos(yaw)]])
    about_x = np.array(
        [[1, 0, 0], [0, math.cos(pitch), -math.sin(pitch)], [0, math.sin(pitch), math.cos(pitch)]]
    )
    rotation = np.diag([1.0, -1.0, -1.0]) @ about_x @ about_y
    camera = vertices @ rotation.T + [0, 0, _CAMERA_DISTANCE]
    # The head, about 0.27 m high, fills two thirds of the picture.
    focal = size * _CAMERA_DISTANCE / 0.4
    fragments = rasterize(
        jnp.asarray(camera, jnp.float32),
        jnp.asarray(faces),
        jnp.float32(focal),
        jnp.full((2,), size / 2, jnp.float32),
        (size, size),
    )
    return View(rotation, camera, faces, focal, np.asarray(fragments.face))


def shade_view(view: View, model: HeadModel, vertices: np.ndarray) -> np.ndarray:
    """``(S, S, 3)`` uint8 grey picture with dark irises, lit from the front and above."""
    normals = trimesh.Trimesh(vertices, view.faces, process=False).vertex_normals
    size = view.face.shape[0]
    v, u = np.nonzero(view.face >= 0)
    face, weights = view.cast(np.stack([u, v], axis=1) + 0.5)
    corners = view.faces[face]
    normal = np.einsum("nk,nkc->nc", weights, normals[corners])
    place = np.einsum("nk,nkc->nc", weights, vertices[corners])
    facing = normal @ view.rotation.T * [1, -1, -1]  # y up, z to the camera
    light = 0.25 + 0.75 * np.clip(facing @ _LIGHT / np.linalg.norm(_LIGHT), 0, 1)
    albedo = np.full(len(u), 0.78)
    for side in ("left", "right"):
        ball = np.asarray(model.masks[f"{side}_eyeball"])
        centre = vertices[ball].mean(axis=0)
        direction = place - centre
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        on_ball = np.isin(corners[:, 0], ball)
        albedo[on_ball] = 0.95
        albedo[on_ball & (direction[:, 2] > math.cos(math.radians(26)))] = 0.25
    picture = np.full((size, size), 0.35)
    picture[v, u] = light * albedo
    grey = np.clip(picture * 255, 0, 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=-1)


def mirror_map(landmarker: FaceLandmarker, pictures: list[np.ndarray]) -> np.ndarray:
    """``(468,)`` each point's mirror image: the pairing under which mirrored pictures give mirrored points.

    Raises:
        ValueError: no pairing in which each point's mirror image's mirror image is the point.
    """
    cost = 0.0
    for picture in pictures:
        points = landmarker(picture)[0].points
        mirrored = landmarker(np.ascontiguousarray(picture[:, ::-1]))[0].points.copy()
        mirrored[:, 0] = picture.shape[1] - mirrored[:, 0]
        cost = cost + ((points[:, None] - mirrored[None]) ** 2).sum(axis=-1)
    _, mirror = linear_sum_assignment(cost)
    if not (mirror[mirror] == np.arange(len(mirror))).all():
        raise ValueError("the points' left-right pairing is not its own inverse")
    return mirror


def observe(
    model: HeadModel, vertices: np.ndarray, landmarker: FaceLandmarker
) -> tuple[list[View], np.ndarray, list[float]]:
    """Runs the face mesh on every view; returns the views, ``(views, 468, 2)`` pixels and the face scores."""
    views, pixels, scores = [], [], []
    for yaw in YAWS:
        for pitch in PITCHES:
            view = render_view(vertices, np.asarray(model.faces), yaw, pitch)
            if found := landmarker(shade_view(view, model, vertices)):
                views.append(view)
                pixels.append(found[0].points[:, :2].astype(np.float64))
                scores.append(found[0].score)
    return views, np.stack(pixels), scores


def triangulate(views: list[View], pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points in space that project closest to where the views see them, outlying views weighing less.

    Args:
        views: V of them.
        pixels: ``(V, n, 2)``.

    Returns:
        ``(n, 3)`` points in the head frame, and ``(n,)`` the median over views of their distance to the ray,
        metres.
    """
    # (x, y) − ray·z = 0 in the camera frame: two rows per view and point.
    rows, values = [], []
    for view, seen in zip(views, pixels, strict=True):
        ray = (seen - view.face.shape[0] / 2) / view.focal
        rows.append(view.rotation[None, :2] - ray[..., None] * view.rotation[None, 2:])
        values.append(ray * _CAMERA_DISTANCE)
    rows, values = np.stack(rows), np.stack(values)
    weights = np.ones(rows.shape[:2])
    for _ in range(10):
        normal = np.einsum("vn,vnri,vnrj->nij", weights, rows, rows)
        points = np.linalg.solve(normal, np.einsum("vn,vnri,vnr->ni", weights, rows, values)[..., None])[
            ..., 0
        ]
        distance = np.linalg.norm(np.einsum("vnri,ni->vnr", rows, points) - values, axis=-1)
        weights = 1 / np.maximum(distance, 1e-3)
    return points, np.median(distance, axis=0)


class SurfacePlacer:
    """Turns observed places into points embedded in the triangles of a symmetric head's outer skin.

    Args:
        model: the head model, symmetric about x = 0.
        landmarker: must not average mirrored views (that needs the asset made here).
    """

    def __init__(self, model: HeadModel, landmarker: FaceLandmarker):
        self.model = model
        self.vertices = np.asarray(model.v_template, np.float64)
        self.faces = np.asarray(model.faces)
        views, pixels, self.scores = observe(model, self.vertices, landmarker)
        front = [render_view(self.vertices, self.faces, yaw) for yaw in (-24, -12, 0, 12, 24)]
        self.mirror = mirror_map(landmarker, [shade_view(view, model, self.vertices) for view in front])
        points, self.spread = triangulate(views, pixels)
        self.fine = render_view(self.vertices, self.faces, 0.0, size=_FINE_SIZE)
        skin = np.ones(len(self.vertices), bool)
        for part in ("eyeballs", "teeth", "tongue"):
            skin[np.asarray(model.masks[part])] = False
        self._skin_faces = skin[self.faces].all(axis=1)
        outer = np.zeros(len(self.faces), bool)
        for yaw in (-70, -35, 0, 35, 70):
            for pitch in (-35, 0, 35):
                outer[np.unique(render_view(self.vertices, self.faces, yaw, pitch).face)[1:]] = True
        self._outer_faces = outer & self._skin_faces
        # What bounds the face in a photograph: skin, but neither neck nor ears.
        self._bounding_faces = self._skin_faces.copy()
        for region in ("neck", "left_ear", "right_ear"):
            self._bounding_faces &= ~np.isin(self.faces, np.asarray(model.masks[region])).any(axis=1)
        self._opening = self._jaw_motion()
        self.points = self._place(self._symmetric(points))

    def embed(self) -> tuple[np.ndarray, np.ndarray]:
        """``(468,)`` triangles and ``(468, 3)`` barycentric coordinates."""
        return self._closest(self.points, self._outer_faces)

    def _symmetric(self, points: np.ndarray) -> np.ndarray:
        return (points + points[self.mirror] * [-1, 1, 1]) / 2

    def _place(self, points: np.ndarray) -> np.ndarray:
        points = self._onto_skin(points)
        self._place_lids(points)
        self._place_lips(points)
        points = self._on_surface(points, self._outer_faces)
        return self._on_surface(self._symmetric(points), self._outer_faces)

    def _closest(self, points: np.ndarray, allowed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        numbers = np.flatnonzero(allowed)
        mesh = trimesh.Trimesh(self.vertices, self.faces[numbers], process=False)
        place, _, face = trimesh.proximity.closest_point_naive(mesh, points)
        weights = trimesh.triangles.points_to_barycentric(mesh.triangles[face], place)
        weights = np.clip(weights, 0, None)
        return numbers[face].astype(np.int32), weights / weights.sum(axis=1, keepdims=True)

    def _on_surface(self, points: np.ndarray, allowed: np.ndarray) -> np.ndarray:
        face, weights = self._closest(points, allowed)
        return np.einsum("nk,nkc->nc", weights, self.vertices[self.faces[face]])

    def _onto_skin(self, points: np.ndarray) -> np.ndarray:
        """To the skin behind or before each point as seen from the front, or the closest where that is far.

        The closest alone draws points to whatever sticks out, such as the rim of a lid.
        """
        closest = self._on_surface(points, self._outer_faces)
        face, weights = self.fine.cast(self.fine.project(points))
        ahead = np.einsum("nk,nkc->nc", weights, self.vertices[self.faces[face]])
        distance = [np.linalg.norm(place - points, axis=1) for place in (closest, ahead)]
        take = (face >= 0) & self._outer_faces[face] & (distance[1] < 2 * distance[0] + 0.001)
        return np.where(take[:, None], ahead, closest)

    def _at_pixels(self, view: View, pixels: np.ndarray) -> np.ndarray:
        face, weights = view.cast(pixels)
        return np.einsum("nk,nkc->nc", weights, self.vertices[self.faces[face]])

    def _place_lids(self, points: np.ndarray) -> None:
        """Moves lid points to the rim: seen from the front, where skin ends at the eyeball or drops away."""
        view = self.fine
        ball = np.zeros(len(self.vertices), bool)
        ball[np.asarray(self.model.masks["eyeballs"])] = True
        on_ball = np.where(view.face >= 0, ball[self.faces[view.face][..., 0]], False)
        reach = round(0.003 * view.focal / _CAMERA_DISTANCE)
        for chain, outwards in ((source.RIGHT_EYE_UPPER, -1), (source.RIGHT_EYE_LOWER, 1)):
            for point in chain[1:-1]:
                u, v = np.floor(view.project(points[[point]])[0]).astype(int)
                rows = v + outwards * np.arange(reach, -reach, -1)
                depth = self._at_pixels(view, np.stack([np.full(len(rows), u), rows], axis=1) + 0.5)[:, 2]
                # From the lid's outside inwards: a step of one pixel that falls by more than twice its
                # length.
                falls = depth[:-1] - depth[1:] > 2.0 * _CAMERA_DISTANCE / view.focal
                stops = np.flatnonzero(on_ball[rows[1:], u] | falls)
                if len(stops):
                    points[point] = self._at_pixels(view, np.array([[u + 0.5, rows[stops[0]] + 0.5]]))[0]
        self._copy_to_left(points, (*source.RIGHT_EYE_UPPER, *source.RIGHT_EYE_LOWER))

    def _jaw_motion(self) -> np.ndarray:
        """``(V,)`` how far each vertex sinks when the jaw opens by 15°, metres."""
        jaw = flame_jax.rotations.axis_angle_to_matrix(jnp.array([math.radians(15.0), 0.0, 0.0]))
        params = dataclasses.replace(
            FlameParams.neutral(self.model), jaw=flame_jax.rotations.matrix_to_rotation_6d(jaw)
        )
        opened, _ = flame_jax.decode(self.model, params)
        return self.vertices[:, 1] - np.asarray(opened)[:, 1]

    def _place_lips(self, points: np.ndarray) -> None:
        """Puts the inner lip points on either side of the line along which the mouth opens.

        Seen from the front: the row of a column where neighbouring skin parts most when the jaw opens. The
        two rings between outer and inner lip are spread evenly between them, on their own lip.
        """
        view = self.fine
        motion = np.where(self._skin_faces, self._opening[self.faces].mean(axis=1), np.nan)
        for inner, rings, lower in (
            (source.MOUTH_UPPER, source.UPPER_LIP_RINGS, False),
            (source.MOUTH_LOWER, source.LOWER_LIP_RINGS, True),
        ):
            half = len(inner) // 2 + 1
            for column, point in enumerate(inner[:half]):
                outer = rings[0][column]
                u, _ = np.floor(view.project(points[[point]])[0]).astype(int)
                above, below = np.floor(view.project(points[[source.LIPS_TOP, source.LIPS_BOTTOM]])[:, 1])
                rows = np.arange(int(above), int(below))
                rows = rows[~np.isnan(motion[view.face[rows, u]])]
                jump = np.diff(motion[view.face[rows, u]])
                row = rows[np.argmax(jump) + lower]
                points[point] = self._at_pixels(view, np.array([[u + 0.5, row + 0.5]]))[0]
                for step, ring in enumerate(rings[1:], start=1):
                    share = step / len(rings)
                    points[ring[column]] = (1 - share) * points[outer] + share * points[point]
        self._copy_to_left(points, np.unique([*source.MOUTH_UPPER, *source.MOUTH_LOWER]))
        self._copy_to_left(points, np.unique([source.UPPER_LIP_RINGS, source.LOWER_LIP_RINGS]))

    def _copy_to_left(self, points: np.ndarray, numbers) -> None:
        for number in numbers:
            if points[number, 0] <= 0:
                points[self.mirror[number]] = points[number] * [-1, 1, 1]

    def landmark_arrays(self) -> dict[str, np.ndarray]:
        """FLAME's arrays for the 68 landmarks: the static set and the contour of each yaw."""
        face, weights = self.embed()
        contour_faces, contour_weights = self._contours()
        return {
            "full_lmk_faces_idx": face[source.IBUG68],
            "full_lmk_bary_coords": weights[source.IBUG68].astype(np.float32),
            "dynamic_lmk_faces_idx": contour_faces,
            "dynamic_lmk_bary_coords": contour_weights.astype(np.float32),
        }

    def mesh_arrays(self, triangles: np.ndarray) -> dict[str, np.ndarray]:
        """The arrays of the coarse mesh's asset (``coarse_mesh.CoarseMesh``)."""
        face, weights = self.embed()
        return {
            "triangles": triangles.astype(np.int16),
            "fill_triangles": source.fill_triangles(self.mirror).astype(np.int16),
            "upper_face": source.upper_face(triangles, self.mirror, self.points[:, 1]).astype(np.int16),
            "mirror": self.mirror.astype(np.int16),
            "ibug68": source.IBUG68.astype(np.int16),
            "reference": self.points.astype(np.float32),
            "on_mean_head": self.points.astype(np.float32),
            "embedding_faces": face,
            "embedding_barycentric": weights.astype(np.float32),
        }

    def _contours(self) -> tuple[np.ndarray, np.ndarray]:
        """``(79, 17)`` triangles and barycentric coordinates of the jaw line seen at each yaw.

        Frontally it is the outline of the face, in 16 equal steps from one ear over the chin to the other,
        from the height of the outer eye corners. Turned away, a side keeps its points while they are the
        outermost at their height, then hands over to what is.
        """
        frontal = self._frontal_outline()
        number = self._closest(frontal, self._outer_faces)
        faces = np.tile(number[0], (CONTOUR_BINS, 1))
        weights = np.tile(number[1], (CONTOUR_BINS, 1, 1))
        limit = (CONTOUR_BINS - 1) // 2
        for degrees in range(1, limit + 1):
            # Turned to the subject's right, the right side is the far one.
            view = render_view(self.vertices, self.faces, -degrees, size=_FINE_SIZE)
            allowed = self._bounding_faces[view.face] & (view.face >= 0)
            places = frontal.copy()
            for landmark, (u, v) in enumerate(view.project(frontal[:8])):
                outermost = np.flatnonzero(allowed[int(v)])[0] + 0.5
                if outermost < u:
                    places[landmark] = self._at_pixels(view, np.array([[outermost, int(v) + 0.5]]))[0]
            faces[degrees], weights[degrees] = self._closest(places, self._outer_faces)
            mirrored = places[::-1] * [-1, 1, 1]
            faces[limit + degrees], weights[limit + degrees] = self._closest(mirrored, self._outer_faces)
        return faces, weights

    def _frontal_outline(self) -> np.ndarray:
        """``(17, 3)`` the frontal jaw line, symmetric.

        Along rays from between the eyes, the farther of the last pixel of the face and of the face mesh's
        oval; the oval fills in beside the ears, which hide the outline.
        """
        view = self.fine
        size = view.face.shape[0]
        allowed = self._bounding_faces[view.face] & (view.face >= 0)
        eye_row = view.project(self.points[[source.IBUG68[36]]])[0, 1]
        centre = np.array([size / 2, eye_row])
        oval = self.points[list(source.FACE_OVAL_RIGHT)]
        oval_polar = view.project(oval) - centre
        oval_angle = np.arctan2(oval_polar[:, 1], -oval_polar[:, 0])  # 0 at the image's left, 90° down
        order = np.argsort(oval_angle)
        reach = np.arange(1, size // 2)
        pixels, places = [], []
        for angle in np.linspace(0, math.pi / 2, 721):
            ray = centre + reach[:, None] * [-math.cos(angle), math.sin(angle)]
            index = np.clip(ray.astype(int), 0, size - 1)
            pixel = ray[np.flatnonzero(allowed[index[:, 1], index[:, 0]])[-1]]
            place = self._at_pixels(view, pixel[None])[0]
            on_oval = np.array([np.interp(angle, oval_angle[order], oval[order, k]) for k in range(3)])
            oval_pixel = view.project(on_oval[None])[0]
            if np.linalg.norm(oval_pixel - centre) > np.linalg.norm(pixel - centre):
                pixel, place = oval_pixel, on_oval
            pixels.append(pixel)
            places.append(place)
        length = np.cumsum(np.linalg.norm(np.diff(pixels, axis=0, prepend=pixels[:1]), axis=1))
        right = np.stack([places[np.searchsorted(length, at)] for at in np.linspace(0, length[-1], 9)])
        right[8, 0] = 0.0
        return np.concatenate([right, right[7::-1] * [-1, 1, 1]])
