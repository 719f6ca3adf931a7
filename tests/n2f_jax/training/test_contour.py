"""Landmarks that are compared with photographs follow the jaw line that is seen."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flame_jax
from flame_jax import FlameParams
from flame_jax.rotations import euler_to_matrix
from n2f_jax.data.assets import Assets
from n2f_jax.data.sampler import SyntheticConfig
from n2f_jax.geometry.camera import Camera, frontal_rotation, project
from n2f_jax.models.n2fnet import N2FOutput, n2fnet_config, uvs_from_camera
from n2f_jax.reconstruction.prediction import with_visible_landmarks
from n2f_jax.render import HeadTopology, render_head
from n2f_jax.training.contour import landmarks_percent, projected_landmarks, yaw_seen
from n2f_jax.training.losses import RenderLossConfig
from n2f_jax.training.step import Objective

pytestmark = pytest.mark.medium

SIZE = 64


def _seen(yaws, across=0.0):
    """Cameras of crops (SIZE pixels) of heads at these yaws, in degrees, ``across`` metres beside the optical axis."""
    angles = jnp.stack([jnp.zeros(len(yaws)), jnp.radians(jnp.asarray(yaws)), jnp.zeros(len(yaws))], axis=-1)
    count = len(yaws)
    focal = 4.0 * SIZE
    at = jnp.broadcast_to(jnp.asarray([across, 0.02, 0.9]), (count, 3))
    centre = SIZE / 2 - focal * at[:, :2] / at[:, 2:]
    rotation = frontal_rotation(jax.vmap(euler_to_matrix)(angles))
    return Camera(rotation, at, jnp.full(count, focal), centre)


@pytest.fixture(scope="module")
def heads(open_head):
    rng = np.random.default_rng(0)
    neutral = FlameParams.neutral(open_head, (4,))
    shape = jnp.asarray(0.8 * rng.normal(size=neutral.shape.shape), jnp.float32)
    return FlameParams.resting(shape, neutral.expression, neutral.jaw, neutral.eyelids)


def _annotated(model, params, camera):
    """The landmarks that a photograph of the heads would be annotated with, pixels."""
    seen = with_visible_landmarks(model, params, camera)
    return project(seen.landmarks, camera)


def _truth(params, camera):
    """The network's output that is the truth."""
    return N2FOutput(
        params.shape,
        params.expression,
        params.jaw,
        params.eyelids,
        frontal_rotation(camera.rotation)[..., :2, :].reshape(-1, 6),
        uvs_from_camera(camera, SIZE),
    )


def test_the_true_head_costs_nothing_at_any_yaw(open_head, heads):
    """By the loss of fine-tuning; with fixed points the same head is far off."""
    camera = _seen([30.0, -30.0, 45.0, 12.0])
    topology = HeadTopology.from_model(open_head)
    assets = Assets(open_head, topology, None)
    annotated = _annotated(open_head, heads, camera)

    objective = Objective(
        n2fnet_config("tiny"), SyntheticConfig(image_size=SIZE), RenderLossConfig(), 4, "dynamic"
    )

    @jax.jit
    def terms(params, camera, annotated, assets):
        vertices, _ = flame_jax.decode(assets.model, params)
        maps = render_head(assets.topology, vertices, camera, SIZE)
        batch = {
            "camera": camera,
            "target_normals": maps.normals,
            "target_mask": maps.mask,
            "landmarks_2d": annotated,
        }
        static = project(flame_jax.landmarks68(assets.model, vertices), camera)
        return objective.loss(_truth(params, camera), batch, assets)[1], static

    found, static = terms(heads, camera, annotated, assets)
    # A tenth of a pixel is (0.1 / 64)² = 2e-6.
    assert float(found["landmarks"]) < 1e-9
    assert float(found["normals"]) < 1e-3
    assert float(jnp.mean(jnp.square((static - annotated) / SIZE))) > 1e-4


def test_fixed_points_have_a_floor(open_head, heads):
    """In the distance of the outer eye corners, which is what 300W's error is measured in."""
    camera = _seen([30.0, 30.0, 45.0, 45.0])
    vertices, _ = flame_jax.decode(open_head, heads)
    annotated = _annotated(open_head, heads, camera)
    static = projected_landmarks(open_head, vertices, camera, "static")
    eyes = jnp.linalg.norm(annotated[:, 36] - annotated[:, 45], axis=-1)
    # All of it on the 17 points of the jaw line.
    floor = 68 / 17 * np.asarray(landmarks_percent(static, annotated, SIZE) * SIZE / eyes)
    np.testing.assert_allclose(floor[:2].mean(), 10.7, atol=1.0)
    np.testing.assert_allclose(floor[2:].mean(), 19.4, atol=2.0)
    seen = projected_landmarks(open_head, vertices, camera, "dynamic")
    np.testing.assert_allclose(seen, annotated, atol=1e-3)


@pytest.mark.parametrize("across", [0.0, 0.3, -0.25])
def test_the_yaw_is_that_about_the_ray_to_the_head(open_head, heads, across):
    """Off the axis the camera sees another side; the same landmarks as the reconstruction's."""
    camera = _seen([30.0, -30.0, 5.0, 0.0], across)
    about_the_axis = flame_jax.yaw_from_rotation(
        jnp.broadcast_to(jnp.diag(jnp.asarray([1.0, -1.0, -1.0])), (4, 3, 3)) @ camera.rotation
    )
    turned = np.degrees(np.asarray(yaw_seen(camera) - about_the_axis))
    np.testing.assert_allclose(
        turned[3], np.degrees(np.arcsin(across / np.hypot(across, np.hypot(0.02, 0.9)))), atol=1e-3
    )
    if across == 0.0:
        np.testing.assert_allclose(turned, 0.0, atol=0.02)
    vertices, _ = flame_jax.decode(open_head, heads)
    found = projected_landmarks(open_head, vertices, camera, "dynamic")
    np.testing.assert_allclose(found, _annotated(open_head, heads, camera), atol=1e-3)


def test_no_derivative_goes_through_the_choice_of_points(open_head, heads):
    camera = _seen([30.0, -30.0, 45.0, 12.0])
    vertices, _ = flame_jax.decode(open_head, heads)
    yaw = yaw_seen(camera)
    target = jnp.full((4, 68, 2), SIZE / 2)

    def chosen(camera, vertices):
        return jnp.sum((projected_landmarks(open_head, vertices, camera, "dynamic") - target) ** 2)

    def given(camera, vertices):
        return jnp.sum((project(flame_jax.landmarks68(open_head, vertices, yaw), camera) - target) ** 2)

    one, two = (jax.grad(f, argnums=(0, 1))(camera, vertices) for f in (chosen, given))
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
        assert np.isfinite(a).all() and np.any(a)
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-4)
