"""What is drawn at visible triangles, its exactness and its gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flame_jax.rotations import axis_angle_to_matrix
from n2f_jax.geometry import Camera, project_camera_points, to_camera
from n2f_jax.render import (
    MeshTopology,
    normalize,
    rasterize,
    render_head,
    render_mesh_maps,
    shade,
    shade_directions,
    vertex_normals,
)
from tests.n2f_jax.render.reference import icosphere

pytestmark = pytest.mark.medium

SIZE = (40, 48)

_shade, _vertex_normals = jax.jit(shade), jax.jit(vertex_normals)


def bumpy_sphere(subdivisions=3, seed=0):
    """A sphere with smooth bumps, so that no two directions look alike; radius about 1."""
    points, faces = icosphere(subdivisions)
    rng = np.random.default_rng(seed)
    waves = rng.normal(0, 2.0, (4, 3))
    radius = 1 + 0.08 * np.sin(points @ waves.T + rng.uniform(0, 6, 4)).sum(axis=1, keepdims=True)
    return (points * radius).astype(np.float32), faces


def pose(rotation_vector=(0.1, -0.3, 0.2), translation=(0.05, -0.1, 4.0), focal=55.0, center=(24.0, 20.0)):
    rotation = axis_angle_to_matrix(jnp.asarray(rotation_vector)) @ jnp.diag(jnp.asarray([1.0, -1.0, -1.0]))
    return Camera(rotation, jnp.asarray(translation), jnp.asarray(focal), jnp.asarray(center))


def exact_barycentrics(vertices, faces, face, camera):
    """Float64 intersection of each covered pixel's ray with the plane of its triangle."""
    v = np.asarray(vertices, np.float64)
    rows, columns = np.nonzero(face >= 0)
    c = np.asarray(camera.principal_point, np.float64)
    focal = float(camera.focal)
    rays = np.stack([(columns + 0.5 - c[0]) / focal, (rows + 0.5 - c[1]) / focal, np.ones(len(rows))], -1)
    corners = v[np.asarray(faces)[face[rows, columns]]]
    # Σ b_i v_i = z · ray and Σ b_i = 1: solve for b and z.
    system = np.zeros((len(rows), 4, 4))
    system[:, :3, :3] = corners.transpose(0, 2, 1)
    system[:, :3, 3] = -rays
    system[:, 3, :3] = 1
    solution = np.linalg.solve(system, np.broadcast_to([0.0, 0, 0, 1], (len(rows), 4))[..., None])[..., 0]
    return rows, columns, solution[:, :3], solution[:, 3]


def _linear(points):
    """Four linear functions of a point."""
    return jnp.concatenate([points, 2 + 3 * points[:, :1]], axis=-1)


def test_barycentrics_and_depth_are_perspective_correct():
    """Against float64. Float32 positions in pixels limit barycentrics to 1e-5 per pixel of edge length."""
    vertices, faces = bumpy_sphere(2)
    camera = pose()
    cam_points = to_camera(jnp.asarray(vertices), camera)
    args = (cam_points, jnp.asarray(faces), camera.focal, camera.principal_point)
    face = rasterize(*args, SIZE).face
    _, depth, barycentric = _shade(face, *args, (_linear(cam_points)[faces], cam_points[faces]))
    rows, columns, expected, z = exact_barycentrics(cam_points, faces, np.asarray(face), camera)
    assert len(rows) > 500
    np.testing.assert_allclose(depth[rows, columns], z, rtol=1e-5)
    np.testing.assert_allclose(barycentric[rows, columns], expected, atol=5e-5)
    assert np.median(np.abs(np.asarray(barycentric)[rows, columns] - expected)) < 1e-6
    empty = np.asarray(face) < 0
    assert not np.asarray(depth)[empty].any() and not np.asarray(barycentric)[empty].any()


