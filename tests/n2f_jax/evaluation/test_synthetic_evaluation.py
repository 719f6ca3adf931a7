"""Errors on answers whose error is known."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flame_jax
from flame_jax import FlameParams
from n2f_jax.data.sampler import SyntheticConfig
from n2f_jax.evaluation import synthetic
from n2f_jax.frontends.registry import FrontendOptions
from n2f_jax.geometry.camera import frontal_rotation
from n2f_jax.metrics.head_errors import vertex_errors
from n2f_jax.models.n2fnet import N2FOutput, uvs_from_camera
from n2f_jax.models.pretrained import DEFAULT_CHECKPOINT
from n2f_jax.render import HeadTopology

pytestmark = pytest.mark.medium


@pytest.fixture(scope="module")
def setting(open_head):
    assets = synthetic.Assets(open_head, HeadTopology.from_model(open_head), None)
    return assets, SyntheticConfig(image_size=32)


def _constant(output):
    """A network that answers this to everything."""

    def forward(params, normals, mask, scene):
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
    table = synthetic.format_report({"full": result})
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
    assert float(vertex_errors(assets.model, a, b)["face"]) > 0.3


def test_the_front_end_has_its_error_and_comes_first(open_head, monkeypatch):
    """The front end errs as measured of the network that is the default; without error it is called so."""
    shown = []

    def measured(forward, params, assets, config, **_):
        shown.append((config.front_end_share, config.point_share, config.point_errors))
        names = ("face_mm", "mean_head_face_mm", "face_ratio", "landmarks_percent", "rotation_degrees")
        names += (
            "normals_degrees",
            "mask_iou",
            "shape_rms",
            "expression_rms",
            "jaw_degrees",
            "eyelids_error",
        )
        return dict.fromkeys(names, float(len(shown)))

    monkeypatch.setattr(synthetic, "evaluate", measured)
    results = synthetic.evaluate_pretrained(DEFAULT_CHECKPOINT, num_heads=1)
    assert list(results) == ["front_end", "full", "front_end_without_error"]
    assert shown == [(1.0, 1.0, FrontendOptions.landmarks), (0.0, 0.0, ""), (1.0, 1.0, "")]
    head, face = synthetic.format_report(results).splitlines()[:2]
    titles = ["mean head", "front end", "full normals", "front end without error"]
    assert sorted(titles, key=lambda title: head.index(f"  {title}")) == titles
    assert face.split()[1:] == ["2.000", "1.000", "2.000", "3.000"]
