"""A network's last layer for a head model whose coefficients are others: the same heads come out."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import flame_jax
from n2f_jax.models.carry_over import carry_over, change_of_coefficients
from n2f_jax.models.n2fnet import N2FNet
from n2f_jax.models.parameters import from_dict
from tests.flame_jax.random_model import random_arrays


@pytest.fixture(scope="module")
def models():
    """One model and the same heads in other coefficients about another mean."""
    old = flame_jax.loading.head_model_from_arrays(random_arrays(), default_name="random")
    rng = np.random.default_rng(0)

    def mixed(directions):
        turn = np.eye(directions.shape[-1]) + 0.1 * rng.standard_normal((directions.shape[-1],) * 2)
        return jnp.asarray(np.asarray(directions) @ turn, jnp.float32)

    mean = np.asarray(old.v_template) + np.asarray(old.shapedirs) @ (0.3 * rng.standard_normal(old.num_shape))
    new = dataclasses.replace(
        old,
        v_template=jnp.asarray(mean, jnp.float32),
        shapedirs=mixed(old.shapedirs),
        exprdirs=mixed(old.exprdirs),
    )
    return old, new


def test_the_same_heads_come_out(models, small_config, abstract_and_random):
    old, new = models
    config = small_config(num_shape=old.num_shape, num_expression=old.num_expression)
    network = from_dict(*abstract_and_random(lambda: N2FNet(config, rngs=nnx.Rngs(0))))
    rng = np.random.default_rng(1)
    maps = jnp.asarray(rng.standard_normal((3, 32, 32, 3)), jnp.float32)
    before = network(maps, jnp.ones((3, 32, 32)))
    change = change_of_coefficients(old, new)
    carry_over(network, change)
    after = network(maps, jnp.ones((3, 32, 32)))
    assert float(jnp.abs(before.shape - after.shape).max()) > 0.05
    heads = [
        np.asarray(jax.jit(flame_jax.decode)(model, output.flame_params())[0])
        for model, output in ((old, before), (new, after))
    ]
    np.testing.assert_allclose(heads[0], heads[1], atol=2e-5 * np.abs(heads[0]).max())
    np.testing.assert_array_equal(before.camera_position, after.camera_position)
    np.testing.assert_allclose(before.jaw, after.jaw, atol=1e-6)


def test_models_of_other_heads_are_refused(models):
    old, new = models
    rng = np.random.default_rng(2)
    odd = dataclasses.replace(
        new,
        shapedirs=new.shapedirs + jnp.asarray(0.01 * rng.standard_normal(new.shapedirs.shape), jnp.float32),
    )
    with pytest.raises(ValueError, match="do not span the same heads"):
        change_of_coefficients(old, odd)
    with pytest.raises(ValueError, match="differ in eyelids"):
        change_of_coefficients(old, dataclasses.replace(new, eyelids=2.0 * new.eyelids + 1.0))