def test_interpolates_attributes_of_corners():
    """A linear function of the vertex comes out as that function of the surface point."""
    vertices, faces = bumpy_sphere(2)
    camera = pose()
    cam_points = to_camera(jnp.asarray(vertices), camera)
    args = (cam_points, jnp.asarray(faces), camera.focal, camera.principal_point)
    face = rasterize(*args, SIZE).face
    (first, second), depth, _ = _shade(face, *args, (_linear(cam_points)[faces], cam_points[faces]))
    first, covered = np.asarray(first), np.asarray(face) >= 0
    np.testing.assert_allclose(first[..., 2], depth, atol=2e-5)
    np.testing.assert_allclose(first[..., 3][covered], 2 + 3 * first[..., 0][covered], atol=5e-5)
    np.testing.assert_allclose(first[..., :3], second, atol=1e-6)
    # The surface point projects to the pixel's centre.
    pixels = np.asarray(jax.jit(project_camera_points)(second.reshape(-1, 3), camera)).reshape(*SIZE, 2)
    rows, columns = np.nonzero(covered)
    np.testing.assert_allclose(pixels[rows, columns], np.stack([columns, rows], -1) + 0.5, atol=1e-3)


def test_vertex_normals_of_a_sphere_and_against_a_loop():
    points, faces = icosphere(3)
    np.testing.assert_allclose(_vertex_normals(points, faces), points, atol=0.02)
    vertices, faces = bumpy_sphere(2)
    expected = np.zeros(vertices.shape)
    for a, b, c in faces:
        n = np.cross(vertices[b].astype(float) - vertices[a], vertices[c].astype(float) - vertices[a])
        for i in (a, b, c):
            expected[i] += n
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    batch = np.stack([vertices, vertices * 2])
    np.testing.assert_allclose(np.asarray(_vertex_normals(batch, faces))[1], expected, atol=1e-5)


def test_vertex_normals_where_there_is_no_face():
    vertices = jnp.asarray([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [5, 5, 5]])
    faces = jnp.asarray([[0, 1, 2], [3, 3, 3]])

    def squares(vertices):
        normals = vertex_normals(vertices, faces)
        return (normals**2).sum(), normals

    (value, normals), gradient = jax.jit(jax.value_and_grad(squares, has_aux=True))(vertices)
    assert float(value) == pytest.approx(3.0)
    assert np.isfinite(gradient).all()
    np.testing.assert_array_equal(np.asarray(normals)[3], 0)


# --- gradients
# -------------------------------------------------------------------------------------------------


def float64_maps(vertices_head, rotation, translation, focal, center, faces, uv, face, frame):
    """Normals, depth, UV at fixed visible triangles in float64: what finite differences are taken of."""
    cam = vertices_head @ rotation.T + translation
    camera = Camera(rotation, translation, focal, center)
    rows, columns, bary, z = exact_barycentrics(cam, faces, face, camera)
    edges = vertices_head[faces]
    n = np.cross(edges[:, 1] - edges[:, 0], edges[:, 2] - edges[:, 0])
    normals = np.zeros_like(vertices_head)
    for k in range(3):
        np.add.at(normals, faces[:, k], n)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    if frame == "camera":
        normals = normals @ rotation.T
    corners = faces[face[rows, columns]]
    drawn = np.einsum("pk,pkc->pc", bary, normals[corners])
    drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
    return np.concatenate([drawn, z[:, None], np.einsum("pk,pkc->pc", bary, uv[corners])], 1)


def weighted(inputs, topology, weights, frame="head"):
    """All maps in one number: normals, depth, UV and the mask's square by ``weights`` (H, W, 7); inputs are vertices
    and camera."""
    maps = render_head(topology, *inputs, SIZE, normal_frame=frame, antialias=True)
    stacked = jnp.concatenate(
        [maps.normals, maps.depth[..., None], maps.uv, maps.mask[..., None] ** 2], axis=-1
    )
    return (stacked * weights).sum()


