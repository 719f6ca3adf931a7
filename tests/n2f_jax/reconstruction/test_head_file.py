"""The parameter file, and files that appear whole or not at all."""

import numpy as np
import pytest

from n2f_jax.reconstruction.head_file import KEYS, load_parameters, save_parameters
from n2f_jax.runtime.atomic_files import atomic_path

SIZES = {"V": 7, "F": 4, "S": 3, "E": 2, "P": 0, "I": 10}


def example() -> dict:
    rng = np.random.default_rng(0)
    values = {}
    for key, (shape, _) in KEYS.items():
        size = tuple(SIZES.get(n, n) for n in shape)
        values[key] = rng.normal(size=size).astype(np.float32) if shape else key
    values["frontend_score"], values["confidence"] = 0.75, 0.5
    return values


def test_everything_comes_back(tmp_path):
    values = example()
    save_parameters(tmp_path / "head.npz", values)
    read = load_parameters(tmp_path / "head.npz")
    assert read.keys() == KEYS.keys()
    for key, value in values.items():
        np.testing.assert_array_equal(read[key], value)
    assert isinstance(read["head_model"], str)
    assert isinstance(read["frontend_score"], float)


def test_heads_of_earlier_versions_are_read(tmp_path):
    values = example()
    later = ("eyes_pose", "irises", "confidence", "region_confidence", "frontend_blendshapes")
    np.savez(tmp_path / "old.npz", **{key: value for key, value in values.items() if key not in later})
    read = load_parameters(tmp_path / "old.npz")
    assert read.keys() == KEYS.keys()
    np.testing.assert_array_equal(read["eyes_pose"], np.zeros((2, 3)))
    assert np.isnan(read["confidence"]) and read["irises"].shape == (0, 2)
    np.testing.assert_array_equal(read["shape"], values["shape"])


@pytest.mark.parametrize("spoil", ["missing", "unknown", "shape"])
def test_wrong_values_are_named(tmp_path, spoil):
    values = example()
    if spoil == "missing":
        del values["jaw_pose"]
    elif spoil == "unknown":
        values["jaw_pose2"] = values["jaw_pose"]
    else:
        values["jaw_pose"] = np.zeros(6)
    with pytest.raises(ValueError, match="jaw_pose"):
        save_parameters(tmp_path / "head.npz", values)
    assert not list(tmp_path.iterdir())


def test_other_files_are_refused(tmp_path):
    (tmp_path / "text.npz").write_text("not an archive")
    np.savez(tmp_path / "other.npz", a=1)
    for name in ("text.npz", "other.npz"):
        with pytest.raises(ValueError, match=name):
            load_parameters(tmp_path / name)


def test_a_failed_write_leaves_the_old_file_and_no_rubbish(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(OSError, match="No space"), atomic_path(target) as temporary:
        temporary.write_text("half of the ne")
        raise OSError(28, "No space left on device")
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    with atomic_path(target) as temporary:
        assert temporary.suffix == ".txt"
        temporary.write_text("new")
    assert target.read_text() == "new"
