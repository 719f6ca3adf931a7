"""The finer head model: the same head, as a smooth mesh with more directions."""

import igl
import numpy as np
import pytest

import flame_jax
from flame_jax import FlameParams
from n2f_jax.benchmark.files import Visible
from n2f_jax.benchmark.head import load_benchmark_head, subdivide_embedding
from n2f_jax.evaluation.regions import REGIONS

pytestmark = pytest.mark.medium


@pytest.fixture(scope="module")
def finer():
    return load_benchmark_head()


def on_mesh(vertices, faces, index, barycentric):
    return np.einsum("nc,nci->ni", barycentric, np.asarray(vertices)[np.asarray(faces)[index]])


def test_points_stay_where_they_are_when_triangles_are_halved(open_head):
    """Halving the edges leaves the surface as it is, so every point of it must stay."""
    rng = np.random.default_rng(0)
    faces = np.asarray(open_head.faces, np.int64)
    vertices = np.asarray(open_head.v_template, np.float64)
    halves, more_faces = igl.upsample_matrix(faces, len(vertices))
    index = rng.integers(len(faces), size=2000)
    barycentric = rng.dirichlet((1.0, 1.0, 1.0), 2000)
    child, inside = subdivide_embedding(index, barycentric)
    assert inside.min() >= 0.0
    assert {0, 1, 2, 3} == set(child % 4)
    before = on_mesh(vertices, faces, index, barycentric)
    np.testing.assert_allclose(on_mesh(halves @ vertices, more_faces, child, inside), before, atol=1e-7)


def test_it_is_the_open_head_smoothed(open_head, finer):
    assert finer.num_vertices > 3.9 * open_head.num_vertices
    assert finer.num_faces == 4 * open_head.num_faces
    assert finer.num_shape > open_head.num_shape
    assert finer.num_expression > open_head.num_expression
    rest, _ = flame_jax.decode(finer, FlameParams.neutral(finer))
    before, _ = flame_jax.decode(open_head, FlameParams.neutral(open_head))
    face = np.asarray(open_head.masks["face"])
    moved = np.linalg.norm(np.asarray(rest)[: open_head.num_vertices] - np.asarray(before), axis=-1)
    assert moved[face].mean() < 6e-4
    off = np.asarray(flame_jax.landmarks68(finer, rest) - flame_jax.landmarks68(open_head, before))
    assert np.linalg.norm(off, axis=-1).max() < 2e-3
    np.testing.assert_allclose(np.asarray(finer.weights).sum(axis=1), 1.0, atol=1e-5)
    # Texture coordinates of a corner are near those of the vertex they belong to.
    assert len(finer.uv_faces) == finer.num_faces
    assert np.asarray(finer.uv_faces).max() < len(finer.uv)


def test_no_coefficients_of_the_open_head_give_its_new_directions(open_head, finer):
    """A good part of each lies outside what the open head spans, on the face."""
    face = np.asarray(open_head.masks["face"])
    basis = np.concatenate([np.asarray(open_head.shapedirs), np.asarray(open_head.exprdirs)], axis=-1)[face]
    basis = basis.reshape(3 * len(face), -1).astype(np.float64)
    new = np.asarray(finer.shapedirs)[face][..., open_head.num_shape :].reshape(3 * len(face), -1)
    left = new - basis @ np.linalg.lstsq(basis, new.astype(np.float64), rcond=None)[0]
    share = np.linalg.norm(left, axis=0) / np.linalg.norm(new, axis=0)
    assert np.median(share) > 0.3
    assert 0.0008 < np.sqrt((new**2).sum() / len(face)) < 0.0015  # metres, all together


def test_visible_part(finer):
    visible = Visible.of(finer)
    assert visible.faces.max() == len(visible.vertices) - 1
    assert set(REGIONS) == set(visible.regions)
    for indices in visible.regions.values():
        assert indices.min() >= 0 and indices.max() < len(visible.vertices)
    teeth = np.asarray(finer.masks["teeth"])
    assert not np.intersect1d(visible.vertices, teeth).size
