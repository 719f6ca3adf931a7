"""Files for torch.load, read by Python's own pickle, by ours, and by PyTorch."""

import pickle
import zipfile

import numpy as np
import pytest

from n2f_jax.frontends.pixel3dmm.tracking import read_pickle
from n2f_jax.runtime.torch_file import write_torch_file

VALUES = {
    "a": {"floats": np.arange(6, dtype=np.float32).reshape(2, 3).T, "whole": np.array([[3, -(2**40)]])},
    "bytes": np.array([0, 255], np.uint8),
    "one": np.array(2.5),
    "none": np.zeros((0, 4), np.float16),
    "big": np.arange(3, dtype=">i2"),
    "text": "00003 ünïcode",
    "number": -7,
}


def same(found, expected):
    for key, value in expected.items():
        if isinstance(value, dict):
            same(found[key], value)
        elif isinstance(value, np.ndarray):
            got = np.asarray(found[key])
            assert got.shape == value.shape and got.dtype == value.dtype.newbyteorder("="), key
            np.testing.assert_array_equal(got, value)
        else:
            assert found[key] == value


@pytest.fixture
def path(tmp_path):
    write_torch_file(tmp_path / "a.frame", VALUES)
    return tmp_path / "a.frame"


@pytest.mark.filterwarnings("ignore:numpy.core:DeprecationWarning")
def test_pythons_pickle(path):
    with zipfile.ZipFile(path) as archive:
        same(pickle.loads(archive.read("a/data.pkl")), VALUES)


def test_our_reader(path):
    same(read_pickle(path), VALUES)


def test_pytorch(path):
    torch = pytest.importorskip("torch")
    same(torch.load(path, weights_only=False), VALUES)


def test_the_same_values_are_the_same_file(tmp_path, path):
    (tmp_path / "b").mkdir()
    write_torch_file(tmp_path / "b/a.frame", VALUES)
    assert (tmp_path / "b/a.frame").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("value", [None, 1.5, True, 2**40, np.array(["x"]), np.zeros(2, complex), [1]])
def test_other_values_are_refused(tmp_path, value):
    with pytest.raises(TypeError):
        write_torch_file(tmp_path / "a.frame", {"a": value})
    assert not list(tmp_path.iterdir())
