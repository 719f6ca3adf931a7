import numpy as np
import pytest
import trimesh
from scipy.spatial.distance import cdist

from n2f_jax.evaluation.metrics import angles_between, compare, completeness, normal_angles, region_figures
from n2f_jax.mesh.closest_points import Surface
from n2f_jax.mesh.triangle_mesh import TriangleMesh


def sphere(radius, subdivisions=4):
    mesh = trimesh.creation.icosphere(subdivisions=subdivisions, radius=radius)
    return TriangleMesh(np.asarray(mesh.vertices), np.asarray(mesh.faces, np.int64))


def noisy(seed, subdivisions=2):
    mesh = sphere(0.1, subdivisions)
    rng = np.random.default_rng(seed)
    return TriangleMesh(mesh.vertices + rng.normal(0, 0.002, mesh.vertices.shape), mesh.faces)


def test_concentric_spheres():
    """Vertices lie on common rays, so every distance is the difference of the radii and normals agree."""
    errors = compare(sphere(0.100), Surface(sphere(0.103)))
    figures = region_figures(errors, np.arange(100))
    assert figures["cd_mm"] == pytest.approx(3.0, abs=1e-9)
    assert figures["cd_symmetric_mm"] == pytest.approx(3.0, abs=1e-9)
    # The surface between vertices lies inside the sphere.
    assert 2.8 < figures["now_mm"] < 3.0
    assert figures["cr"] == 0.0 and figures["vertices"] == 100
    assert figures["mne_rad"] == pytest.approx(0.0, abs=0.02)


def test_vertex_to_vertex_is_the_smallest_of_all_pairs():
    truth, answer = noisy(0), noisy(1)
    errors = compare(truth, Surface(answer))
    pairs = 1000 * cdist(truth.vertices, answer.vertices)
    np.testing.assert_allclose(errors.vertex_mm, pairs.min(axis=1), atol=1e-9)
    np.testing.assert_allclose(errors.reverse_mm, pairs.min(axis=0), atol=1e-9)
    np.testing.assert_array_equal(errors.reverse_nearest, pairs.argmin(axis=0))
    assert (errors.surface_mm <= errors.vertex_mm + 1e-9).all()
    region = np.arange(40, 90)
    figures = region_figures(errors, region)
    partly = compare(truth, Surface(answer), measured=region)
    assert region_figures(partly, region) == figures
    assert np.isnan(partly.vertex_mm).sum() == len(pairs) - 50
    assert figures["cd_mm"] == pytest.approx(pairs.min(axis=1)[region].mean())
    back = np.isin(pairs.argmin(axis=0), region)
    expected = (pairs.min(axis=1)[region].mean() + pairs.min(axis=0)[back].mean()) / 2
    assert figures["cd_symmetric_mm"] == pytest.approx(expected)
    assert figures["cr"] == pytest.approx((errors.surface_mm[region] <= 2).mean())
    assert figures["mne_deg"] == pytest.approx(np.degrees(figures["mne_rad"]))


def test_normal_error_is_the_angle_of_a_turned_plane():
    """A ground-truth vertex whose normal is 20° off a flat reconstruction."""
    grid = np.stack(np.meshgrid(*[np.linspace(-0.1, 0.1, 5)] * 2), axis=-1).reshape(-1, 2)
    from scipy.spatial import Delaunay

    faces = Delaunay(grid).simplices.astype(np.int64)
    a, b, c = np.moveaxis(grid[faces], 1, 0)
    clockwise = np.cross(np.c_[b - a, np.zeros(len(a))], np.c_[c - a, np.zeros(len(a))])[:, 2] < 0
    faces[clockwise] = faces[clockwise][:, [0, 2, 1]]
    flat = Surface(TriangleMesh(np.c_[grid, np.zeros(len(grid))], faces))
    points = np.random.default_rng(0).uniform(-0.09, 0.09, (50, 3))
    normal = np.array([0.0, np.sin(np.radians(20)), np.cos(np.radians(20))])
    angles = normal_angles(np.tile(normal, (50, 1)), flat, flat.closest(points))
    np.testing.assert_allclose(angles, np.radians(20), atol=1e-12)


def test_normals_are_interpolated_over_the_triangle():
    """On a fine sphere the smooth normal at any point is radial; the triangle's own is not."""
    ball = sphere(0.1)
    points = np.random.default_rng(0).normal(0, 1, (300, 3))
    points *= 0.1 / np.linalg.norm(points, axis=1, keepdims=True)
    surface = Surface(ball)
    closest = surface.closest(points)
    smooth = normal_angles(points / 0.1, surface, closest)
    flat = angles_between(points, surface.face_normals[closest.face])
    assert smooth.mean() < 0.15 * flat.mean()


def test_angles_keep_their_digits_and_nothing_has_none():
    small = np.array([[1.0, 0, 0], [1, 0, 0], [1, 0, 0], [0, 0, 0]])
    other = np.array([[1.0, 1e-9, 0], [-1, 1e-9, 0], [0, 3, 0], [1, 0, 0]])
    angles = angles_between(small, other)
    np.testing.assert_allclose(angles[:3], [1e-9, np.pi - 1e-9, np.pi / 2], rtol=1e-9)
    assert np.isnan(angles[3])


def test_completeness_counts_two_millimetres_in():
    assert completeness(np.array([0.0, 2.0, 2.0001, 5.0])) == 0.5
    assert np.isnan(completeness(np.zeros(0)))
    figures = region_figures(compare(noisy(0), Surface(noisy(1))), np.zeros(0, int))
    assert np.isnan(figures["cd_mm"]) and figures["vertices"] == 0


def test_a_point_cloud_has_distances_but_no_normals():
    cloud = TriangleMesh(noisy(0).vertices, np.zeros((0, 3), np.int64))
    errors = compare(cloud, Surface(noisy(1)))
    assert np.isfinite(errors.vertex_mm).all() and np.isnan(errors.normal_rad).all()
    assert np.isfinite(compare(noisy(0), Surface(noisy(1))).normal_rad).all()
