"""A head model with few directions and with pose correctives, and heads and tracks of it."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from flame_jax import FlameParams, decode
from flame_jax.rotations import axis_angle_to_rotation_6d
from n2f_jax.fitting.arkit import ArkitUnits
from n2f_jax.geometry import FRONTAL
from n2f_jax.models.pretrained import HeadModelIdentity, identity_sha256
from n2f_jax.tracking.track_file import KEYS as TRACK_KEYS

NUM_SHAPE, NUM_EXPRESSION = 4, 6


@pytest.fixture(scope="session")
def model(open_head):
    """The open head with its first directions, correctives of jaw and neck, and five joints at some vertices."""
    rng = np.random.default_rng(3)
    posedirs = np.zeros(open_head.posedirs.shape, np.float32)
    posedirs[..., :18] = 1e-3 * rng.normal(size=posedirs[..., :18].shape)
    weights = np.array(open_head.weights)
    weights[:20] = [0.01, 0.3, 0.4, 0.19, 0.1]
    return dataclasses.replace(
        open_head,
        shapedirs=open_head.shapedirs[..., :NUM_SHAPE],
        exprdirs=open_head.exprdirs[..., :NUM_EXPRESSION],
        posedirs=jnp.asarray(posedirs),
        has_pose_correctives=True,
        weights=jnp.asarray(weights),
    )


@pytest.fixture(scope="session")
def units(model):
    return ArkitUnits.of_open_head(model)


@pytest.fixture(scope="session")
def shape():
    return np.random.default_rng(1).normal(size=NUM_SHAPE)


def random_params(count, shape, seed=0):
    """Expressions, jaws, lids, necks and eyes of one person."""
    rng = np.random.default_rng(seed)
    normal = lambda *size: jnp.asarray(rng.normal(size=size), jnp.float32)  # noqa: E731
    return FlameParams(
        shape=jnp.broadcast_to(jnp.asarray(shape, jnp.float32), (count, len(shape))),
        expression=1.5 * normal(count, NUM_EXPRESSION),
        jaw=axis_angle_to_rotation_6d(0.2 * normal(count, 3)),
        eyelids=jnp.asarray(rng.uniform(-0.2, 1.0, (count, 2)), jnp.float32),
        neck=axis_angle_to_rotation_6d(0.3 * normal(count, 3)),
        eyes=axis_angle_to_rotation_6d(0.3 * normal(count, 2, 3)),
    )


def random_motion(count, seed=0):
    rng = np.random.default_rng(seed)
    return Rotation.random(count, rng).as_matrix(), rng.normal(size=(count, 3))


def made_head(model, shape, size=(120, 160), degrees=(5.0, 10.0, -3.0), center=None, seed=0):
    """What a head file holds of a head 0.9 m away."""
    rng = np.random.default_rng(seed)
    jaw, eyes = 0.1 * rng.normal(size=3), 0.2 * rng.normal(size=(2, 3))
    params = FlameParams.resting(
        jnp.asarray(shape, jnp.float32),
        jnp.asarray(rng.normal(size=NUM_EXPRESSION), jnp.float32),
        axis_angle_to_rotation_6d(jnp.asarray(jaw, jnp.float32)),
        jnp.asarray([0.1, 0.3], jnp.float32),
    )
    params = dataclasses.replace(params, eyes=axis_angle_to_rotation_6d(jnp.asarray(eyes, jnp.float32)))
    height, width = size
    center = (width / 2, height / 2) if center is None else center
    return {
        "vertices": np.asarray(decode(model, params)[0]),
        "rotation": FRONTAL @ Rotation.from_euler("XYZ", degrees, degrees=True).as_matrix(),
        "translation": np.array([0.01, 0.02, 0.9]),
        "intrinsics": np.array([[380.0, 0.0, center[0]], [0.0, 400.0, center[1]], [0.0, 0.0, 1.0]]),
        "image_size": np.array(size),
        "shape": np.asarray(params.shape),
        "expression": np.asarray(params.expression),
        "jaw_pose": jaw,
        "eyelids": np.asarray(params.eyelids),
        "eyes_pose": eyes,
        "head_model": model.name,
        "head_model_sha256": identity_sha256(HeadModelIdentity.of(model)),
    }


def made_track(model, shape, frames=12):
    """A track whose third and fourth frames are lost, and whose head turns from side to side."""
    rng = np.random.default_rng(5)
    lengths = {"T": frames, "S": NUM_SHAPE, "E": NUM_EXPRESSION, "F": 1}
    track = {
        key: np.zeros([lengths.get(n, n) for n in size], np.float32) if size else 0
        for key, (size, _) in TRACK_KEYS.items()
    }
    yaw = np.linspace(-40.0, 40.0, frames)
    status = np.ones(frames, np.int64)
    status[2:4] = 0
    texts = ("focal_source", "frontend", "checkpoint", "source", "version")
    track |= {key: "x" for key in texts} | {
        "seconds": np.cumsum(rng.uniform(0.02, 0.06, frames)),
        "status": status,
        "shape": np.asarray(shape, np.float32),
        "expression": rng.normal(size=(frames, NUM_EXPRESSION)).astype(np.float32),
        "jaw_pose": (0.1 * rng.normal(size=(frames, 3))).astype(np.float32),
        "eyelids": rng.uniform(size=(frames, 2)).astype(np.float32),
        "eyes_pose": (0.2 * rng.normal(size=(frames, 2, 3))).astype(np.float32),
        "rotation": FRONTAL @ Rotation.from_euler("Y", yaw[:, None], degrees=True).as_matrix(),
        "translation": np.array([0.0, 0.0, 0.8]) + 0.01 * rng.normal(size=(frames, 3)),
        "intrinsics": np.array([[300.0, 0, 80.0], [0, 300.0, 60.0], [0, 0, 1]]),
        "image_size": np.array([120, 160]),
        "head_model": model.name,
        "head_model_sha256": identity_sha256(HeadModelIdentity.of(model)),
    }
    for key in ("expression", "jaw_pose", "eyelids", "eyes_pose", "rotation", "translation"):
        track[key] = np.array(track[key])
        track[key][2:4] = np.nan
    return track