# One program for all tests that call it with as many vertices and faces.
_gradient = jax.jit(jax.grad(weighted), static_argnames="frame")


def random_weights(seed):
    """Of one sign for the mask, whose border else counts but little."""
    weights = np.random.default_rng(seed).normal(0, 1, (*SIZE, 7))
    weights[..., 6] = np.abs(weights[..., 6])
    return weights.astype(np.float32)


@pytest.mark.parametrize("frame", ["head", "camera"])
def test_gradients_match_finite_differences(frame):
    """Directional derivatives of normals, depth and UV by vertices, R, t, f and c, within 1 %."""
    vertices, faces = bumpy_sphere(2, seed=3)
    rng = np.random.default_rng(1)
    uv = rng.uniform(0, 1, (len(vertices), 2)).astype(np.float32)
    topology = MeshTopology.from_faces(faces, uv=uv)
    camera = pose()
    weights = rng.normal(0, 1, (*SIZE, 6))  # the mask has tests of its own
    face = np.asarray(
        rasterize(
            to_camera(jnp.asarray(vertices), camera),
            topology.faces,
            camera.focal,
            camera.principal_point,
            SIZE,
        ).face
    )

    # Normals, depth, UV: one gradient each.
    groups = (slice(0, 3), slice(3, 4), slice(4, 6))
    flat = []
    for group in groups:
        chosen = np.zeros((*SIZE, 7), np.float32)
        chosen[..., group] = weights[..., group]
        leaves = jax.tree.leaves(_gradient((jnp.asarray(vertices), camera), topology, chosen, frame=frame))
        flat.append([np.asarray(leaf, np.float64) for leaf in leaves])
    start = [np.asarray(x, np.float64) for x in jax.tree.leaves((vertices, camera))]
    covered = face >= 0

    def reference(leaves):
        points, rotation, translation, focal, center = leaves
        maps = float64_maps(points, rotation, translation, focal, center, faces, uv, face, frame)
        return (maps * weights[covered]).sum(0)

    for leaf in range(len(start)):
        direction = rng.normal(0, 1, start[leaf].shape)
        step = 1e-5
        ends = []
        for sign in (1, -1):
            moved = list(start)
            moved[leaf] = start[leaf] + sign * step * direction
            ends.append(reference(moved))
        finite = (ends[0] - ends[1]) / (2 * step)
        for group, leaves in zip(groups, flat, strict=True):
            ours, theirs = (leaves[leaf] * direction).sum(), finite[group].sum()
            # Float32 rounding of the sum is allowed for, where the terms cancel.
            rounding = 1e-5 * np.abs(leaves[leaf] * direction).sum()
            assert abs(ours - theirs) <= 0.01 * abs(theirs) + rounding, (leaf, group, ours, theirs)


def test_forward_mode_equals_reverse_mode():
    """Along two directions at once, under ``vmap``: of the vertices, and of vertices and camera."""
    vertices, faces = bumpy_sphere(2)
    topology = MeshTopology.from_faces(faces)
    inputs, weights = (jnp.asarray(vertices), pose()), random_weights(1)
    rng = np.random.default_rng(0)
    tangents = jax.tree.map(lambda x: rng.normal(0, 1, (2, *x.shape)).astype(np.float32), inputs)
    for leaf in jax.tree.leaves(tangents[1]):
        leaf[0] = 0
    forward = jax.jit(
        jax.vmap(
            lambda inputs, tangent, *rest: jax.jvp(lambda x: weighted(x, *rest), (inputs,), (tangent,))[1],
            in_axes=(None, 0, None, None),
        )
    )(inputs, tangents, topology, weights)
    reverse = jax.tree.map(
        lambda g, t: (np.asarray(g) * t).reshape(2, -1).sum(axis=1),
        _gradient(inputs, topology, weights),
        tangents,
    )
    np.testing.assert_allclose(forward, sum(jax.tree.leaves(reverse)), rtol=1e-3)


