"""Procrustes against SciPy: its closed form for rotations, its minimiser where there is a scale."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from n2f_jax.geometry.alignment import AlignmentError, Similarity, procrustes, procrustes_of_landmarks
from tests.runtime_types import unchecked


@pytest.mark.parametrize("weighted", [False, True])
def test_rigid_alignment_is_scipys(weighted):
    rng = np.random.default_rng(0)
    source, noise = rng.normal(size=(2, 30, 3)), 0.1 * rng.normal(size=(2, 30, 3))
    weights = rng.uniform(0.0, 2.0, (2, 30)) if weighted else np.ones((2, 30))
    turn = Rotation.random(2, random_state=1)
    target = np.stack([r.apply(s) for r, s in zip(turn, source, strict=True)]) + noise + 3.0
    given = (source, target, weights) if weighted else (source, target)
    exact = procrustes(*given)
    found = jax.jit(procrustes)(*(jnp.asarray(x, jnp.float32) for x in given))
    assert exact.rotation.dtype == np.float64 and isinstance(found.rotation, jax.Array)
    for i in range(2):
        means = [np.average(x[i], axis=0, weights=weights[i]) for x in (source, target)]
        best, _ = Rotation.align_vectors(target[i] - means[1], source[i] - means[0], weights[i])
        for answer, atol in ((exact, 1e-12), (found, 1e-5)):
            np.testing.assert_allclose(answer.rotation[i], best.as_matrix(), atol=atol)
            np.testing.assert_allclose(
                answer.translation[i], means[1] - best.as_matrix() @ means[0], atol=10 * atol
            )
            assert answer.scale[i] == 1.0


def test_a_mirror_image_is_not_aligned_by_a_reflection():
    points = jnp.asarray(np.random.default_rng(2).normal(size=(20, 3)), jnp.float32)
    found = procrustes(points * jnp.asarray([[-1.0, 1.0, 1.0]]), points)
    assert float(jnp.linalg.det(found.rotation)) == pytest.approx(1.0, abs=1e-5)
    assert np.isfinite(found.apply(points)).all()


def random_similarity(rng, scale):
    return Similarity(
        scale, Rotation.random(random_state=int(rng.integers(1 << 30))).as_matrix(), rng.normal(0, 0.3, 3)
    )


@pytest.mark.parametrize("scaling", [True, False])
def test_landmarks_are_aligned_as_scipys_minimiser_does(scaling):
    rng = np.random.default_rng(1)
    source = rng.normal(0, 0.05, (7, 3))
    target = random_similarity(rng, 1.3 if scaling else 1.0).apply(source) + rng.normal(0, 0.003, (7, 3))
    found = procrustes_of_landmarks(source, target, scaling=scaling)

    def residuals(x):
        factor = np.exp(x[6]) if scaling else 1.0
        return (factor * Rotation.from_rotvec(x[:3]).apply(source) + x[3:6] - target).ravel()

    start = np.r_[Rotation.from_matrix(found.rotation).as_rotvec() + 0.1, found.translation, 0.0]
    best = least_squares(residuals, start, xtol=1e-14, ftol=1e-14, gtol=1e-14)
    ours = ((found.apply(source) - target) ** 2).sum()
    assert ours == pytest.approx(2 * best.cost, rel=1e-9)
    np.testing.assert_allclose(found.inverse(found.apply(source)), source, atol=1e-12)
    assert np.linalg.det(found.rotation) == pytest.approx(1.0)


def test_weights_are_repetitions():
    rng = np.random.default_rng(3)
    source, target = rng.normal(size=(2, 9, 3))
    times = rng.integers(1, 4, 9)
    repeated = procrustes(source.repeat(times, axis=0), target.repeat(times, axis=0), scaling=True)
    weighted = procrustes(source, target, times.astype(float), scaling=True)
    for expected, found in zip(jax.tree.leaves(repeated), jax.tree.leaves(weighted), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-12)


def test_landmarks_that_determine_nothing_are_refused():
    rng = np.random.default_rng(0)
    points = rng.normal(0, 0.05, (7, 3))
    with pytest.raises(AlignmentError, match="the moved landmarks lie on one line"):
        procrustes_of_landmarks(np.outer(np.arange(7.0), [1, 2, 3]), points, scaling=True)
    with pytest.raises(AlignmentError, match="the fixed landmarks lie on one line"):
        procrustes_of_landmarks(points, np.zeros((7, 3)), scaling=True)
    with pytest.raises(AlignmentError, match="mirrored"):
        procrustes_of_landmarks(points * [-1, 1, 1], points, scaling=True)
    with unchecked(), pytest.raises(AlignmentError, match="corresponding"):
        procrustes_of_landmarks(points[:5], points, scaling=True)
    with pytest.raises(AlignmentError, match="not finite"):
        procrustes_of_landmarks(np.full((7, 3), np.nan), points, scaling=True)
