"""The mask's soft borders and their gradients, against masks supersampled 16 × 16."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import flame_jax
from flame_jax.rotations import axis_angle_to_matrix
from n2f_jax.geometry import Camera
from n2f_jax.render import HeadTopology, MeshTopology, antialias_mask, rasterize, render_head
from n2f_jax.render.compaction import compact
from tests.n2f_jax.render.reference import icosphere
from tests.n2f_jax.render.sampled_heads import sampled_heads
from tests.n2f_jax.render.test_shading import bumpy_sphere, pose

pytestmark = pytest.mark.medium

SIZE = (40, 48)
SAMPLES = 16


_render = jax.jit(render_head, static_argnames=("size", "antialias"))


@jax.jit
def supersampled(topology, vertices, camera, moved):
    """Coverage of the region in each pixel, by 16 × 16 samples, after ``move``."""
    camera = move(camera, moved)
    fine = Camera(
        camera.rotation, camera.translation, SAMPLES * camera.focal, SAMPLES * camera.principal_point
    )
    mask = render_head(topology, vertices, fine, (SIZE[0] * SAMPLES, SIZE[1] * SAMPLES)).mask
    return mask.reshape(SIZE[0], SAMPLES, SIZE[1], SAMPLES).mean((1, 3))


def region_of_sphere(vertices, faces):
    """A patch of the surface: its border is no silhouette."""
    return (vertices[faces].mean(1) @ np.float32([0.2, 0.3, 1.0])) > 0.45


def test_compact():
    flags = np.random.default_rng(0).random(1000) < 0.1
    found, count = compact(jnp.asarray(flags), 150)
    expected = np.flatnonzero(flags)
    assert int(count) == len(expected)
    np.testing.assert_array_equal(found[: len(expected)], expected)
    assert (np.asarray(found[len(expected) :]) == 1000).all()
    short, count = compact(jnp.asarray(flags), 20)
    assert int(count) == len(expected)
    np.testing.assert_array_equal(short, expected[:20])


def test_a_vertical_edge_is_exact():
    """One quad: the covered share of the border pixels is the edge's place, and moves with it."""
    quad = np.float32([[-2, -2, 1], [0, -2, 1], [0, 2, 1], [-2, 2, 1]])
    topology = MeshTopology.from_faces(np.array([[0, 2, 1], [0, 3, 2]]))

    def mask(shift):
        vertices = jnp.asarray(quad) + jnp.stack([shift, 0.0 * shift, 0.0 * shift])[None]
        args = (topology.faces, jnp.float32(10.0), jnp.asarray([8.0, 8.0]))
        face = rasterize(vertices, *args, (16, 16)).face
        return antialias_mask(face, vertices, topology, *args[1:])[0]

    forward = jax.jit(lambda shift: jax.jvp(mask, (shift,), (jnp.ones(()),)))
    for shift in (0.02, 0.04, 0.06, 0.09):
        value, derivative = forward(jnp.float32(shift))
        np.testing.assert_allclose(value[:, :8], 1, atol=1e-5)
        np.testing.assert_allclose(value[:, 8], 10 * shift, atol=1e-4)
        np.testing.assert_allclose(value[:, 9:], 0, atol=1e-5)
        np.testing.assert_allclose(derivative[:, 8], 10, rtol=1e-4)


@pytest.mark.parametrize("with_region", [False, True])
def test_mask_is_close_to_coverage(with_region):
    vertices, faces = bumpy_sphere(3, seed=1)
    topology = MeshTopology.from_faces(faces, region_of_sphere(vertices, faces) if with_region else None)
    camera = pose()
    args = (topology, jnp.asarray(vertices), camera)
    maps = _render(*args, size=SIZE, antialias=True)
    hard = _render(*args, size=SIZE).mask
    truth = supersampled(*args, jnp.zeros(7))
    assert int(maps.overflow) == 0
    border = np.asarray((truth > 0) & (truth < 1))
    soft_error = np.abs(np.asarray(maps.mask - truth))[border].mean()
    hard_error = np.abs(np.asarray(hard - truth))[border].mean()
    assert soft_error < 0.35 * hard_error
    assert abs(float(maps.mask.sum() - truth.sum())) < 0.002 * float(truth.sum())
    inside = np.asarray(truth) == 1
    np.testing.assert_allclose(np.asarray(maps.mask)[inside], 1, atol=0.25)


def move(camera, x):
    """The camera after a small rotation x[:3], shift x[3:6] and relative change x[6] of the focal length."""
    rotation = axis_angle_to_matrix(x[:3]) @ camera.rotation
    return Camera(rotation, camera.translation + x[3:6], camera.focal * (1 + x[6]), camera.principal_point)


