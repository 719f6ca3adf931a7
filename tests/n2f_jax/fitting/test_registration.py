"""Registration against known answers: heads of the model with holes, noise, another pose and another unit."""

import dataclasses

import jax
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

import flame_jax
from n2f_jax.data.sampler import SyntheticConfig, sample_params
from n2f_jax.fitting.correspondences import ScanSurface, border_edges, on_border
from n2f_jax.fitting.registration import Registrar, RegistrationConfig
from n2f_jax.geometry.alignment import AlignmentError
from n2f_jax.mesh.cleaning import clean
from n2f_jax.mesh.closest_points import Surface
from n2f_jax.mesh.triangle_mesh import MeshError, TriangleMesh
from n2f_jax.metrics.skin import skin_vertices

pytestmark = pytest.mark.medium
SEVEN = [36, 39, 42, 45, 33, 48, 54]


@pytest.fixture(scope="module")
def model(open_head):
    """Fewer directions: the same code in a tenth of the time."""
    return dataclasses.replace(
        open_head, shapedirs=open_head.shapedirs[..., :40], exprdirs=open_head.exprdirs[..., :20]
    )


@pytest.fixture(scope="module")
def registrar(model):
    return Registrar(model)


def skin_of(model, vertices):
    inside = np.zeros(model.num_vertices, bool)
    inside[skin_vertices(model)] = True
    faces = np.asarray(model.faces, np.int64)
    return TriangleMesh(vertices, faces[inside[faces].all(axis=1)])


def head(model, seed):
    params = sample_params(jax.random.key(seed), model, SyntheticConfig())
    return params, np.asarray(flame_jax.decode(model, params)[0], np.float64)


def with_holes(mesh, share, rng):
    centres = mesh.vertices[mesh.faces].mean(axis=1)
    a, b, c = np.moveaxis(mesh.vertices[mesh.faces], 1, 0)
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    cut = np.zeros(len(centres), bool)
    while area[cut].sum() < share * area.sum():
        middle = centres[rng.choice(len(centres), p=area / area.sum())]
        cut |= np.linalg.norm(centres - middle, axis=1) < rng.uniform(0.01, 0.03)
    return TriangleMesh(mesh.vertices, mesh.faces[~cut])


def landmarks_of(model, vertices):
    return np.asarray(flame_jax.landmarks68(model, np.asarray(vertices, np.float32)), np.float64)


@pytest.mark.parametrize("seed", [1, 2])
def test_a_head_with_holes_and_noise_comes_back(model, registrar, seed):
    """A fifth of the surface cut away, 0.2 mm of noise: the whole skin, holes too, is found to 0.2 mm."""
    rng = np.random.default_rng(seed)
    _, truth = head(model, seed)
    rotation, shift = Rotation.random(random_state=seed).as_matrix(), rng.normal(0.0, 0.2, 3)
    posed = truth @ rotation.T + shift
    scan = with_holes(skin_of(model, posed + rng.normal(0.0, 2e-4, posed.shape)), 0.2, rng)
    landmarks = landmarks_of(model, posed) + rng.normal(0.0, 5e-4, (68, 3))
    landmarks[:17] = np.nan
    found = registrar(clean(scan)[0], landmarks)
    placed = found.similarity.apply(found.vertices)
    distance = Surface(skin_of(model, placed)).closest(posed[skin_vertices(model)]).distance
    assert 1000.0 * distance.mean() < 0.2
    assert found.similarity.scale == pytest.approx(1.0)
    assert not found.offsets.any() and found.distance < 3e-4 and found.paired > 0.6
    decoded = np.asarray(flame_jax.decode(model, found.params)[0])
    np.testing.assert_allclose(decoded, found.vertices, atol=1e-6)


