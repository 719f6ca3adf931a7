"""Alignment against SciPy, errors on answers whose error is known."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

import flame_jax
from flame_jax import FlameParams
from n2f_jax.data.synthetic import SyntheticConfig
from n2f_jax.evaluation import synthetic
from n2f_jax.evaluation.alignment import apply_rigid, rigid_transform
from n2f_jax.geometry.camera import frontal_rotation
from n2f_jax.models.n2fnet import N2FOutput, uvs_from_camera
from n2f_jax.render import HeadTopology

pytestmark = pytest.mark.medium


def test_rigid_alignment_is_scipys():
    rng = np.random.default_rng(0)
    source, noise = rng.normal(size=(2, 30, 3)), 0.1 * rng.normal(size=(2, 30, 3))
    turn = Rotation.random(2, random_state=1)
    target = np.stack([r.apply(s) for r, s in zip(turn, source, strict=True)]) + noise + 3.0
    rotation, translation = jax.jit(rigid_transform)(
        jnp.asarray(source, jnp.float32), jnp.asarray(target, jnp.float32)
    )
    for i in range(2):
        expected, _ = Rotation.align_vectors(target[i] - target[i].mean(0), source[i] - source[i].mean(0))
        np.testing.assert_allclose(rotation[i], expected.as_matrix(), atol=1e-5)
        np.testing.assert_allclose(
            translation[i], target[i].mean(0) - expected.as_matrix() @ source[i].mean(0), atol=1e-4
        )


def test_a_mirror_image_is_not_aligned_by_a_reflection():
    points = jnp.asarray(np.random.default_rng(2).normal(size=(20, 3)), jnp.float32)
    rotation, translation = rigid_transform(points * jnp.asarray([[-1.0, 1.0, 1.0]]), points)
    assert float(jnp.linalg.det(rotation)) == pytest.approx(1.0, abs=1e-5)
    assert np.isfinite(apply_rigid(points, rotation, translation)).all()


def test_vertex_errors_ignore_pose_and_see_size(open_head):
    """Turned and moved: 0 mm. One per cent too large: one per cent of the distance to the face's centre."""
    truth = jnp.asarray(open_head.v_template)
    turn = jnp.asarray(Rotation.from_euler("xyz", [20, -30, 10], degrees=True).as_matrix(), jnp.float32)
    moved = apply_rigid(truth, turn, jnp.asarray([0.1, -0.2, 0.3]))
    errors = jax.jit(lambda a, b: synthetic.vertex_errors(open_head, a, b))
    assert max(float(value) for value in errors(moved, truth).values()) < 2e-3
    face = np.asarray(truth)[np.asarray(open_head.masks["face"])]
    expected = 1000 * 0.01 * np.linalg.norm(face - face.mean(0), axis=1).mean()
    assert float(errors(1.01 * truth, truth)["face"]) == pytest.approx(expected, rel=1e-3)


def test_rotation_error_keeps_its_digits():
    for degrees in (0.0, 1e-3, 0.5, 30.0, 179.0):
        turn = jnp.asarray(Rotation.from_euler("y", degrees, degrees=True).as_matrix(), jnp.float32)
        found = float(synthetic.rotation_error_degrees(turn, jnp.eye(3)))
        assert found == pytest.approx(degrees, rel=1e-3, abs=1e-5)


@pytest.fixture(scope="module")
def setting(open_head):
    assets = synthetic.Assets(open_head, HeadTopology.from_model(open_head), None)
    return assets, SyntheticConfig(image_size=32)


def _constant(output):
    """A network that answers this to everything."""

    def forward(params, normals, mask):
        batch = normals.shape[0]
        return jax.tree.map(lambda x: jnp.broadcast_to(x, (batch, *x.shape)), output)

    return forward


