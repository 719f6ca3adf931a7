"""The rasteriser against a float64 loop over all triangles: the same triangle at every pixel."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from n2f_jax.render import rasterize
from n2f_jax.render.rasterizer import DEPTH_TIE
from n2f_jax.render.snapping import snap_faces
from n2f_jax.render.tiles import tile_counts
from tests.n2f_jax.render.reference import has_projection, icosphere, rasterize_reference

pytestmark = pytest.mark.medium

# Depths this close (relative) may be resolved either way: the tie rule plus float32 rounding of the plane.
TIE_BOUND = DEPTH_TIE + 2.0**-20
BLOCK = 2560


def draw(vertices, faces, focal, center, size, **options):
    """Fragments of a mesh that is padded with triangles of no area to one of few sizes, to compile less often."""
    padded_vertices = np.zeros((-(-len(vertices) // BLOCK) * BLOCK, 3), np.float32)
    padded_vertices[: len(vertices)] = vertices
    padded_faces = np.zeros((-(-len(faces) // BLOCK) * BLOCK, 3), np.int32)
    padded_faces[: len(faces)] = faces
    return rasterize(
        jnp.asarray(padded_vertices),
        jnp.asarray(padded_faces),
        jnp.float32(focal),
        jnp.asarray(center, jnp.float32),
        size,
        **options,
    )


def check(vertices, faces, focal, center, size, **options):
    """Compares every pixel; returns (fragments, share of pixels decided by a depth tie)."""
    vertices, faces = np.asarray(vertices), np.asarray(faces)
    fragments = draw(vertices, faces, focal, center, size, **options)
    face = np.asarray(fragments.face)
    expected, best, inverse, _ = rasterize_reference(vertices, faces, focal, center, size)
    np.testing.assert_array_equal(face >= 0, expected >= 0, err_msg="coverage")
    differs = face != expected
    for row, column in np.argwhere(differs):
        ours = inverse[face[row, column]][row, column]
        assert ours >= best[row, column] * (1 - TIE_BOUND), (row, column, face[row, column])
    return fragments, differs.mean()


def random_soup(rng, count, spread, size):
    """Random triangles in front of the camera (focal = size), wound to face it or not."""
    centers = rng.uniform([-0.6, -0.6, 0.8], [0.6, 0.6, 1.6], (count, 3))
    vertices = (centers[:, None] + rng.normal(0, spread, (count, 3, 3))).reshape(-1, 3)
    vertices[:, 2] = np.maximum(vertices[:, 2], 0.3)
    return vertices.astype(np.float32), np.arange(3 * count).reshape(-1, 3)


@pytest.mark.parametrize("spread", [0.01, 0.1, 0.5])
@pytest.mark.parametrize("size", [(64, 64), (37, 83)])
def test_random_triangles(spread, size):
    rng = np.random.default_rng(int(1000 * spread) + size[0])
    vertices, faces = random_soup(rng, 400, spread, size)
    _, ties = check(vertices, faces, 64.0, (size[1] / 2 + 0.3, size[0] / 2 - 1.7), size)
    assert ties < 2e-3


def test_sphere_at_several_places():
    points, faces = icosphere(3)
    for center, scale in (((0.0, 0.0, 3.0), 1.0), ((0.8, -0.5, 2.5), 1.0), ((0.0, 0.0, 1.6), 1.2)):
        vertices = points * scale + np.float32(center)
        fragments, ties = check(vertices, faces, 64.0, (32.0, 32.0), (64, 64))
        assert ties < 2e-3
        assert int(fragments.overflow) == 0


def test_result_does_not_depend_on_the_queue_length():
    points, faces = icosphere(3)
    vertices = points + np.float32([0, 0, 2])
    args = (vertices, faces, 90.0, (32.0, 32.0), (64, 64))
    expected = draw(*args).face
    for length in (64, 301):
        np.testing.assert_array_equal(draw(*args, queue_length=length).face, expected)


def grid(n, step, offset=(0.0, 0.0)):
    """An n × n grid of squares, each two triangles, at depth 1: corners on multiples of ``step`` pixels."""
    y, x = np.mgrid[: n + 1, : n + 1]
    vertices = np.stack([x * step + offset[0], y * step + offset[1], np.ones_like(x)], -1).reshape(-1, 3)
    index = np.arange((n + 1) ** 2).reshape(n + 1, n + 1)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]
    faces = np.concatenate([np.stack([a, c, b], -1).reshape(-1, 3), np.stack([b, c, d], -1).reshape(-1, 3)])
    return vertices.astype(np.float32), faces


@pytest.mark.parametrize("step", [0.5, 1.0, 1.5, 2.0, 5.0])
@pytest.mark.parametrize("offset", [0.0, 0.5])
def test_shared_edges_and_vertices_draw_each_pixel_once(step, offset):
    """Corners, edges and diagonals that pass exactly through pixel centres."""
    n = int(24 / step)
    vertices, faces = grid(n, step, (offset, offset))
    size = (64, 64)
    fragments, _ = check(vertices, faces, 1.0, (0.0, 0.0), size)
    *_, times = rasterize_reference(vertices, faces, 1.0, (0.0, 0.0), size)
    assert times.max() == 1
    # Left and top borders at a centre belong to the sheet, right and bottom ones do not: n·step pixels a
    # side.
    assert (np.asarray(fragments.face) >= 0).sum() == round(n * step) ** 2


@pytest.mark.parametrize("scale", [3.0, 15.0, 100.0, 230.0])
def test_triangles_larger_than_the_image(scale):
    """Up to 14,720 pixels wide, whose edge functions no 32-bit integer holds."""
    vertices = np.float32([[-scale, -scale, 1], [0, scale, 1.5], [scale, -scale, 2.0], [0, 0, 5.0]])
    faces = np.array([[0, 1, 2], [0, 3, 2], [0, 1, 3]])
    fragments, _ = check(vertices, faces, 64.0, (32.0, 32.0), (64, 64))
    assert int(fragments.overflow) == 0
    assert (np.asarray(fragments.face) >= 0).any()


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (40, 7), (8, 16), (9, 17)])
def test_any_size(size):
    points, faces = icosphere(2)
    vertices = points + np.float32([0, 0, 2.2])
    check(vertices, faces, 0.8 * max(size), (size[1] / 2, size[0] / 2), size)


@pytest.mark.slow
@pytest.mark.parametrize("size", [(2100, 3000), (4096, 1024)])
def test_large_images(size):
    points, faces = icosphere(2)
    vertices = points + np.float32([0, 0, 2.2])
    fragments, _ = check(vertices, faces, 0.8 * max(size), (size[1] / 2, size[0] / 2), size)
    assert int(fragments.overflow) == 0


@pytest.mark.parametrize("packed", [True, False])
def test_both_ways_to_resolve_depth(packed):
    rng = np.random.default_rng(11)
    vertices, faces = random_soup(rng, 400, 0.1, (64, 64))
    _, ties = check(vertices, faces, 64.0, (32.0, 32.0), (64, 64), packed_key=packed)
    assert ties < 2e-3


def test_a_great_depth_range_takes_two_passes():
    """Two sheets 0.1 mm apart, ten metres off, behind a triangle right before the camera.

    One packed key for all depths would not tell the sheets apart; a scene that needs it gets two passes.
    """
    near = np.float32([[-0.001, -0.001, 0.02], [0, 0.001, 0.02], [0.001, -0.001, 0.02]])
    sheet = np.float32([[-4, -4, 10], [0, 4, 10], [4, -4, 10]])
    vertices = np.concatenate([near, sheet, sheet - np.float32([0, 0, 1e-3])])
    faces = np.arange(9).reshape(-1, 3)
    args = (
        jnp.asarray(vertices),
        jnp.asarray(np.concatenate([faces] + [faces[:2]] * 8000)),
        jnp.float32(60.0),
    )
    center, size = jnp.asarray([32.0, 32.0]), (64, 64)
    chosen = np.asarray(rasterize(*args, center, size).face)
    packed = np.asarray(rasterize(*args, center, size, packed_key=True).face)
    assert set(np.unique(chosen)) == {-1, 0, 2}
    assert (packed == 1).any()  # what two passes are for


def test_slivers():
    rng = np.random.default_rng(5)
    ends = rng.uniform(0, 64, (300, 2, 2))
    third = ends[:, :1] + rng.normal(0, 0.02, (300, 1, 2))
    uv = np.concatenate([ends, third], 1).reshape(-1, 2)
    z = rng.uniform(0.9, 1.1, (len(uv), 1))
    vertices = np.concatenate([(uv - 32) * z / 64, z], 1).astype(np.float32)
    faces = np.arange(900).reshape(-1, 3)
    faces = np.concatenate([faces, faces[:, ::-1]])  # one of the two faces us
    _, ties = check(vertices, faces, 64.0, (32.0, 32.0), (64, 64))
    assert ties < 2e-3


def test_degenerate_nan_and_hidden_triangles():
    good = np.float32([[-0.3, -0.3, 1], [0, 0.4, 1], [0.3, -0.3, 1]])
    nan = good.copy()
    nan[1, 2] = np.nan
    infinite = good.copy()
    infinite[0, 0] = np.inf
    point = np.repeat(good[:1], 3, 0) - np.float32([0, 0, 0.1])
    line = np.float32([[-0.5, 0, 0.9], [0, 0, 0.9], [0.5, 0, 0.9]])
    behind = good * np.float32([1, 1, -0.5])
    crossing = good.copy()
    crossing[1, 2] = -0.2
    backface = good[::-1] - np.float32([0, 0, 0.2])
    vertices = np.concatenate([nan, infinite, point, line, behind, backface, good, crossing])
    faces = np.arange(len(vertices)).reshape(-1, 3)
    fragments, _ = check(vertices[:-3], faces[:-1], 40.0, (20.0, 20.0), (64, 64))
    assert set(np.unique(fragments.face)) == {-1, 6}
    fragments, _ = check(vertices, faces, 40.0, (20.0, 20.0), (64, 64))
    assert set(np.unique(fragments.face)) == {-1, 7}  # what crosses the near plane hides the other
    both = rasterize(
        jnp.asarray(vertices[:-3]),
        jnp.asarray(faces[:-1]),
        jnp.float32(40),
        jnp.asarray([20.0, 20.0]),
        (64, 64),
        cull_backfaces=False,
    )
    assert set(np.unique(both.face)) == {-1, 5}


def crossing_scene(seed):
    """Triangles of which most have corners behind the camera, nearer than the near plane, or far outside."""
    rng = np.random.default_rng(seed)
    vertices = rng.normal(0, 1, (60, 3, 3)).astype(np.float32)
    vertices[..., 2] += rng.uniform(-0.5, 1.5, (60, 1))
    return vertices.reshape(-1, 3), np.arange(180).reshape(-1, 3)


@pytest.mark.parametrize("seed", range(4))
def test_triangles_that_cross_the_near_plane(seed):
    """Each pixel as by ray and plane in float64, but for centres within rounding of an edge."""
    vertices, faces = crossing_scene(seed)
    focal, center, size = 40.0, (30.0, 26.0), (64, 64)
    drawn = [has_projection(vertices[face].astype(float), focal, center, 0.01) for face in faces]
    in_front = (vertices[faces][..., 2] >= 0.01).any(axis=1)
    assert (in_front & ~np.array(drawn)).sum() > 10
    fragments = draw(vertices, faces, focal, center, size)
    expected, best, inverse, _ = rasterize_reference(vertices, faces, focal, center, size)
    face = np.asarray(fragments.face)
    assert int(fragments.overflow) == 0
    assert (face >= 0).mean() > 0.5
    ties = 0
    for row, column in np.argwhere(face != expected):
        depth = inverse[face[row, column]][row, column] if face[row, column] >= 0 else 0.0
        ties += depth >= best[row, column] * (1 - TIE_BOUND)
    assert (face != expected).sum() - ties <= 2  # of 4,096


def test_neighbours_that_cross_the_near_plane_share_no_pixel():
    """A floor under the camera, in strips that begin behind it: drawn as one sheet, whatever the strips."""
    n = 9
    x = np.linspace(-3, 3, n + 1)
    vertices = np.float32([[x_, 0.5, z] for x_ in x for z in (-1.0, 6.0)])
    faces = np.concatenate(
        [[[2 * i, 2 * i + 1, 2 * i + 2], [2 * i + 1, 2 * i + 3, 2 * i + 2]] for i in range(n)]
    )
    faces = faces[:, ::-1]
    args = (30.0, (32.0, 12.0), (64, 64))
    strips = np.asarray(draw(vertices, faces, *args).face) >= 0
    sheet = np.float32([[-3, 0.5, -1], [3, 0.5, -1], [-3, 0.5, 6], [3, 0.5, 6]])
    whole = draw(sheet, [[0, 1, 2], [1, 3, 2]], *args).face
    assert strips.mean() > 0.3
    np.testing.assert_array_equal(strips, np.asarray(whole) >= 0)


def test_empty_views():
    good = np.float32([[-0.3, -0.3, 1], [0, 0.4, 1], [0.3, -0.3, 1]])
    outside, _ = check(good + np.float32([5, 0, 0]), [[0, 1, 2]], 40.0, (20.0, 20.0), (64, 64))
    assert (np.asarray(outside.face) == -1).all()
    assert int(outside.overflow) == 0
    none = rasterize(
        jnp.asarray(good), jnp.zeros((0, 3), jnp.int32), jnp.float32(40), jnp.asarray([20.0, 20.0]), (4, 6)
    )
    assert none.face.shape == (4, 6)
    assert (np.asarray(none.face) == -1).all()


def test_what_is_far_off_the_grid_is_drawn_all_the_same():
    """A corner 120,000 pixels away."""
    huge = np.float32([[-3000, -3000, 1], [0, 3000, 1], [3000, -3000, 1]])
    fragments, _ = check(huge, [[0, 1, 2]], 40.0, (20.0, 20.0), (64, 64))
    assert int(fragments.overflow) == 0
    assert (np.asarray(fragments.face) == 0).all()
    with pytest.raises(ValueError, match="sizes"):
        rasterize(
            jnp.asarray(huge),
            jnp.asarray([[0, 1, 2]]),
            jnp.float32(40),
            jnp.asarray([20.0, 20.0]),
            (20000, 40),
        )


def test_more_tiles_than_are_counted_on_are_reported():
    """9,000 triangles that each fill an image of 16,384 × 16,384 pixels would be more than 2³⁰ tiles."""
    full = np.float32([[-80, -80, 1], [0, 80, 1], [80, -80, 1]])
    count, crosses, left_out = jax.tree.map(
        np.asarray,
        jax.jit(lambda *args: tile_counts(snap_faces(*args, 0.01), (16384, 16384), True))(
            full, np.tile(np.int32([[0, 1, 2]]), (9000, 1)), jnp.float32(100.0), np.float32([8000.0, 8000.0])
        ),
    )
    assert not crosses.any()
    assert int(left_out) == 9000 - (count > 0).sum()
    assert 0 < int(left_out) < 9000
    assert count.astype(np.int64).sum() <= 1 << 30


def test_equal_depths_take_the_lower_face():
    triangle = np.float32([[-0.3, -0.3, 1], [0, 0.4, 1.2], [0.3, -0.3, 0.9]])
    vertices = np.concatenate([triangle] * 3)
    fragments, _ = check(vertices, [[6, 7, 8], [3, 4, 5], [0, 1, 2]], 40.0, (20.0, 20.0), (64, 64))
    assert set(np.unique(fragments.face)) == {-1, 0}


def test_more_faces_than_sixteen_bits():
    """Face numbers beyond 65,535 come through; the reference is the same sphere, last among far ones."""
    points, faces = icosphere(3)
    vertices = points + np.float32([0, 0, 3])
    args = (40.0, (20.0, 20.0), (64, 64))
    expected = np.asarray(draw(vertices, faces, *args).face)
    behind = np.tile(faces, (60, 1))  # the same sphere, 60 times, hidden behind
    many = np.concatenate([behind + len(points), faces])
    assert len(many) > 65536 + len(faces)
    both = np.concatenate([vertices, vertices * np.float32(1.5)])
    face = np.asarray(draw(both, many, *args).face)
    np.testing.assert_array_equal(face, np.where(expected >= 0, expected + len(behind), -1))


def test_vmap_equals_single_calls():
    points, faces = icosphere(3)
    faces = jnp.asarray(faces)
    batch = jnp.stack([jnp.asarray(points + np.float32([x, 0, 3])) for x in (-0.5, 0.0, 0.7)])
    args = (jnp.float32(50.0), jnp.asarray([16.0, 24.0]), (48, 32))
    together = jax.jit(jax.vmap(lambda v: rasterize(v, faces, *args)))(batch)
    for i, vertices in enumerate(batch):
        np.testing.assert_array_equal(together.face[i], rasterize(vertices, faces, *args).face)


def test_the_way_for_accelerators_gives_the_same(monkeypatch):
    """All tiles at once, two passes, a batch at once: what runs where there is no CPU, run here."""
    points, faces = icosphere(3)
    faces = jnp.asarray(faces)
    crossing = jnp.asarray(points + np.float32([0, 0, 0.5]))
    batch = jnp.stack([*(jnp.asarray(points + np.float32([x, 0, 3])) for x in (-0.5, 0.7)), crossing])
    args = (faces, jnp.float32(50.0), jnp.asarray([16.0, 24.0]), (48, 32))
    expected = [rasterize(vertices, *args).face for vertices in batch]
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    together = jax.jit(jax.vmap(lambda v: rasterize(v, *args)))(batch)
    assert (np.asarray(together.overflow) == 0).all()
    for face, wanted in zip(together.face, expected, strict=True):
        assert (np.asarray(face) != np.asarray(wanted)).mean() < 2e-3  # depth ties
        np.testing.assert_array_equal(face >= 0, wanted >= 0)


def test_open_head_in_random_poses(open_head):
    import flame_jax

    faces = np.asarray(open_head.faces)
    rng = np.random.default_rng(0)
    params = flame_jax.FlameParams.neutral(open_head)
    vertices = np.asarray(jax.jit(flame_jax.decode)(open_head, params)[0])
    for _ in range(2):
        angles = jnp.asarray(rng.normal(0, [0.3, 0.5, 0.2]), jnp.float32)
        rotation = np.asarray(flame_jax.rotations.euler_to_matrix(angles)) @ np.diag([1.0, -1.0, -1.0])
        posed = (vertices @ rotation.T + [0.01, 0.0, 1.0]).astype(np.float32)
        fragments, ties = check(posed, faces, 300.0, (32.0, 30.0), (64, 64))
        assert int(fragments.overflow) == 0
        assert ties < 5e-3
