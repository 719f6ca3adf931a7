import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from n2f_jax.evaluation import now
from n2f_jax.evaluation.landmarks3d import SEVEN_OF_68
from n2f_jax.evaluation.phantoms import make_phantom, refined
from n2f_jax.geometry.alignment import AlignmentError
from n2f_jax.mesh.closest_points import Surface
from n2f_jax.mesh.triangle_mesh import MeshError, TriangleMesh

SEVEN = list(SEVEN_OF_68)


@pytest.fixture(scope="module")
def phantom():
    """A head and its scan in metres, without noise."""
    made = make_phantom(np.random.default_rng(0), 8000, noise_mm=0.0)
    return made.head, made.landmarks[SEVEN], made.scan.scaled(1e-3)


def moved(points, scale=1.0):
    turn = Rotation.from_euler("xyz", [20, -35, 10], degrees=True).as_matrix()
    return scale * points @ turn.T + [0.3, -0.1, 0.7]


def test_the_crop_is_nows_sphere(phantom):
    _, landmarks, scan = phantom
    crop = now.crop_scan(scan, landmarks)
    base, inner = landmarks[4], (landmarks[1] + landmarks[2]) / 2
    centre = base + 0.3 * (inner - base)
    radius = 1.4 * (np.linalg.norm(landmarks[0] - landmarks[3]) + np.linalg.norm(inner - base)) / 2
    expected = [i for i, vertex in enumerate(scan.vertices) if np.linalg.norm(vertex - centre) <= radius]
    np.testing.assert_array_equal(crop, expected)
    assert 0.3 < len(crop) / len(scan.vertices) < 0.7


@pytest.mark.parametrize("scaling", [True, False])
def test_a_perfect_reconstruction_anywhere_has_no_error(phantom, scaling):
    head, landmarks, scan = phantom
    scale = 2.5 if scaling else 1.0
    surface = Surface(TriangleMesh(moved(head.vertices, scale), head.faces))
    rng = np.random.default_rng(1)
    # Landmarks 1 mm off: what the refinement is for.
    result = now.measure(
        surface, moved(landmarks + rng.normal(0, 1e-3, (7, 3)), scale), scan, landmarks, scaling
    )
    assert result.distances_mm.max() < 1e-3
    assert len(result.distances_mm) == len(result.crop)
    assert result.refinement.similarity.scale == pytest.approx(1 / scale, rel=1e-5)


def test_only_the_metrical_variant_sees_size(phantom):
    head, landmarks, scan = phantom
    large = Surface(head.scaled(1.05))
    blind = now.measure(large, landmarks * 1.05, scan, landmarks, True)
    metrical = now.measure(large, landmarks * 1.05, scan, landmarks, False)
    assert np.median(blind.distances_mm) < 1e-3
    assert 0.3 < np.median(metrical.distances_mm) < 3.0


def test_an_offset_surface_is_measured_to_its_surface(phantom):
    """A scan 1 mm outside a coarse sphere-like patch: distances are to triangles, not to vertices."""
    head, landmarks, _ = phantom
    result = now.measure(Surface(head), landmarks, refined(head, 20_000), landmarks, False)
    assert result.distances_mm.max() < 1e-3  # new vertices lie on the triangles, far from any vertex


def test_what_is_no_face_is_refused(phantom):
    head, landmarks, scan = phantom
    with pytest.raises(MeshError, match="only 0 of"):
        now.crop_scan(scan, landmarks + 5.0)
    with pytest.raises(MeshError, match="another frame or unit"):
        now.crop_scan(scan.scaled(1000.0), landmarks)
    with pytest.raises(AlignmentError, match="mirrored"):
        now.measure(Surface(head), landmarks[[3, 2, 1, 0, 4, 6, 5]], scan, landmarks, True)
    with pytest.raises(AlignmentError, match="mm"):  # ten times too small, and no scale to make up for it
        now.measure(Surface(head.scaled(0.1)), landmarks * 0.1, scan, landmarks, False)


def test_pooled_figures_and_the_curve():
    distances = np.random.default_rng(0).gamma(2.0, 0.7, 5000)
    figures = now.pooled(distances)
    assert figures["median_mm"] == np.median(distances) and figures["std_mm"] == np.std(distances)
    thresholds = np.array([0.0, 1.0, distances.max()])
    expected = [100 * np.mean(distances <= t) for t in thresholds]
    np.testing.assert_allclose(now.cumulative_curve(distances, thresholds), expected)
