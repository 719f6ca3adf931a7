import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

import flame_jax

from .random_model import random_arrays

pytestmark = pytest.mark.medium

ROOT = Path(__file__).parents[2]


def save(path, **changes):
    arrays = random_arrays() | changes
    np.savez(path, **{k: v for k, v in arrays.items() if v is not None})
    return path


def test_round_trip_of_an_npz(tmp_path):
    model = flame_jax.load_head_model(save(tmp_path / "head.npz", name=np.array("somebody")))
    arrays = random_arrays()
    assert (model.num_vertices, model.num_faces, model.num_shape, model.num_expression) == (60, 90, 7, 5)
    assert model.parents == (-1, 0, 1, 1, 1)
    assert model.name == "somebody"
    np.testing.assert_allclose(model.exprdirs, arrays["shapedirs"][..., 7:], atol=1e-7)
    np.testing.assert_allclose(model.eyelids[1], arrays["r_eyelid"], atol=1e-7)
    np.testing.assert_array_equal(model.masks["face"], np.arange(10))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": None}, "holds no weights: not a FLAME model"),
        ({"v_template": np.full((60, 3), np.nan)}, "v_template holds values that are not finite"),
        ({"weights": np.ones((60, 55))}, r"weights has shape \(60, 55\)"),
        ({"kintree_table": np.zeros((2, 55), np.int64)}, "not a FLAME-format model"),
        ({"f": np.full((4, 3), 60)}, "f holds indices outside 0 … 59"),
        ({"mask_face": np.array([{"a": 1}], dtype=object)}, "not an .npz of plain arrays"),
    ],
)
def test_a_bad_file_is_named_with_its_fault(tmp_path, change, message):
    path = save(tmp_path / "bad.npz", **change)
    with pytest.raises(flame_jax.HeadModelError, match=message) as caught:
        flame_jax.load_head_model(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"<html>log in</html>", b"PK\x03\x04 cut off"])
def test_a_file_that_is_no_archive(tmp_path, content):
    path = tmp_path / "head.npz"
    path.write_bytes(content)
    with pytest.raises(flame_jax.HeadModelError, match=r"head\.npz"):
        flame_jax.load_head_model(path)
    with pytest.raises(flame_jax.HeadModelError, match="no head model at"):
        flame_jax.load_head_model(tmp_path / "absent.npz")


def test_flame_jax_needs_only_jax_and_numpy():
    """Blocks every third-party module that JAX itself does not need, then decodes."""
    program = """
import sys
import jax, numpy
allowed = {name.split(".")[0] for name in sys.modules}
class Refuse:
    def find_spec(self, name, path=None, target=None):
        top = name.split(".")[0]
        if top in {"flax", "optax", "orbax", "cv2", "trimesh", "torch", "jaxtyping", "PIL", "absl", "tqdm",
                   "n2f_jax", "skimage", "matplotlib", "ml_collections", "safetensors"} - allowed:
            raise ImportError(f"{name} is refused here")
sys.meta_path.insert(0, Refuse())
import flame_jax
model = flame_jax.load_open_head()
vertices, joints = flame_jax.decode(model, flame_jax.FlameParams.neutral(model, (2,)))
assert vertices.shape == (2, model.num_vertices, 3) and joints.shape == (2, 5, 3)
assert not any(name.split(".")[0] == "n2f_jax" for name in sys.modules)
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment, cwd="/")


def test_the_archive_holds_no_pickles():
    with zipfile.ZipFile(flame_jax.loading.OPEN_HEAD_PATH) as archive:
        for name in archive.namelist():
            with archive.open(name) as member:
                np.lib.format.read_magic(member)
                header = np.lib.format.read_array_header_1_0(member)
            assert not header[2].hasobject, name


def test_decoding_with_the_model_closed_over_reads_no_stray_memory():
    """XLA's CPU compiler (jaxlib 0.10.2) reads beyond constants of one repeated value in fused products.

    The open head's pose correctives are all zero: as a constant of the program they gave wrong vertices whenever
    the memory after them was not zero. They are left out instead; here glibc fills memory, so that it shows.
    """
    program = """
import jax, numpy as np, flame_jax
model = flame_jax.load_open_head()
keys = jax.random.split(jax.random.key(0), 3)
params = flame_jax.FlameParams.neutral(model, (64,))
params = flame_jax.FlameParams(**{**vars(params), "shape": jax.random.normal(keys[0], (64, 300)),
    "jaw": params.jaw + 0.2 * jax.random.normal(keys[1], (64, 6))})
as_argument = jax.jit(flame_jax.decode)(model, params)[0]
closed_over = jax.jit(lambda p: flame_jax.decode(model, p)[0])(params)
np.testing.assert_allclose(closed_over, as_argument, atol=1e-6)
"""
    environment = {key: value for key, value in os.environ.items() if key != "XLA_FLAGS"}
    environment |= {"PYTHONPATH": str(ROOT), "MALLOC_PERTURB_": "180"}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment, cwd="/")
