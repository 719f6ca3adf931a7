"""Small files that would take all memory, or for ever, are refused: each of these once did."""

import io
import os
import pickle
import struct

import numpy as np
import pytest
import scipy.sparse

from flame_jax.files import npz
from flame_jax.files.budget import Budget
from flame_jax.files.contents import FileError, read
from flame_jax.files.npz import ArrayFileError, read_npz
from tests.archives import zipped

from .torch_programs import tensor_program, torch_storage

pytestmark = pytest.mark.timeout(30)


def refused(tmp_path, data, message):
    path = tmp_path / "model.pkl"
    path.write_bytes(data)
    with pytest.raises(FileError, match=message) as caught:
        read(path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


def test_a_tensor_of_stride_zero(tmp_path):
    """355 bytes, 4.3 GB."""
    program = tensor_program("FloatStorage", np.zeros(1, np.float32), (1 << 26,), (0,))
    refused(tmp_path, b"\x80\x02]" + program + b"a.", "reaches beyond its storage")


def test_many_tensors_of_one_storage_and_many_storages(tmp_path):
    values = np.zeros(1 << 18, np.float32)  # 1 MiB, and that a thousand times
    storage = torch_storage("FloatStorage", values)
    loader = b"ctorch.storage\n_load_from_bytes\n"
    raw = b"B" + struct.pack("<i", len(storage)) + storage
    again = b"]" + b"h\x00h\x01Ra" * 1000 + b"."
    # 0 and 1 of the memo: what is called, and with what.
    storages = loader + b"q\x00" + raw + b"\x85q\x01"
    refused(tmp_path, b"\x80\x02" + storages + again, "makes more than any model")
    size = b"J" + struct.pack("<i", values.size) + b"\x85"
    arguments = b"(" + loader + raw + b"\x85RK\x00" + size + b"K\x01\x85t"
    tensors = b"ctorch._utils\n_rebuild_tensor_v2\nq\x00" + arguments + b"q\x01"
    refused(tmp_path, b"\x80\x02" + tensors + again, "makes more than any model")


def test_lists_within_lists_that_are_the_same(tmp_path):
    """485 bytes, minutes: each level holds the one below it twice."""
    program = b"\x80\x02]" + b"".join(
        b"q" + bytes([i]) + b"](h" + bytes([i]) * 1 + b"h" + bytes([i]) + b"e" for i in range(60)
    )
    path = tmp_path / "model.pkl"
    path.write_bytes(program + b".")
    value = read(path)
    for _ in range(60):
        assert value[0] is value[1]  # made once
        value = value[0]
    assert value == []


def _colliding(count):
    return {k * ((1 << 61) - 1): None for k in range(1, count + 1)}


@pytest.mark.parametrize(
    "value",
    [
        _colliding(100),
        {complex(-1000003.0 * k, k): None for k in range(100)},
        {(1, 2): None},
        {frozenset([1]): None},
        {frozenset([1])},
        {1 << 100: None},
    ],
    ids=["colliding", "complex", "tuple", "frozenset", "set of frozensets", "long"],
)
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_keys_whose_hashes_can_be_made_alike(tmp_path, value, protocol):
    refused(tmp_path, pickle.dumps(value, protocol), "key|complex")


def test_long_integers(tmp_path):
    refused(tmp_path, pickle.dumps([1 << 257]), "more than 256 bits")


def test_a_sparse_matrix_of_few_entries(tmp_path):
    rows = np.zeros(1, np.int32)
    matrix = scipy.sparse.coo_matrix((np.ones(1), (rows, rows)), shape=(1 << 13, 1 << 13))
    refused(tmp_path, pickle.dumps(matrix, 2), "makes more than")
    words = scipy.sparse.csc_matrix(np.eye(3))
    words.data = np.array(["a", "b", "c"])
    refused(tmp_path, pickle.dumps(words, 2), "broken or too large")


def test_pointers_of_a_sparse_matrix_that_go_back(tmp_path):
    matrix = scipy.sparse.csc_matrix(np.eye(3))
    matrix.indptr = np.array([0, 2, 1, 3], np.uint64)  # whose differences wrap round
    refused(tmp_path, pickle.dumps(matrix, 2), "pointers are not sound")


def _npy(shape, data):
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f8", "fortran_order": False, "shape": shape})
    return stream.getvalue() + data


def test_an_archive_unpacks_to_a_few_times_its_size():
    """6 MB, 6 GB."""
    data = zipped({"v.npy": _npy((1 << 20,), bytes(1 << 23))})
    assert len(data) < 10_000
    with pytest.raises(ArrayFileError, match="would unpack to too much"):
        read_npz(data, Budget(len(data), base_bytes=1 << 22))
    assert read_npz(data, Budget(len(data)))["v"].shape == (1 << 20,)
    assert read_npz(data, Budget(len(data), base_bytes=0), names=["f"]) == {}


def test_an_array_whose_header_says_more_than_there_is(tmp_path, monkeypatch):
    monkeypatch.setattr(npz.np, "empty", None)  # no room is made for it
    for shape in ((10**12, 3), (3,), (-1, 3), (0, 10**30)):
        refused(tmp_path, zipped({"v.npy": _npy(shape, bytes(16))}), "npz|array of shape")
        refused(tmp_path, _npy(shape, bytes(16)), "npy|array of shape")


def test_an_archive_of_far_too_many_files():
    data = bytearray(zipped({"v.npy": _npy((1,), bytes(8))}))
    end = data.rindex(b"PK\x05\x06")
    data[end + 12 : end + 16] = (1 << 30).to_bytes(4, "little")
    with pytest.raises(ArrayFileError, match="far too many files"):
        read_npz(bytes(data), Budget(len(data)))


def test_text_that_python_cannot_hold(tmp_path):
    forged = np.array(["a"]).view(np.uint32) + 0x7FFFFFFF
    for dump in (pickle.dumps, lambda array: _npy((), b"").replace(b"<f8", b"<U1") + array.tobytes()):
        refused(tmp_path, dump(forged.view("<U1")), "text that is none|sound")


def test_what_is_no_regular_file(tmp_path):
    """Opening a pipe waits for who writes into it."""
    os.mkfifo(tmp_path / "pipe.pkl")
    for path in (tmp_path / "pipe.pkl", "/dev/zero"):
        with pytest.raises(FileError, match="not a regular file"):
            read(path)
    with pytest.raises(FileError, match="is a folder"):
        read(tmp_path)
    with pytest.raises(FileError, match="does not exist"):
        read(tmp_path / "absent.pkl")
