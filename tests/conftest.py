"""JAX as strict as it gets: what these settings refuse is a bug here, even where users run without them."""

import os

# Set before JAX is imported. Two devices, so that whatever shards is tested sharded. The tests' time is spent on
# compiling, so LLVM is told to leave the code as it comes: two thirds of the time, the same arithmetic.
os.environ.setdefault(
    "XLA_FLAGS", "--xla_force_host_platform_device_count=2 --xla_backend_optimization_level=0"
)
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# The scripts keep compiled programs in the user's cache; tests leave nothing there.
os.environ.setdefault("JAX_ENABLE_COMPILATION_CACHE", "false")

import jax
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")


@pytest.fixture(scope="session")
def open_head():
    """The head model that ships with the package."""
    import flame_jax

    return flame_jax.load_open_head()
