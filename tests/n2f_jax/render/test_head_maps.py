"""The face maps of the open head."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flame_jax
from n2f_jax.geometry import Camera, frontal_rotation, project, to_camera
from n2f_jax.render import (
    HeadTopology,
    MeshTopology,
    face_neighbors,
    rasterize,
    render_head,
    render_mesh_maps,
)
from tests.n2f_jax.render.reference import icosphere

SIZE = 96


def camera_at(angles, size=SIZE, distance=1.0):
    rotation = flame_jax.rotations.euler_to_matrix(jnp.asarray(angles, jnp.float32))
    return Camera(
        frontal_rotation(rotation),
        jnp.asarray([0.0, 0.0, distance]),
        jnp.asarray(3.2 * size * distance),
        jnp.asarray([size / 2, size / 2]),
    )


@pytest.fixture(scope="module")
def head(open_head):
    vertices, _ = jax.jit(flame_jax.decode)(open_head, flame_jax.FlameParams.neutral(open_head))
    return HeadTopology.from_model(open_head), vertices


@pytest.fixture(scope="module")
def draw():
    return jax.jit(render_head, static_argnames=("size", "normal_frame", "antialias"))


def test_neighbors():
    _, faces = icosphere(2)
    neighbors = face_neighbors(faces)
    for face in range(len(faces)):
        for k in range(3):
            other = neighbors[face, k]
            edge = {faces[face, k], faces[face, (k + 1) % 3]}
            assert edge <= set(faces[other]) and other != face
    sheet = face_neighbors(np.array([[0, 1, 2], [2, 1, 3], [5, 6, 7]]))
    np.testing.assert_array_equal(sheet, [[-1, 1, -1], [0, -1, -1], [-1, -1, -1]])
    # Three faces at an edge, or inconsistent winding: a border.
    fan = face_neighbors(np.array([[0, 1, 2], [1, 0, 3], [1, 0, 4], [5, 6, 7], [5, 6, 8]]))
    assert (fan == -1).all()


def test_head_topology(head, open_head):
    topology, _ = head
    region = np.asarray(topology.region)
    assert 0.1 < region.mean() < 0.95
    faces = np.asarray(open_head.faces)
    in_scalp = np.isin(faces, np.asarray(open_head.masks["scalp"])).all(1)
    in_eyes = np.isin(faces, np.asarray(open_head.masks["eyeballs"])).all(1)
    assert region[in_eyes].all()
    assert region[in_scalp].mean() < 0.1
    assert np.asarray(HeadTopology.from_model(open_head, regions=None).region).all()
    with pytest.raises(ValueError, match="face"):
        HeadTopology.from_model(open_head, regions=("no such region",))


def test_a_frontal_face(head, draw):
    topology, vertices = head
    maps = draw(topology, vertices, camera_at([0, 0, 0]), SIZE)
    mask, normals, depth = (np.asarray(x) for x in (maps.mask, maps.normals, maps.depth))
    assert int(maps.overflow) == 0
    assert set(np.unique(mask)) == {0, 1}
    assert 0.1 < mask.mean() < 0.9
    length = np.linalg.norm(normals, axis=-1)
    np.testing.assert_allclose(length, mask, atol=1e-5)
    assert not np.asarray(maps.uv)[mask == 0].any() and not depth[mask == 0].any()
    assert normals[..., 2][mask > 0].mean() > 0.5  # out of the face
    # The subject's left is at the right of the picture, where normals lean to +x; the forehead is up, towards
    # +y.
    columns = np.nonzero(mask)[1]
    rows = np.nonzero(mask)[0]
    x, y = normals[mask > 0][:, 0], normals[mask > 0][:, 1]
    assert x[columns > SIZE * 0.6].mean() > 0.2 and x[columns < SIZE * 0.4].mean() < -0.2
    assert y[rows < rows.min() + 8].mean() > y[rows > rows.max() - 8].mean()
    # Left and right mirror each other (the model is symmetric).
    assert np.abs(mask - mask[:, ::-1]).mean() < 0.02
    # The tip of the nose is the nearest point.
    nose = np.asarray(project(vertices, camera_at([0, 0, 0])))[np.argmax(np.asarray(vertices)[:, 2])]
    row, column = np.unravel_index(np.argmin(np.where(mask > 0, depth, 9)), mask.shape)
    assert np.abs([column + 0.5 - nose[0], row + 0.5 - nose[1]]).max() < 2


def test_camera_frame_normals_are_the_head_frame_ones_turned(head, draw):
    topology, vertices = head
    camera = camera_at([0.2, -0.5, 0.1])
    in_head = draw(topology, vertices, camera, SIZE)
    in_camera = draw(topology, vertices, camera, SIZE, normal_frame="camera")
    turned = np.asarray(in_head.normals) @ np.asarray(camera.rotation).T
    np.testing.assert_allclose(in_camera.normals, turned, atol=1e-5)
    np.testing.assert_array_equal(in_camera.mask, in_head.mask)
    # Most of what is seen faces the camera (z forward).
    assert (np.asarray(in_camera.normals)[..., 2][np.asarray(in_head.mask) > 0] < 0).mean() > 0.95
    with pytest.raises(ValueError, match="normal_frame"):
        render_head(topology, vertices, camera, SIZE, normal_frame="world")


def test_the_rest_of_the_head_hides_the_face(head, draw):
    """From behind hardly any of the face region shows; the mask is the region of the visible triangles."""
    topology, vertices = head
    from_behind = draw(topology, vertices, camera_at([0, np.pi, 0]), SIZE)
    frontal = draw(topology, vertices, camera_at([0, 0, 0]), SIZE)
    assert float(from_behind.mask.sum()) < 0.1 * float(frontal.mask.sum())
    side = camera_at([0, 1.3, 0])
    maps = draw(topology, vertices, side, SIZE)
    fragments = rasterize(
        to_camera(vertices, side), topology.faces, side.focal, side.principal_point, (SIZE, SIZE)
    )
    region = np.asarray(topology.region)
    face = np.asarray(fragments.face)
    np.testing.assert_array_equal(maps.mask, (face >= 0) & region[face])


@pytest.mark.medium
def test_batches_and_vmap_agree_with_single_heads(head):
    topology, vertices = head
    cameras = [camera_at([0, a, 0], 40) for a in (-0.4, 0.3)]
    cameras = jax.tree.map(lambda *x: jnp.stack(x), *cameras)
    batch = jnp.stack([vertices, vertices * 1.05])
    draw = jax.jit(lambda t, v, c: render_head(t, v, c, 40))
    batched = draw(topology, batch, cameras)
    mapped = jax.jit(jax.vmap(lambda v, c: render_head(topology, v, c, 40)))(batch, cameras)
    single = draw(topology, batch[1], jax.tree.map(lambda x: x[1], cameras))
    # Rounding differs between compilations: by chance a vertex may snap to the next of 256 sub-pixels.
    for a, b in zip(jax.tree.leaves(batched), jax.tree.leaves(mapped), strict=True):
        assert (np.abs(np.asarray(a - b)) > 2e-5).mean() < 2e-3
    for a, b in zip(jax.tree.leaves(batched), jax.tree.leaves(single), strict=True):
        assert (np.abs(np.asarray(a[1] - b)) > 2e-5).mean() < 2e-3


def test_bare_faces_draw_every_face():
    points, faces = icosphere(2)
    cam = jnp.asarray(points + np.float32([0, 0, 4]))
    args = (jnp.asarray(points), jnp.asarray(faces), jnp.float32(40.0), jnp.asarray([20.0, 15.0]))
    maps = jax.jit(render_mesh_maps, static_argnames="size")(cam, *args, size=(30, 40))
    assert maps.mask.shape == (30, 40)
    # The apparent radius of a unit sphere at distance 4: 40 / sqrt(15).
    assert float(maps.mask.sum()) == pytest.approx(np.pi * 40**2 / 15, rel=0.05)
    with pytest.raises(ValueError, match="from_faces"):
        render_mesh_maps(cam, *args, size=30, antialias=True)


def test_canonical_vertices_give_the_normals(head, draw):
    """A turned canonical mesh turns the normals that are drawn, and nothing else."""
    topology, vertices = head
    camera = camera_at([0, 0, 0])
    turn = flame_jax.rotations.euler_to_matrix(jnp.asarray([0.3, 0.2, -0.4]))
    maps = draw(topology, vertices, camera, SIZE, vertices_canonical=vertices @ turn.T)
    plain = draw(topology, vertices, camera, SIZE)
    np.testing.assert_array_equal(maps.mask, plain.mask)
    np.testing.assert_array_equal(maps.depth, plain.depth)
    np.testing.assert_allclose(maps.normals, np.asarray(plain.normals) @ np.asarray(turn).T, atol=1e-5)


def test_topology_of_a_mesh_with_uv():
    points, faces = icosphere(1)
    uv = np.random.default_rng(0).random((len(points), 2)).astype(np.float32)
    topology = MeshTopology.from_faces(faces, uv=uv)
    np.testing.assert_array_equal(topology.corner_uv, uv[faces])
    assert np.asarray(topology.region).all()