def test_answering_the_mean_head_has_ratio_one(setting):
    assets, config = setting
    neutral = FlameParams.neutral(assets.model)
    output = N2FOutput(
        neutral.shape,
        neutral.expression,
        neutral.jaw,
        neutral.eyelids,
        jnp.asarray([1.0, 0, 0, 0, 1.0, 0]),
        jnp.asarray([0.5, 0.5, -1.55]),
    )
    result = synthetic.evaluate(_constant(output), {}, assets, config, num_heads=5, batch_size=4)
    assert result["face_ratio"] == pytest.approx(1.0, abs=1e-5)
    assert result["nose_mm"] == pytest.approx(result["mean_head_nose_mm"], abs=1e-4)
    assert result["face_mm"] > 1.0
    # A frontal answer errs by the head's own rotation, some 20 degrees on average.
    assert 5.0 < result["rotation_degrees"] < 50.0
    table = synthetic.format_report(result, None)
    assert f"{result['face_mm']:.3f}" in table
    assert "landmarks, % of crop" in table


def test_the_truth_has_no_error(setting):
    assets, config = setting

    @jax.jit
    def errors(assets):
        batch = synthetic.make_batch(
            synthetic.held_out_key(0, 0), assets.model, assets.topology, config, 3, targets=True
        )
        params, camera = batch["params"], batch["camera"]
        rotation = frontal_rotation(camera.rotation)[..., :2, :].reshape(3, 6)
        output = N2FOutput(
            params.shape,
            params.expression,
            params.jaw,
            params.eyelids,
            rotation,
            uvs_from_camera(camera, config.image_size),
        )
        return synthetic.batch_errors(output, batch, assets, config)

    found = errors(assets)
    assert float(found["face_mm"].max()) < 1e-3
    assert float(found["landmarks_percent"].max()) < 0.02
    assert float(found["rotation_degrees"].max()) < 0.05
    assert float(found["normals_degrees"].max()) < 0.5
    assert float(found["mask_iou"].min()) > 0.98
    for name in ("shape_rms", "expression_rms", "jaw_degrees", "eyelids_error"):
        assert float(found[name].max()) < 1e-3


def test_map_errors_on_maps_whose_errors_are_known():
    """Turned by 10°: 10 degrees. Half of a mask: IoU a half. Masks that do not meet: 90 degrees and 0."""
    turn = Rotation.from_euler("y", 10, degrees=True).as_matrix()
    normals = np.broadcast_to(np.array([0.0, 0.0, 1.0], np.float32), (2, 8, 8, 3))
    mask = np.ones((2, 8, 8), np.float32)
    mask[1, :, 4:] = 0.0
    half = np.zeros((2, 8, 8), np.float32)
    half[:, :, :4] = 1.0
    half[1] = 1.0 - half[1]
    turned = (normals @ turn.T).astype(np.float32)
    found = synthetic.map_errors(*map(jnp.asarray, (turned, mask, normals, half)))
    np.testing.assert_allclose(found["normals_degrees"], [10.0, 90.0], atol=1e-3)
    np.testing.assert_allclose(found["mask_iou"], [0.5, 0.0])


def test_the_held_out_stream_is_not_the_training_stream():
    """No batch of a run with the same seed shares its key with a held-out batch."""
    seed = 0
    training = {
        tuple(np.asarray(jax.random.key_data(jax.random.fold_in(jax.random.key(seed), step))))
        for step in range(200)
    }
    held_out = {
        tuple(np.asarray(jax.random.key_data(synthetic.held_out_key(seed, index)))) for index in range(50)
    }
    assert len(held_out) == 50
    assert not training & held_out


def test_decoding_agrees_with_the_parameters(setting):
    """``batch_errors`` decodes the answer itself: a shape that differs shows in the face."""
    assets, _ = setting
    neutral = FlameParams.neutral(assets.model)
    changed = dataclasses.replace(neutral, shape=neutral.shape.at[0].set(1.0))
    a, _ = flame_jax.decode(assets.model, neutral)
    b, _ = flame_jax.decode(assets.model, changed)
    assert float(synthetic.vertex_errors(assets.model, a, b)["face"]) > 0.3
