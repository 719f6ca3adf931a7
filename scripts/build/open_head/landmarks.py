"""The 68 landmarks on the head's triangles: the stored embedding, or a provisional one from the geometry."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from open_head.topology import HeadTopology

STORED = Path(__file__).with_name("landmarks.npz")
YAW_BINS = 79


def landmark_embedding(vertices: Float[np.ndarray, "V 3"], topology: HeadTopology) -> dict[str, np.ndarray]:
    """FLAME's six landmark arrays: those of ``landmarks.npz``, or provisional ones where it is missing."""
    return stored_embedding() if STORED.exists() else _flame_arrays(provisional_embedding(vertices, topology))


def stored_embedding() -> dict[str, np.ndarray]:
    """FLAME's six landmark arrays from ``landmarks.npz``, which ``scripts/build/embed_landmarks.py`` writes."""
    with np.load(STORED, allow_pickle=False) as stored:
        return _flame_arrays({key: stored[key] for key in stored.files})


def _flame_arrays(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    faces, barycentric = arrays["full_lmk_faces_idx"], arrays["full_lmk_bary_coords"]
    return {
        "static_lmk_faces_idx": faces[17:].astype(np.int32),
        "static_lmk_bary_coords": barycentric[17:].astype(np.float32),
        "dynamic_lmk_faces_idx": arrays["dynamic_lmk_faces_idx"].astype(np.int32),
        "dynamic_lmk_bary_coords": arrays["dynamic_lmk_bary_coords"].astype(np.float32),
        "full_lmk_faces_idx": faces.astype(np.int32),
        "full_lmk_bary_coords": barycentric.astype(np.float32),
    }


def embed_vertices(
    indices: Int[np.ndarray, "n"], faces: Int[np.ndarray, "F 3"]
) -> tuple[Int[np.ndarray, "n"], Float[np.ndarray, "n 3"]]:
    """A triangle that holds each vertex, and its barycentric coordinates there (a one and two zeros)."""
    triangle = np.array([np.flatnonzero((faces == index).any(axis=1))[0] for index in indices])
    return triangle, (faces[triangle] == np.asarray(indices)[:, None]).astype(np.float32)


def provisional_embedding(
    vertices: Float[np.ndarray, "V 3"], topology: HeadTopology
) -> dict[str, np.ndarray]:
    """Landmarks at vertices near hand-measured places on the mean head, mirrored from left to right."""
    skin = topology.parts["skin"]
    eye = vertices[topology.parts["left_eyeball"]].mean(axis=0)
    # Subject's left half in iBUG's numbering (8, 27–30, 33, 51, 57, 62, 66 lie on the midline), relative to
    # the left eye's centre in x/y, metres; z is found on the surface.
    chin = vertices[skin][np.abs(vertices[skin][:, 0]) < 1e-6]
    chin_y = chin[(chin[:, 2] > eye[2] - 0.02)][:, 1].min()
    height = eye[1] - chin_y
    left = {
        16: (0.068, 0.0), 15: (0.068, -0.20), 14: (0.066, -0.38), 13: (0.063, -0.56), 12: (0.057, -0.70),
        11: (0.047, -0.82), 10: (0.033, -0.92), 9: (0.016, -0.98), 8: (0.0, -1.0),
        26: (0.054, 0.14), 25: (0.046, 0.22), 24: (0.036, 0.24), 23: (0.025, 0.21), 22: (0.012, 0.17),
        27: (0.0, 0.0), 28: (0.0, -0.10), 29: (0.0, -0.20), 30: (0.0, -0.30),
        35: (0.013, -0.37), 34: (0.007, -0.385), 33: (0.0, -0.395),
        54: (0.025, -0.62), 53: (0.015, -0.565), 52: (0.005, -0.545), 51: (0.0, -0.555),
        55: (0.015, -0.69), 56: (0.007, -0.715), 57: (0.0, -0.72),
        64: (0.022, -0.62), 63: (0.010, -0.615), 62: (0.0, -0.61), 65: (0.010, -0.635), 66: (0.0, -0.64),
    }  # fmt: skip
    front = skin[vertices[skin][:, 2] > -0.03]
    index = np.zeros(68, int)
    for landmark, (x, y) in left.items():
        distance = np.hypot(vertices[front, 0] - x, vertices[front, 1] - (eye[1] + y * height))
        # Of the vertices near the place, the foremost: not the mouth's or the nose's inside.
        near = front[np.argsort(distance)[:6]] if landmark > 16 else front[np.argsort(distance)[:2]]
        index[landmark] = near[np.argmax(vertices[near, 2])]
    # Eye corners and lids: the rim of the socket opening, ordered by angle.
    lid = skin[np.linalg.norm(vertices[skin] - eye, axis=1) < 0.022]
    lid = lid[vertices[lid, 2] > eye[2] + 0.008]
    for landmark, (dx, dy) in {
        45: (0.014, -0.001), 44: (0.006, 0.005), 43: (-0.005, 0.005),
        42: (-0.014, -0.003), 47: (-0.005, -0.006), 46: (0.006, -0.006),
    }.items():  # fmt: skip
        index[landmark] = lid[np.argmin(np.hypot(*(vertices[lid, :2] - eye[:2] - (dx, dy)).T))]
    pairs = {
        **{16 - i: i for i in range(8)}, **{26 - i: 17 + i for i in range(5)}, 35: 31, 34: 32,
        42: 39, 43: 38, 44: 37, 45: 36, 46: 41, 47: 40,
        52: 50, 53: 49, 54: 48, 55: 59, 56: 58, 63: 61, 64: 60, 65: 67,
    }  # fmt: skip
    for source, image in pairs.items():
        index[image] = topology.mirror[index[source]]
    triangle, barycentric = embed_vertices(index, topology.faces)
    contour, weights = triangle[:17], barycentric[:17]
    return {
        "full_lmk_faces_idx": triangle,
        "full_lmk_bary_coords": barycentric,
        "dynamic_lmk_faces_idx": np.broadcast_to(contour, (YAW_BINS, 17)),
        "dynamic_lmk_bary_coords": np.broadcast_to(weights, (YAW_BINS, 17, 3)),
    }
