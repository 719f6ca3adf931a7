"""Shapes by a landmark network's activations: found again on made pictures, the same for a mirrored one, and left alone
where there are none."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from n2f_jax.models.seen_shape import SeenShape, fit_seen_shape

SHAPES, NUMBERS, PEOPLE = 4, 12, 60
MIRROR = np.diag([1.0, -1.0, 1.0, 1.0])
GRAM = np.diag([4.0, 4.0, 1.0, 1.0])


@pytest.fixture(scope="module")
def made():
    """Two pictures a person: activations tell the first two coefficients, what is told otherwise the third."""
    rng = np.random.default_rng(0)
    shapes = np.repeat(rng.standard_normal((PEOPLE, SHAPES)), 2, axis=0)
    shown = np.zeros((SHAPES, NUMBERS))
    shown[0, :6], shown[1, 6:] = rng.standard_normal((2, 6))

    def crop(shapes):
        return 5.0 + 3.0 * (shapes @ shown + 0.1 * rng.standard_normal((len(shapes), NUMBERS)))

    activations = np.stack([crop(shapes), crop(shapes @ MIRROR)], axis=1)
    told = shapes * [0.0, 0.0, 1.0, 0.0] + 0.05 * rng.standard_normal(shapes.shape)
    return told, activations, shapes, np.repeat(np.arange(PEOPLE), 2)


@pytest.fixture(scope="module")
def fitted(made):
    return fit_seen_shape(*made, GRAM, MIRROR, numbers=3)


def call(seen, told, activations):
    told, activations = (jnp.asarray(x, jnp.float32) for x in (told, activations))
    return np.asarray(seen(told, activations, told))


def test_what_activations_show_is_found_again(made, fitted):
    told, activations, shapes, _ = made
    seen, figures = fitted
    assert figures["after"] < 0.5 * figures["before"]
    left = (call(seen, told, activations) - shapes).std(axis=0)
    assert (left[:3] < 0.25).all() and left[3] > 0.9, left
    assert seen.few.shape == (NUMBERS, 3) and seen.shapes.shape == (2, 3, SHAPES)


def test_the_mirrored_picture_gives_the_mirrored_shape(made, fitted):
    told, activations, _, _ = made
    here = call(fitted[0], told, activations)
    there = call(fitted[0], told @ MIRROR.T, activations[:, ::-1])
    np.testing.assert_allclose(there, here @ MIRROR.T, atol=1e-4)


def test_one_crop_alone_counts_for_both_and_none_changes_nothing(made, fitted):
    told, activations = (x[:6] for x in made[:2])
    given = activations.copy()
    given[1], given[2, 1], given[3, 0, 4] = np.nan, np.nan, np.inf
    found = call(fitted[0], told, given)
    whole = call(fitted[0], told, activations)
    np.testing.assert_allclose(found[[0, 4, 5]], whole[[0, 4, 5]], atol=1e-6)
    np.testing.assert_array_equal(found[1], told[1].astype(np.float32))
    # The picture's two crops say nearly the same of this person.
    np.testing.assert_allclose(found[2:4], whole[2:4], atol=0.3)
    assert np.abs(found[2:4] - whole[2:4]).max() > 1e-4


def test_what_no_picture_showed_counts_so_far_and_no_further(made, fitted):
    told, activations = (x[:1] for x in made[:2])
    far, farther = (call(fitted[0], told, activations + shift) for shift in (1e3, 1e6))
    np.testing.assert_allclose(far, farther, atol=1e-5)


def test_a_share_of_the_way(made, fitted):
    told, activations, _, _ = made
    half, _ = fit_seen_shape(*made, GRAM, MIRROR, numbers=3, share=0.5)
    want = 0.5 * (told + call(fitted[0], told, activations))
    np.testing.assert_allclose(call(half, told, activations), want, atol=1e-4)


def test_maps_before_and_after(fitted, made):
    told, activations, _, _ = made
    rng = np.random.default_rng(1)
    first, offset, then = (
        rng.standard_normal((SHAPES, 7)),
        rng.standard_normal(SHAPES),
        rng.standard_normal((4, 4)),
    )
    answers = rng.standard_normal((len(told), 7))
    offset, first, then = (jnp.asarray(x, jnp.float32) for x in (offset, first, then))
    joined = fitted[0].after(offset, first).then(then)
    given = [jnp.asarray(x, jnp.float32) for x in (answers, activations, told)]
    want = (
        call(fitted[0], answers @ np.asarray(first).T + np.asarray(offset), activations) @ np.asarray(then).T
    )
    np.testing.assert_allclose(joined(*given), want, atol=1e-3)


def test_few_people_are_refused(made):
    with pytest.raises(ValueError, match="9 people are too few"):
        fit_seen_shape(*(x[:18] for x in made), GRAM, MIRROR)


def test_a_map_is_a_pytree(fitted):
    assert len(jax.tree.leaves(fitted[0])) == 6 and isinstance(
        jax.tree.map(lambda x: x, fitted[0]), SeenShape
    )