def test_transformations_compose():
    """Gradients under ``vmap`` of a scan of ``vmap`` of a checkpoint: single calls' numbers."""
    vertices, faces = bumpy_sphere(2)
    topology = MeshTopology.from_faces(faces)
    camera, weights = pose(), random_weights(1)
    points = jnp.asarray(vertices)
    shifts = np.random.default_rng(0).normal(0, 0.15, (2, 2, 2, 3)).astype(np.float32)
    # Moving all vertices alike is what the sum of their gradients tells.
    single = np.stack(
        [
            np.asarray(_gradient((points + shift[None], camera), topology, weights)[0]).sum(axis=0)
            for shift in shifts.reshape(8, 3)
        ]
    ).reshape(shifts.shape)
    assert np.abs(single).min(axis=-1).max() > 1e-3

    @jax.jit
    def composed(shifts, points, *rest):
        def loss(shift):
            return weighted((points + shift[None], camera), *rest)

        row = jax.vmap(jax.grad(jax.checkpoint(loss)))
        return jax.vmap(lambda rows: jax.lax.scan(lambda carry, x: (carry, row(x)), 0, rows)[1])(shifts)

    np.testing.assert_allclose(composed(shifts, points, topology, weights), single, rtol=1e-3, atol=1e-3)


def test_unit_directions_are_normalized_attributes():
    vertices, faces = bumpy_sphere(2)
    camera = pose()
    cam_points = to_camera(jnp.asarray(vertices), camera)
    args = (cam_points, jnp.asarray(faces), camera.focal, camera.principal_point)
    face = rasterize(*args, SIZE).face
    directions = vertex_normals(jnp.asarray(vertices), jnp.asarray(faces))[faces]
    ours, expected = jax.jit(
        lambda *args: (shade_directions(*args), normalize(shade(*args)[0])),
    )(face, *args, directions)
    np.testing.assert_allclose(ours, expected, atol=1e-5)


def test_no_nan_gradients_where_pixels_are_empty_or_vertices_are_not_finite():
    vertices, faces = bumpy_sphere(2)
    topology = MeshTopology.from_faces(faces)
    weights = np.ones((*SIZE, 7), np.float32)
    nowhere = pose(translation=(0.0, 0.0, -5.0))
    for camera in (pose(), pose(translation=(50.0, 0.0, 4.0)), nowhere):
        leaves = jax.tree.leaves(_gradient((jnp.asarray(vertices), camera), topology, weights))
        assert all(np.isfinite(x).all() for x in leaves)
    assert all((np.asarray(x) == 0).all() for x in leaves)


def test_a_nan_vertex_spoils_no_other_pixel():
    vertices, faces = bumpy_sphere(2)
    camera = pose()
    cam_points = to_camera(jnp.asarray(vertices), camera)
    normals = jnp.asarray(vertices)
    topology = MeshTopology.from_faces(faces)

    @jax.jit
    @functools.partial(jax.grad, has_aux=True)
    def draw(vertices):
        maps = render_mesh_maps(vertices, normals, topology, camera.focal, camera.principal_point, SIZE)
        return (maps.depth**2).sum(), maps

    victim = int(np.argmin(np.asarray(cam_points)[:, 2]))
    gradient, maps = draw(cam_points.at[victim, 0].set(jnp.nan))
    _, clean = draw(cam_points)
    assert np.isfinite(maps.normals).all() and np.isfinite(maps.depth).all()
    # Exactly the pixels of its own triangles are gone (nothing lies behind them).
    face = rasterize(cam_points, topology.faces, camera.focal, camera.principal_point, SIZE).face
    touched = (np.asarray(faces) == victim).any(axis=1)[np.asarray(face)] & (np.asarray(face) >= 0)
    assert touched.any()
    np.testing.assert_array_equal(np.asarray(clean.mask - maps.mask) > 0, touched)
    assert np.isfinite(gradient).all()
