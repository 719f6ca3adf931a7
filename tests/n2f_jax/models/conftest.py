"""Random weights for modules that are never initialised, which takes longer than running them."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from n2f_jax.models.n2fnet import n2fnet_config
from n2f_jax.models.parameters import map_with_path, to_dict


@pytest.fixture(scope="session")
def small_config():
    """``**changes`` → the configuration of a network that is quick to run."""

    def make(**changes):
        sizes = {"width": 32, "depth": 1, "num_heads": 2, "mlp_width": 64, "patch_size": 16, "input_size": 32}
        return n2fnet_config("tiny", **sizes, head_num_heads=2, **changes)

    return make


@pytest.fixture(scope="session")
def abstract_and_random():
    """``make`` → (abstract module, parameters that are nowhere zero, so that nothing can hide)."""

    def build(make, seed: int = 0):
        module = nnx.eval_shape(make)
        rng = np.random.default_rng(seed)

        def draw(path, leaf):
            if path.endswith("periods"):
                return jnp.asarray(100.0 ** (np.arange(leaf.size) / leaf.size), jnp.float32)
            fan_in = leaf.size // leaf.shape[-1]
            value = rng.normal(scale=fan_in**-0.5 if path.endswith("kernel") else 0.3, size=leaf.shape)
            return jnp.asarray(value + (1.0 if path.endswith(("scale", "gamma")) else 0.0), jnp.float32)

        return module, map_with_path(draw, to_dict(module))

    return build
