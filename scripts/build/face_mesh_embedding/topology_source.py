"""Facts about the face mesh's points, from which ``scripts/build/embed_landmarks.py`` makes the shipped asset.

Triangles come from MediaPipe's own table; what the points mean was read off pictures of the mesh.
"""

from __future__ import annotations

import ast
import zipfile
from itertools import pairwise
from pathlib import Path

import numpy as np

from n2f_jax.runtime.assets_cache import MEDIAPIPE, AssetError
from n2f_jax.runtime.fingerprints import sha256_file

_CONNECTIONS = "mediapipe/python/solutions/face_mesh_connections.py"

# The subject's right is the image's left. Contour from the right ear over the chin to the left ear; brows,
# right then left, each from the image's left; nose bridge down, nostrils; right eye and left eye, each from
# the image's left corner over the upper lid; outer and inner lips, each from the right corner over the
# upper lip.
IBUG68 = np.array(
    [
        *(127, 234, 93, 58, 172, 136, 150, 176, 152, 400, 379, 365, 397, 288, 323, 454, 356),
        *(70, 63, 105, 66, 107),
        *(336, 296, 334, 293, 300),
        *(168, 197, 5, 4),
        *(75, 97, 2, 326, 305),
        *(33, 160, 158, 133, 153, 144),
        *(362, 385, 387, 263, 373, 380),
        *(61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181),
        *(78, 82, 13, 312, 308, 317, 14, 87),
    ]
)

# Rims of the three holes, corner to corner: upper edge, lower edge. Right eye from its outer corner.
RIGHT_EYE_UPPER = (33, 246, 161, 160, 159, 158, 157, 173, 133)
RIGHT_EYE_LOWER = (33, 7, 163, 144, 145, 153, 154, 155, 133)
MOUTH_UPPER = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308)
MOUTH_LOWER = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308)
FACE_OVAL_RIGHT = (10, 109, 67, 103, 54, 21, 162, 127, 234, 93, 132, 58, 172, 136, 150, 149, 176, 148, 152)

# Rings of the lips from the outer edge inwards, each from the right corner to the middle; the inner edge is
# above.
UPPER_LIP_RINGS = ((61, 185, 40, 39, 37, 0), (76, 184, 74, 73, 72, 11), (62, 183, 42, 41, 38, 12))
LOWER_LIP_RINGS = ((61, 146, 91, 181, 84, 17), (76, 77, 90, 180, 85, 16), (62, 96, 89, 179, 86, 15))
LIPS_TOP, LIPS_BOTTOM = 0, 17

RIGHT_BROW = (46, 53, 52, 65, 55, 70, 63, 105, 66, 107)
# Lowest point that counts as upper face: the nose's base. What lies lower moves with mouth and jaw.
NOSE_BASE = 2


def read_triangles(wheel: Path) -> np.ndarray:
    """``(852, 3)`` triangles over the 468 points, counter-clockwise from outside, from MediaPipe's wheel.

    The wheel's Python source lists the directed edges of one triangle after the other; it is parsed, never
    run.

    Raises:
        AssetError: another wheel, or a table that is not made of closed triangles.
    """
    if sha256_file(wheel) != MEDIAPIPE.sha256:
        raise AssetError(f"{wheel} is not the pinned wheel of {MEDIAPIPE.requirement}")
    with zipfile.ZipFile(wheel) as archive:
        source = archive.read(_CONNECTIONS).decode()
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and node.targets[0].id == "FACEMESH_TESSELATION":
            edges = np.array(ast.literal_eval(node.value.args[0])).reshape(-1, 3, 2)
            break
    else:
        raise AssetError(f"{_CONNECTIONS} holds no FACEMESH_TESSELATION")
    if not (edges[:, :, 1] == np.roll(edges[:, :, 0], -1, axis=1)).all():
        raise AssetError("FACEMESH_TESSELATION is not a list of closed triangles")
    return edges[:, :, 0]


def fill_triangles(mirror: np.ndarray) -> np.ndarray:
    """``(n, 3)`` triangles that close both eyes and the mouth: ladders between upper and lower rim."""
    right_eye = _ladder(RIGHT_EYE_UPPER, RIGHT_EYE_LOWER)
    left_eye = mirror[right_eye][:, ::-1]
    # The mouth from each corner to its middle, so that the ladder is symmetric.
    half = len(MOUTH_UPPER) // 2 + 1
    right_mouth = _ladder(MOUTH_UPPER[:half], MOUTH_LOWER[:half])
    left_mouth = mirror[right_mouth][:, ::-1]
    return np.concatenate([right_eye, left_eye, right_mouth, left_mouth])


def upper_face(triangles: np.ndarray, mirror: np.ndarray, height: np.ndarray) -> np.ndarray:
    """Points that expression and jaw hardly move: above the nose's base, without lids, brows and their rings.

    Args:
        triangles: ``(F, 3)``.
        mirror: ``(468,)``.
        height: ``(468,)`` y of each point on a neutral head, up.
    """
    eye = set(RIGHT_EYE_UPPER) | set(RIGHT_EYE_LOWER)
    eye |= _neighbours(eye, triangles)
    moving = eye | _neighbours(eye, triangles) | set(RIGHT_BROW)
    moving |= {int(mirror[point]) for point in moving}
    still = np.setdiff1d(np.arange(len(mirror)), sorted(moving))
    return still[height[still] > height[NOSE_BASE]]


def _neighbours(points: set[int], triangles: np.ndarray) -> set[int]:
    touching = np.isin(triangles, sorted(points)).any(axis=1)
    return {int(point) for point in triangles[touching].ravel()}


def _ladder(upper: tuple[int, ...], lower: tuple[int, ...]) -> np.ndarray:
    """Triangles between two chains of equal length that start at one point (and may end at one).

    Wound counter-clockwise seen from outside where ``upper`` runs from the image's left to its right.
    """
    triangles = []
    for (u0, u1), (l0, l1) in zip(pairwise(upper), pairwise(lower), strict=True):
        if u0 != l0:
            triangles.append((u0, l0, u1))
        if u1 != l1:
            triangles.append((u1, l0, l1))
    return np.array(triangles)
