"""JAX as strict as it gets: what these settings refuse is a bug here, even where users run without them."""

import atexit
import gc
import os
import shutil
import tempfile
import typing
from unittest import mock

from tests.xla_flags import FLAGS

# Set before JAX is imported.
os.environ.setdefault("XLA_FLAGS", " ".join(FLAGS))
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# The scripts keep compiled programs in the user's cache; tests leave nothing there. They compile the same programs
# again and again (each run of the training loop its own), so they have a cache that ends with them.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="n2f-jax-tests-")
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")

import jax
import jaxtyping
import numpy as np
import pytest

import tests.runtime_types  # noqa: F401  # so that the hook finds it

# JAX takes NumPy arrays wherever it takes its own; so does the check.
jaxtyping.Array = jax.Array | np.ndarray | np.number
# Every annotated shape and dtype of the head model and of the rooms that compute is checked at run time (not in the
# programs that tests start). The rooms above them are handed stand-ins by their tests.
CHECKED = ("geometry", "render", "models", "face_mesh", "data", "metrics", "fitting")
jaxtyping.install_import_hook(
    ["flame_jax", *(f"n2f_jax.{room}" for room in CHECKED)], "tests.runtime_types.check"
)
# flame_jax needs no jaxtyping: it imports its annotations for type checkers alone, which the tests are.
with mock.patch.object(typing, "TYPE_CHECKING", True):
    import flame_jax

# Tracing makes many objects and few cycles: the collector looks less often, and never at what the imports left.
gc.collect()
gc.freeze()
gc.set_threshold(50_000, 20, 50)

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")


@pytest.fixture(scope="session")
def open_head():
    """The head model that ships with the package."""
    return flame_jax.load_open_head()


# A module's tests stay together on one worker; those that take minutes go first, so that none is left alone at the end.
_LONG = (
    "n2f_jax/training/test_loop.py",
    "n2f_jax/training/test_ablations.py",
    "n2f_jax/fitting/test_gauss_newton.py",
    "n2f_jax/data/test_degradations.py",
    "n2f_jax/render/test_rasterizer.py",
    "n2f_jax/reconstruction/test_refinement.py",
    "n2f_jax/reconstruction/test_one_route.py",
    "n2f_jax/reconstruction/test_other_head.py",
)


def pytest_collection_modifyitems(config, items):
    place = {str(config.rootpath / "tests" / name): number for number, name in enumerate(_LONG)}
    items.sort(key=lambda item: place.get(str(item.path), len(_LONG)))
