"""Bounded least squares against SciPy's."""

import numpy as np
import pytest
from scipy.optimize import lsq_linear

from n2f_jax.fitting.bounded_least_squares import bounded_least_squares


@pytest.mark.parametrize("seed", range(8))
def test_the_answer_is_scipys(seed):
    rng = np.random.default_rng(seed)
    # Columns that are nearly alike, as those of blendshapes are: whole blocks change sides more than once.
    rows = rng.normal(size=(60, 4)) @ rng.normal(size=(4, 20)) + 0.2 * rng.normal(size=(60, 20))
    wanted, high = rng.normal(size=60) * 3, rng.uniform(0.05, 1.0, 20)
    expected = lsq_linear(rows, wanted, bounds=(0.0, high), method="bvls", tol=1e-14).x
    found = bounded_least_squares(rows.T @ rows, rows.T @ wanted, high)
    np.testing.assert_allclose(found, expected, atol=1e-7)
    again = bounded_least_squares(rows.T @ rows, rows.T @ wanted, high, start=rng.uniform(-1, 2, 20))
    np.testing.assert_allclose(again, expected, atol=1e-7)


def test_what_lies_within_is_free_and_what_is_wanted_negative_is_nothing():
    gram = np.diag([1.0, 2.0, 4.0])
    found = bounded_least_squares(gram, np.array([0.5, -3.0, 40.0]), np.ones(3))
    np.testing.assert_allclose(found, [0.5, 0.0, 1.0])
