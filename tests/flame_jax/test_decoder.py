"""The decoder against a float64 NumPy loop written from the paper's formulas."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

import flame_jax
from flame_jax.loading import head_model_from_arrays
from flame_jax.rotations import matrix_to_rotation_6d
from tests.runtime_types import unchecked

from .random_model import random_arrays

ARRAYS = random_arrays()
BATCH = 3


@pytest.fixture(scope="module")
def model():
    return head_model_from_arrays(ARRAYS, default_name="random")


@pytest.fixture(scope="module")
def case():
    """Random coefficients and rotations (root, neck, jaw, left eye, right eye) of a batch."""
    rng = np.random.default_rng(5)
    rotations = Rotation.from_rotvec(rng.normal(0, 0.4, (BATCH * 5, 3))).as_matrix().reshape(BATCH, 5, 3, 3)
    return {
        "shape": rng.normal(size=(BATCH, 7)),
        "expression": rng.normal(size=(BATCH, 5)),
        "eyelids": rng.normal(size=(BATCH, 2)),
        "rotations": rotations,
    }


def params_of(case):
    six = matrix_to_rotation_6d(jnp.asarray(case["rotations"], jnp.float32))
    return flame_jax.FlameParams(
        shape=jnp.asarray(case["shape"], jnp.float32),
        expression=jnp.asarray(case["expression"], jnp.float32),
        eyelids=jnp.asarray(case["eyelids"], jnp.float32),
        neck=six[:, 1],
        jaw=six[:, 2],
        eyes=six[:, 3:],
    )


def reference(case, index):
    """One head, vertex by vertex, in float64."""
    a = ARRAYS
    coefficients = np.concatenate([case["shape"][index], case["expression"][index]])
    joints = a["J_regressor"] @ (a["v_template"] + a["shapedirs"] @ coefficients)
    rotations = case["rotations"][index]
    correctives = a["posedirs"] @ (rotations[1:] - np.eye(3)).reshape(36)
    rest = a["v_template"] + a["shapedirs"] @ coefficients + correctives

    parents = [-1, 0, 1, 1, 1]
    transforms = []
    for j, parent in enumerate(parents):
        local = np.eye(4)
        local[:3, :3] = rotations[j]
        local[:3, 3] = joints[j] - (joints[parent] if parent >= 0 else 0)
        transforms.append(local if parent < 0 else transforms[parent] @ local)
    vertices = np.zeros_like(rest)
    for v, point in enumerate(rest):
        for j, transform in enumerate(transforms):
            moved = transform[:3, :3] @ (point - joints[j]) + transform[:3, 3]
            vertices[v] += a["weights"][v, j] * moved
    left, right = case["eyelids"][index]
    return vertices + left * a["l_eyelid"] + right * a["r_eyelid"], np.stack([t[:3, 3] for t in transforms])


def test_decode_matches_the_float64_loop(model, case):
    root = jnp.asarray(case["rotations"][:, 0], jnp.float32)
    vertices, joints = jax.jit(flame_jax.decode)(model, params_of(case), root)
    for i in range(BATCH):
        expected_vertices, expected_joints = reference(case, i)
        np.testing.assert_allclose(vertices[i], expected_vertices, atol=2e-6)
        np.testing.assert_allclose(joints[i], expected_joints, atol=2e-6)


def test_any_batch_axes_and_vmap_agree(model, case):
    params = params_of(case)
    batched, _ = jax.jit(flame_jax.decode)(model, params)
    mapped, _ = jax.jit(jax.vmap(flame_jax.decode, in_axes=(None, 0)))(model, params)
    nested, _ = jax.jit(flame_jax.decode)(model, jax.tree.map(lambda x: x[:, None], params))
    single, _ = jax.jit(flame_jax.decode)(model, jax.tree.map(lambda x: x[1], params))
    np.testing.assert_allclose(batched, mapped, atol=1e-6)
    np.testing.assert_allclose(batched, nested[:, 0], atol=1e-6)
    np.testing.assert_allclose(batched[1], single, atol=1e-6)


def test_gradients_match_finite_differences(model, case):
    params = jax.tree.map(lambda x: x[0], params_of(case))
    direction = np.random.default_rng(9).normal(size=(60, 3)).astype(np.float32)

    @jax.jit
    def value(p):
        return jnp.sum(flame_jax.decode(model, p)[0] * direction)

    gradient = jax.jit(jax.grad(value))(params)
    for field in dataclasses.fields(params):
        at = getattr(params, field.name)
        analytic = np.asarray(getattr(gradient, field.name)).ravel()
        for k in range(min(at.size, 4)):
            step = np.zeros(at.size, np.float32)
            step[k] = 1e-2
            step = jnp.asarray(step.reshape(at.shape))
            up = value(dataclasses.replace(params, **{field.name: at + step}))
            down = value(dataclasses.replace(params, **{field.name: at - step}))
            expected = float(up - down) / 2e-2
            assert analytic[k] == pytest.approx(expected, abs=2e-3), (field.name, k)


def test_fewer_coefficients_drive_the_first_directions(model):
    neutral = flame_jax.FlameParams.neutral(model)
    short = dataclasses.replace(neutral, shape=jnp.ones(3))
    long = dataclasses.replace(neutral, shape=jnp.asarray([1.0, 1, 1, 0, 0, 0, 0]))
    np.testing.assert_allclose(flame_jax.decode(model, short)[0], flame_jax.decode(model, long)[0], atol=1e-6)
    with pytest.raises(ValueError, match="8 coefficients for 7 directions"):
        flame_jax.decode(model, dataclasses.replace(neutral, shape=jnp.zeros(8)))


def test_eyelids_before_skinning_turn_with_the_neck(model, case):
    """The same displacement, in the frame of the skinned vertex instead of the head's."""
    params = params_of(case)
    without, _ = flame_jax.decode(model, dataclasses.replace(params, eyelids=jnp.zeros((BATCH, 2))))
    after, _ = flame_jax.decode(model, params)
    before, _ = flame_jax.decode(model, params, eyelids="before")
    at_rest = dataclasses.replace(flame_jax.FlameParams.neutral(model, (BATCH,)), eyelids=params.eyelids)
    np.testing.assert_allclose(
        flame_jax.decode(model, at_rest)[0], flame_jax.decode(model, at_rest, eyelids="before")[0], atol=1e-6
    )
    lids = np.einsum("be,evc->bvc", params.eyelids, model.eyelids)
    np.testing.assert_allclose(after - without, lids, atol=1e-6)
    assert np.abs(before - after).max() > 1e-3
    blend = np.einsum("vj,bjrc->bvrc", ARRAYS["weights"], _world_rotations(case))
    np.testing.assert_allclose(before - without, np.einsum("bvrc,bvc->bvr", blend, lids), atol=2e-6)
    with unchecked(), pytest.raises(ValueError, match="'after' or 'before'"):
        flame_jax.decode(model, params, eyelids="never")


def _world_rotations(case):
    """Root at rest here, as ``decode`` has it without a root rotation."""
    neck, jaw, left, right = (case["rotations"][:, j] for j in range(1, 5))
    root = np.broadcast_to(np.eye(3), neck.shape)
    return np.stack([root, neck, neck @ jaw, neck @ left, neck @ right], axis=1)
