"""GNM Head against a float64 loop written from its formulas, and its files, sound and not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

import flame_jax
from flame_jax.rotations import matrix_to_rotation_6d

from .gnm_file import gnm_arrays, landmark_text, write_gnm

BATCH = 3


@pytest.fixture(scope="module")
def arrays():
    return gnm_arrays()


@pytest.fixture(scope="module")
def model(arrays, tmp_path_factory):
    return flame_jax.load_head_model(write_gnm(tmp_path_factory.mktemp("gnm"), arrays))


def reference(arrays, identity, expression, rotations):
    """Vertices and joints of one head in the file's own frame; rotations ``(4, 3, 3)`` in the file's order."""
    a = {key: np.asarray(value, np.float64) for key, value in arrays.items() if value.dtype.kind == "f"}
    rest = a["template_vertex_positions"] + np.tensordot(identity, a["vertex_identity_basis"], 1)
    rest = rest + np.tensordot(expression, a["expression_basis"], 1)
    rest = rest + ((rotations - np.eye(3)).reshape(36) @ a["pose_correctives_regressor"]).reshape(-1, 3)
    joints = a["template_joint_positions"] + np.tensordot(identity, a["joint_identity_basis"], 1)
    turned, placed = [rotations[0]], [joints[0]]
    for j, parent in ((1, 0), (2, 1), (3, 1)):
        turned.append(turned[parent] @ rotations[j])
        placed.append(placed[parent] + turned[parent] @ (joints[j] - joints[parent]))
    skinned = sum(
        a["skinning_weights"][j][:, None] * ((rest - joints[j]) @ turned[j].T + placed[j]) for j in range(4)
    )
    return skinned, np.stack(placed)


def _params(identity, expression, rotations):
    six = matrix_to_rotation_6d(jnp.asarray(rotations, jnp.float32))
    still = jnp.broadcast_to(jnp.asarray([1.0, 0, 0, 0, 1, 0]), (len(identity), 6))
    return flame_jax.FlameParams(
        shape=jnp.asarray(identity, jnp.float32),
        expression=jnp.asarray(expression, jnp.float32),
        jaw=still,
        eyelids=jnp.zeros((len(identity), 2)),
        neck=six[:, 1],
        eyes=six[:, 2:],
    ), jnp.asarray(rotations[:, 0], jnp.float32)


def _held_against_the_loop(model, arrays, tolerance):
    rng = np.random.default_rng(3)
    identity = rng.normal(size=(BATCH, model.num_shape))
    expression = rng.normal(size=(BATCH, model.num_expression))
    rotations = Rotation.from_rotvec(rng.normal(0, 0.3, (BATCH * 4, 3))).as_matrix().reshape(BATCH, 4, 3, 3)
    vertices, joints = jax.jit(flame_jax.decode)(model, *_params(identity, expression, rotations))
    origin = np.array(model.origin)
    for n in range(BATCH):
        expected, placed = reference(arrays, identity[n], expression[n], rotations[n])
        np.testing.assert_allclose(np.asarray(vertices[n]) + origin, expected, atol=tolerance)
        # FLAME's root, neck and eyes are GNM's neck, head and eyes.
        np.testing.assert_allclose(np.asarray(joints[n])[[0, 1, 3, 4]] + origin, placed, atol=tolerance)


def test_decodes_as_the_formulas_say(model, arrays):
    _held_against_the_loop(model, arrays, 2e-6)


@pytest.mark.slow
def test_true_sizes(tmp_path):
    arrays = gnm_arrays(vertices=17_821, triangles=35_324, identity=253, expression=383)
    model = flame_jax.load_head_model(write_gnm(tmp_path, arrays))
    assert (model.num_vertices, model.num_faces, model.num_shape, model.num_expression) == (
        17_821,
        35_324,
        253,
        383,
    )
    _held_against_the_loop(model, arrays, 5e-6)


def test_the_jaw_turns_nothing(model):
    params = flame_jax.FlameParams.neutral(model)
    turned = matrix_to_rotation_6d(jnp.asarray(Rotation.from_rotvec([0.3, 0, 0]).as_matrix(), jnp.float32))
    opened = flame_jax.FlameParams(**{**vars(params), "jaw": turned})
    np.testing.assert_array_equal(flame_jax.decode(model, params)[0], flame_jax.decode(model, opened)[0])


def test_eyes_lie_where_flame_has_them_and_coefficients_are_in_deviations(model, arrays):
    joints = flame_jax.decode(model, flame_jax.FlameParams.neutral(model))[1]
    np.testing.assert_allclose(joints[3:].mean(axis=0), [0.0, 0.026, 0.052], atol=1e-7)
    assert (model.shape_std, model.expression_std, model.name) == (1.0, 1.0, "GNM Head 3.0")
    assert (model.num_shape, model.num_expression) == (7, 5)


def test_landmarks_are_the_files_points_from_ear_to_ear(tmp_path, arrays):
    model = flame_jax.load_head_model(write_gnm(tmp_path, arrays))
    rows = np.array(
        [line.split() for line in (tmp_path / "head_sparse_68.txt").read_text().splitlines()], float
    )
    shares = rows[:, 1::2] / rows[:, 1::2].sum(axis=1, keepdims=True)
    points = np.einsum("nk,nkc->nc", shares, arrays["template_vertex_positions"][rows[:, ::2].astype(int)])
    found = np.asarray(flame_jax.landmarks68(model, model.v_template)) + np.array(model.origin)
    np.testing.assert_allclose(found[17:], points[17:], atol=1e-6)
    np.testing.assert_allclose(found[8], points[8], atol=1e-6)
    # The jaw line falls to the chin and rises again, whatever order the file has it in.
    assert (np.diff(found[:8, 1]) <= 0).all() and (np.diff(found[9:17, 1]) >= 0).all()
    np.testing.assert_allclose(sorted(found[:8, 1]), sorted(points[:8, 1]), atol=1e-6)
    turned = flame_jax.landmarks68(model, model.v_template, jnp.asarray(0.5))
    np.testing.assert_allclose(np.asarray(turned) + np.array(model.origin), found, atol=1e-6)


def test_a_landmark_between_vertices_that_are_no_triangle_lies_on_the_surface_beside_them(tmp_path):
    arrays = gnm_arrays()
    square = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], np.float32)
    arrays["template_vertex_positions"][:4] = square
    arrays["triangles"] = np.array([[0, 1, 2], [0, 2, 3]], np.int32)
    arrays["triangle_uvs"] = arrays["triangle_uvs"][:2]
    # The other diagonal's triangle.
    (tmp_path / "head_sparse_68.txt").write_text("0 0.5 1 0.3 3 0.2\n" * 68)
    model = flame_jax.load_head_model(write_gnm(tmp_path, arrays, landmarks=False))
    found = np.asarray(flame_jax.landmarks68(model, model.v_template)) + np.array(model.origin)
    np.testing.assert_allclose(found, np.tile([0.3, 0.2, 0.0], (68, 1)), atol=1e-6)


def test_regions(model, arrays):
    groups = dict(zip(arrays["vertex_group_names"], arrays["vertex_groups"], strict=True))
    np.testing.assert_array_equal(model.masks["nose"], np.flatnonzero(groups["nose_region"] > 0.5))
    np.testing.assert_array_equal(model.masks["teeth"], np.flatnonzero(groups["upper_teeth"] > 0.5))
    ears = np.concatenate([model.masks["left_ear"], model.masks["right_ear"]])
    assert sorted(ears) == np.flatnonzero(groups["ears"] > 0.5).tolist()
    assert (np.asarray(model.v_template)[np.asarray(model.masks["left_ear"]), 0] > 0).all()
    assert set(np.asarray(model.masks["nose"])) - set(np.asarray(model.masks["eyeballs"])) - set(
        np.asarray(model.masks["teeth"])
    ) <= set(np.asarray(model.masks["face"]))


def test_texture_coordinates_are_those_of_the_corners(model, arrays):
    np.testing.assert_array_equal(np.asarray(model.uv)[np.asarray(model.uv_faces)], arrays["triangle_uvs"])


def test_found_in_a_folder_and_in_the_repositorys_places(tmp_path, arrays):
    folder = tmp_path / "data" / "versions" / "v3_0"
    folder.mkdir(parents=True)
    write_gnm(folder, arrays, landmarks=False)
    assert flame_jax.load_head_model(folder).landmarks is None
    (tmp_path / "data" / "landmarks").mkdir()
    text = tmp_path / "data" / "landmarks" / "head_sparse_68.txt"
    text.write_text(landmark_text(arrays["triangles"]))
    assert flame_jax.load_head_model(folder).landmarks is not None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"joint_names": np.array(["neck", "jaw", "left_eye", "right_eye"])}, "joints are neck, jaw"),
        ({"joint_parent_indices": np.array([0, 0, 0, 1])}, "does not hang"),
        ({"triangles": None}, "holds no triangles"),
        ({"expression_basis": np.zeros((5, 60))}, "expression_basis has shape"),
        ({"template_vertex_positions": np.full((60, 3), np.nan)}, "not finite"),
        ({"vertex_identity_basis": np.full((7, 60, 3), 1e300)}, "not finite"),
        ({"triangles": np.full((90, 3), 60)}, "indices outside"),
        ({"joint_names": np.arange(4.0)}, "joints are"),
        ({"joint_parent_indices": np.array(["a"] * 4)}, "not what its name says"),
    ],
)
def test_a_bad_file_is_named_with_its_fault(tmp_path, change, message):
    arrays = {key: value for key, value in (gnm_arrays() | change).items() if value is not None}
    with pytest.raises(flame_jax.HeadModelError, match=message) as caught:
        flame_jax.load_head_model(write_gnm(tmp_path, arrays, landmarks=False))
    assert "gnm_head.npz" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["", "1 2 3\n" * 68, "1 0.5 2 0.5 99 0.0\n" * 68, "1 0.5 2 0.5 3 7\n" * 68, "x\n"]
)
def test_bad_landmarks_are_named(tmp_path, arrays, text):
    path = write_gnm(tmp_path, arrays, landmarks=False)
    (tmp_path / "head_sparse_68.txt").write_text(text)
    with pytest.raises(flame_jax.HeadModelError, match="head_sparse_68"):
        flame_jax.load_head_model(path)
