"""Frames of a known person from points as the front end is measured to see them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flame_jax import decode, points_on_mesh
from flame_jax.rotations import euler_to_matrix
from n2f_jax.face_mesh.embedding import face_mesh_embedding
from n2f_jax.face_mesh.error_model import load_point_errors
from n2f_jax.fitting.head_tables import HeadTables
from n2f_jax.geometry.camera import Camera, frontal_rotation
from n2f_jax.tracking import identity
from n2f_jax.tracking.frame_fit import PersonPoints, fit_frames
from n2f_jax.tracking.frames import head_params
from n2f_jax.tracking.identity import Conditional, choose_keyframes, estimate_focal, joint_shape
from n2f_jax.tracking.point_errors import expected_errors, seen_points
from n2f_jax.tracking.shards import Faces

pytestmark = pytest.mark.medium
SIZE = 128.0


def test_expression_and_pose_are_found_through_the_front_ends_error(open_head):
    rng = np.random.default_rng(0)
    places, errors = face_mesh_embedding(open_head), load_point_errors("v2")
    count = open_head.num_expression
    shape = rng.standard_normal(open_head.num_shape).astype(np.float32)
    truth = np.zeros((2, count + 5), np.float32)
    truth[:, :8] = 0.4 * rng.standard_normal((2, 8))
    truth[:, count] = 0.1
    precision = np.diag(np.concatenate([np.full(count, 4.0), np.full(3, 100.0), np.full(2, 4.0)]))
    pivot = jnp.asarray(open_head.v_template).mean(axis=0)
    person = PersonPoints.make(open_head, places, shape, pivot, errors, precision)

    # The points on the person's head are those of the whole model.
    vertices, _ = decode(open_head, head_params(jnp.asarray(shape), jnp.asarray(truth)))
    heads = points_on_mesh(vertices, open_head.faces, *places)
    np.testing.assert_allclose(jax.vmap(person.points)(jnp.asarray(truth)), heads, atol=2e-4)

    angles = jnp.radians(jnp.asarray([[3.0, 12.0, -2.0], [-5.0, -18.0, 4.0]], jnp.float32))
    rotation = frontal_rotation(euler_to_matrix(angles))
    camera = Camera(
        rotation,
        jnp.asarray([[0.01, 0.02, 0.8], [-0.02, 0.0, 0.9]]),
        jnp.asarray([480.0, 520.0]),
        jnp.asarray([[64.0, 64.0], [64.0, 64.0]]),
    )

    def said(head, camera):
        seen = seen_points(head, camera)
        return seen + expected_errors(errors, seen, camera.rotation, SIZE)

    points = jax.vmap(said)(heads, camera)
    found, cameras, gap = fit_frames(
        person,
        points,
        jnp.zeros_like(jnp.asarray(truth)),
        camera.focal,
        camera.principal_point,
        SIZE,
        8,
    )
    placed = jax.vmap(person.points)(found)
    # Against leaving the front end's error in: 1.5 % of the crop, and some millimetres.
    assert float(gap.max()) < 0.004
    away = np.linalg.norm(np.asarray(placed - heads), axis=-1).mean()
    rest = np.linalg.norm(
        np.asarray(jax.vmap(person.points)(jnp.zeros_like(jnp.asarray(truth))) - heads), axis=-1
    ).mean()
    assert away < 0.5 * rest
    turned = np.einsum("bij,bkj->bik", np.asarray(cameras.rotation), np.asarray(rotation))
    angle = np.degrees(np.arccos(np.clip((np.trace(turned, axis1=1, axis2=2) - 1) / 2, -1, 1)))
    assert angle.max() < 1.5


def test_a_conditional_is_that_of_the_joint_gaussian():
    rng = np.random.default_rng(1)
    root = rng.standard_normal((7, 7))
    covariance = root @ root.T + 0.1 * np.eye(7)
    conditional = Conditional.of(np.linalg.inv(covariance), 4)
    answer, shape = rng.standard_normal((1, 7)), rng.standard_normal(4)
    expected = answer[0, 4:] + covariance[4:, :4] @ np.linalg.solve(covariance[:4, :4], shape - answer[0, :4])
    np.testing.assert_allclose(conditional.mean(answer, shape)[0], expected)
    left = covariance[4:, 4:] - covariance[4:, :4] @ np.linalg.solve(covariance[:4, :4], covariance[:4, 4:])
    np.testing.assert_allclose(np.linalg.inv(conditional.precision), left)


def test_keyframes_differ_in_pose():
    angles = np.stack([np.zeros(50), np.linspace(-40, 40, 50)], axis=1)
    rows = choose_keyframes(angles, np.ones(50), 5)
    assert rows[0] == 0 and rows[-1] == 49 and np.diff(angles[rows, 1]).min() > 12
    trust = np.where(np.arange(50) < 10, 0.1, 0.99)
    assert choose_keyframes(angles, trust, 5)[0] == 10
    assert choose_keyframes(angles[:2], np.ones(2), 4).tolist() == [0, 1, 0, 1]


@pytest.fixture(scope="module")
def keyframes(open_head):
    """Points of the mean head, wrong as the front end is, of a camera half as long again as is assumed."""
    places, errors = face_mesh_embedding(open_head), load_point_errors("v2")
    angles = jnp.radians(jnp.asarray([[0, -25, 0], [5, -8, 2], [-8, 10, 0], [3, 28, -3.0]], jnp.float32))
    truth, size, side = 600.0, (400, 400), 130.0
    camera = Camera(
        frontal_rotation(euler_to_matrix(angles)),
        jnp.tile(jnp.asarray([[0.0, 0.0, 0.6]]), (4, 1)),
        jnp.full(4, truth),
        jnp.full((4, 2), 200.0),
    )
    head = points_on_mesh(open_head.v_template, open_head.faces, *places)

    def said(camera):
        seen = seen_points(head, camera)
        return seen + expected_errors(errors, seen, camera.rotation, side)

    points = np.asarray(jax.vmap(said)(camera))
    middle = points[..., :2].mean(axis=1)
    count = open_head.num_shape + open_head.num_expression + 5
    shapes = {
        "landmarks": (68, 2),
        "region_confidence": (6,),
        "closure": (2,),
        "gaze": (3,),
        "irises": (10, 2),
        "blendshapes": (51,),
    }
    faces = Faces(
        frame=np.arange(4),
        points=points,
        crop=np.concatenate([middle - side / 2, np.full((4, 1), side)], axis=1),
        appearance=np.zeros((4, 1)),
        answer=np.zeros((4, count)),
        **{name: np.zeros((4, *shape)) for name, shape in shapes.items()},
        **{name: np.ones(4) for name in ("score", "confidence", "focal")},
    )
    return open_head, places, errors, faces, size, truth


def test_perspective_tells_the_focal_length(keyframes):
    open_head, places, errors, faces, size, truth = keyframes
    params = head_params(jnp.zeros(open_head.num_shape), jnp.zeros((4, open_head.num_expression + 5)))
    found = estimate_focal(open_head, places, errors, faces, params, size, truth / 1.6)
    assert 0.8 < found / truth < 1.2


def test_a_persons_normals_are_those_of_the_head_models_frame(keyframes, monkeypatch):
    """The face mesh is drawn in the open head's frame; what is fitted may be in another."""
    model, places, errors, faces, size, truth = keyframes
    seen = []

    def fitted(tables, anchors, observation, params, camera, config, prior):
        seen.append(np.asarray(observation.normals))
        return params, camera, None

    monkeypatch.setattr(identity, "_fit_person", fitted)
    monkeypatch.setattr(identity, "ROUNDS", 1)
    turn = np.array([[0, 0, 1], [1, 0, 0], [0, 1, 0]], np.float32)
    count, rest = model.num_shape, model.num_expression + 5
    conditional = Conditional.of(np.eye(count + rest), count)
    start, tables = (np.zeros(count), np.eye(count)), HeadTables.from_model(model)
    for rotation in (None, turn):
        joint_shape(model, tables, places, errors, faces, size, truth, start, conditional, rotation)
    assert np.abs(seen[0]).max() > 0.5
    np.testing.assert_allclose(seen[1], seen[0] @ turn.T, atol=1e-6)
