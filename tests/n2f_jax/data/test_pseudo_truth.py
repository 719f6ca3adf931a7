import dataclasses
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from n2f_jax.data.pseudo_truth import PseudoTruth, PseudoTruthError, read_truth, truth_path, write_truth
from n2f_jax.models.pretrained import HeadModelIdentity

IDENTITY = HeadModelIdentity("small", 10, 12, 4, 3, {"faces": "00"})


def truth(seed=0, **changes):
    rng = np.random.default_rng(seed)
    rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    rotation *= np.sign(np.linalg.det(rotation))
    values = {
        "shape": rng.normal(size=4).astype(np.float32),
        "expression": rng.normal(size=3).astype(np.float32),
        "jaw": rotation[:2].ravel().astype(np.float32),
        "eyelids": rng.normal(size=2).astype(np.float32),
        "rotation": rotation.astype(np.float32),
        "translation": rng.normal(size=3).astype(np.float32),
        "intrinsics": np.diag([300, 300, 1]).astype(np.float32),
        "head_model": IDENTITY,
        "method": "a test",
        "version": "1",
        "errors": {"landmarks_px": 1.5},
    }
    return PseudoTruth(**(values | changes))


def test_what_is_read_is_what_was_written(tmp_path):
    path = truth_path(tmp_path, "ab/cd/x-1")
    write_truth(path, truth())
    assert path == tmp_path / "ab" / "cd" / "x-1.truth.npz"
    read = read_truth(path)
    for field in dataclasses.fields(PseudoTruth):
        np.testing.assert_array_equal(getattr(read, field.name), getattr(truth(), field.name), field.name)
    with np.load(path, allow_pickle=False) as data:  # no pickles
        assert data["jaw"].dtype == np.float32


def test_many_threads_may_read_and_arrays_may_be_transposed(tmp_path):
    """NumPy's own reader fails now and then in threads on CPython 3.11."""
    path = tmp_path / "x.truth.npz"
    write_truth(path, truth(rotation=truth().rotation.T.copy(order="C").T))
    with ThreadPoolExecutor(8) as pool:
        for read in pool.map(lambda _: read_truth(path), range(400)):
            np.testing.assert_array_equal(read.rotation, truth().rotation)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shape": np.zeros(5)}, "shape is"),
        ({"expression": np.full(3, np.nan)}, "expression is not finite"),
        ({"rotation": np.eye(3) * 1.1}, "not a rotation"),
        ({"rotation": np.diag([1.0, 1, -1])}, "not a rotation"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        write_truth(tmp_path / "x.truth.npz", truth(**change))
    assert list(tmp_path.iterdir()) == []


def test_damaged_files_are_named(tmp_path):
    path = tmp_path / "x.truth.npz"
    with pytest.raises(PseudoTruthError, match=r"x\.truth\.npz is missing.*scripts/fit\.py"):
        read_truth(path)
    write_truth(path, truth())
    whole = path.read_bytes()
    for content in (b"", whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(PseudoTruthError, match=r"x\.truth\.npz is damaged"):
            read_truth(path)
    np.savez(path, shape=np.zeros(3))
    with pytest.raises(PseudoTruthError, match=r"x\.truth\.npz is damaged"):
        read_truth(path)
