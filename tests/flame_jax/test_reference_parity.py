"""Against smplx's and FLAME-PyTorch's FLAME at FLAME's true sizes, with random arrays and parameters.

Needs PyTorch, smplx and FLAME-PyTorch (``make test-slow`` installs them). Both references read real files, so the
files' reader is on trial too. Neither has eyelids: those are held against finite differences.
"""

import argparse
import contextlib
import dataclasses
import io
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flame_jax
from flame_jax import FlameParams
from flame_jax import decoder as ours
from flame_jax.rotations import axis_angle_to_matrix, matrix_to_rotation_6d

from .files.flame_folder import model_dict
from .random_model import random_arrays

torch = pytest.importorskip("torch")
smplx = pytest.importorskip("smplx")
lbs = pytest.importorskip("smplx.lbs")

pytestmark = pytest.mark.slow

BATCH = 4
# float32: relative to the head's size (0.1 m) and to the largest gradient.
TOLERANCE = 2e-6
GRADIENT_TOLERANCE = 2e-5


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """FLAME's files with 5,023 vertices, 9,976 triangles and 400 directions, under both references' names."""
    arrays = random_arrays(3, 5023, 9976, 300, 100)
    folder = tmp_path_factory.mktemp("flame")
    contents = model_dict({**arrays, "shapedirs": arrays["shapedirs"] * 0.1})
    for name in ("generic_model.pkl", "FLAME_NEUTRAL.pkl"):
        (folder / name).write_bytes(pickle.dumps(contents, 2))
    static = {
        "lmk_face_idx": arrays["full_lmk_faces_idx"][17:],
        "lmk_b_coords": arrays["full_lmk_bary_coords"][17:],
    }
    (folder / "flame_static_embedding.pkl").write_bytes(pickle.dumps(static, 2))
    moving = {
        "lmk_face_idx": arrays["dynamic_lmk_faces_idx"],
        "lmk_b_coords": arrays["dynamic_lmk_bary_coords"],
    }
    np.save(folder / "flame_dynamic_embedding.npy", moving, allow_pickle=True)
    return folder


@pytest.fixture(scope="module")
def model(folder):
    return flame_jax.load_head_model(folder / "generic_model.pkl")


@pytest.fixture(scope="module")
def case():
    """Coefficients and axis-angle poses, yaw up to beyond the contour's last bin."""
    rng = np.random.default_rng(0)
    poses = {name: rng.normal(0, 0.3, (BATCH, 3)) for name in ("root", "neck", "jaw", "left", "right")}
    poses["root"][:, 1] = [0.9, -0.7, 0.2, 0.0]
    values = {"shape": rng.normal(size=(BATCH, 300)), "expression": rng.normal(size=(BATCH, 100))}
    return {key: value.astype(np.float32) for key, value in {**values, **poses}.items()}


def our_params(case):
    six = {
        key: matrix_to_rotation_6d(axis_angle_to_matrix(case[key]))
        for key in ("neck", "jaw", "left", "right")
    }
    return FlameParams(
        shape=jnp.asarray(case["shape"]),
        expression=jnp.asarray(case["expression"]),
        jaw=six["jaw"],
        eyelids=jnp.zeros((BATCH, 2)),
        neck=six["neck"],
        eyes=jnp.stack([six["left"], six["right"]], axis=-2),
    )


def our_heads(model, case):
    root = axis_angle_to_matrix(case["root"])
    vertices, joints = flame_jax.decode(model, our_params(case), root)
    return vertices, joints, root


def smplx_heads(folder, case, *, contour):
    with contextlib.redirect_stdout(io.StringIO()):
        reference = smplx.FLAME(
            str(folder), num_betas=300, num_expression_coeffs=100, use_face_contour=contour, batch_size=BATCH
        )
    return reference(
        betas=case["shape"],
        expression=case["expression"],
        global_orient=case["root"],
        neck_pose=case["neck"],
        jaw_pose=case["jaw"],
        leye_pose=case["left"],
        reye_pose=case["right"],
    )


def tensors(case):
    return {key: torch.tensor(value, requires_grad=True) for key, value in case.items()}


