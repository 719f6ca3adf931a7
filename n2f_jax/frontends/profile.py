"""Points of heads that are turned far: the networks flatten them, as if they were turned less.

Of a head at 70° the face mesh shows one at 57°: what it sees is placed well, what it does not see and the depth are
those of a lesser turn. The turn that is missing was measured on renders of heads that are not ours
(``scripts/build/measure_front_end.py``); the points are turned by it about the head's vertical axis and laid back, by
scale and shift, over those that the camera sees.
"""

from __future__ import annotations

import functools
import math
from importlib import resources

import numpy as np
from jaxtyping import Bool, Float
from scipy.spatial.transform import Rotation

from n2f_jax.face_mesh.coarse_mesh import load_coarse_mesh
from n2f_jax.frontends.face_networks import OUTER_EYE_CORNERS
from n2f_jax.geometry.alignment import procrustes
from n2f_jax.geometry.camera import pitch_yaw_roll

ASSET = "profile.npz"
# Below the first angle nothing is changed, from the second on all of it; radians of the yaw as found.
BEGINS, WHOLE = math.radians(20.0), math.radians(35.0)
SCALE = (0.8, 1.25)
FEWEST = 30


def turned_fully(
    points: Float[np.ndarray, "468 3"], newer: Float[np.ndarray, "468 3"], version: str
) -> Float[np.ndarray, "468 3"]:
    """The points, turned by what is missing of their yaw.

    Args:
        points: u, v, depth in pixels.
        newer: the same of the newer network, which flattens less; may be ``points``.
        version: of the network that found ``points``: ``'v1'`` or ``'v2'``.
    """
    axes = upright_axes(newer)
    upright, newer = on_axes(points, axes), on_axes(newer, axes)
    yaw = pitch_yaw_roll(points_rotation(newer))[1]
    share = float(np.clip((abs(yaw) - BEGINS) / (WHOLE - BEGINS), 0.0, 1.0))
    if share == 0.0:
        return points
    found, sign = yaw_features(upright, newer)
    missing = sign * float(found @ profile_weights()[version]) - pitch_yaw_roll(points_rotation(upright))[1]
    return on_axes(_turned(upright, share * missing), axes.T)


def yaw_features(
    points: Float[np.ndarray, "468 3"], newer: Float[np.ndarray, "468 3"]
) -> tuple[Float[np.ndarray, " F"], float]:
    """What the true yaw is linear in, as if the head were turned to the subject's left; and the sign of its turn.

    Args:
        points, newer: as in ``turned_fully``, upright (``on_axes``).
    """
    pitch, yaw, roll = pitch_yaw_roll(points_rotation(newer))
    sign = -1.0 if yaw < 0 else 1.0
    y, roll = sign * yaw, sign * roll
    first = sign * pitch_yaw_roll(points_rotation(points))[1]
    found = [
        y,
        y**2,
        y**3,
        first,
        first**3,
        first * y,
        y * abs(pitch),
        y**3 * abs(pitch),
        y**2 * roll,
        y**2 * pitch,
    ]
    return np.array(found), sign


def upright_axes(points: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "2 2"]:
    """Rows: the image's direction from the subject's right eye to the left one, and the one across it, downwards.

    Pitch, yaw and roll of a head are told apart only where it is about upright. N ≥ 468.
    """
    right, left = points[list(OUTER_EYE_CORNERS), :2]
    along = (left - right) / max(float(np.linalg.norm(left - right)), 1e-9)
    return np.array([along, [-along[1], along[0]]])


def on_axes(points: Float[np.ndarray, "N 3"], axes: Float[np.ndarray, "2 2"]) -> Float[np.ndarray, "N 3"]:
    """Points turned in the image plane about its corner; with the transpose of ``axes`` they are turned back."""
    return np.concatenate([points[:, :2] @ axes.T, points[:, 2:]], axis=1)


def _turned(points: np.ndarray, angle: float) -> np.ndarray:
    rotation = points_rotation(points)
    # Towards the subject's left is against the head's y axis as the camera's frame has it.
    turn = Rotation.from_rotvec(-angle * rotation[:, 1]).as_matrix()
    centre = points.mean(axis=0)
    before, after = points - centre, (points - centre) @ turn.T
    seen = _faces_camera(after) & _faces_camera(before)
    if seen.sum() < FEWEST:
        seen = _faces_camera(after)
    a, b = after[seen, :2], before[seen, :2]
    a0, b0 = a.mean(axis=0), b.mean(axis=0)
    scale = float(np.clip(((a - a0) * (b - b0)).sum() / ((a - a0) ** 2).sum(), *SCALE))
    after = scale * after
    after[:, :2] += b0 - scale * a0
    return after + centre


def points_rotation(points: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "3 3"]:
    """From the head frame to that of the points (``coarse_mesh.head_rotation``), in NumPy; N ≥ 468."""
    mesh = load_coarse_mesh()
    upper = np.asarray(mesh.upper_face)
    reference = np.asarray(mesh.reference, np.float64)[upper]
    return np.asarray(procrustes(reference, np.asarray(points, np.float64)[upper]).rotation, np.float64)


def _faces_camera(points: Float[np.ndarray, "468 3"]) -> Bool[np.ndarray, "468"]:
    faces = load_coarse_mesh().faces
    corners = points[faces]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    seen = np.zeros(len(points), bool)
    seen[faces[normal[:, 2] < 0].ravel()] = True
    return seen


@functools.cache
def profile_weights() -> dict[str, np.ndarray]:
    """Weights of ``yaw_features`` by version of the network, ``turned_fully``'s."""
    path = resources.files("n2f_jax.frontends") / "assets" / ASSET
    with path.open("rb") as stream, np.load(stream, allow_pickle=False) as data:
        return {version: data[version] for version in ("v1", "v2")}