def test_any_unit_and_what_the_basis_cannot_express(model):
    """A scan in millimetres with a bump on the cheek that no coefficient makes: offsets follow it."""
    _, truth = head(model, 3)
    cheek = truth[np.asarray(model.masks["face"])]
    centre = cheek[np.argmax(cheek[:, 0] + cheek[:, 2])]
    bump = 0.006 * np.exp(-(((truth - centre) / 0.02) ** 2).sum(axis=1))
    outward = truth - truth.mean(axis=0)
    bumped = truth + bump[:, None] * outward / np.linalg.norm(outward, axis=1, keepdims=True)
    scan = clean(skin_of(model, 1000.0 * bumped))[0]
    landmarks = np.full((68, 3), np.nan)
    landmarks[SEVEN] = landmarks_of(model, 1000.0 * bumped)[SEVEN]
    distances = {}
    for offsets in (False, True):
        found = Registrar(model, RegistrationConfig(scaling=True, offsets=offsets))(scan, landmarks)
        placed = found.similarity.apply(found.vertices)
        near = np.flatnonzero(bump > 0.002)
        near = near[np.isin(near, skin_vertices(model))]
        distances[offsets] = Surface(skin_of(model, placed)).closest(1000.0 * bumped[near]).distance.mean()
        assert found.similarity.scale == pytest.approx(1000.0, rel=0.05)
        assert bool(found.offsets.any()) == offsets
    assert distances[True] < 0.3 and distances[True] < 0.5 * distances[False]


def test_at_rest_there_is_no_expression(model):
    _, truth = head(model, 4)
    config = RegistrationConfig(rest=True)
    found = Registrar(model, config)(clean(skin_of(model, truth))[0], landmarks_of(model, truth))
    assert not np.asarray(found.params.expression).any() and not np.asarray(found.params.eyelids).any()
    assert np.asarray(found.params.shape).any()


def test_what_is_no_head_is_refused(model, registrar):
    mean = np.asarray(model.v_template, np.float64)
    scan = skin_of(model, mean)
    with pytest.raises(MeshError, match="points without triangles"):
        registrar(TriangleMesh(mean, np.zeros((0, 3), np.int64)), landmarks_of(model, mean))
    with pytest.raises(AlignmentError, match="mirrored"):
        registrar(scan, landmarks_of(model, mean) * [-1, 1, 1])
    far = landmarks_of(model, mean) + 5.0
    with pytest.raises(AlignmentError, match="no place on the scan"):
        registrar(scan, far)
    with pytest.raises(ValueError, match="no landmark embedding"):
        Registrar(dataclasses.replace(model, landmarks=None))


def test_nearest_points_on_a_border_do_not_count():
    grid = np.stack(np.meshgrid(np.arange(4.0), np.arange(4.0), indexing="ij"), axis=-1).reshape(-1, 2)
    vertices = np.column_stack([grid, np.zeros(16)])
    square = np.array([[0, 4, 5], [0, 5, 1]])
    faces = np.concatenate([square + 4 * i + j for i in range(3) for j in range(3)])
    mesh = TriangleMesh(vertices, faces)
    scan = ScanSurface(mesh, samples=900)
    up = np.tile([0.0, 0.0, 1.0], (4, 1))
    points = np.array([[1.5, 1.4, 0.5], [3.5, 1.5, 0.0], [-1.0, -1.0, 0.0], [1.5, 1.4, 5.0]])
    target, normal, counts = scan.nearest(points, up, max_distance=1.0)
    np.testing.assert_array_equal(counts, [True, False, False, False])
    np.testing.assert_allclose(target[0], [1.5, 1.4, 0.0], atol=1e-12)
    np.testing.assert_allclose(normal[0], [0.0, 0.0, 1.0])
    assert not scan.nearest(points[:1], -up[:1], max_distance=1.0)[2].any()
    # Samples are spread by area: a hundred in each unit square.
    cells = np.histogram2d(*scan.samples[:, :2].T, bins=3, range=[[0, 3], [0, 3]])[0]
    assert np.abs(cells - 100).max() <= 12
    border = border_edges(faces)
    middle = np.array([[1 / 3, 1 / 3, 1 / 3]])
    assert not on_border(middle, border[:1]).any()
