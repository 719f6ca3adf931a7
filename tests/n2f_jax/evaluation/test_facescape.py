import numpy as np
import pytest
import trimesh

from n2f_jax.evaluation import facescape
from n2f_jax.evaluation.metrics import angles_between
from n2f_jax.evaluation.phantoms import make_phantom
from n2f_jax.mesh.triangle_mesh import MeshError, TriangleMesh

TO_CAMERA = np.diag([1.0, -1.0, -1.0])


def tube(radius, sections=720):
    """A closed cylinder about the y axis, 200 mm high."""
    mesh = trimesh.creation.cylinder(radius=radius, height=200.0, sections=sections)
    mesh.apply_transform(trimesh.transformations.rotation_matrix(np.pi / 2, [1, 0, 0]))
    return TriangleMesh(np.asarray(mesh.vertices), np.asarray(mesh.faces, np.int64))


@pytest.fixture(scope="module")
def heads():
    """Two heads in millimetres before a camera, and the first's centre there."""
    rng = np.random.default_rng(0)
    made = [make_phantom(rng, 0, 0.0).head for _ in range(2)]
    placed = [
        TriangleMesh(1000 * m.vertices @ TO_CAMERA.T + np.array([5.0, 3.0, 600.0]), m.faces) for m in made
    ]
    return *placed, placed[0].vertices.mean(axis=0) + np.array([0.31, 0.17, 0.23])


def test_the_map_of_a_tube_is_its_radius_between_its_ends():
    seen = facescape.cylinder_map(tube(80.0))
    height = np.linspace(150, -150, 256)
    inside = np.abs(height) < 99
    np.testing.assert_allclose(seen.radius[inside], 80.0, atol=0.01)
    np.testing.assert_array_equal(seen.radius[np.abs(height) > 101], 0)
    angle = np.arange(256) * 2 * np.pi / 255
    outward = np.stack([-np.sin(angle), 0 * angle, -np.cos(angle)], axis=-1)
    assert angles_between(seen.normal[128], outward).max() < 0.006


def test_the_map_keeps_the_outermost_surface(heads):
    """As trimesh sees it, shooting from the axis and taking the last hit."""
    truth, _, centre = heads
    mesh = TriangleMesh(truth.vertices - centre, truth.faces)
    seen = facescape.cylinder_map(mesh).radius
    rows, columns = np.meshgrid(np.arange(0, 256, 17), np.arange(3, 256, 23), indexing="ij")
    angle, height = columns.ravel() * 2 * np.pi / 255, np.linspace(150, -150, 256)[rows.ravel()]
    directions = np.stack([-np.sin(angle), 0 * angle, -np.cos(angle)], axis=-1)
    origins = np.stack([0 * angle, height, 0 * angle], axis=-1)
    outside = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    where, ray, _ = trimesh.ray.ray_triangle.RayMeshIntersector(outside).intersects_location(
        origins, directions
    )
    expected = np.zeros(len(origins))
    np.maximum.at(expected, ray, np.linalg.norm(where[:, [0, 2]], axis=1))
    np.testing.assert_allclose(seen[rows, columns].ravel(), expected, atol=1e-4)


def test_concentric_tubes():
    # Before a camera far away, so that the depth is right to begin with and stays nearly so.
    surfaces = [facescape.map_surface(facescape.cylinder_map(tube(r)).radius) for r in (80.0, 82.0)]
    assert facescape.chamfer(*surfaces) == pytest.approx(2.0, abs=0.02)


def test_a_perfect_reconstruction_at_a_wrong_depth_has_no_error(heads):
    truth, _, centre = heads
    shifted = TriangleMesh(truth.vertices + np.array([0, 0, 40.0]), truth.faces)
    figures = facescape.measure(truth, shifted, centre, np.eye(3), perspective=False)
    assert figures["cd_mm"] < 1e-3 and figures["mne_rad"] < 1e-3 and figures["cr"] > 0.999
    same = facescape.measure(truth, truth, centre, np.eye(3))
    assert same["cd_mm"] < 1e-9 and same["cr"] == 1.0


def test_depth_is_all_that_is_aligned(heads):
    truth, other, centre = heads
    aside = TriangleMesh(truth.vertices + np.array([6.0, 0, 0]), truth.faces)
    assert facescape.measure(truth, aside, centre, np.eye(3))["cd_mm"] > 1.0
    figures = facescape.measure(truth, other, centre, np.eye(3))
    assert 0.5 < figures["cd_mm"] < 6.0 and 0.8 < figures["cr"] < 1.0
    # Adding 1 to the normals turns them all towards (1, 1, 1): angles shrink.
    assert 0.02 < figures["mne_published_rad"] < figures["mne_rad"] < 0.5


def test_half_a_reconstruction_is_half_complete(heads):
    truth, _, centre = heads
    upright = truth.vertices - centre
    half = truth.faces[(upright[truth.faces][:, :, 0] > 0).all(axis=1)]
    figures = facescape.measure(truth, TriangleMesh(truth.vertices, half), centre, np.eye(3))
    assert figures["cr"] == pytest.approx(0.5, abs=0.06)


def test_meshes_that_do_not_meet_are_refused(heads):
    truth, _, centre = heads
    with pytest.raises(MeshError, match="do not overlap"):
        facescape.measure(
            truth, TriangleMesh(truth.vertices + np.array([900.0, 0, 0]), truth.faces), centre, np.eye(3)
        )
    with pytest.raises(MeshError, match="behind the camera"):
        facescape.measure(truth, TriangleMesh(truth.vertices - [0, 0, 900.0], truth.faces), centre, np.eye(3))
