"""A model of FLAME's format and sizes without FLAME's data, a track of it, and FLAME's formula in NumPy."""

import numpy as np
from scipy.spatial.transform import Rotation

from flame_jax.loading import head_model_from_arrays
from n2f_jax.models.pretrained import HeadModelIdentity, identity_sha256
from n2f_jax.tracking.track_file import BRIDGED, LOST, SEEN

SIZE = (96, 128)  # of frames
FOCAL = 150.0
_RINGS, _AROUND = 70, 71  # 4,970 vertices of an egg that is open below


def made_flame(seed=0):
    """Arrays by FLAME's names: an egg with a neck's open rim; lids are its first two expressions."""
    rng = np.random.default_rng(seed)
    height = np.linspace(-0.14, 0.11, _RINGS)
    radius = 0.05 + 0.05 * np.sqrt(np.clip(1 - ((height - 0.02) / 0.12) ** 2, 0, 1))
    angle = np.linspace(0, 2 * np.pi, _AROUND, endpoint=False)
    ring = np.stack([np.sin(angle), np.zeros(_AROUND), np.cos(angle)], axis=1)
    skin = radius[:, None, None] * ring + height[:, None, None] * np.array([0, 1.0, 0])
    rest = np.concatenate([[[0, 0.13, 0]], rng.normal([0, 0.03, 0.08], 0.004, (52, 3))])
    template = np.concatenate([skin.reshape(-1, 3), rest])
    index = np.arange(_RINGS * _AROUND).reshape(_RINGS, _AROUND)
    right = np.roll(index, -1, axis=1)
    low, high = (index[:-1], right[:-1]), (index[1:], right[1:])
    faces = [np.stack([low[0], low[1], high[0]], -1), np.stack([low[1], high[1], high[0]], -1)]
    top, apex = index[-1], index.size
    faces = [part.reshape(-1, 3) for part in faces]
    faces.append(np.stack([top, np.roll(top, -1), np.full(_AROUND, apex)], -1))
    strip = np.stack([np.arange(50), np.arange(50) + 1, np.arange(50) + 2], -1) + apex + 1
    faces = np.concatenate([*faces, strip, strip[:, ::-1], strip[:7]])
    assert template.shape == (5023, 3) and faces.shape == (9976, 3)

    def bumps(count, size):
        middle = template[rng.integers(0, 4970, count)]
        weight = np.exp(-(((template[:, None] - middle) / 0.03) ** 2).sum(-1))
        return weight[:, None] * rng.normal(0, size, (3, count))

    lids = bumps(2, 0.004)
    joints = np.array(
        [[0, -0.1, -0.02], [0, -0.07, -0.02], [0, -0.02, 0.02], [0.03, 0.03, 0.06], [-0.03, 0.03, 0.06]]
    )
    near = np.exp(-(((template[:, None] - joints) / 0.04) ** 2).sum(-1)) + 1e-4
    return {
        "v_template": template,
        "shapedirs": np.concatenate([bumps(7, 0.003), lids, bumps(5, 0.003)], axis=-1),
        "num_shape": np.array(7),
        "posedirs": rng.normal(0, 2e-4, (5023, 3, 36)),
        "J_regressor": (near / near.sum(0)).T,
        "weights": near / near.sum(1, keepdims=True),
        "kintree_table": np.array([[2**32 - 1, 0, 1, 1, 1], [0, 1, 2, 3, 4]], np.uint32),
        "f": faces,
        "l_eyelid": lids[..., 0],
        "r_eyelid": lids[..., 1],
        "full_lmk_faces_idx": rng.integers(0, 9000, 68),
        "full_lmk_bary_coords": np.full((68, 3), 1 / 3),
        "dynamic_lmk_faces_idx": rng.integers(0, 9000, (79, 17)),
        "dynamic_lmk_bary_coords": np.full((79, 17, 3), 1 / 3),
        "mask_face": np.flatnonzero(template[:, 2] > 0.05),
    }


def made_model(arrays):
    return head_model_from_arrays(arrays, "made")


