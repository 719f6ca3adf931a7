import numpy as np
import pytest
import trimesh
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation
from trimesh.proximity import closest_point

from n2f_jax.evaluation.scan_alignment import refine
from n2f_jax.geometry.alignment import AlignmentError, Similarity
from n2f_jax.mesh.closest_points import Surface
from n2f_jax.mesh.triangle_mesh import TriangleMesh


def bumpy(seed=0, subdivisions=3):
    """A closed surface without symmetry, the size of a head in metres."""
    rng = np.random.default_rng(seed)
    sphere = trimesh.creation.icosphere(subdivisions=subdivisions)
    v = np.asarray(sphere.vertices)
    radius = 0.1 * (1 + 0.15 * np.sin(v @ rng.normal(0, 2, (3, 4)) + rng.uniform(0, 6, 4)).mean(axis=1))
    return TriangleMesh(v * radius[:, None] * [0.8, 1.1, 1.0], np.asarray(sphere.faces, np.int64))


@pytest.mark.parametrize("scaling", [True, False])
def test_refinement_finds_a_known_similarity(scaling):
    rng = np.random.default_rng(2)
    mesh = bumpy()
    turn = Rotation.random(random_state=5).as_matrix()
    truth = Similarity(1.07 if scaling else 1.0, turn, rng.normal(0, 0.3, 3))
    surface_points, _ = trimesh.sample.sample_surface(
        trimesh.Trimesh(mesh.vertices, mesh.faces), 5000, seed=1
    )
    wrong = Similarity(
        truth.scale * (1.04 if scaling else 1.0),
        truth.rotation @ Rotation.from_rotvec([0.05, -0.04, 0.06]).as_matrix(),
        truth.translation + np.array([0.003, -0.002, 0.004]),
    )
    found = refine(Surface(mesh), truth.apply(surface_points), wrong, scaling, tolerance=1e-8)
    assert found.converged
    assert found.rms < 1e-7
    np.testing.assert_allclose(found.similarity.apply(mesh.vertices), truth.apply(mesh.vertices), atol=2e-7)


@pytest.mark.parametrize("scaling", [True, False])
def test_refinement_ends_where_scipys_least_squares_ends(scaling):
    """The same objective, with trimesh's closest points and SciPy's minimiser, on surfaces that differ."""
    rng = np.random.default_rng(3)
    mesh = bumpy(subdivisions=2)
    outside = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    whole = bumpy().vertices
    points = (whole * (1 + 0.02 * np.sin(40 * whole[:, [1, 2, 0]])) + rng.normal(0, 2e-4, whole.shape))[::3]
    start = Similarity(1.0, np.eye(3), np.zeros(3))
    found = refine(Surface(mesh), points, start, scaling, tolerance=1e-9, max_steps=300)

    def residuals(x):
        factor = np.exp(10 * x[6]) if scaling else 1.0
        inverse = Rotation.from_rotvec(10 * x[:3]).inv().apply(points - x[3:6]) / factor
        return 1000 * factor * closest_point(outside, inverse)[1]

    def fit(start):
        best = least_squares(residuals, start, diff_step=1e-6, x_scale=0.01, xtol=1e-12, ftol=1e-12)
        return np.sqrt(2 * best.cost / len(points))

    ours = 1000 * found.rms
    rotation = Rotation.from_matrix(found.similarity.rotation).as_rotvec() / 10
    here = np.r_[rotation, found.similarity.translation, np.log(found.similarity.scale) / 10]
    here = here if scaling else here[:6]
    assert np.sqrt((residuals(here) ** 2).mean()) == pytest.approx(ours, abs=1e-4)
    assert ours <= fit(np.zeros(len(here))) + 1e-4
    assert fit(here) > ours - 1e-4  # SciPy finds no way further down


def test_distances_come_back_in_the_order_of_the_points():
    mesh = bumpy()
    rng = np.random.default_rng(4)
    points = bumpy(1).vertices[rng.permutation(642)]
    found = refine(Surface(mesh), points, Similarity(1.0, np.eye(3), np.zeros(3)), False, tolerance=1e-7)
    again = Surface(mesh).closest(found.similarity.inverse(points))
    np.testing.assert_allclose(found.closest.distance, again.distance, atol=1e-12)
    assert found.rms == pytest.approx(np.sqrt((again.distance**2).mean()))


def test_too_few_points_are_refused():
    with pytest.raises(AlignmentError, match="9 scan points"):
        refine(Surface(bumpy()), np.zeros((9, 3)), Similarity(1.0, np.eye(3), np.zeros(3)), False, 1e-6)
