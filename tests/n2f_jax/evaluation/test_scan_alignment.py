import numpy as np
import pytest
import trimesh
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation
from trimesh.proximity import closest_point

from n2f_jax.evaluation.scan_alignment import AlignmentError, Similarity, procrustes, refine
from n2f_jax.mesh.closest_points import Surface
from n2f_jax.mesh.triangle_mesh import TriangleMesh


def bumpy(seed=0, subdivisions=3):
    """A closed surface without symmetry, the size of a head in metres."""
    rng = np.random.default_rng(seed)
    sphere = trimesh.creation.icosphere(subdivisions=subdivisions)
    v = np.asarray(sphere.vertices)
    radius = 0.1 * (1 + 0.15 * np.sin(v @ rng.normal(0, 2, (3, 4)) + rng.uniform(0, 6, 4)).mean(axis=1))
    return TriangleMesh(v * radius[:, None] * [0.8, 1.1, 1.0], np.asarray(sphere.faces, np.int64))


def random_similarity(rng, scale):
    return Similarity(
        scale, Rotation.random(random_state=int(rng.integers(1 << 30))).as_matrix(), rng.normal(0, 0.3, 3)
    )


@pytest.mark.parametrize("scaling", [True, False])
def test_procrustes_is_scipys_best_fit(scaling):
    rng = np.random.default_rng(1)
    source = rng.normal(0, 0.05, (7, 3))
    target = random_similarity(rng, 1.3 if scaling else 1.0).apply(source) + rng.normal(0, 0.003, (7, 3))
    found = procrustes(source, target, scaling)

    def residuals(x):
        factor = np.exp(x[6]) if scaling else 1.0
        return (factor * Rotation.from_rotvec(x[:3]).apply(source) + x[3:6] - target).ravel()

    start = np.r_[Rotation.from_matrix(found.rotation).as_rotvec() + 0.1, found.translation, 0.0]
    best = least_squares(residuals, start, xtol=1e-14, ftol=1e-14, gtol=1e-14)
    ours = ((found.apply(source) - target) ** 2).sum()
    assert ours == pytest.approx(2 * best.cost, rel=1e-9)
    np.testing.assert_allclose(found.inverse(found.apply(source)), source, atol=1e-12)
    assert np.linalg.det(found.rotation) == pytest.approx(1.0)


def test_landmarks_that_determine_nothing_are_refused():
    rng = np.random.default_rng(0)
    points = rng.normal(0, 0.05, (7, 3))
    with pytest.raises(AlignmentError, match="one line"):
        procrustes(np.outer(np.arange(7.0), [1, 2, 3]), points, True)
    with pytest.raises(AlignmentError, match="mirrored"):
        procrustes(points * [-1, 1, 1], points, True)
    with pytest.raises(AlignmentError, match="corresponding"):
        procrustes(points[:5], points, True)
    with pytest.raises(AlignmentError, match="not finite"):
        procrustes(np.full((7, 3), np.nan), points, True)


@pytest.mark.parametrize("scaling", [True, False])
def test_refinement_finds_a_known_similarity(scaling):
    rng = np.random.default_rng(2)
    mesh = bumpy()
    truth = random_similarity(rng, 1.07 if scaling else 1.0)
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