def made_track(model, frames=6, seed=1):
    """Heads in front of the camera, turned by up to half a right angle; frame 1 is lost, frame 3 bridged."""
    rng = np.random.default_rng(seed)
    status = np.full(frames, SEEN, np.uint8)
    status[1], status[3] = LOST, BRIDGED
    turns = Rotation.from_rotvec(rng.normal(0, 0.3, (frames, 3))).as_matrix() @ np.diag([1.0, -1, -1])
    places = np.stack(
        [rng.normal(0, 0.04, frames), rng.normal(0, 0.03, frames), rng.uniform(0.5, 0.8, frames)], 1
    )
    height, width = SIZE
    nothing = lambda *shape: np.full((frames, *shape), np.nan, np.float32)  # noqa: E731
    track = {
        "seconds": np.arange(frames) / 30 + np.linspace(0, 0.01, frames),
        "status": status,
        "shot": np.zeros(frames, np.int32),
        "confidence": nothing(),
        "region_confidence": nothing(6),
        "frontend_blendshapes": nothing(51),
        "expression": rng.normal(size=(frames, 7)),
        "jaw_pose": rng.normal(0, 0.1, (frames, 3)),
        "eyelids": rng.uniform(0, 1, (frames, 2)),
        "eyes_pose": rng.normal(0, 0.2, (frames, 2, 3)),
        "rotation": turns,
        "translation": places,
        "landmarks_2d": rng.normal(50, 8, (frames, 68, 2)),
        "landmarks_3d": nothing(68, 3),
        "frontend_landmarks": nothing(68, 2),
        "fit_error": nothing(),
        "shape": rng.normal(size=7),
        "intrinsics": np.array([[FOCAL, 0, width / 2], [0, FOCAL, height / 2], [0, 0, 1]]),
        "focal_source": "given",
        "keyframes": np.array([0]),
        "image_size": np.array(SIZE),
        "frame_rate": 30.0,
        "person": 1,
        "people": 1,
        "head_model": model.name,
        "head_model_sha256": identity_sha256(HeadModelIdentity.of(model)),
        "frontend": "none",
        "checkpoint": "none",
        "source": "frames",
        "version": "0",
    }
    for key in ("expression", "jaw_pose", "eyelids", "eyes_pose", "rotation", "translation", "shape"):
        track[key] = track[key].astype(np.float32)
    for key in ("expression", "jaw_pose", "eyelids", "eyes_pose", "rotation", "translation", "landmarks_2d"):
        track[key][1] = np.nan
    return track


def flame(arrays, shape, expression, turns, lids=(0.0, 0.0)):
    """FLAME's formula (Li et al. 2017, eqs. 1–5) in float64, lids after skinning.

    ``turns``: five rotation matrices, of the root, neck, jaw, left and right eye.
    """
    basis = arrays["shapedirs"]
    padded = lambda values, count: np.pad(np.asarray(values, float), (0, count))[:count]  # noqa: E731
    coefficients = np.concatenate([padded(shape, 7), padded(expression, 7)])
    shaped = arrays["v_template"] + basis @ coefficients
    joints = arrays["J_regressor"] @ shaped
    posed = shaped + arrays["posedirs"] @ (np.asarray(turns)[1:] - np.eye(3)).reshape(-1)
    placed = np.zeros_like(shaped)
    worlds = []
    for joint, parent in enumerate((-1, 0, 1, 1, 1)):
        world = np.eye(4)
        world[:3, :3] = turns[joint]
        world[:3, 3] = joints[joint] - (joints[parent] if joint else 0)
        world = worlds[parent] @ world if joint else world
        worlds.append(world)
        moved = (posed - joints[joint]) @ world[:3, :3].T + world[:3, 3]
        placed += arrays["weights"][:, joint : joint + 1] * moved
    return placed + lids[0] * arrays["l_eyelid"] + lids[1] * arrays["r_eyelid"]


def seen_pixels(arrays, track, row):
    """Where a track's mesh lies in its frame, pixels from the edge: ``x_cam = R·x + t`` and K."""
    eyes = Rotation.from_rotvec(track["eyes_pose"][row]).as_matrix()
    jaw = Rotation.from_rotvec(track["jaw_pose"][row]).as_matrix()
    turns = [np.eye(3), np.eye(3), jaw, *eyes]
    head = flame(arrays, track["shape"], track["expression"][row], turns, track["eyelids"][row])
    in_camera = head @ track["rotation"][row].astype(float).T + track["translation"][row]
    pixels = in_camera @ np.asarray(track["intrinsics"]).T
    return pixels[:, :2] / pixels[:, 2:]