def spheres():
    """Bumpy spheres, every second with a region; topology, vertices, camera."""
    for seed in range(8):
        vertices, faces = bumpy_sphere(3, seed=seed)
        region = region_of_sphere(vertices, faces) if seed % 2 else np.ones(len(faces), bool)
        camera = pose((0.1 * seed, -0.2, 0.15 * seed), (0.1, -0.02 * seed, 4.0))
        yield MeshTopology.from_faces(faces, region), jnp.asarray(vertices), camera


def heads():
    """Random heads as in training; the mask is the face region, whose borders are silhouettes only in part."""
    model = flame_jax.load_open_head()
    topology = HeadTopology.from_model(model)
    for vertices, camera in sampled_heads(model, seed=3, count=6, size=SIZE[0]):
        yield topology, vertices, camera


@pytest.mark.parametrize(("surfaces", "step"), [(spheres, 0.02), (heads, 0.01)])
def test_mask_gradients_match_supersampled_finite_differences(surfaces, step):
    """Derivatives of a smoothly weighted sum of the mask by pose and focal length, over six heads and eight spheres.

    Tolerances: the median error is below 10 % of the derivative's typical size (measured: 6 % on spheres and on
    heads 40 pixels high), and the regression of ours on the reference has slope 1 within 4 % (2 %, 1 %).
    """
    v, u = jnp.mgrid[: SIZE[0], : SIZE[1]].astype(jnp.float32)
    # Every stretch of the border counts else.
    weight = 0.5 + 0.5 * jnp.sin(0.13 * u + 0.3) * jnp.cos(0.11 * v)
    # Metres on a head are a tenth of those on a sphere.
    unit = np.float32([1.0] * 3 + [1.0 if surfaces is spheres else 0.1] * 3 + [1.0])
    ours = jax.jit(
        jax.grad(
            lambda x, t, v, c: (
                weight * render_head(t, v, move(c, unit * x), SIZE, antialias=True).mask
            ).sum()
        )
    )
    ends = step * unit * np.concatenate([np.eye(7), -np.eye(7)]).astype(np.float32)

    gradients, references = [], []
    for args in surfaces():
        gradients.append(np.asarray(ours(jnp.zeros(7), *args)))
        masks = np.stack([supersampled(*args, end) for end in ends])
        plus, minus = (masks * np.asarray(weight)).sum(axis=(1, 2)).reshape(2, 7)
        references.append((plus - minus) / (2 * step))
    gradients, references = np.asarray(gradients), np.asarray(references)
    # Relative to each parameter's typical derivative: single ones may be near zero.
    scale = np.sqrt((references**2).mean(axis=0, keepdims=True))
    error = np.abs(gradients - references) / scale
    slope = (gradients * references / scale**2).sum() / (references**2 / scale**2).sum()
    assert np.median(error) < 0.10, np.round(error, 3)
    assert abs(slope - 1) < 0.04, slope


def test_descent_on_the_mask_alone_recovers_a_shift():
    vertices, faces = bumpy_sphere(3)
    topology = MeshTopology.from_faces(faces)
    camera = pose()
    points = jnp.asarray(vertices)
    shifted = Camera(
        camera.rotation,
        camera.translation + jnp.asarray([0.12, -0.08, 0.3]),
        camera.focal,
        camera.principal_point,
    )

    def mask(offset):
        view = Camera(shifted.rotation, shifted.translation + offset, shifted.focal, shifted.principal_point)
        return render_head(topology, points, view, SIZE, antialias=True).mask

    target = _render(topology, points, camera, size=SIZE, antialias=True).mask
    optimizer = optax.adam(lambda count: 0.03 * 0.5 ** (count.astype(jnp.float32) / 30))

    def step(state, _):
        offset, moments = state
        gradient = jax.grad(lambda x: ((mask(x) - target) ** 2).mean())(offset)
        # optax raises a Python float to the power of an integer counter, which strict promotion forbids.
        with jax.numpy_dtype_promotion("standard"):
            updates, moments = optimizer.update(gradient, moments)
        return (optax.apply_updates(offset, updates), moments), None

    start = (jnp.zeros(3), optimizer.init(jnp.zeros(3)))
    (offset, _), _ = jax.jit(lambda s: jax.lax.scan(step, s, length=120))(start)
    # In pixels (focal 55, depth 4): 0.14 across; 0.05 in depth changes the radius of 14 pixels by 0.17.
    np.testing.assert_allclose(offset[:2], [-0.12, 0.08], atol=0.01)
    np.testing.assert_allclose(offset[2], -0.3, atol=0.05)


def test_budget_overflow_is_reported():
    points, faces = icosphere(3)
    topology = MeshTopology.from_faces(faces)
    vertices = jnp.asarray(points + np.float32([0, 0, 3]))
    args = (jnp.float32(30.0), jnp.asarray([20.0, 20.0]))
    face = rasterize(vertices, topology.faces, *args, (40, 40)).face
    count = jax.jit(
        lambda n: antialias_mask(face, vertices, topology, *args, max_pairs=n)[1], static_argnums=0
    )
    none, missed = count(None), count(10)
    assert int(none) == 0
    assert int(missed) > 10
