"""Two heads of one photograph as ``n2f reconstruct`` leaves them, and a track as ``n2f track`` does."""

import dataclasses

import numpy as np
import pytest
from PIL import Image
from scipy.spatial.transform import Rotation

from n2f_jax.face_mesh.coarse_mesh import load_coarse_mesh
from n2f_jax.geometry.camera import project_points
from n2f_jax.reconstruction.head_file import flame_params
from n2f_jax.tracking.track_file import DOUBTFUL, LOST, SEEN, save_track
from tests.n2f_jax.reconstruction.fakes import mean_head

SIZE = (120, 160)
CONFIDENCE = np.array([1.0, 0.9, 0.1, 0.8, 0.7, 0.6], np.float32)


def photograph(number=0):
    image = np.full((*SIZE, 3), (60, 110, 160), np.uint8)
    image[::10] = 200
    image[:, : 8 * (number + 1)] = (220, 60, 30)
    return image


def make_head(model, yaw=0.2, x=0.0):
    """A head with some of everything, in a camera whose axis is not in the middle of its image."""
    import flame_jax

    rng = np.random.default_rng(7)
    values = {
        "shape": rng.normal(0, 0.6, model.num_shape).astype(np.float32),
        "expression": rng.normal(0, 0.4, model.num_expression).astype(np.float32),
        "jaw_pose": np.array([0.15, 0.02, 0.0], np.float32),
        "eyelids": np.array([0.2, 0.1], np.float32),
        "eyes_pose": np.array([[0.1, 0.2, 0.0], [0.1, 0.1, 0.0]], np.float32),
    }
    vertices = np.asarray(flame_jax.decode(model, flame_params([values]))[0][0])
    rotation = Rotation.from_euler("XYZ", [0.1, yaw, 0.05]).as_matrix() @ np.diag([1.0, -1.0, -1.0])
    translation = np.array([x, 0.02, 0.9])
    intrinsics = np.array([[250.0, 0, 76], [0, 250, 63], [0, 0, 1]])
    mesh = load_coarse_mesh()
    points = mesh.reference @ rotation.T + translation
    seen = np.concatenate([project_points(points, intrinsics), 250.0 * points[:, 2:]], axis=1)
    landmarks = project_points(vertices[:68] @ rotation.T + translation, intrinsics)
    low, high = seen[:, :2].min(axis=0), seen[:, :2].max(axis=0)
    return dataclasses.replace(
        mean_head(model, SIZE),
        **values,
        vertices=vertices,
        rotation=rotation.astype(np.float32),
        translation=translation.astype(np.float32),
        intrinsics=intrinsics.astype(np.float32),
        landmarks_2d=landmarks.astype(np.float32),
        frontend="face_mesh",
        frontend_points=seen.astype(np.float32),
        crop=np.array([*((low + high) / 2 - 50), 100], np.float32),
        region_confidence=CONFIDENCE,
        confidence=0.83,
    )


@pytest.fixture(scope="session")
def heads(open_head, tmp_path_factory):
    """A folder with ``left.npz`` and ``right.npz``, and the photograph of both beside it."""
    folder = tmp_path_factory.mktemp("heads")
    Image.fromarray(photograph()).save(folder / "both.png")
    make_head(open_head, x=-0.08).save(folder / "left.npz", source="both.png")
    make_head(open_head, yaw=-0.3, x=0.08).save(folder / "right.npz", source="both.png")
    return folder


@pytest.fixture(scope="session")
def track(open_head, tmp_path_factory):
    """A folder with ``track.npz`` of 6 frames, the third of them lost, and the frames beside it."""
    folder = tmp_path_factory.mktemp("track")
    (folder / "clip").mkdir()
    frames = [make_head(open_head, yaw=0.05 * number) for number in range(6)]
    for number in range(6):
        Image.fromarray(photograph(number)).save(folder / "clip" / f"{number}.png")
    status = np.array([SEEN, SEEN, LOST, SEEN, DOUBTFUL, SEEN])
    nan = lambda *shape: np.full((6, *shape), np.nan, np.float32)  # noqa: E731
    values = {
        "seconds": np.array([0.0, 0.1, 0.2, 0.3, 0.7, 0.8]),
        "status": status,
        "shot": np.zeros(6, np.int32),
        "confidence": np.linspace(1.0, 0.5, 6),
        "region_confidence": np.tile(CONFIDENCE, (6, 1)),
        "frontend_blendshapes": np.full((6, 51), np.nan, np.float32),
        "landmarks_3d": nan(68, 3),
        "frontend_landmarks": nan(68, 2),
        "fit_error": nan(),
        "shape": frames[0].shape,
        "intrinsics": frames[0].intrinsics,
        "focal_source": "given",
        "keyframes": np.array([0]),
        "image_size": np.array(SIZE),
        "frame_rate": 10.0,
        "person": 1,
        "people": 1,
        "head_model": open_head.name,
        "head_model_sha256": "",
        "frontend": "none",
        "checkpoint": "none",
        "source": "clip",
        "version": "0",
    }
    for key in ("expression", "jaw_pose", "eyelids", "eyes_pose", "rotation", "translation", "landmarks_2d"):
        values[key] = np.stack([getattr(frame, key) for frame in frames])
        values[key][2] = np.nan
    save_track(folder / "track.npz", values)
    return folder