def test_vertices_joints_and_landmarks_match_smplx(folder, model, case):
    vertices, joints, root = jax.jit(our_heads)(model, case)
    theirs = smplx_heads(folder, tensors(case), contour=True)
    np.testing.assert_allclose(vertices, theirs.vertices.detach(), atol=TOLERANCE)
    found = theirs.joints.detach().numpy()  # 5 joints, 51 static landmarks, 17 of the contour
    np.testing.assert_allclose(joints, found[:, :5], atol=TOLERANCE)
    # smplx turns the contour by the root alone, FLAME-PyTorch by root and neck.
    landmarks = flame_jax.landmarks68(model, vertices, flame_jax.yaw_from_rotation(root))
    np.testing.assert_allclose(landmarks[:, 17:], found[:, 5:56], atol=TOLERANCE)
    np.testing.assert_allclose(landmarks[:, :17], found[:, 56:], atol=TOLERANCE)


def test_every_intermediate_matches_smplx(model, case):
    """Blendshapes, rotations, joints, correctives, transforms and skinning, each from the reference's own input."""
    t = {key: torch.tensor(value) for key, value in case.items()}
    coefficients = torch.cat([t["shape"], t["expression"]], dim=1)
    directions = torch.tensor(np.concatenate([model.shapedirs, model.exprdirs], axis=-1))
    offsets = lbs.blend_shapes(coefficients, directions)
    shaped = offsets + torch.tensor(np.asarray(model.v_template))
    mine = ours.blendshapes(model.shapedirs, case["shape"]) + ours.blendshapes(
        model.exprdirs, case["expression"]
    )
    np.testing.assert_allclose(mine, offsets, atol=TOLERANCE)

    pose = torch.stack([t[key] for key in ("root", "neck", "jaw", "left", "right")], dim=1)
    rotations = lbs.batch_rodrigues(pose.reshape(-1, 3)).reshape(BATCH, 5, 3, 3)
    np.testing.assert_allclose(axis_angle_to_matrix(jnp.asarray(pose)), rotations, atol=TOLERANCE)

    joints = lbs.vertices2joints(torch.tensor(np.asarray(model.J_regressor)), shaped)
    mine = jnp.einsum("jv,bvc->bjc", model.J_regressor, jnp.asarray(shaped))
    np.testing.assert_allclose(mine, joints, atol=TOLERANCE)

    posedirs = torch.tensor(np.asarray(model.posedirs).reshape(-1, 36).T)
    feature = (rotations[:, 1:] - torch.eye(3)).reshape(BATCH, -1)
    correctives = (feature @ posedirs).reshape(BATCH, -1, 3)
    np.testing.assert_allclose(
        ours.pose_correctives(model.posedirs, jnp.asarray(rotations)), correctives, atol=TOLERANCE
    )

    parents = torch.tensor(model.parents)
    posed_joints, relative = lbs.batch_rigid_transform(rotations, joints, parents)
    world, positions = ours.joint_transforms(jnp.asarray(rotations), jnp.asarray(joints), model.parents)
    np.testing.assert_allclose(world, relative[:, :, :3, :3], atol=TOLERANCE)
    np.testing.assert_allclose(positions, posed_joints, atol=TOLERANCE)

    posed = shaped + correctives
    transforms = torch.einsum("vj,bjrc->bvrc", torch.tensor(np.asarray(model.weights)), relative)
    skinned = (transforms @ torch.nn.functional.pad(posed, (0, 1), value=1.0)[..., None])[:, :, :3, 0]
    mine = ours.skin(jnp.asarray(posed), model.weights, world, jnp.asarray(joints), positions)
    np.testing.assert_allclose(mine, skinned, atol=TOLERANCE)


def test_gradients_match_smplx(folder, model, case):
    """Of one scalar of vertices, joints and landmarks by shape, expression and every pose in axis-angle."""
    rng = np.random.default_rng(1)
    by_vertex = rng.normal(size=(BATCH, 5023, 3)).astype(np.float32)
    by_landmark = rng.normal(size=(BATCH, 51, 3)).astype(np.float32)
    by_joint = rng.normal(size=(BATCH, 5, 3)).astype(np.float32)

    def value(case):
        vertices, joints, _ = our_heads(model, case)
        landmarks = flame_jax.landmarks68(model, vertices)[:, 17:]
        return jnp.sum(vertices * by_vertex) + jnp.sum(landmarks * by_landmark) + jnp.sum(joints * by_joint)

    gradients = jax.jit(jax.grad(value))(case)
    variables = tensors(case)
    theirs = smplx_heads(folder, variables, contour=False)
    total = (theirs.vertices * torch.tensor(by_vertex)).sum()
    total = total + (theirs.joints[:, :5] * torch.tensor(by_joint)).sum()
    total = total + (theirs.joints[:, 5:] * torch.tensor(by_landmark)).sum()
    total.backward()
    for key, variable in variables.items():
        expected = variable.grad.numpy()
        np.testing.assert_allclose(
            gradients[key], expected, atol=GRADIENT_TOLERANCE * np.abs(expected).max(), err_msg=key
        )


