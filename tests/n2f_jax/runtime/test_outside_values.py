"""Reading numbers from strangers' files: what is in them comes back, what cannot be is one line, and no memory."""

import io
import os
import resource

import numpy as np
import pytest

from n2f_jax.runtime.outside_values import (
    OutsideValueError,
    numbers,
    read_array,
    read_arrays,
    read_json,
    read_table,
    read_text,
    told,
)
from tests.archives import zipped

READERS = {"json": read_json, "npz": read_arrays, "npy": read_array, "txt": read_table, "pp": read_text}


def npy(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def one_line(raised, path):
    message = str(raised.value)
    assert message.startswith(f"{path}:") and "\n" not in message and len(message) < 1000
    return message


def test_what_is_written_comes_back(tmp_path):
    array = np.arange(6.0).reshape(2, 3)
    np.savez_compressed(tmp_path / "a.npz", array=array, text="ä")
    np.save(tmp_path / "a.npy", array.astype(np.float32))
    np.savetxt(tmp_path / "a.txt", array, header="x y z")
    (tmp_path / "a.json").write_text('{"a": [1, 2.5]}', encoding="utf-8")
    arrays = read_arrays(tmp_path / "a.npz")
    np.testing.assert_array_equal(arrays["array"], array)
    assert arrays["text"].item() == "ä" and set(read_arrays(tmp_path / "a.npz", ["array"])) == {"array"}
    np.testing.assert_array_equal(read_array(tmp_path / "a.npy"), array)
    np.testing.assert_array_equal(read_table(tmp_path / "a.txt"), array)
    assert read_json(tmp_path / "a.json") == {"a": [1, 2.5]}


BAD = {
    "deep.json": (b"[" * 100_000, "nested too deeply"),
    "half.json": (b'{"a": ', "not JSON"),
    "latin.json": (b'"\xe4"', "not JSON"),
    "long.json": (b"9" * 5000, "not JSON"),
    "bomb.npz": (zipped({"a.npy": npy(np.zeros(0)) + bytes(400 << 20)}), "unpack to too much"),
    "shape.npz": (zipped({"a.npy": npy(np.zeros(2)).replace(b"(2,)", b"(9,)")}), "no data for it"),
    "object.npz": (zipped({"a.npy": npy(np.array({"a": 1}, object))}), "objects"),
    "other.npz": (zipped({"a.txt": b"1"}), "no .npz"),
    "cut.npz": (zipped({"a.npy": npy(np.eye(9))})[:-30], "npz"),
    "object.npy": (npy(np.array([{}], object)), "objects"),
    "text.npy": (npy(np.array(["x"])), "<U1 where numbers"),
    "complex.npy": (npy(np.array([1j])), "complex128 where numbers"),
    "shape.npy": (npy(np.zeros(2)).replace(b"(2,)", b"(9,)"), "no data for it"),
    "words.txt": (b"1 2\nx y\n", "no table of numbers"),
    "ragged.txt": (b"1 2\n3\n", "no table of numbers"),
    "empty.txt": (b"# nothing\n", "no numbers"),
    "zeros.txt": (bytes(100), "no table of numbers"),
}


@pytest.mark.parametrize("name", BAD)
def test_damage_is_told_in_one_line(tmp_path, name):
    data, message = BAD[name]
    path = tmp_path / name
    path.write_bytes(data)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(OutsideValueError, match=message) as raised:
        READERS[path.suffix[1:]](path)
    one_line(raised, path)
    # KiB. The archive of 400 MB of zeros is refused before they are made.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 << 10


@pytest.mark.parametrize("suffix", READERS)
def test_only_regular_files_of_a_size(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    with pytest.raises(FileNotFoundError, match="does not exist") as missing:
        READERS[suffix](path)
    one_line(missing, path)
    path.mkdir()
    with pytest.raises(OutsideValueError, match="is a folder") as raised:
        READERS[suffix](path)
    one_line(raised, path)
    path.rmdir()
    os.mkfifo(path)  # whoever opens it waits for ever
    with pytest.raises(OutsideValueError, match="not a regular file"):
        READERS[suffix](path)
    path.unlink()
    path.touch()
    os.truncate(path, 1 << 40)  # a terabyte of holes
    with pytest.raises(OutsideValueError, match="have at most"):
        READERS[suffix](path)


def test_numbers():
    np.testing.assert_array_equal(numbers([[1, 2.5]]), [[1.0, 2.5]])
    assert numbers([3, 4], np.int64).dtype == np.int64 and numbers([], np.int64).shape == (0,)
    assert numbers(np.array([3.0, 4.0]), np.int64).tolist() == [3, 4]
    for wrong in ([[1, 2], [3]], ["x"], {"a": 1}, None, [None], [10**400], [True], [1j], [[], [1]]):
        with pytest.raises(ValueError, match="holds"):
            numbers(wrong)
    for wrong in ([1.5], [float("nan")], [float("inf")], [1e19], [2**63]):
        with pytest.raises(ValueError, match="whole"):
            numbers(wrong, np.int64)


def test_the_file_is_named_once(tmp_path):
    path = tmp_path / "a.txt"
    assert told(path, ValueError(f"{path}: no\nrows")) == f"{path}: no rows"
    assert told(path, KeyError("faces")) == f"{path}: 'faces' is missing"
    assert told(path / "003", ValueError(f"{path}: no frame 003")) == f"{path}: no frame 003"
