"""A module's arrays as a nested dict and back."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from n2f_jax.models.layers import Mlp, RotaryPositions
from n2f_jax.models.parameters import flatten, from_dict, functional, map_with_path, to_dict, unflatten


class Pair(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        self.parts = nnx.List(
            [Mlp(4, 8, activation="gelu_erf", dtype=jnp.dtype("float32"), rngs=rngs) for _ in range(11)]
        )
        self.rope = RotaryPositions(8)

    def __call__(self, x):
        for part in self.parts:
            x = part(x)
        return x

    def first(self, x):
        return self.parts[0](x)


def pair(seed: int = 0) -> Pair:
    return Pair(nnx.Rngs(seed))


def test_paths_are_readable():
    flat = flatten(to_dict(pair()))
    assert flat["parts/10/up/kernel"].shape == (4, 8)
    assert flat["parts/2/down/bias"].shape == (4,)
    assert flat["rope/periods"].shape == (2,)
    assert len(flat) == 11 * 4 + 1


def test_round_trip_fills_every_array():
    a, b = pair(0), pair(1)
    restored = from_dict(b, to_dict(a))
    for path, leaf in flatten(to_dict(restored)).items():
        np.testing.assert_array_equal(leaf, flatten(to_dict(a))[path])
    # The module that was given is not touched.
    assert np.any(np.asarray(b.parts[0].up.kernel[...]) != np.asarray(a.parts[0].up.kernel[...]))
    x = jnp.ones((1, 4))
    np.testing.assert_array_equal(restored(x), a(x))


def test_flatten_and_unflatten_are_inverse():
    tree = {"a": {"b": 1, "c": {"0": 2, "10": 3}}, "d": 4}
    assert flatten(tree) == {"a/b": 1, "a/c/0": 2, "a/c/10": 3, "d": 4}
    assert unflatten(flatten(tree)) == tree
    for clash in ({"a": 1, "a/b": 2}, {"a/b": 2, "a": 1}):
        with pytest.raises(ValueError, match="a"):
            unflatten(clash)


def test_what_does_not_fit_is_listed_whole():
    tree = to_dict(pair())
    del tree["parts"]["3"]["up"]["bias"]
    tree["parts"]["0"]["up"]["kernel"] = jnp.zeros((5, 8))
    tree["extra"] = jnp.zeros(3)
    with pytest.raises(ValueError, match="do not fit") as error:
        from_dict(pair(), tree)
    message = str(error.value)
    assert "missing: parts/3/up/bias (8,)" in message
    assert "unknown: extra (3,)" in message
    assert "parts/0/up/kernel: the network has shape (4, 8), given is (5, 8)" in message


def test_functional_form_is_pure_under_jit_and_grad():
    module = pair()
    apply, params = functional(module)
    x = jnp.ones((2, 4))
    np.testing.assert_allclose(jax.jit(apply)(params, x), module(x), rtol=1e-6)
    np.testing.assert_allclose(apply(params, x, method="first"), module.first(x), rtol=1e-6)
    gradient = jax.jit(jax.grad(lambda p: apply(p, x).sum()))(params)
    assert flatten(gradient).keys() == flatten(params).keys()
    doubled = map_with_path(lambda path, leaf: 2 * leaf if path == "parts/10/down/bias" else leaf, params)
    np.testing.assert_array_equal(
        doubled["parts"]["10"]["down"]["bias"], 2 * params["parts"]["10"]["down"]["bias"]
    )


def test_abstract_modules_bind_and_hold_no_arrays():
    abstract = nnx.eval_shape(pair)
    apply, shapes = functional(abstract)
    assert all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(shapes))
    params = to_dict(pair())
    np.testing.assert_allclose(apply(params, jnp.ones((1, 4))), pair()(jnp.ones((1, 4))), rtol=1e-6)
