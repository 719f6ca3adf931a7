import numpy as np
import pytest
import trimesh
from trimesh.proximity import closest_point

from n2f_jax.mesh.closest_points import Surface, barycentric
from n2f_jax.mesh.triangle_mesh import MeshError, TriangleMesh

MM = 1e-3  # lengths below are metres of a head's size


def soup(seed, triangles=300):
    """Random triangles of all shapes, slivers included, over the size of a head."""
    rng = np.random.default_rng(seed)
    centres = rng.uniform(-0.1, 0.1, (triangles, 1, 3))
    corners = centres + rng.normal(0, 0.01, (triangles, 3, 3)) * rng.uniform(0.01, 1.0, (triangles, 1, 3))
    return TriangleMesh(corners.reshape(-1, 3), np.arange(3 * triangles).reshape(-1, 3))


def by_regions(point, a, b, c):
    """Closest point of one triangle, by the definition: inside, else the nearest of its edges."""
    normal = np.cross(b - a, c - a)
    foot = point - normal * (normal @ (point - a)) / (normal @ normal)
    inside = all(np.cross(q - p, foot - p) @ normal >= 0 for p, q in ((a, b), (b, c), (c, a)))
    if inside:
        return foot
    candidates = [
        p + np.clip((point - p) @ (q - p) / ((q - p) @ (q - p)), 0, 1) * (q - p)
        for p, q in ((a, b), (b, c), (c, a))
    ]
    return min(candidates, key=lambda x: np.linalg.norm(point - x))


@pytest.mark.parametrize("seed", range(3))
def test_distances_are_those_of_a_loop_over_all_triangles(seed):
    mesh = soup(seed, 60)
    points = np.random.default_rng(seed + 100).uniform(-0.13, 0.13, (40, 3))
    found = Surface(mesh).closest(points)
    for index, point in enumerate(points):
        feet = [by_regions(point, *mesh.vertices[face]) for face in mesh.faces]
        distances = np.linalg.norm(np.array(feet) - point, axis=1)
        assert found.distance[index] == pytest.approx(distances.min(), abs=1e-7 * MM)
        np.testing.assert_allclose(found.point[index], feet[found.face[index]], atol=1e-6 * MM)


@pytest.mark.parametrize("seed", range(3))
def test_distances_are_those_of_trimesh(seed):
    mesh = soup(seed)
    points = np.random.default_rng(seed).uniform(-0.13, 0.13, (400, 3))
    found = Surface(mesh).closest(points)
    _, distance, _ = closest_point(trimesh.Trimesh(mesh.vertices, mesh.faces, process=False), points)
    assert np.abs(found.distance - distance).max() < 1e-4 * MM


def test_points_on_the_surface_and_their_barycentric_coordinates():
    mesh = soup(5)
    rng = np.random.default_rng(0)
    face = rng.integers(0, len(mesh.faces), 200)
    weights = rng.dirichlet([1, 1, 1], 200)
    points = np.einsum("nc,nci->ni", weights, mesh.vertices[mesh.faces[face]])
    np.testing.assert_allclose(barycentric(mesh, face, points), weights, atol=1e-6)
    found = Surface(mesh).closest(points)
    assert found.distance.max() < 1e-7 * MM


def test_triangles_without_area_have_coordinates_too():
    """A line, either edge the longer, and a point: numbers that give the place back."""
    corners = np.array([[0.0, 0, 0], [1, 2, 2], [0.5, 1, 1], [0, 0, 0]])
    mesh = TriangleMesh(corners, np.array([[0, 1, 2], [0, 2, 1], [1, 0, 2], [0, 3, 0]]))
    points = np.array([[0.25, 0.5, 0.5], [0.75, 1.5, 1.5], [0.1, 0.2, 0.2], [0, 0, 0]])
    weights = barycentric(mesh, np.arange(4), points)
    np.testing.assert_allclose(weights.sum(axis=1), 1.0)
    np.testing.assert_allclose(np.einsum("nc,nci->ni", weights, corners[mesh.faces]), points, atol=1e-12)


def test_a_point_cloud_is_no_surface():
    with pytest.raises(MeshError, match="triangles"):
        Surface(TriangleMesh(np.zeros((3, 3)), np.zeros((0, 3), np.int64)))