def test_eyelid_gradients_match_finite_differences(model, case):
    arrays = random_arrays(3, 5023, 9976, 1, 1)
    lids = jnp.asarray(np.stack([arrays["l_eyelid"], arrays["r_eyelid"]]), jnp.float32)
    with_lids = dataclasses.replace(model, eyelids=lids)
    weight = np.random.default_rng(2).normal(size=(BATCH, 5023, 3)).astype(np.float32)
    root = axis_angle_to_matrix(case["root"])

    for order in ("after", "before"):

        def value(eyelids, order=order):
            params = dataclasses.replace(our_params(case), eyelids=eyelids)
            vertices, _ = flame_jax.decode(with_lids, params, root, eyelids=order)
            return jnp.sum(vertices * weight, axis=(1, 2))

        at = jnp.full((BATCH, 2), 0.4)
        gradient = jax.jit(jax.grad(lambda e: value(e).sum()))(at)
        for lid in range(2):
            step = jnp.zeros((BATCH, 2)).at[:, lid].set(0.5)  # linear: a long step loses no accuracy
            expected = value(at + step) - value(at - step)
            np.testing.assert_allclose(gradient[:, lid], expected, rtol=1e-3, atol=1e-3)


def test_contour_and_vertices_match_flame_pytorch(folder, model, case, monkeypatch):
    """Its own contour, turned by root and neck; at every degree, the bins switch where its do."""
    pytest.importorskip("flame_pytorch")
    monkeypatch.setattr("sys.argv", ["test"])
    from flame_pytorch import FLAME

    def run(case):
        count = len(case["shape"])
        config = argparse.Namespace(
            flame_model_path=str(folder / "generic_model.pkl"),
            static_landmark_embedding_path=str(folder / "flame_static_embedding.pkl"),
            dynamic_landmark_embedding_path=str(folder / "flame_dynamic_embedding.npy"),
            shape_params=300,
            expression_params=100,
            use_face_contour=True,
            use_3D_translation=False,
            batch_size=count,
        )
        with contextlib.redirect_stdout(io.StringIO()):
            reference = FLAME(config)
        t = {key: torch.tensor(value) for key, value in case.items()}
        vertices, landmarks = reference(
            t["shape"],
            t["expression"],
            torch.cat([t["root"], t["jaw"]], dim=1),
            neck_pose=t["neck"],
            eye_pose=torch.cat([t["left"], t["right"]], dim=1),
        )
        return vertices.detach().numpy(), landmarks.detach().numpy()

    vertices, _, root = our_heads(model, case)
    theirs, landmarks = run(case)
    np.testing.assert_allclose(vertices, theirs, atol=TOLERANCE)
    yaw = flame_jax.yaw_from_rotation(root @ axis_angle_to_matrix(case["neck"]))
    np.testing.assert_allclose(flame_jax.landmarks68(model, vertices, yaw), landmarks, atol=TOLERANCE)

    degrees = (
        np.arange(-60, 60.5, 0.25).astype(np.float32) + 0.01
    )  # not on the halves, where rounding decides
    turned = {key: np.zeros((len(degrees), value.shape[1]), np.float32) for key, value in case.items()}
    turned["root"][:, 1] = np.deg2rad(degrees)
    params = FlameParams.neutral(model, (len(degrees),))
    root = axis_angle_to_matrix(jnp.asarray(turned["root"]))
    vertices, _ = flame_jax.decode(model, params, root)
    _, landmarks = run(turned)
    mine = flame_jax.landmarks68(model, vertices, flame_jax.yaw_from_rotation(root))
    np.testing.assert_allclose(mine, landmarks, atol=TOLERANCE)
